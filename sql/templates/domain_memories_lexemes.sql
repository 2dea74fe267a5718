-- What ranked retrieval needs and a table of the domain-memories system, made by its own script, does not have.
ALTER TABLE {table} ADD COLUMN lexemes pg_catalog.tsvector
    GENERATED ALWAYS AS (pg_catalog.to_tsvector({configuration}::pg_catalog.regconfig, content)) STORED;
COMMENT ON COLUMN {table}.lexemes IS 'the words of content, for the keyword leg of a search';
CREATE INDEX {lexemes_index} ON {table} USING gin (lexemes);
