-- Tables made searchable, and the queue of rows to embed. The arguments of the functions in C are those of
-- src/pipeline/enable.rs and src/pipeline/functions.rs (pg_test/arguments).

-- Writers only add to it, so that none of them ever waits for a worker; entries of one row are joined when they are
-- leased. An entry has the keys of many rows of one statement, a line of the array each: one tuple a row would cost the
-- writer about as much as the row itself. A key is the texts of its columns, which every type reads back, where JSON
-- would lose some of them. Rows that fail leave their entry for one of their own.
CREATE TABLE vector_tools.queue (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source regclass NOT NULL,
    keys text[] NOT NULL,
    enqueued_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    attempts integer NOT NULL DEFAULT 0,
    next_try timestamptz NOT NULL DEFAULT pg_catalog.now(),
    category text,
    sqlstate text,
    last_error text,
    gave_up boolean NOT NULL DEFAULT false
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_insert_scale_factor = 0.5, toast_tuple_target = 8160);
COMMENT ON TABLE vector_tools.queue IS 'rows to embed; read vector_tools.search_progress and vector_tools.embedding_errors instead';
COMMENT ON SEQUENCE vector_tools.queue_id_seq IS 'numbers of the entries of the queue';
CREATE INDEX queue_due ON vector_tools.queue (source, next_try, id) WHERE NOT gave_up;
CREATE INDEX queue_failed ON vector_tools.queue (source) WHERE category IS NOT NULL;

-- Entries of tables that are gone stay behind.
SELECT pg_catalog.pg_extension_config_dump('vector_tools.queue',
    'WHERE EXISTS (SELECT FROM pg_catalog.pg_class AS c WHERE c.oid OPERATOR(pg_catalog.=) source::pg_catalog.oid)');
SELECT pg_catalog.pg_extension_config_dump('vector_tools.queue_id_seq', '');

-- What was done in the last minutes, for the rate that search_progress shows.
CREATE UNLOGGED TABLE vector_tools.batches (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source regclass NOT NULL,
    finished_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    rows bigint NOT NULL,
    seconds double precision NOT NULL
);
COMMENT ON TABLE vector_tools.batches IS 'batches embedded in the last minutes; read vector_tools.search_progress instead';
COMMENT ON SEQUENCE vector_tools.batches_id_seq IS 'numbers of the batches';

-- A batch is listed here, and the list committed, before it runs; its own transaction takes it off. Logged, since what is
-- left there by a process that is gone is looked at after a crash, which empties other tables. A dump leaves it out.
CREATE TABLE vector_tools.started_batches (
    pid integer,
    backend_start timestamptz,
    started_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    source regclass NOT NULL,
    entries bigint[] NOT NULL,
    keys text[] NOT NULL,
    PRIMARY KEY (pid, backend_start)
);
COMMENT ON TABLE vector_tools.started_batches IS 'batches that have been started and have not ended; read vector_tools.running_batches instead';

CREATE FUNCTION enable_search(
    source regclass,
    content text[],
    model text DEFAULT NULL,
    mode text DEFAULT 'async',
    chunking text DEFAULT NULL,
    max_tokens bigint DEFAULT NULL,
    overlap bigint DEFAULT NULL,
    text_configuration text DEFAULT NULL,
    storage text DEFAULT 'vector',
    index_kind text DEFAULT 'hnsw'
) RETURNS regclass
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'enable_search_wrapper';
COMMENT ON FUNCTION enable_search IS 'makes a table searchable: its content is chunked, embedded and indexed in a companion table, which is returned';

CREATE FUNCTION disable_search(source regclass) RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'disable_search_wrapper';
COMMENT ON FUNCTION disable_search IS 'drops the companion and the triggers of a searchable table; returns whether it was one';

CREATE FUNCTION vector_tools.queue_row() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'queue_row_wrapper';
COMMENT ON FUNCTION vector_tools.queue_row() IS 'row trigger (options, what it watches): queues a row to be embedded, or embeds it where the mode is sync';

