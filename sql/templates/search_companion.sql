-- The companion of a searched table: its chunks. The foreign key removes them with their row, follows changes of the
-- key, and is what tells that this table is the companion of that one.
CREATE {persistence}TABLE {companion} (
    {columns},
    chunk_index pg_catalog.int4 NOT NULL,
    parent_index pg_catalog.int4,
    content pg_catalog.text NOT NULL,
    start_offset pg_catalog.int4 NOT NULL,
    end_offset pg_catalog.int4 NOT NULL,
    token_count pg_catalog.int4 NOT NULL,
    content_hash pg_catalog.bytea NOT NULL,
    model pg_catalog.text NOT NULL,
    embedding {vector},
    lexemes pg_catalog.tsvector,
    PRIMARY KEY ({key}, chunk_index),
    CONSTRAINT {foreign_key} FOREIGN KEY ({key}) REFERENCES {source} ({source_key}) ON UPDATE CASCADE ON DELETE CASCADE
);

COMMENT ON TABLE {companion} IS {comment};
COMMENT ON COLUMN {companion}.chunk_index IS 'place of the chunk in its row, from 0';
COMMENT ON COLUMN {companion}.parent_index IS 'the chunk that this one is a part of';
COMMENT ON COLUMN {companion}.content IS 'the text of the chunk';
COMMENT ON COLUMN {companion}.start_offset IS 'characters of the row''s text before the chunk';
COMMENT ON COLUMN {companion}.end_offset IS 'characters of the row''s text up to its end';
COMMENT ON COLUMN {companion}.token_count IS 'tokens that the model reads of it, special tokens included';
COMMENT ON COLUMN {companion}.content_hash IS 'sha256 of the row''s text and of what decides its chunks';
COMMENT ON COLUMN {companion}.model IS 'the model of the embedding';
COMMENT ON COLUMN {companion}.embedding IS 'NULL where there is nothing to embed: blank text, or a parent of chunks';
COMMENT ON COLUMN {companion}.lexemes IS 'its words; NULL where the embedding is';

CREATE INDEX ON {companion} USING gin (lexemes);

ALTER TABLE {companion} ENABLE ROW LEVEL SECURITY;
GRANT SELECT ON {companion} TO PUBLIC;
