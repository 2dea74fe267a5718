-- Vector stores. The arguments of the functions in C are those of src/store/functions.rs (pg_test/arguments).

-- Behind vector_tools.vector_stores. pg_get_expr would wait for the lock of whoever has made a table that looks like a
-- store, and writing out a deep expression, as anybody may have for a default, can need more of the stack than there is.
CREATE FUNCTION vector_tools.text_of_default(expression text) RETURNS text
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'text_of_default_wrapper';
COMMENT ON FUNCTION vector_tools.text_of_default IS 'the text that is the default of a column, from pg_attrdef.adbin; NULL for any other default';

-- The catalogue itself says what a store is, so that it is dumped, renamed and dropped with its table.
CREATE VIEW vector_tools.vector_stores WITH (security_barrier) AS
SELECT c.oid::pg_catalog.regclass AS store,
       m.model,
       e.atttypmod AS dimensions,
       t.typname::pg_catalog.text AS storage,
       coalesce(i.kind, 'none') AS index_kind,
       CASE
           WHEN i.options OPERATOR(pg_catalog.@>) '{m=8,ef_construction=100}'::pg_catalog.text[] THEN 'dev'
           WHEN i.options OPERATOR(pg_catalog.@>) '{m=16,ef_construction=200}'::pg_catalog.text[] THEN 'staging'
           WHEN i.options OPERATOR(pg_catalog.@>) '{m=24,ef_construction=400}'::pg_catalog.text[] THEN 'production'
       END AS preset,
       (SELECT pg_catalog.count(*) FROM pg_catalog.pg_inherits AS p
        WHERE p.inhparent OPERATOR(pg_catalog.=) c.oid) AS partitions
FROM pg_catalog.pg_class AS c
JOIN pg_catalog.pg_attribute AS e
  ON e.attrelid OPERATOR(pg_catalog.=) c.oid AND e.attname OPERATOR(pg_catalog.=) 'embedding'
JOIN pg_catalog.pg_type AS t
  ON t.oid OPERATOR(pg_catalog.=) e.atttypid AND t.typname OPERATOR(pg_catalog.=) ANY ('{vector,halfvec}'::pg_catalog.name[])
JOIN pg_catalog.pg_attribute AS n
  ON n.attrelid OPERATOR(pg_catalog.=) c.oid AND n.attname OPERATOR(pg_catalog.=) 'embedding_model'
JOIN pg_catalog.pg_attrdef AS d
  ON d.adrelid OPERATOR(pg_catalog.=) c.oid AND d.adnum OPERATOR(pg_catalog.=) n.attnum
CROSS JOIN LATERAL (
    -- A default that is not short names no model.
    SELECT CASE
               WHEN pg_catalog.octet_length(d.adbin::pg_catalog.text) OPERATOR(pg_catalog.<=) 16384
               THEN vector_tools.text_of_default(d.adbin::pg_catalog.text)
           END AS model
) AS m
LEFT JOIN LATERAL (
    SELECT a.amname::pg_catalog.text AS kind, x.reloptions AS options
    FROM pg_catalog.pg_index AS k
    JOIN pg_catalog.pg_class AS x ON x.oid OPERATOR(pg_catalog.=) k.indexrelid
    JOIN pg_catalog.pg_am AS a ON a.oid OPERATOR(pg_catalog.=) x.relam
    WHERE k.indrelid OPERATOR(pg_catalog.=) c.oid AND k.indkey[0] OPERATOR(pg_catalog.=) e.attnum
      AND a.amname OPERATOR(pg_catalog.=) ANY ('{hnsw,ivfflat}'::pg_catalog.name[])
    LIMIT 1
) AS i ON true
WHERE c.relname OPERATOR(pg_catalog.=) 'vector_embeddings'
  AND c.relkind OPERATOR(pg_catalog.=) 'p'
  AND m.model IS NOT NULL;
GRANT SELECT ON vector_tools.vector_stores TO PUBLIC;
COMMENT ON VIEW vector_tools.vector_stores IS 'vector stores, by their tables of embeddings';
COMMENT ON COLUMN vector_tools.vector_stores.store IS 'the table of embeddings';
COMMENT ON COLUMN vector_tools.vector_stores.model IS 'the model that embeds its documents: the default of embedding_model';
COMMENT ON COLUMN vector_tools.vector_stores.dimensions IS 'numbers in each vector';
COMMENT ON COLUMN vector_tools.vector_stores.storage IS 'the type of the vectors: vector or halfvec';
COMMENT ON COLUMN vector_tools.vector_stores.index_kind IS 'hnsw, ivfflat or none';
COMMENT ON COLUMN vector_tools.vector_stores.preset IS 'the preset of its HNSW index; NULL for other parameters';
COMMENT ON COLUMN vector_tools.vector_stores.partitions IS 'its partitions, that for all other namespaces included';

