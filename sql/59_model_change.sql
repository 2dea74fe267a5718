-- Changing the model of a searchable table, and which models its rows have. The functions in C read their arguments by
-- place: keep the order of src/tables/searchable/model_sql.rs.

CREATE FUNCTION set_search_model(source regclass, model text) RETURNS regclass
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'set_search_model_wrapper';
COMMENT ON FUNCTION set_search_model IS 'begins to embed a searchable table with another model, beside what is searched; returns the table that is filled';

CREATE FUNCTION finish_search_model(source regclass, force boolean DEFAULT false) RETURNS regclass
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'finish_search_model_wrapper';
COMMENT ON FUNCTION finish_search_model IS 'has the vectors of the new model searched, when all rows have them, and keeps the old ones; returns the companion';

CREATE FUNCTION rollback_search_model(source regclass) RETURNS regclass
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'rollback_search_model_wrapper';
COMMENT ON FUNCTION rollback_search_model IS 'gives up a change of the model, or goes back to the model before it; returns the companion';

-- Behind vector_tools.search_drift.
CREATE FUNCTION vector_tools.count_search_models(source regclass) RETURNS TABLE (
    role text,
    companion regclass,
    model text,
    is_current boolean,
    rows bigint,
    chunks bigint
)
LANGUAGE c STABLE PARALLEL RESTRICTED COST 1000000 ROWS 3 AS 'MODULE_PATHNAME', 'count_search_models_wrapper';
COMMENT ON FUNCTION vector_tools.count_search_models IS 'rows and chunks of a searchable table by companion and model; NULLs where the caller may not read them all';

CREATE VIEW vector_tools.search_drift AS
SELECT s.source, n.role, n.companion, coalesce(n.model, s.model) AS model, n.is_current, n.rows, n.chunks
FROM vector_tools.searched_tables AS s
CROSS JOIN LATERAL vector_tools.count_search_models(s.source) AS n;
COMMENT ON VIEW vector_tools.search_drift IS 'rows of each searchable table by the model that embedded them; NULL where the caller may not read the table';
COMMENT ON COLUMN vector_tools.search_drift.source IS 'the table';
COMMENT ON COLUMN vector_tools.search_drift.role IS 'live: searched; next: filled by a change of the model; previous: kept for going back';
COMMENT ON COLUMN vector_tools.search_drift.companion IS 'the table of the chunks';
COMMENT ON COLUMN vector_tools.search_drift.model IS 'the model that embedded the rows';
COMMENT ON COLUMN vector_tools.search_drift.is_current IS 'whether it is the model that these rows are to have';
COMMENT ON COLUMN vector_tools.search_drift.rows IS 'rows embedded with it';
COMMENT ON COLUMN vector_tools.search_drift.chunks IS 'their chunks';
GRANT SELECT ON vector_tools.search_drift TO PUBLIC;
