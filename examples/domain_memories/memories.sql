-- An assistant's memories in two domains: stored, searched, changed, and read by plain SQL. Run by run.py.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS vector_tools CASCADE;
SELECT create_domain_memories_table('startup'), create_domain_memories_table('health') \g /dev/null

-- What an assistant has noticed so far. A second run finds it stored.
CREATE TEMP TABLE noticed (domain text, id text, source text, importance double precision, content text);
\copy noticed FROM memories.csv (FORMAT csv, HEADER)
\echo A domain is a table of its own. 24 memories go into two of them, each by a call such as
\echo '  SELECT store_memory(''Blood pressure: 120/80'', ''health'', ''doctor_visit'', 0.7);'
\echo
SELECT count(store_memory(n.content, n.domain, n.source, n.importance, id => n.id)) AS stored_now
FROM noticed AS n
WHERE n.id NOT IN (SELECT id FROM startup_memories UNION ALL SELECT id FROM health_memories);
SELECT domain, model, memories, embedded FROM vector_tools.domains WHERE domain IN ('startup', 'health') ORDER BY domain;

\set ECHO queries
\echo Questions whose words are hardly in the answers. Each stays in its domain.
\echo
SELECT content, metadata->>'source' AS source, round(similarity_score::numeric, 2) AS similarity
FROM search_memories('did investors give us money?', 'startup', 2);

SELECT content, metadata->>'source' AS source, round(similarity_score::numeric, 2) AS similarity
FROM search_memories('which antibiotic must I avoid?', 'health', 2);

SELECT content, metadata->>'importance' AS importance
FROM search_memories('blood pressure trends', 'health', 3, min_importance => 0.5);

SELECT content FROM search_memories('what went wrong with sleep', 'health', 2, filter => '{"source": "diary"}');

\echo Words alone answer where vectors are not wanted. Where they cannot be had, that happens by itself, with a warning.
\echo
SELECT content, similarity_score FROM search_memories('lease', 'startup', use_vector => false);

\echo A memory that changes is embedded again; its metadata is merged.
\echo
BEGIN;
SELECT update_memory('startup-03', 'The lease in Karlstrasse was extended by a year', 'startup', importance => 0.6);
SELECT content, metadata - 'created_at' - 'updated_at' AS metadata
FROM search_memories('how long can we stay in these rooms?', 'startup', 1);
SELECT update_memory(id, content, domain, source, importance) FROM noticed WHERE id = 'startup-03';

\echo The table is an ordinary one. SQL that knows nothing of the extension goes on working, and its rows embed themselves.
\echo
INSERT INTO startup_memories (id, content, embedding, metadata)
VALUES ('plain-sql', 'Payroll runs on the 25th of each month', NULL::vector, '{"source": "conversation"}'::jsonb);

SELECT id, content,
       round((1 - (embedding <=> embed_query('when do people get their salary?')))::numeric, 2) AS similarity_score
FROM startup_memories
WHERE embedding IS NOT NULL
ORDER BY embedding <=> embed_query('when do people get their salary?')
LIMIT 1;

SELECT id, content, 0.0 AS similarity_score
FROM startup_memories
WHERE to_tsvector('english', content) @@ plainto_tsquery('english', 'payrolls')
ORDER BY updated_at DESC
LIMIT 1;

SELECT delete_memory('plain-sql', 'startup');
COMMIT;
\set ECHO none
\echo 'Go on in psql (make psql):'
\echo '  SELECT store_memory(''anything'', ''health'');    SELECT content FROM search_memories(''your own question'', ''health'');'
\echo '  SELECT * FROM vector_tools.domains;    \\d health_memories    \\df+ search_memories    SELECT drop_domain(''health'');'