-- Behind run_embedding_jobs, so that the batch is listed before it runs.
CREATE FUNCTION vector_tools.begin_embedding_batch(source regclass DEFAULT NULL) RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'begin_embedding_batch_wrapper';
COMMENT ON FUNCTION vector_tools.begin_embedding_batch IS 'lists queued rows of one of the caller''s tables in running_batches, for run_embedding_batch in the next transaction; false where none is due';

CREATE FUNCTION vector_tools.run_embedding_batch(source regclass DEFAULT NULL, max_rows bigint DEFAULT 256)
RETURNS TABLE (
    table_name regclass,
    embedded bigint,
    chunks bigint,
    unchanged bigint,
    gone bigint,
    postponed bigint,
    failed bigint
)
LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 1 AS 'MODULE_PATHNAME', 'run_embedding_batch_wrapper';
COMMENT ON FUNCTION vector_tools.run_embedding_batch IS 'embeds queued rows of one table of the caller''s, as one batch; no row where none is due';

-- Behind run_embedding_jobs, so that what it was called for is done when it returns.
CREATE FUNCTION vector_tools.wait_for_embedding(source regclass DEFAULT NULL) RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'wait_for_embedding_wrapper';
COMMENT ON FUNCTION vector_tools.wait_for_embedding IS 'waits a moment where a worker or another session embeds rows of the caller''s tables; false where nobody does';

-- Every batch is committed. Names and operators are qualified, since a procedure that commits cannot set search_path.
CREATE PROCEDURE run_embedding_jobs(max_seconds double precision DEFAULT NULL, source regclass DEFAULT NULL)
LANGUAGE plpgsql AS $$
DECLARE
    began constant pg_catalog.timestamptz := pg_catalog.clock_timestamp();
    told pg_catalog.timestamptz := pg_catalog.clock_timestamp();
    batch record;
    embedded pg_catalog.int8 := 0;
    failed pg_catalog.int8 := 0;
    seconds pg_catalog.float8;
BEGIN
    LOOP
        -- Committed before the batch runs, which may end the server.
        PERFORM vector_tools.begin_embedding_batch(source);
        COMMIT;
        SELECT b.* INTO batch FROM vector_tools.run_embedding_batch(source) AS b;
        IF FOUND THEN
            embedded := embedded OPERATOR(pg_catalog.+) batch.embedded;
            failed := failed OPERATOR(pg_catalog.+) batch.failed;
        ELSE
            EXIT WHEN NOT vector_tools.wait_for_embedding(source);
        END IF;
        COMMIT;
        seconds := pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) began);
        IF (pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) told) OPERATOR(pg_catalog.>=) '5 seconds'::pg_catalog.interval THEN
            RAISE NOTICE '% rows embedded, % failed', embedded, failed;
            told := pg_catalog.clock_timestamp();
        END IF;
        EXIT WHEN seconds OPERATOR(pg_catalog.>=) max_seconds;
    END LOOP;
    RAISE NOTICE 'done: % rows embedded, % failed', embedded, failed;
END
$$;
COMMENT ON PROCEDURE run_embedding_jobs IS 'embeds queued rows of the caller''s tables until none is due or the time is over; commits every batch';

CREATE FUNCTION retry_embedding_errors(source regclass, category text DEFAULT NULL) RETURNS bigint
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'retry_embedding_errors_wrapper';
COMMENT ON FUNCTION retry_embedding_errors IS 'has failed rows of a table tried again, those of one category or all; returns how many';

-- Behind vector_tools.searchable_tables. Read by the code that searches read them with, so that what it would not take is
-- not listed, and has its bounds.
CREATE FUNCTION vector_tools.search_options(tgargs bytea) RETURNS jsonb
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'search_options_wrapper';
COMMENT ON FUNCTION vector_tools.search_options IS 'what the trigger of a searched table that watches its content was made with, from pg_trigger.tgargs; NULL for any other';

