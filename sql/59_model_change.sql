-- Changing the model of a searchable table, and which models its rows have. The arguments of the functions
-- in C are those of src/pipeline/change_model.rs and drift_sql.rs (pg_test/arguments).

CREATE FUNCTION set_search_model(source regclass, model text) RETURNS regclass
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'set_search_model_wrapper';
COMMENT ON FUNCTION set_search_model IS 'begins to embed a searchable table with another model, beside what is searched; returns the table that is filled';

CREATE FUNCTION finish_search_model(source regclass, force boolean DEFAULT false) RETURNS regclass
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'finish_search_model_wrapper';
COMMENT ON FUNCTION finish_search_model IS 'has the vectors of the new model searched, when all rows have them, and keeps the old ones; returns the companion';

CREATE FUNCTION rollback_search_model(source regclass) RETURNS regclass
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'rollback_search_model_wrapper';
COMMENT ON FUNCTION rollback_search_model IS 'gives up a change of the model, or goes back to the model before it; returns the companion';

-- Behind vector_tools.search_drift. Unsafe in parallel plans, in which older servers begin no subtransactions.
CREATE FUNCTION vector_tools.count_search_models(source regclass) RETURNS TABLE (
    role text,
    companion regclass,
    model text,
    is_current boolean,
    rows bigint,
    chunks bigint
)
LANGUAGE c STABLE PARALLEL UNSAFE COST 1000000 ROWS 3 AS 'MODULE_PATHNAME', 'count_search_models_wrapper';
COMMENT ON FUNCTION vector_tools.count_search_models IS 'rows and chunks of a searchable table by companion and model; NULLs where the caller may not read them all';

CREATE FUNCTION vector_tools.count_embedded_rows(source regclass, embedding_column text) RETURNS bigint
LANGUAGE c STABLE PARALLEL UNSAFE COST 1000000 AS 'MODULE_PATHNAME', 'count_embedded_rows_wrapper';
COMMENT ON FUNCTION vector_tools.count_embedded_rows IS 'rows of a table that have an embedding in a column of their own; NULL where the caller may not read them all';

CREATE FUNCTION vector_tools.count_store_models(store regclass) RETURNS TABLE (
    model text,
    is_current boolean,
    rows bigint,
    chunks bigint
)
LANGUAGE c STABLE PARALLEL UNSAFE COST 1000000 ROWS 2 AS 'MODULE_PATHNAME', 'count_store_models_wrapper';
COMMENT ON FUNCTION vector_tools.count_store_models IS 'rows of a vector store by model; NULLs where the caller may not read them all';

CREATE VIEW vector_tools.search_drift WITH (security_barrier) AS
SELECT u.source, u.role, u.companion, u.model, u.is_current, u.rows, u.chunks
FROM (
    SELECT s.source, n.role, n.companion, coalesce(n.model, s.model) AS model, n.is_current, n.rows, n.chunks
    FROM vector_tools.searched_tables AS s
    CROSS JOIN LATERAL vector_tools.count_search_models(s.source) AS n
    UNION ALL
    -- The rows do not say which model embedded them; the trigger does.
    SELECT t.source,
           CASE WHEN n.rows IS NOT NULL THEN 'live' END,
           NULL::pg_catalog.regclass,
           t.model,
           CASE WHEN n.rows IS NOT NULL THEN true END,
           n.rows,
           n.rows
    FROM vector_tools.searchable_tables AS t
    CROSS JOIN LATERAL vector_tools.count_embedded_rows(t.source, t.embedding_column) AS n(rows)
    WHERE t.embedding_column IS NOT NULL
    UNION ALL
    SELECT v.store,
           CASE WHEN n.rows IS NOT NULL THEN 'live' END,
           NULL::pg_catalog.regclass,
           coalesce(n.model, v.model),
           n.is_current,
           n.rows,
           n.chunks
    FROM vector_tools.vector_stores AS v
    CROSS JOIN LATERAL vector_tools.count_store_models(v.store) AS n
) AS u;
COMMENT ON VIEW vector_tools.search_drift IS 'rows of each table that is embedded by the model that embedded them; NULL where the caller may not read the table';
COMMENT ON COLUMN vector_tools.search_drift.source IS 'the table: a searchable one, one that embeds its rows itself, or the embeddings of a vector store';
COMMENT ON COLUMN vector_tools.search_drift.role IS 'live: searched; next: filled by a change of the model; previous: kept for going back';
COMMENT ON COLUMN vector_tools.search_drift.companion IS 'the table of the chunks; NULL where the rows have their embeddings themselves';
COMMENT ON COLUMN vector_tools.search_drift.model IS 'the model that embedded the rows; where they do not say it, that of the trigger';
COMMENT ON COLUMN vector_tools.search_drift.is_current IS 'whether it is the model that these rows are to have';
COMMENT ON COLUMN vector_tools.search_drift.rows IS 'rows embedded with it; of a vector store, the first chunks';
COMMENT ON COLUMN vector_tools.search_drift.chunks IS 'their chunks';
GRANT SELECT ON vector_tools.search_drift TO PUBLIC;
