-- What a person reads: the models, and the tables that embed their rows.

-- Every view of the extension is a security_barrier: else a function of the reader's would be called with rows, and
-- the planner would tell of values, before the view's own conditions have hidden them. A UNION ALL is none by itself,
-- since the planner takes it apart before it looks: it stands in the FROM clause of a view.

CREATE VIEW vector_tools.models WITH (security_barrier) AS
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

-- tgargs holds the arguments one after another, each ended by a zero byte, and a text can hold anything else. So they
-- become the text of an array. In the form "escape" only zero bytes, other bytes beyond ASCII and backslashes are
-- escaped; with backslashes written in octal, too, \000 is a zero byte wherever it is found. One expression, and
-- STABLE as reading an array is: only so the planner puts it in place of the call. Whoever may make a trigger may give
-- it any argument, and the lists are everyone's: longer ones than any that the extension makes are not read.
CREATE FUNCTION vector_tools.trigger_arguments(tgargs bytea) RETURNS text[]
LANGUAGE sql STABLE PARALLEL SAFE
RETURN CASE
    WHEN pg_catalog.octet_length(tgargs) OPERATOR(pg_catalog.>) 16384 THEN NULL
    WHEN tgargs OPERATOR(pg_catalog.=) ''::pg_catalog.bytea THEN '{}'::pg_catalog.text[]
    ELSE (
        '{"' OPERATOR(pg_catalog.||)
        -- Without what stands between the last argument and none.
        pg_catalog.left(pg_catalog.convert_from(pg_catalog.decode(
            pg_catalog.replace(pg_catalog.replace(pg_catalog.replace(pg_catalog.encode(tgargs, 'escape'),
                '\\', '\134\134'), '"', '\134"'), '\000', '","'),
            'escape'), 'UTF8'), -2)
        OPERATOR(pg_catalog.||) '}'
    )::pg_catalog.text[]
END;
COMMENT ON FUNCTION vector_tools.trigger_arguments(bytea) IS 'the arguments of a trigger, from pg_trigger.tgargs; NULL where they have more than 16384 bytes';

-- The triggers themselves are the catalogue: they are dumped, renamed and dropped with their table.
CREATE VIEW vector_tools.searchable_tables WITH (security_barrier) AS
SELECT t.tgrelid::pg_catalog.regclass AS source,
       -- As the columns of companions, which join them in this list, are collated.
       a.arguments[1] COLLATE pg_catalog."C" AS content_column,
       a.arguments[2] AS embedding_column,
       a.arguments[3] AS model
FROM pg_catalog.pg_trigger AS t
JOIN pg_catalog.pg_proc AS p ON p.oid OPERATOR(pg_catalog.=) t.tgfoid
JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) p.pronamespace
CROSS JOIN LATERAL vector_tools.trigger_arguments(t.tgargs) AS a(arguments)
WHERE n.nspname OPERATOR(pg_catalog.=) 'vector_tools'
  AND p.proname OPERATOR(pg_catalog.=) 'embed_row'
  AND a.arguments IS NOT NULL
  AND NOT t.tgisinternal
  -- No copies in partitions.
  AND t.tgparentid OPERATOR(pg_catalog.=) 0::pg_catalog.oid;
COMMENT ON VIEW vector_tools.searchable_tables IS 'tables whose rows embed themselves, by their triggers';
COMMENT ON COLUMN vector_tools.searchable_tables.source IS 'the table';
COMMENT ON COLUMN vector_tools.searchable_tables.content_column IS 'the column that is embedded';
COMMENT ON COLUMN vector_tools.searchable_tables.embedding_column IS 'the column that holds the embedding';
COMMENT ON COLUMN vector_tools.searchable_tables.model IS 'the model that embeds it';
