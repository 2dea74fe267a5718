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
