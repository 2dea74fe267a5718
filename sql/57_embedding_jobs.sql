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
    is_dead boolean NOT NULL DEFAULT false,
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
