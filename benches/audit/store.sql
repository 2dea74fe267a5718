-- The regulation store's table of embeddings.
CREATE TABLE $table (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    source_type varchar(50) NOT NULL,
    source_id uuid NOT NULL,
    chunk_index integer NOT NULL DEFAULT 0,
    content_hash varchar(64) NOT NULL,
    content_preview text,
    embedding vector(384) NOT NULL,
    embedding_model varchar(100) NOT NULL DEFAULT 'all-MiniLM-L6-v2',
    metadata jsonb NOT NULL DEFAULT '{}',
    namespace varchar(100) NOT NULL DEFAULT 'default',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT $table_unique_source_chunk UNIQUE (source_type, source_id, chunk_index, embedding_model)
);
