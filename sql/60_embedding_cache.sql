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