-- The triggers themselves are the catalogue: they are dumped, renamed and dropped with their table. Of several on one
-- table the one counts that counts for a search.
CREATE VIEW vector_tools.searchable_tables WITH (security_barrier) AS
SELECT DISTINCT ON (source)
       t.tgrelid::pg_catalog.regclass AS source,
       f.conrelid::pg_catalog.regclass AS companion,
       (SELECT pg_catalog.string_agg(c.attname::pg_catalog.text, ', ' ORDER BY o.place)
        FROM pg_catalog.jsonb_array_elements_text(o.options OPERATOR(pg_catalog.->) 'order')
             WITH ORDINALITY AS o(number, place)
        JOIN (SELECT x.attname, pg_catalog.row_number() OVER (ORDER BY x.attnum) AS number
              FROM pg_catalog.pg_attribute AS x
              WHERE x.attrelid OPERATOR(pg_catalog.=) t.tgrelid AND x.attnum OPERATOR(pg_catalog.=) ANY (
                  SELECT d.refobjsubid FROM pg_catalog.pg_depend AS d
                  WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_trigger'::pg_catalog.regclass
                    AND d.objid OPERATOR(pg_catalog.=) t.oid
                    AND d.refobjid OPERATOR(pg_catalog.=) t.tgrelid
                    AND d.refobjsubid OPERATOR(pg_catalog.>) 0)) AS c
          ON (c.number OPERATOR(pg_catalog.-) 1)::pg_catalog.text OPERATOR(pg_catalog.=) o.number
       ) AS content_columns,
       o.options OPERATOR(pg_catalog.->>) 'model' AS model,
       o.options OPERATOR(pg_catalog.->>) 'mode' AS mode,
       CASE
           WHEN pg_catalog.jsonb_typeof(o.options OPERATOR(pg_catalog.->) 'chunking') OPERATOR(pg_catalog.=) 'object'
           THEN o.options OPERATOR(pg_catalog.->) 'chunking'
       END AS chunking,
       o.options OPERATOR(pg_catalog.->>) 'text_configuration' AS text_configuration,
       o.options OPERATOR(pg_catalog.->>) 'storage' AS storage,
       o.options OPERATOR(pg_catalog.->>) 'index_kind' AS index_kind,
       CASE WHEN x.has_next THEN o.options OPERATOR(pg_catalog.->>) 'next' END AS next_model,
       CASE WHEN x.has_previous THEN o.options OPERATOR(pg_catalog.->>) 'previous' END AS previous_model
FROM pg_catalog.pg_trigger AS t
JOIN pg_catalog.pg_proc AS p ON p.oid OPERATOR(pg_catalog.=) t.tgfoid
JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) p.pronamespace
JOIN pg_catalog.pg_class AS s ON s.oid OPERATOR(pg_catalog.=) t.tgrelid
CROSS JOIN LATERAL (
    -- Whoever may make a trigger may give it any argument, which is not even fetched where it is long.
    SELECT CASE
               WHEN pg_catalog.octet_length(t.tgargs) OPERATOR(pg_catalog.<=) 16384
               THEN vector_tools.search_options(t.tgargs)
           END AS options
) AS o
-- Whoever may reference a table may call a foreign key anything: those of the owner's own tables count.
LEFT JOIN LATERAL (
    SELECT k.conrelid
    FROM pg_catalog.pg_constraint AS k
    JOIN pg_catalog.pg_class AS r ON r.oid OPERATOR(pg_catalog.=) k.conrelid
    WHERE k.confrelid OPERATOR(pg_catalog.=) t.tgrelid
      AND k.contype OPERATOR(pg_catalog.=) 'f'
      AND k.conname OPERATOR(pg_catalog.=) 'vector_tools_search'
      AND k.conparentid OPERATOR(pg_catalog.=) 0::pg_catalog.oid
      AND r.relowner OPERATOR(pg_catalog.=) s.relowner
    ORDER BY k.oid
    LIMIT 1
) AS f ON true
CROSS JOIN LATERAL (
    SELECT coalesce(pg_catalog.bool_or(k.conname OPERATOR(pg_catalog.=) 'vector_tools_search_next'), false) AS has_next,
           coalesce(pg_catalog.bool_or(k.conname OPERATOR(pg_catalog.=) 'vector_tools_search_previous'), false) AS has_previous
    FROM pg_catalog.pg_constraint AS k
    JOIN pg_catalog.pg_class AS r ON r.oid OPERATOR(pg_catalog.=) k.conrelid
    WHERE k.confrelid OPERATOR(pg_catalog.=) t.tgrelid AND k.contype OPERATOR(pg_catalog.=) 'f'
      AND r.relowner OPERATOR(pg_catalog.=) s.relowner
) AS x
WHERE n.nspname OPERATOR(pg_catalog.=) 'vector_tools'
  AND p.proname OPERATOR(pg_catalog.=) 'queue_row'
  AND o.options IS NOT NULL
  AND t.tgparentid OPERATOR(pg_catalog.=) 0::pg_catalog.oid
