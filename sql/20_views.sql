-- What a person reads: the models, and the tables that embed their rows.

CREATE VIEW vector_tools.models AS
SELECT r.name,
       r.provider,
       r.dimensions,
       r.max_tokens,
       r.pooling,
       r.normalize,
       r.query_prefix,
       r.passage_prefix,
       r.size_bytes,
       r.sha256,
       r.bundled,
       r.registered_at,
       CASE
           WHEN pg_catalog.pg_has_role('pg_read_server_files', 'USAGE') THEN r.source
       END AS source
FROM vector_tools.model_registry AS r;
COMMENT ON VIEW vector_tools.models IS 'registered models; source is NULL for roles that may not read files of the server';
COMMENT ON COLUMN vector_tools.models.name IS 'what embed(text, model) takes';
COMMENT ON COLUMN vector_tools.models.provider IS 'who computes the vectors: onnx, this server by ONNX Runtime';
COMMENT ON COLUMN vector_tools.models.dimensions IS 'numbers in each vector';
COMMENT ON COLUMN vector_tools.models.max_tokens IS 'longer texts are truncated to this many tokens';
COMMENT ON COLUMN vector_tools.models.pooling IS 'how token vectors become one: mean or cls';
COMMENT ON COLUMN vector_tools.models.normalize IS 'whether vectors have unit length';
COMMENT ON COLUMN vector_tools.models.query_prefix IS 'put before every query by embed_query';
COMMENT ON COLUMN vector_tools.models.passage_prefix IS 'put before every passage by embed';
COMMENT ON COLUMN vector_tools.models.size_bytes IS 'size of the ONNX file';
COMMENT ON COLUMN vector_tools.models.sha256 IS 'sha256 of the ONNX file, checked whenever the model is loaded';
COMMENT ON COLUMN vector_tools.models.bundled IS 'whether it came with the extension';
COMMENT ON COLUMN vector_tools.models.registered_at IS 'when it was registered in this database';
COMMENT ON COLUMN vector_tools.models.source IS 'folder or file on the server';

-- The triggers themselves are the catalogue: they are dumped, renamed and dropped with their table.
CREATE VIEW vector_tools.searchable_tables AS
SELECT t.tgrelid::pg_catalog.regclass AS source,
       a.arguments[1] AS content_column,
       a.arguments[2] AS embedding_column,
       a.arguments[3] AS model
FROM pg_catalog.pg_trigger AS t
JOIN pg_catalog.pg_proc AS p ON p.oid OPERATOR(pg_catalog.=) t.tgfoid
JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) p.pronamespace
CROSS JOIN LATERAL (
    -- tgargs holds the arguments one after another, each ended by a zero byte.
    SELECT pg_catalog.array_agg(
               pg_catalog.convert_from(pg_catalog.decode(part.escaped, 'escape'), 'UTF8')
               ORDER BY part.place
           ) AS arguments
    FROM pg_catalog.unnest(
             pg_catalog.string_to_array(pg_catalog.encode(t.tgargs, 'escape'), '\000')
         ) WITH ORDINALITY AS part(escaped, place)
) AS a
WHERE n.nspname OPERATOR(pg_catalog.=) 'vector_tools'
  AND p.proname OPERATOR(pg_catalog.=) 'embed_row'
  AND NOT t.tgisinternal;
COMMENT ON VIEW vector_tools.searchable_tables IS 'tables whose rows embed themselves, by their triggers';
COMMENT ON COLUMN vector_tools.searchable_tables.source IS 'the table';
COMMENT ON COLUMN vector_tools.searchable_tables.content_column IS 'the column that is embedded';
COMMENT ON COLUMN vector_tools.searchable_tables.embedding_column IS 'the column that holds the embedding';
COMMENT ON COLUMN vector_tools.searchable_tables.model IS 'the model that embeds it';