CREATE FUNCTION create_vector_store(
    schema text,
    model text DEFAULT NULL,
    preset text DEFAULT 'staging',
    storage text DEFAULT 'vector',
    index_kind text DEFAULT 'hnsw',
    text_configuration text DEFAULT 'english'
) RETURNS regclass
LANGUAGE c VOLATILE PARALLEL UNSAFE CALLED ON NULL INPUT
AS 'MODULE_PATHNAME', 'create_vector_store_wrapper';
COMMENT ON FUNCTION create_vector_store IS 'creates the tables of a vector store in a schema; returns that of the embeddings';

CREATE FUNCTION index_vector_store(schema text, index_kind text DEFAULT 'hnsw', preset text DEFAULT 'staging') RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE STRICT
AS 'MODULE_PATHNAME', 'index_vector_store_wrapper';
COMMENT ON FUNCTION index_vector_store IS 'builds the vector index of a store anew: hnsw by a preset, ivfflat with lists for the rows there are, or none';

CREATE FUNCTION create_namespace(schema text, namespace text) RETURNS regclass
LANGUAGE c VOLATILE PARALLEL UNSAFE STRICT
AS 'MODULE_PATHNAME', 'create_namespace_wrapper';
COMMENT ON FUNCTION create_namespace IS 'gives a namespace of a store a partition with indexes of its own, and moves its rows there';

CREATE FUNCTION drop_namespace(schema text, namespace text) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE STRICT
AS 'MODULE_PATHNAME', 'drop_namespace_wrapper';
COMMENT ON FUNCTION drop_namespace IS 'drops the partition of a namespace with its rows, and the collections of the namespace';

CREATE FUNCTION create_collection(
    schema text,
    name text,
    namespace text DEFAULT 'default',
    description text DEFAULT NULL,
    metadata jsonb DEFAULT '{}'
) RETURNS uuid
LANGUAGE c VOLATILE PARALLEL UNSAFE CALLED ON NULL INPUT
AS 'MODULE_PATHNAME', 'create_collection_wrapper';
COMMENT ON FUNCTION create_collection IS 'creates a named group of embeddings inside a namespace; returns its id';

CREATE FUNCTION drop_collection(schema text, name text, delete_embeddings boolean DEFAULT false) RETURNS bigint
LANGUAGE c VOLATILE PARALLEL UNSAFE STRICT
AS 'MODULE_PATHNAME', 'drop_collection_wrapper';
COMMENT ON FUNCTION drop_collection IS 'removes a collection, if asked with its embeddings; returns how many of them';

CREATE FUNCTION upsert_document(
    schema text,
    source_type text,
    source_id uuid,
    content text,
    namespace text DEFAULT NULL,
    metadata jsonb DEFAULT '{}',
    collection text DEFAULT NULL,
    strategy text DEFAULT NULL,
    max_tokens bigint DEFAULT 512,
    overlap bigint DEFAULT NULL
) RETURNS TABLE (inserted integer, updated integer, unchanged integer, deleted integer)
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100000 ROWS 1
AS 'MODULE_PATHNAME', 'upsert_text_wrapper';
COMMENT ON FUNCTION upsert_document(text, text, uuid, text, text, jsonb, text, text, bigint, bigint) IS 'makes a text a document of a store, as one chunk or cut by a strategy of chunk_text; embeds the chunks that have changed';

CREATE FUNCTION upsert_document(
    schema text,
    source_type text,
    source_id uuid,
    chunks text[],
    namespace text DEFAULT NULL,
    metadata jsonb DEFAULT '{}',
    collection text DEFAULT NULL
) RETURNS TABLE (inserted integer, updated integer, unchanged integer, deleted integer)
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100000 ROWS 1
AS 'MODULE_PATHNAME', 'upsert_chunks_wrapper';
COMMENT ON FUNCTION upsert_document(text, text, uuid, text[], text, jsonb, text) IS 'makes chunks a document of a store: embeds what has changed, deletes what is gone';

CREATE FUNCTION upsert_embeddings(
    schema text,
    source_types text[],
    source_ids uuid[],
    chunk_indexes integer[],
    contents text[],
    embeddings vector[],
    namespaces text[] DEFAULT NULL,
    metadata jsonb[] DEFAULT NULL,
    collection text DEFAULT NULL
) RETURNS bigint
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100000
AS 'MODULE_PATHNAME', 'upsert_embeddings_wrapper';
COMMENT ON FUNCTION upsert_embeddings(text, text[], uuid[], integer[], text[], vector[], text[], jsonb[], text) IS 'writes ready embeddings from parallel arrays; returns how many rows are new or changed';

CREATE FUNCTION upsert_embeddings(schema text, rows jsonb, collection text DEFAULT NULL) RETURNS bigint
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100000
AS 'MODULE_PATHNAME', 'upsert_embedding_rows_wrapper';
COMMENT ON FUNCTION upsert_embeddings(text, jsonb, text) IS 'writes ready embeddings from an array of objects; returns how many rows are new or changed';

CREATE FUNCTION delete_document(schema text, source_type text, source_id uuid, namespace text DEFAULT NULL) RETURNS bigint
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'delete_document_wrapper';
COMMENT ON FUNCTION delete_document IS 'deletes the chunks of a document, in one namespace or in all; returns how many';

