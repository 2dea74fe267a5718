-- A vector store: the tables of the regulation store, with the columns that ranked retrieval needs.
-- The primary key and the unique constraint have the namespace, since those of a partitioned table
-- must have the columns that it is partitioned by.
CREATE TABLE {collections} (
    id pg_catalog.uuid PRIMARY KEY DEFAULT {new_id},
    name pg_catalog.varchar(200) NOT NULL UNIQUE,
    description pg_catalog.text,
    namespace pg_catalog.varchar(100) NOT NULL DEFAULT 'default',
    embedding_model pg_catalog.varchar(100) NOT NULL,
    dimensions pg_catalog.int4 NOT NULL,
    distance_metric pg_catalog.varchar(20) NOT NULL DEFAULT 'cosine',
    metadata pg_catalog.jsonb NOT NULL DEFAULT '{}',
    created_at pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.now(),
    updated_at pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.now()
);
COMMENT ON TABLE {collections} IS 'named groups of embeddings inside a namespace';

CREATE TABLE {table} (
    id pg_catalog.uuid NOT NULL DEFAULT {new_id},
    source_type pg_catalog.varchar(50) NOT NULL,
    source_id pg_catalog.uuid NOT NULL,
    chunk_index pg_catalog.int4 NOT NULL DEFAULT 0,
    content_hash pg_catalog.varchar(64) NOT NULL,
    content_preview pg_catalog.text,
    embedding {vector}.{storage}({dimensions}) NOT NULL,
    embedding_model pg_catalog.varchar(100) NOT NULL DEFAULT {model},
    metadata pg_catalog.jsonb NOT NULL DEFAULT '{}',
    namespace pg_catalog.varchar(100) NOT NULL DEFAULT 'default',
    created_at pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.now(),
    updated_at pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.now(),
    content pg_catalog.text,
    lexemes pg_catalog.tsvector GENERATED ALWAYS AS (
        pg_catalog.to_tsvector({configuration}::pg_catalog.regconfig, coalesce(content, content_preview))
    ) STORED,
    collection_id pg_catalog.uuid REFERENCES {collections} (id),
    PRIMARY KEY (id, namespace),
    CONSTRAINT unique_source_chunk UNIQUE (source_type, source_id, chunk_index, embedding_model, namespace)
) PARTITION BY LIST (namespace);
COMMENT ON TABLE {table} IS {comment};
COMMENT ON COLUMN {table}.content_hash IS 'sha256 of content in hexadecimal';
COMMENT ON COLUMN {table}.content_preview IS 'the first 500 characters of content';
COMMENT ON COLUMN {table}.content IS 'the chunk, as it was embedded';
COMMENT ON COLUMN {table}.lexemes IS 'the words of content, for the keyword leg of a search';
COMMENT ON COLUMN {table}.embedding_model IS 'the model; its default is the model of the store';
COMMENT ON COLUMN {table}.collection_id IS 'the collection, if it is in one';

-- Two rows of a small model fit into a page as they are. PostgreSQL's own target would compress the texts
-- of each and put its embedding elsewhere, which costs a writer and every reader of embeddings.
CREATE TABLE {default_partition} PARTITION OF {table} DEFAULT WITH (toast_tuple_target = 4080);
COMMENT ON TABLE {default_partition} IS 'the rows of namespaces that have no partition of their own';

CREATE INDEX idx_embeddings_namespace ON {table} (namespace);
CREATE INDEX idx_embeddings_source ON {table} (source_type, source_id);
CREATE INDEX idx_embeddings_created ON {table} (created_at DESC);
CREATE INDEX idx_embeddings_collection ON {table} (collection_id) WHERE collection_id IS NOT NULL;
CREATE INDEX idx_embeddings_metadata ON {table} USING gin (metadata pg_catalog.jsonb_path_ops);
CREATE INDEX idx_embeddings_lexemes ON {table} USING gin (lexemes);

CREATE TABLE {jobs} (
    id pg_catalog.uuid PRIMARY KEY DEFAULT {new_id},
    collection_id pg_catalog.uuid REFERENCES {collections} (id) ON DELETE SET NULL,
    status pg_catalog.varchar(20) NOT NULL DEFAULT 'pending',
    source_type pg_catalog.varchar(50) NOT NULL,
    source_count pg_catalog.int4 NOT NULL DEFAULT 0,
    processed_count pg_catalog.int4 NOT NULL DEFAULT 0,
    failed_count pg_catalog.int4 NOT NULL DEFAULT 0,
    error_message pg_catalog.text,
    started_at pg_catalog.timestamptz,
    completed_at pg_catalog.timestamptz,
    created_at pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.now(),
    namespace pg_catalog.varchar(100) NOT NULL DEFAULT 'default'
);
COMMENT ON TABLE {jobs} IS 'embedding work and how far it is';

CREATE TABLE {search_logs} (
    id pg_catalog.uuid PRIMARY KEY DEFAULT {new_id},
    query_embedding {vector}.vector({dimensions}),
    query_text pg_catalog.text,
    namespace pg_catalog.varchar(100),
    top_k pg_catalog.int4,
    threshold pg_catalog.float8,
    result_count pg_catalog.int4,
    latency_ms pg_catalog.int4,
    user_id pg_catalog.uuid,
    created_at pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.now(),
    caller pg_catalog.name
);
CREATE INDEX idx_search_logs_created ON {search_logs} (created_at DESC);
COMMENT ON TABLE {search_logs} IS 'searches, where vector_tools.log_searches is on';
COMMENT ON COLUMN {search_logs}.user_id IS 'whom the application searched for, as it said';
COMMENT ON COLUMN {search_logs}.caller IS 'the role that searched';