ORDER BY source, t.tgname DESC;
COMMENT ON VIEW vector_tools.searchable_tables IS 'tables made searchable by enable_search, by their triggers';
COMMENT ON COLUMN vector_tools.searchable_tables.source IS 'the table';
COMMENT ON COLUMN vector_tools.searchable_tables.companion IS 'the table of its chunks; NULL where it is gone, or belongs to another role';
COMMENT ON COLUMN vector_tools.searchable_tables.content_columns IS 'the columns that are searched, in the order in which they are joined';
COMMENT ON COLUMN vector_tools.searchable_tables.model IS 'the model that embeds it';
COMMENT ON COLUMN vector_tools.searchable_tables.mode IS 'when rows are embedded: sync, async or manual';
COMMENT ON COLUMN vector_tools.searchable_tables.chunking IS 'how rows become chunks; NULL for one chunk a row';
COMMENT ON COLUMN vector_tools.searchable_tables.text_configuration IS 'how words are read; NULL where a column says it';
COMMENT ON COLUMN vector_tools.searchable_tables.storage IS 'the type of the vectors';
COMMENT ON COLUMN vector_tools.searchable_tables.index_kind IS 'the index by distance';
COMMENT ON COLUMN vector_tools.searchable_tables.next_model IS 'the model that a change under way leads to';
COMMENT ON COLUMN vector_tools.searchable_tables.previous_model IS 'the model whose vectors are kept for going back';
GRANT SELECT ON vector_tools.searchable_tables TO PUBLIC;

-- Both kinds of searchable tables in one list: those that embed their own rows, and those with a companion. Their triggers are
--  the catalogue: they are dumped, renamed and dropped with their table.
CREATE VIEW vector_tools.embedded_tables WITH (security_barrier) AS
SELECT u.source, u.content_column, u.embedding_column, u.model, u.companion, u.mode
FROM (
    SELECT t.tgrelid::pg_catalog.regclass AS source,
           a.arguments[1] AS content_column,
           a.arguments[2] AS embedding_column,
           a.arguments[3] AS model,
           NULL::pg_catalog.regclass AS companion,
           'sync'::pg_catalog.text AS mode
    FROM pg_catalog.pg_trigger AS t
    JOIN pg_catalog.pg_proc AS p ON p.oid OPERATOR(pg_catalog.=) t.tgfoid
    JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) p.pronamespace
    CROSS JOIN LATERAL vector_tools.trigger_arguments(t.tgargs) AS a(arguments)
    WHERE n.nspname OPERATOR(pg_catalog.=) 'vector_tools'
      AND p.proname OPERATOR(pg_catalog.=) 'embed_row'
      AND a.arguments IS NOT NULL
      AND NOT t.tgisinternal
      -- No copies in partitions.
      AND t.tgparentid OPERATOR(pg_catalog.=) 0::pg_catalog.oid
    UNION ALL
    SELECT s.source, s.content_columns, NULL, s.model, s.companion, s.mode
    FROM vector_tools.searchable_tables AS s
) AS u;
COMMENT ON VIEW vector_tools.embedded_tables IS 'tables whose rows are embedded by triggers: their own, or those of enable_search';
COMMENT ON COLUMN vector_tools.embedded_tables.source IS 'the table';
COMMENT ON COLUMN vector_tools.embedded_tables.content_column IS 'the column that is embedded, or the columns';
COMMENT ON COLUMN vector_tools.embedded_tables.embedding_column IS 'the column that holds the embedding; NULL where the companion does';
COMMENT ON COLUMN vector_tools.embedded_tables.model IS 'the model that embeds it';
COMMENT ON COLUMN vector_tools.embedded_tables.companion IS 'the table of its chunks, where enable_search made one';
COMMENT ON COLUMN vector_tools.embedded_tables.mode IS 'when rows are embedded: sync, async or manual';
GRANT SELECT ON vector_tools.embedded_tables TO PUBLIC;