CREATE FUNCTION clear_namespace(schema text, namespace text) RETURNS bigint
LANGUAGE c VOLATILE PARALLEL UNSAFE STRICT
AS 'MODULE_PATHNAME', 'clear_namespace_wrapper';
COMMENT ON FUNCTION clear_namespace IS 'deletes the rows of a namespace; returns how many';

CREATE FUNCTION count_embeddings(
    schema text,
    namespace text DEFAULT NULL,
    source_type text DEFAULT NULL,
    collection text DEFAULT NULL
) RETURNS bigint
LANGUAGE c STABLE PARALLEL RESTRICTED COST 1000
AS 'MODULE_PATHNAME', 'count_embeddings_wrapper';
COMMENT ON FUNCTION count_embeddings IS 'how many embeddings a store, a namespace or a collection has';

-- Volatile, since it may write the log of searches.
CREATE FUNCTION search_embeddings(
    schema text,
    query text DEFAULT NULL,
    namespace text DEFAULT NULL,
    top_k bigint DEFAULT 10,
    threshold double precision DEFAULT NULL,
    source_type text DEFAULT NULL,
    collection text DEFAULT NULL,
    metadata jsonb DEFAULT NULL,
    filter jsonb DEFAULT NULL,
    fusion text DEFAULT 'rrf',
    query_embedding vector DEFAULT NULL,
    vector_weight double precision DEFAULT 1,
    text_weight double precision DEFAULT 1,
    user_id uuid DEFAULT NULL
) RETURNS TABLE (
    id uuid,
    source_type text,
    source_id uuid,
    chunk_index integer,
    content_preview text,
    similarity double precision,
    score double precision,
    metadata jsonb,
    namespace text,
    content text
)
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100000 ROWS 10
AS 'MODULE_PATHNAME', 'search_embeddings_wrapper';
COMMENT ON FUNCTION search_embeddings IS 'the top_k chunks of a store that best answer a query, by embedding and by words';

-- Documents that wait for the jobs of vector stores. The arguments of the functions in C are those of
-- src/store/functions.rs (pg_test/arguments).

-- Nobody but the extension writes here, since a document is written into its store with the rights of the role that
-- queued it: whoever could put another one there could act as that role. It is kept by its number, which a dump writes
-- as a name: a role that is renamed stays the same, and another one that gets its name does not.
CREATE TABLE vector_tools.queued_documents (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source regclass NOT NULL,
    job uuid NOT NULL,
    source_type text NOT NULL,
    source_id uuid NOT NULL,
    namespace text NOT NULL,
    content text,
    metadata jsonb NOT NULL,
    collection_id uuid,
    strategy text,
    max_tokens integer,
    overlap integer,
    queued_by regrole NOT NULL,
    session_namespace text NOT NULL,
    has_failed boolean NOT NULL DEFAULT false,
    gave_up boolean NOT NULL DEFAULT false,
    UNIQUE (job, source_id)
) WITH (autovacuum_vacuum_scale_factor = 0.05);
COMMENT ON TABLE vector_tools.queued_documents IS 'documents that wait to be embedded; read the table embedding_jobs of their store instead';
COMMENT ON COLUMN vector_tools.queued_documents.source IS 'the jobs of the store';
COMMENT ON COLUMN vector_tools.queued_documents.content IS 'the text; NULL where the document has been written or deleted by somebody else since';
COMMENT ON COLUMN vector_tools.queued_documents.queued_by IS 'the role that writes it';
COMMENT ON COLUMN vector_tools.queued_documents.session_namespace IS 'vector_tools.namespace of the session that queued it';
COMMENT ON SEQUENCE vector_tools.queued_documents_id_seq IS 'numbers of documents, in the order in which they were queued';
CREATE INDEX queued_documents_document ON vector_tools.queued_documents (source, source_type, source_id, namespace);
SELECT pg_catalog.pg_extension_config_dump('vector_tools.queued_documents',
    'WHERE EXISTS (SELECT FROM pg_catalog.pg_class AS c WHERE c.oid OPERATOR(pg_catalog.=) source::pg_catalog.oid) '
    -- The number of a role that is gone could be that of any role where the dump is restored.
    'AND EXISTS (SELECT FROM pg_catalog.pg_roles AS r WHERE r.oid OPERATOR(pg_catalog.=) queued_by::pg_catalog.oid)');
SELECT pg_catalog.pg_extension_config_dump('vector_tools.queued_documents_id_seq', '');

CREATE FUNCTION queue_documents(
    schema text,
    source_type text,
    source_ids uuid[],
    contents text[],
    namespace text DEFAULT NULL,
    metadata jsonb[] DEFAULT NULL,
    collection text DEFAULT NULL,
    strategy text DEFAULT NULL,
    max_tokens bigint DEFAULT 512,
    overlap bigint DEFAULT NULL
) RETURNS uuid
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100000
AS 'MODULE_PATHNAME', 'queue_documents_wrapper';
COMMENT ON FUNCTION queue_documents IS 'queues documents of a store to be embedded in the background; returns the id of the job, by which embedding_jobs shows how far it is';
