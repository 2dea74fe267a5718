-- The embeddings of rows that were written while a domain-memories table had no triggers. Before the triggers come back, so
-- that updated_at stays.
UPDATE {table} SET embedding = {embed}(content, {model}::pg_catalog.text) WHERE embedding IS NULL;
COMMENT ON TABLE {table} IS {comment};
