-- Documents of several applications in one store. Run by run.py.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS vector_tools CASCADE;
SELECT create_vector_store('regulations') \g /dev/null
CREATE TEMP TABLE given (namespace text, source_type text, document integer, chunk_index integer, content text);
\copy given FROM chunks.csv (FORMAT csv, HEADER)
SELECT create_namespace('regulations', n.namespace) FROM (SELECT DISTINCT namespace FROM given ORDER BY namespace) AS n \g /dev/null
SELECT enable_audit('regulations.vector_embeddings') \g /dev/null

\set ECHO queries
\echo A document is written as a whole: chunks that are new or have changed are embedded, those that are gone are deleted.
\echo
SELECT d.namespace, u.*
FROM (SELECT namespace, source_type, document, array_agg(content ORDER BY chunk_index) AS chunks
      FROM given GROUP BY namespace, source_type, document) AS d,
     upsert_document('regulations', d.source_type, ('00000000-0000-0000-0000-' || lpad(d.document::text, 12, '0'))::uuid,
                     d.chunks, d.namespace) AS u
ORDER BY d.document;
SELECT store, model, dimensions, index_kind, preset, partitions FROM vector_tools.vector_stores;

\echo A search of one namespace reads its partition alone.
\echo
SELECT content_preview, round(similarity::numeric, 2) AS similarity
FROM search_embeddings('regulations', 'who assures the statement independently?', namespace => 'csrd', top_k => 2);
SELECT namespace, content_preview
FROM search_embeddings('regulations', 'proof of where the goods come from', top_k => 2);

\echo One sentence changes: one chunk of three is embedded, and the audit log has both versions.
\echo
BEGIN;
SELECT u.* FROM upsert_document('regulations', 'regulation', '00000000-0000-0000-0000-000000000003',
    ARRAY['Importers of cement, iron, steel, aluminium, fertilisers, hydrogen and electricity report the emissions embedded in the goods.',
          'They buy certificates for these emissions once a year, at the average price of allowances.',
          'A carbon price that was paid in the country of origin is deducted.'], 'cbam') AS u;
SELECT operation, left(old_data->>'content', 46) AS before, left(new_data->>'content', 56) AS after
FROM audit_history('regulations.vector_embeddings', "limit" => 1);
ROLLBACK;

\echo A role of one application sees its namespace only, whatever it asks.
\echo
BEGIN;
CREATE ROLE example_eudr_application;
SELECT grant_vector_access('example_eudr_application', 'reader', 'regulations.vector_embeddings');
SELECT isolate_namespaces('regulations.vector_embeddings', 'example_eudr_application', '{eudr}');
SET LOCAL ROLE example_eudr_application;
SELECT DISTINCT namespace FROM search_embeddings('regulations', 'emissions', top_k => 10);
ROLLBACK;
\set ECHO none
