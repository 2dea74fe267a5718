-- Cutting texts into chunks.

CREATE FUNCTION chunk_text(
    content text,
    strategy text DEFAULT 'semantic',
    max_tokens bigint DEFAULT 512,
    overlap bigint DEFAULT NULL,
    model text DEFAULT NULL
) RETURNS TABLE (
    chunk_index integer,
    content text,
    start_offset integer,
    end_offset integer,
    token_count integer,
    parent_index integer
)
LANGUAGE c STABLE PARALLEL SAFE COST 10000 ROWS 10
AS 'MODULE_PATHNAME', 'chunk_text_wrapper';
COMMENT ON FUNCTION chunk_text IS 'cuts a text into chunks that a model reads whole, with their places in the text';
