-- Embedding and counting tokens. A function that names its model is IMMUTABLE, since the registry keeps the hash of the
-- model's file; one that takes vector_tools.default_model is STABLE.

CREATE FUNCTION embed(input text) RETURNS vector
LANGUAGE c STABLE STRICT PARALLEL SAFE COST 10000 AS 'MODULE_PATHNAME', 'embed_default_wrapper';

CREATE FUNCTION embed(input text, model text) RETURNS vector
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 10000 AS 'MODULE_PATHNAME', 'embed_wrapper';

CREATE FUNCTION embed(inputs text[]) RETURNS vector[]
LANGUAGE c STABLE STRICT PARALLEL SAFE COST 100000 AS 'MODULE_PATHNAME', 'embed_array_default_wrapper';

CREATE FUNCTION embed(inputs text[], model text) RETURNS vector[]
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 100000 AS 'MODULE_PATHNAME', 'embed_array_with_wrapper';

CREATE FUNCTION embed_query(input text) RETURNS vector
LANGUAGE c STABLE STRICT PARALLEL SAFE COST 10000 AS 'MODULE_PATHNAME', 'embed_query_default_wrapper';

CREATE FUNCTION embed_query(input text, model text) RETURNS vector
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 10000 AS 'MODULE_PATHNAME', 'embed_query_wrapper';

CREATE FUNCTION count_tokens(input text) RETURNS integer
LANGUAGE c STABLE STRICT PARALLEL SAFE COST 100 AS 'MODULE_PATHNAME', 'count_tokens_default_wrapper';

CREATE FUNCTION count_tokens(input text, model text) RETURNS integer
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 100 AS 'MODULE_PATHNAME', 'count_tokens_wrapper';

CREATE FUNCTION warm_up(model text DEFAULT NULL) RETURNS integer
LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'warm_up_wrapper';
COMMENT ON FUNCTION embed(text) IS 'embedding of a passage by vector_tools.default_model; longer text is truncated at the model''s limit';
COMMENT ON FUNCTION embed(text, text) IS 'embedding of a passage by the named model; fit for generated columns and expression indexes';
COMMENT ON FUNCTION embed(text[]) IS 'embeddings of many passages by vector_tools.default_model, in their order, batched by length';
COMMENT ON FUNCTION embed(text[], text) IS 'embeddings of many passages by the named model, in their order, batched by length';
COMMENT ON FUNCTION embed_query(text) IS 'embedding of a query by vector_tools.default_model, with the model''s query prefix';
COMMENT ON FUNCTION embed_query(text, text) IS 'embedding of a query by the named model, with the model''s query prefix';
COMMENT ON FUNCTION count_tokens(text) IS 'tokens of a text for vector_tools.default_model, before truncation, special tokens included';
COMMENT ON FUNCTION count_tokens(text, text) IS 'tokens of a text for the named model, before truncation, special tokens included';
COMMENT ON FUNCTION warm_up(text) IS 'has a model loaded where it will run, so that no query waits for that; returns its dimensions';

-- Triggers of tables whose rows embed themselves.
CREATE FUNCTION vector_tools.embed_row() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'embed_row_wrapper';

CREATE FUNCTION vector_tools.touch_row() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'touch_row_wrapper';
COMMENT ON FUNCTION vector_tools.embed_row() IS 'row trigger (content column, embedding column, model): embeds new and changed content';
COMMENT ON FUNCTION vector_tools.touch_row() IS 'row trigger (column): keeps the time of the last change';

-- The embedding process that all sessions of the cluster share.

CREATE FUNCTION vector_tools.embedder_statistics()
RETURNS TABLE (
    process_id integer,
    started_at bigint,
    restarts bigint,
    threads integer,
    connections integer,
    memory_bytes bigint,
    memory_limit_bytes bigint,
    model text,
    dimensions integer,
    loaded boolean,
    loads bigint,
    model_memory_bytes bigint,
    requests bigint,
    failures bigint,
    texts bigint,
    batches bigint,
    batch_tokens bigint,
    queued bigint,
    p50_ms double precision,
    p99_ms double precision
)
LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'embedder_statistics_wrapper';

CREATE VIEW vector_tools.embedder_stats WITH (security_barrier) AS
SELECT s.process_id,
       -- In microseconds since 1970.
       pg_catalog.to_timestamp(s.started_at OPERATOR(pg_catalog./) 1e6::double precision) AS started_at,
       s.restarts,
       s.threads,
       s.connections,
       s.memory_bytes,
       NULLIF(s.memory_limit_bytes, 0) AS memory_limit_bytes,
       s.model,
       s.dimensions,
       s.loaded,
       s.loads,
       s.model_memory_bytes,
       s.requests,
       s.failures,
       s.texts,
       s.batches,
       s.batch_tokens::double precision OPERATOR(pg_catalog./) NULLIF(s.batches, 0)::double precision AS mean_batch_tokens,
       s.queued,
       s.p50_ms,
       s.p99_ms
