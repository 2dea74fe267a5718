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
