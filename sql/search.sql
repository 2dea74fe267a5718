-- Searching. The arguments of the functions in C are those of src/search/sql, with which pg_test/arguments compares them.
-- It keeps the lists here equal, too: a new argument of hybrid_search belongs into explain_search, and under the same
-- name into what passes it on.

-- 'any', 'all' or a number: as text in storage, and made of a number by itself.
CREATE TYPE vector_tools.word_match;
CREATE FUNCTION vector_tools.word_match_in(cstring) RETURNS vector_tools.word_match
LANGUAGE internal IMMUTABLE STRICT PARALLEL SAFE AS 'textin';
CREATE FUNCTION vector_tools.word_match_out(vector_tools.word_match) RETURNS cstring
LANGUAGE internal IMMUTABLE STRICT PARALLEL SAFE AS 'textout';
CREATE TYPE vector_tools.word_match (
    INPUT = vector_tools.word_match_in,
    OUTPUT = vector_tools.word_match_out,
    LIKE = text
);
CREATE CAST (text AS vector_tools.word_match) WITHOUT FUNCTION AS IMPLICIT;
CREATE CAST (integer AS vector_tools.word_match) WITH INOUT AS IMPLICIT;
CREATE CAST (bigint AS vector_tools.word_match) WITH INOUT AS IMPLICIT;

CREATE FUNCTION hybrid_search(
    source regclass,
    query text,
    k bigint DEFAULT 10,
    filter jsonb DEFAULT NULL,
    vector_weight double precision DEFAULT 1,
    text_weight double precision DEFAULT 1,
    rrf_k bigint DEFAULT 60,
    model text DEFAULT NULL,
    text_configuration text DEFAULT NULL,
    vector_column text DEFAULT NULL,
    text_column text DEFAULT NULL,
    content_column text DEFAULT NULL,
    fusion text DEFAULT 'rrf',
    skip bigint DEFAULT 0,
    depth bigint DEFAULT NULL,
    min_similarity double precision DEFAULT NULL,
    diversity double precision DEFAULT 0,
    match vector_tools.word_match DEFAULT 'any',
    query_embedding vector DEFAULT NULL,
    require_vector boolean DEFAULT false,
    highlight boolean DEFAULT false,
    k1 double precision DEFAULT 1.2,
    b double precision DEFAULT 0.75,
    chunks text DEFAULT 'best'
) RETURNS TABLE (
    id text,
    score double precision,
    vector_rank integer,
    text_rank integer,
    similarity double precision,
    text_score double precision,
    content text,
    doc jsonb,
    highlighted text
)
LANGUAGE c STABLE PARALLEL RESTRICTED COST 100000 ROWS 10
AS 'MODULE_PATHNAME', 'hybrid_search_wrapper';

CREATE FUNCTION explain_search(
    source regclass,
    query text,
    k bigint DEFAULT 10,
    filter jsonb DEFAULT NULL,
    vector_weight double precision DEFAULT 1,
    text_weight double precision DEFAULT 1,
    rrf_k bigint DEFAULT 60,
    model text DEFAULT NULL,
    text_configuration text DEFAULT NULL,
    vector_column text DEFAULT NULL,
    text_column text DEFAULT NULL,
    content_column text DEFAULT NULL,
    fusion text DEFAULT 'rrf',
    skip bigint DEFAULT 0,
    depth bigint DEFAULT NULL,
    min_similarity double precision DEFAULT NULL,
    diversity double precision DEFAULT 0,
    match vector_tools.word_match DEFAULT 'any',
    query_embedding vector DEFAULT NULL,
    require_vector boolean DEFAULT false,
    highlight boolean DEFAULT false,
    k1 double precision DEFAULT 1.2,
    b double precision DEFAULT 0.75,
    chunks text DEFAULT 'best'
) RETURNS jsonb
LANGUAGE c STABLE PARALLEL RESTRICTED COST 100000
AS 'MODULE_PATHNAME', 'explain_search_wrapper';

