-- The schema of the extension's state, and the registry of models.

DO $$
BEGIN
    IF pg_catalog.getdatabaseencoding() OPERATOR(pg_catalog.<>) 'UTF8' THEN
        RAISE EXCEPTION 'vector_tools needs a database in UTF8, not %', pg_catalog.getdatabaseencoding()
            USING ERRCODE = '0A000',
                  DETAIL = 'Models read UTF-8 text.',
                  HINT = 'Create the database with ENCODING ''UTF8'' TEMPLATE template0.';
    END IF;
END
$$;

CREATE SCHEMA vector_tools;
COMMENT ON SCHEMA vector_tools IS 'state of the extension vector_tools: models and searchable tables';

CREATE TABLE vector_tools.model_registry (
    name text PRIMARY KEY,
    provider text NOT NULL,
    source text NOT NULL,
    file text,
    sha256 text NOT NULL,
    tokenizer_sha256 text NOT NULL,
    dimensions integer NOT NULL,
    max_tokens integer NOT NULL,
    pooling text NOT NULL,
    normalize boolean NOT NULL,
    query_prefix text NOT NULL,
    passage_prefix text NOT NULL,
    output text,
    size_bytes bigint NOT NULL,
    bundled boolean NOT NULL DEFAULT false,
    registered_at timestamptz NOT NULL DEFAULT pg_catalog.now()
);
COMMENT ON TABLE vector_tools.model_registry IS 'models as registered; read vector_tools.models instead';

-- Bundled models are registered again by CREATE EXTENSION, so a dump carries only the others.
SELECT pg_catalog.pg_extension_config_dump('vector_tools.model_registry', 'WHERE NOT bundled');

CREATE FUNCTION register_model(
    name text,
    source text DEFAULT NULL,
    provider text DEFAULT 'onnx',
    options jsonb DEFAULT '{}'
) RETURNS integer
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'register_model_wrapper';

CREATE FUNCTION drop_model(name text) RETURNS void
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'drop_model_wrapper';