-- A message may quote the row, so that the owner alone reads it.
CREATE VIEW vector_tools.embedding_errors WITH (security_barrier) AS
SELECT q.source,
       CASE
           WHEN pg_catalog.array_length(q.keys, 2) OPERATOR(pg_catalog.=) 1 THEN q.keys[r.place][1]
           ELSE (pg_catalog.array_to_json(q.keys[r.place:r.place]) OPERATOR(pg_catalog.->) 0)::pg_catalog.text
       END AS id,
       q.category,
       q.sqlstate,
       q.last_error AS message,
       q.attempts,
       CASE WHEN NOT q.gave_up THEN q.next_try END AS next_try,
       q.gave_up,
       q.enqueued_at
FROM vector_tools.queue AS q
JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) q.source::pg_catalog.oid
CROSS JOIN LATERAL pg_catalog.generate_subscripts(q.keys, 1) AS r(place)
WHERE q.category IS NOT NULL
  AND pg_catalog.pg_has_role(c.relowner, 'USAGE');
COMMENT ON VIEW vector_tools.embedding_errors IS 'rows of the caller''s tables that could not be embedded';
COMMENT ON COLUMN vector_tools.embedding_errors.source IS 'the table';
COMMENT ON COLUMN vector_tools.embedding_errors.id IS 'the primary key; a JSON array of texts where it has several columns';
COMMENT ON COLUMN vector_tools.embedding_errors.category IS 'where the reason lies: row, model or resource';
COMMENT ON COLUMN vector_tools.embedding_errors.sqlstate IS 'SQLSTATE of the last error';
COMMENT ON COLUMN vector_tools.embedding_errors.message IS 'its message';
COMMENT ON COLUMN vector_tools.embedding_errors.attempts IS 'how often it was tried';
COMMENT ON COLUMN vector_tools.embedding_errors.next_try IS 'when it is tried again, NULL where it is not';
COMMENT ON COLUMN vector_tools.embedding_errors.gave_up IS 'whether it waits for a change of the row or for retry_embedding_errors';
COMMENT ON COLUMN vector_tools.embedding_errors.enqueued_at IS 'when the row was queued';
GRANT SELECT ON vector_tools.embedding_errors TO PUBLIC;

-- Who embeds what since when. The keys are for nobody, the tables for their owners and for those who watch the server.
CREATE VIEW vector_tools.running_batches WITH (security_barrier) AS
SELECT b.pid,
       b.backend_start,
       b.source,
       pg_catalog.array_length(b.keys, 1) AS rows,
       b.started_at,
       EXISTS (
           SELECT FROM pg_catalog.pg_stat_get_activity(b.pid) AS a
           -- NULL for those who may not see it.
           WHERE coalesce(a.backend_start OPERATOR(pg_catalog.=) b.backend_start, true)
             AND NOT coalesce(pg_catalog.starts_with(a.state, 'idle'), false)
       ) AS is_running