-- One leg alone is hybrid_search without the other; its score is that of the leg. The bodies are bound here and now,
-- with all arguments and of the very types: no function that somebody puts into this schema takes the place of
-- hybrid_search, which would run with the rights of all who search. The values written out are its defaults.
CREATE FUNCTION semantic_search(
    source regclass,
    query text,
    k bigint DEFAULT 10,
    filter jsonb DEFAULT NULL,
    model text DEFAULT NULL,
    vector_column text DEFAULT NULL,
    content_column text DEFAULT NULL,
    skip bigint DEFAULT 0,
    depth bigint DEFAULT NULL,
    min_similarity double precision DEFAULT NULL,
    diversity double precision DEFAULT 0,
    query_embedding vector DEFAULT NULL,
    chunks text DEFAULT 'best'
) RETURNS TABLE (
    id text,
    score double precision,
    vector_rank integer,
    text_rank integer,
    similarity double precision,
    text_score double precision,
    content text,
    doc jsonb,
    highlighted text
)
LANGUAGE sql STABLE PARALLEL RESTRICTED COST 100000 ROWS 10
BEGIN ATOMIC
    SELECT h.id, h.similarity, h.vector_rank, h.text_rank, h.similarity, h.text_score, h.content, h.doc, h.highlighted
    FROM @extschema@.hybrid_search(
        source => source, query => query, k => k, filter => filter,
        vector_weight => 1::double precision, text_weight => 0::double precision, rrf_k => 60::bigint,
        model => model, text_configuration => NULL::pg_catalog.text,
        vector_column => vector_column, text_column => NULL::pg_catalog.text, content_column => content_column,
        fusion => 'rrf'::pg_catalog.text, skip => skip, depth => depth, min_similarity => min_similarity,
        diversity => diversity, match => 'any'::vector_tools.word_match,
        query_embedding => query_embedding, require_vector => true, highlight => false,
        k1 => 1.2::double precision, b => 0.75::double precision, chunks => chunks
    ) AS h;
END;

CREATE FUNCTION keyword_search(
    source regclass,
    query text,
    k bigint DEFAULT 10,
    filter jsonb DEFAULT NULL,
    text_configuration text DEFAULT NULL,
    text_column text DEFAULT NULL,
    content_column text DEFAULT NULL,
    skip bigint DEFAULT 0,
    depth bigint DEFAULT NULL,
    match vector_tools.word_match DEFAULT 'any',
    highlight boolean DEFAULT false,
    k1 double precision DEFAULT 1.2,
    b double precision DEFAULT 0.75,
    chunks text DEFAULT 'best'
) RETURNS TABLE (
    id text,
    score double precision,
    vector_rank integer,
    text_rank integer,
    similarity double precision,
    text_score double precision,
    content text,
    doc jsonb,
    highlighted text
)
LANGUAGE sql STABLE PARALLEL RESTRICTED COST 100000 ROWS 10
BEGIN ATOMIC
    SELECT h.id, h.text_score, h.vector_rank, h.text_rank, h.similarity, h.text_score, h.content, h.doc, h.highlighted
    FROM @extschema@.hybrid_search(
        source => source, query => query, k => k, filter => filter,
        vector_weight => 0::double precision, text_weight => 1::double precision, rrf_k => 60::bigint,
        model => NULL::pg_catalog.text, text_configuration => text_configuration,
        vector_column => NULL::pg_catalog.text, text_column => text_column, content_column => content_column,
        fusion => 'rrf'::pg_catalog.text, skip => skip, depth => depth, min_similarity => NULL::double precision,
        diversity => 0::double precision, match => match,
        query_embedding => NULL::vector, require_vector => false, highlight => highlight,
        k1 => k1, b => b, chunks => chunks
    ) AS h;
END;

CREATE FUNCTION bm25_rank(
    document tsvector,
    query text,
    source regclass,
    k1 double precision DEFAULT 1.2,
    b double precision DEFAULT 0.75,
    text_column text DEFAULT NULL,
    text_configuration text DEFAULT NULL
) RETURNS double precision
LANGUAGE c STABLE PARALLEL RESTRICTED COST 10
AS 'MODULE_PATHNAME', 'bm25_rank_wrapper';

CREATE FUNCTION refresh_search_stats(source regclass, text_column text DEFAULT NULL) RETURNS bigint
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'refresh_search_stats_wrapper';

