-- Undoes 001_initial_schema.sql; the extension stays, since others may use it.
DROP TABLE IF EXISTS embeddings;