FROM vector_tools.embedder_statistics() AS s;
COMMENT ON VIEW vector_tools.embedder_stats IS 'the embedding process and what it did with each model of this database, or of all to pg_monitor; no row while none runs';
COMMENT ON COLUMN vector_tools.embedder_stats.process_id IS 'of the operating system';
COMMENT ON COLUMN vector_tools.embedder_stats.started_at IS 'when this process started; all counts begin there';
COMMENT ON COLUMN vector_tools.embedder_stats.restarts IS 'how often its supervisor has started a process anew after one that had not ended by itself';
COMMENT ON COLUMN vector_tools.embedder_stats.threads IS 'threads that run models';
COMMENT ON COLUMN vector_tools.embedder_stats.connections IS 'sessions that are connected, the one that asks included';
COMMENT ON COLUMN vector_tools.embedder_stats.memory_bytes IS 'private memory of the process';
COMMENT ON COLUMN vector_tools.embedder_stats.memory_limit_bytes IS 'vector_tools.embedder_memory_limit; NULL for none';
COMMENT ON COLUMN vector_tools.embedder_stats.model IS 'its name in this database, or to pg_monitor the one that it was last opened by; NULL while there is no model';
COMMENT ON COLUMN vector_tools.embedder_stats.dimensions IS 'numbers in each of its vectors';
COMMENT ON COLUMN vector_tools.embedder_stats.loaded IS 'whether it is in memory';
COMMENT ON COLUMN vector_tools.embedder_stats.loads IS 'how often it was loaded';
COMMENT ON COLUMN vector_tools.embedder_stats.model_memory_bytes IS 'memory that loading it took';
COMMENT ON COLUMN vector_tools.embedder_stats.requests IS 'requests answered with vectors; a call with many texts makes several';
COMMENT ON COLUMN vector_tools.embedder_stats.failures IS 'requests that failed, or whose session went away';
COMMENT ON COLUMN vector_tools.embedder_stats.texts IS 'texts embedded';
COMMENT ON COLUMN vector_tools.embedder_stats.batches IS 'runs of the model';
COMMENT ON COLUMN vector_tools.embedder_stats.mean_batch_tokens IS 'tokens of a run, padding included';
COMMENT ON COLUMN vector_tools.embedder_stats.queued IS 'texts that wait for a run now';
COMMENT ON COLUMN vector_tools.embedder_stats.p50_ms IS 'half of the requests of few tokens took no longer, from their arrival in the process to the answer';
COMMENT ON COLUMN vector_tools.embedder_stats.p99_ms IS 'the same for 99 of 100';
COMMENT ON FUNCTION vector_tools.embedder_statistics() IS 'what the embedding process says of itself; read vector_tools.embedder_stats instead';
GRANT SELECT ON vector_tools.embedder_stats TO PUBLIC;

-- Embeddings that jobs have computed, found by the hash of their model and text; see crates/core/src/pipeline/embedding_cache.rs.

-- Not logged: what a crash takes away is computed again, and a standby runs no jobs. There is no unique key, since one
-- who writes the same key would have to wait for the other. Five vectors of 384 numbers fit into a page.
CREATE UNLOGGED TABLE vector_tools.embedding_cache (
    last_used timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    key bytea NOT NULL,
    embedding vector NOT NULL
) WITH (toast_tuple_target = 8160, autovacuum_vacuum_scale_factor = 0.05);
COMMENT ON TABLE vector_tools.embedding_cache IS 'embeddings that jobs have computed, by the hash of model and text; for nobody to read';
CREATE INDEX embedding_cache_key ON vector_tools.embedding_cache (key);
CREATE INDEX embedding_cache_last_used ON vector_tools.embedding_cache (last_used);

-- Lines that are only added to, and joined now and then.
CREATE UNLOGGED TABLE vector_tools.cache_uses (
    hits bigint NOT NULL,
    misses bigint NOT NULL
);
COMMENT ON TABLE vector_tools.cache_uses IS 'texts that were found in the cache, and that were not; read vector_tools.cache_stats instead';

CREATE VIEW vector_tools.cache_stats WITH (security_barrier) AS
SELECT c.entries,
       pg_catalog.pg_total_relation_size('vector_tools.embedding_cache'::pg_catalog.regclass) AS size_bytes,
       u.hits::pg_catalog.int8 AS hits,
       u.misses::pg_catalog.int8 AS misses,
       pg_catalog.round(u.hits OPERATOR(pg_catalog./)
           NULLIF(u.hits OPERATOR(pg_catalog.+) u.misses, 0), 3) AS hit_rate
FROM (SELECT pg_catalog.count(*) AS entries FROM vector_tools.embedding_cache) AS c
CROSS JOIN (SELECT coalesce(pg_catalog.sum(hits), 0) AS hits, coalesce(pg_catalog.sum(misses), 0) AS misses
            FROM vector_tools.cache_uses) AS u;
COMMENT ON VIEW vector_tools.cache_stats IS 'how full the cache of embeddings is, and how much it has saved';
COMMENT ON COLUMN vector_tools.cache_stats.entries IS 'embeddings in it';
COMMENT ON COLUMN vector_tools.cache_stats.size_bytes IS 'bytes of the table and its indexes';
COMMENT ON COLUMN vector_tools.cache_stats.hits IS 'texts that were found in it';
COMMENT ON COLUMN vector_tools.cache_stats.misses IS 'texts that had to be embedded';
COMMENT ON COLUMN vector_tools.cache_stats.hit_rate IS 'the share of those that were found';
-- Not for everyone: whoever embeds a text and sees the hits grow knows that somebody else has it.
GRANT SELECT ON vector_tools.cache_stats TO pg_read_all_stats;
