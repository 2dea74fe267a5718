-- Fusing ranked lists that a user computed.

CREATE FUNCTION rrf_score(rank bigint, k bigint DEFAULT 60, weight double precision DEFAULT 1.0) RETURNS double precision
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'rrf_score_wrapper';

-- search_path is left to the definition of item equality, which GROUP BY takes from the type. A function of any type
-- cannot have a body that is bound for good: rrf_score gets all arguments, of its very types, so that no function that
-- somebody puts beside it ever fits better.
CREATE FUNCTION rrf_fuse(
    list_a anyarray,
    list_b anyarray,
    k bigint DEFAULT 60,
    weight_a double precision DEFAULT 1.0,
    weight_b double precision DEFAULT 1.0
) RETURNS TABLE (item anyelement, score double precision, rank_a integer, rank_b integer)
LANGUAGE sql IMMUTABLE PARALLEL SAFE ROWS 100
SET search_path = pg_catalog, pg_temp
AS $$
    WITH ranked AS (
        SELECT a.item, a.rank::integer AS rank_a, NULL::integer AS rank_b
        FROM unnest(list_a) WITH ORDINALITY AS a(item, rank)
        UNION ALL
        SELECT b.item, NULL::integer, b.rank::integer
        FROM unnest(list_b) WITH ORDINALITY AS b(item, rank)
    ), best AS (
        SELECT r.item, min(r.rank_a) AS rank_a, min(r.rank_b) AS rank_b
        FROM ranked AS r
        WHERE r.item IS NOT NULL
        GROUP BY r.item
    )
    SELECT b.item,
           coalesce(@extschema@.rrf_score(b.rank_a::bigint, k, weight_a), 0)
               + coalesce(@extschema@.rrf_score(b.rank_b::bigint, k, weight_b), 0) AS score,
           b.rank_a,
           b.rank_b
    FROM best AS b
    ORDER BY score DESC, least(b.rank_a, b.rank_b), b.rank_a
$$;