FROM vector_tools.started_batches AS b
LEFT JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) b.source::pg_catalog.oid
WHERE pg_catalog.pg_has_role('pg_monitor', 'USAGE')
   OR pg_catalog.pg_has_role(c.relowner, 'USAGE');
COMMENT ON VIEW vector_tools.running_batches IS 'batches of the caller''s tables that are being embedded; of all tables for members of pg_monitor';
COMMENT ON COLUMN vector_tools.running_batches.pid IS 'the process that embeds it, a worker''s or a session''s';
COMMENT ON COLUMN vector_tools.running_batches.backend_start IS 'when that process began, which tells it from others of its number';
COMMENT ON COLUMN vector_tools.running_batches.source IS 'the table';
COMMENT ON COLUMN vector_tools.running_batches.rows IS 'its rows in the batch';
COMMENT ON COLUMN vector_tools.running_batches.started_at IS 'when the batch began';
COMMENT ON COLUMN vector_tools.running_batches.is_running IS 'false where its process is gone, so that its rows come under suspicion, or has left it with an error';
GRANT SELECT ON vector_tools.running_batches TO PUBLIC;

-- Behind vector_tools.search_progress. What an owner's functions raise is caught, which PostgreSQL 16 cannot do in
-- parallel mode.
CREATE FUNCTION vector_tools.count_search_rows(source regclass) RETURNS TABLE (
    total bigint,
    embedded bigint,
    is_estimated boolean,
    next_embedded bigint
)
LANGUAGE c STABLE PARALLEL UNSAFE COST 1000000 ROWS 1 AS 'MODULE_PATHNAME', 'count_search_rows_wrapper';
COMMENT ON FUNCTION vector_tools.count_search_rows IS 'rows of a searchable table, and those with chunks, large numbers estimated; nothing where the caller may not read them all';

CREATE VIEW vector_tools.search_progress WITH (security_barrier) AS
SELECT s.source AS table_name,
       n.total,
       n.embedded,
       CASE
           WHEN n.total IS NOT NULL
           THEN GREATEST(w.pending OPERATOR(pg_catalog.+) w.failed
                         OPERATOR(pg_catalog.-) (n.total OPERATOR(pg_catalog.-) n.embedded), 0)
       END AS stale,
       CASE WHEN n.total IS NOT NULL THEN w.pending END AS pending,
       CASE WHEN n.total IS NOT NULL THEN w.failed END AS failed,
       CASE WHEN n.total IS NOT NULL THEN pg_catalog.round(r.rate::pg_catalog.numeric, 1) END AS rows_per_second,
       CASE
           WHEN n.total IS NOT NULL AND r.rate OPERATOR(pg_catalog.>) 0
           THEN pg_catalog.date_trunc('second',
                    ((w.pending OPERATOR(pg_catalog.+) w.next_pending) OPERATOR(pg_catalog./) r.rate) OPERATOR(pg_catalog.*) '1 second'::pg_catalog.interval)
       END AS eta,
       CASE WHEN n.total IS NOT NULL THEN w.oldest END AS oldest_pending,
       CASE
           WHEN pg_catalog.pg_has_role(c.relowner, 'USAGE')
           THEN (SELECT q.last_error FROM vector_tools.queue AS q
                 WHERE q.source OPERATOR(pg_catalog.=) s.source AND q.category IS NOT NULL ORDER BY q.id DESC LIMIT 1)
       END AS last_error,
       n.is_estimated,
       s.next_model,
       n.next_embedded,
       CASE WHEN n.next_embedded IS NOT NULL THEN w.next_pending END AS next_pending
