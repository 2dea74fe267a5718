-- A domain-memories table: the columns of the domain-memories system, the lexemes that ranked
-- retrieval needs, and triggers that keep the embedding and updated_at true.
CREATE TABLE {table} (
    id pg_catalog.varchar(50) PRIMARY KEY DEFAULT {new_id},
    content pg_catalog.text NOT NULL,
    embedding {vector}.vector({dimensions}),
    metadata pg_catalog.jsonb NOT NULL DEFAULT '{}',
    created_at pg_catalog.timestamptz DEFAULT pg_catalog.now(),
    updated_at pg_catalog.timestamptz DEFAULT pg_catalog.now(),
    lexemes pg_catalog.tsvector GENERATED ALWAYS AS (pg_catalog.to_tsvector({configuration}::pg_catalog.regconfig, content)) STORED
);

COMMENT ON TABLE {table} IS {comment};
COMMENT ON COLUMN {table}.content IS 'the memory; embedded and indexed by itself';
COMMENT ON COLUMN {table}.embedding IS 'the embedding of content, computed where none is given';
COMMENT ON COLUMN {table}.lexemes IS 'the words of content, for the keyword leg of a search';

CREATE INDEX {embedding_index} ON {table} USING hnsw (embedding {vector}.vector_cosine_ops);
CREATE INDEX {metadata_index} ON {table} USING gin (metadata);
CREATE INDEX {updated_index} ON {table} (updated_at DESC);
-- For clients that search with their own to_tsvector('english', content) @@ ….
CREATE INDEX {content_index} ON {table} USING gin (pg_catalog.to_tsvector({configuration}::pg_catalog.regconfig, content));
CREATE INDEX {lexemes_index} ON {table} USING gin (lexemes);

CREATE TRIGGER embed_content
    BEFORE INSERT OR UPDATE ON {table}
    FOR EACH ROW EXECUTE FUNCTION vector_tools.embed_row('content', 'embedding', {model});
CREATE TRIGGER touch_updated_at
    BEFORE UPDATE ON {table}
    FOR EACH ROW EXECUTE FUNCTION vector_tools.touch_row('updated_at');
