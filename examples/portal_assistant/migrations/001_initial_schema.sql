-- One row for each chunk of a component's catalogue entry or documentation. Run by embedding_store.js.
CREATE EXTENSION IF NOT EXISTS vector_tools CASCADE;

CREATE TABLE IF NOT EXISTS embeddings (
    id text PRIMARY KEY,
    chunk_id text NOT NULL,
    entity_id text NOT NULL,
    entity_name text NOT NULL,
    vector vector(384),
    content text NOT NULL,
    source text NOT NULL CHECK (source IN ('catalog', 'techdocs')),
    chunk_index integer NOT NULL,
    total_chunks integer NOT NULL,
    created_at timestamptz DEFAULT now(),
    updated_at timestamptz DEFAULT now(),
    lexemes tsvector GENERATED ALWAYS AS (to_tsvector('english', entity_name || ' ' || content)) STORED
);
CREATE INDEX IF NOT EXISTS embeddings_vector ON embeddings USING hnsw (vector vector_cosine_ops) WITH (m = 16, ef_construction = 200);
CREATE INDEX IF NOT EXISTS embeddings_lexemes ON embeddings USING gin (lexemes);
CREATE INDEX IF NOT EXISTS embeddings_entity_id ON embeddings (entity_id);
CREATE INDEX IF NOT EXISTS embeddings_chunk_id ON embeddings (chunk_id);

-- A row that anybody else writes embeds itself; those written by storeBatch bring their embedding along.
CREATE OR REPLACE TRIGGER embed_content BEFORE INSERT OR UPDATE ON embeddings
    FOR EACH ROW EXECUTE FUNCTION vector_tools.embed_row('content', 'vector', 'all-MiniLM-L6-v2');