-- Behind every keyword leg; whoever calls it weighs the words.
CREATE FUNCTION vector_tools.bm25_score(
    document tsvector,
    lexemes text[],
    weights double precision[],
    average_length double precision,
    k1 double precision,
    b double precision,
    minimum bigint
) RETURNS double precision
LANGUAGE c IMMUTABLE PARALLEL SAFE COST 10
AS 'MODULE_PATHNAME', 'bm25_score_wrapper';
COMMENT ON FUNCTION hybrid_search IS 'the k rows of a table that best answer a query, by embedding and by words, fused into one list';
COMMENT ON FUNCTION semantic_search IS 'the k rows of a table that are nearest to a query in meaning; score is the similarity';
COMMENT ON FUNCTION keyword_search IS 'the k rows of a table that rank highest by the words of a query; score is BM25';
COMMENT ON FUNCTION explain_search IS 'what hybrid_search does with these arguments: its statements, passes, rows and milliseconds';
COMMENT ON FUNCTION bm25_rank IS 'BM25 score of a document for a query, by the word statistics of a table; for any ORDER BY';
COMMENT ON FUNCTION refresh_search_stats IS 'counts the words of a table anew for BM25; returns the number of documents';
COMMENT ON FUNCTION vector_tools.bm25_score IS 'BM25 score of a document for lexemes of given weights; NULL where it has fewer than minimum of them';
COMMENT ON TYPE vector_tools.word_match IS 'how many of a query''s words a row must have: any, all or a number';
COMMENT ON FUNCTION vector_tools.word_match_in(cstring) IS 'I/O';
COMMENT ON FUNCTION vector_tools.word_match_out(vector_tools.word_match) IS 'I/O';

-- What BM25 needs to know of large tables, counted now and then.

CREATE TABLE vector_tools.statistics_snapshots (
    source oid,
    column_number smallint,
    documents bigint NOT NULL DEFAULT 0,
    average_length double precision NOT NULL DEFAULT 1,
    changes bigint NOT NULL DEFAULT 0,
    pages bigint NOT NULL DEFAULT 0,
    refreshed_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    PRIMARY KEY (source, column_number)
);
COMMENT ON TABLE vector_tools.statistics_snapshots IS 'when the words of which tables were counted; read vector_tools.search_statistics instead';

-- A word that one document has is not stored: most words are such words.
CREATE TABLE vector_tools.document_frequencies (
    source oid,
    column_number smallint,
    lexeme text COLLATE "C",
    documents bigint NOT NULL,
    PRIMARY KEY (source, column_number, lexeme)
);
COMMENT ON TABLE vector_tools.document_frequencies IS 'how many documents of a table have a word';

-- Frequencies tell of rows that a policy may hide.
CREATE VIEW vector_tools.search_statistics WITH (security_barrier) AS
SELECT s.source::pg_catalog.regclass AS source,
       a.attname AS text_column,
       s.documents,
       s.average_length,
       s.refreshed_at
FROM vector_tools.statistics_snapshots AS s
JOIN pg_catalog.pg_attribute AS a
  ON a.attrelid OPERATOR(pg_catalog.=) s.source AND a.attnum OPERATOR(pg_catalog.=) s.column_number
JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) s.source
WHERE pg_catalog.has_schema_privilege(c.relnamespace, 'USAGE')
  AND pg_catalog.has_column_privilege(s.source, s.column_number, 'SELECT')
  AND NOT pg_catalog.row_security_active(s.source);
COMMENT ON VIEW vector_tools.search_statistics IS 'when the words of which tables were counted for BM25';
COMMENT ON COLUMN vector_tools.search_statistics.source IS 'the table';
COMMENT ON COLUMN vector_tools.search_statistics.text_column IS 'its tsvector column';
COMMENT ON COLUMN vector_tools.search_statistics.documents IS 'rows in which that column is not NULL';
COMMENT ON COLUMN vector_tools.search_statistics.average_length IS 'lexemes of a document, each as often as it occurs';
COMMENT ON COLUMN vector_tools.search_statistics.refreshed_at IS 'when they were counted';
GRANT SELECT ON vector_tools.search_statistics TO PUBLIC;

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
COMMENT ON FUNCTION rrf_score(bigint, bigint, double precision) IS 'share of one ranked list in a fused score: weight / (k + rank)';
COMMENT ON FUNCTION rrf_fuse(anyarray, anyarray, bigint, double precision, double precision) IS 'fuses two ranked lists, best first, by reciprocal rank';