FROM vector_tools.searchable_tables AS s
JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) s.source::pg_catalog.oid
LEFT JOIN LATERAL vector_tools.count_search_rows(s.source) AS n ON true
CROSS JOIN LATERAL (
    SELECT coalesce(pg_catalog.sum(pg_catalog.array_length(q.keys, 1)) FILTER (WHERE d.is_pending), 0) AS pending,
           coalesce(pg_catalog.sum(pg_catalog.array_length(q.keys, 1)) FILTER (WHERE d.can_wait), 0) AS next_pending,
           coalesce(pg_catalog.sum(pg_catalog.array_length(q.keys, 1)) FILTER (WHERE q.category IS NOT NULL), 0) AS failed,
           pg_catalog.min(q.enqueued_at) FILTER (WHERE d.is_pending) AS oldest
    FROM vector_tools.queue AS q
    -- What waits until nothing else is due is due at infinity.
    CROSS JOIN LATERAL (
        SELECT q.category IS NULL AND q.next_try OPERATOR(pg_catalog.<) 'infinity' AS is_pending,
               q.category IS NULL AND q.next_try OPERATOR(pg_catalog.=) 'infinity' AS can_wait
    ) AS d
    WHERE q.source OPERATOR(pg_catalog.=) s.source
) AS w
CROSS JOIN LATERAL (
    SELECT pg_catalog.sum(b.rows)::pg_catalog.float8 OPERATOR(pg_catalog./) GREATEST(
               pg_catalog.date_part('epoch', pg_catalog.max(b.finished_at) OPERATOR(pg_catalog.-) pg_catalog.min(
                   b.finished_at OPERATOR(pg_catalog.-) (b.seconds OPERATOR(pg_catalog.*) '1 second'::pg_catalog.interval))),
               0.001) AS rate
    FROM vector_tools.batches AS b
    WHERE b.source OPERATOR(pg_catalog.=) s.source
      AND b.finished_at OPERATOR(pg_catalog.>) (pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) '1 minute'::pg_catalog.interval)
) AS r;
COMMENT ON VIEW vector_tools.search_progress IS 'how far the embedding of each searchable table is; NULL where the caller may not read the table';
COMMENT ON COLUMN vector_tools.search_progress.table_name IS 'the table';
COMMENT ON COLUMN vector_tools.search_progress.total IS 'its rows';
COMMENT ON COLUMN vector_tools.search_progress.embedded IS 'rows that have chunks, true or stale';
COMMENT ON COLUMN vector_tools.search_progress.stale IS 'rows whose chunks wait to be renewed, as far as the queue tells';
COMMENT ON COLUMN vector_tools.search_progress.pending IS 'rows in the queue that have not failed; one that was queued twice counts twice';
COMMENT ON COLUMN vector_tools.search_progress.failed IS 'those that have; see vector_tools.embedding_errors';
COMMENT ON COLUMN vector_tools.search_progress.rows_per_second IS 'rows embedded in the last minute, while batches ran';
COMMENT ON COLUMN vector_tools.search_progress.eta IS 'time until nothing is pending, at that rate';
COMMENT ON COLUMN vector_tools.search_progress.oldest_pending IS 'when the oldest pending row was queued';
COMMENT ON COLUMN vector_tools.search_progress.last_error IS 'message of the newest failure, for the owner';
COMMENT ON COLUMN vector_tools.search_progress.is_estimated IS 'whether there are so many rows that they are estimated, not counted';
COMMENT ON COLUMN vector_tools.search_progress.next_model IS 'the model that a change under way leads to';
COMMENT ON COLUMN vector_tools.search_progress.next_embedded IS 'rows that are embedded with it';
COMMENT ON COLUMN vector_tools.search_progress.next_pending IS 'rows in the queue that are still to be, and wait until no other row is due';
GRANT SELECT ON vector_tools.search_progress TO PUBLIC;

-- Changing the model of a searchable table, and which models its rows have. The arguments of the functions
-- in C are those of src/pipeline/change_model.rs and drift.rs (pg_test/arguments).

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
    FROM vector_tools.searchable_tables AS s
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
    FROM vector_tools.embedded_tables AS t
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
