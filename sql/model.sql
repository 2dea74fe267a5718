-- The registry of models.

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
COMMENT ON FUNCTION register_model(text, text, text, jsonb) IS 'registers the model in a folder or ONNX file of the server, after loading it; returns its dimensions';
COMMENT ON FUNCTION drop_model(text) IS 'removes a model from the registry; its files stay';

-- A source is a path on the server.
REVOKE ALL ON FUNCTION register_model(text, text, text, jsonb) FROM PUBLIC;
REVOKE ALL ON FUNCTION drop_model(text) FROM PUBLIC;

CREATE FUNCTION vector_tools.register_bundled_models() RETURNS integer
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'register_bundled_models_wrapper';
COMMENT ON FUNCTION vector_tools.register_bundled_models() IS 'registers the models that came with the extension and are not registered; returns how many';
REVOKE ALL ON FUNCTION vector_tools.register_bundled_models() FROM PUBLIC;

CREATE FUNCTION vector_tools.announce_model_change() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'announce_model_change_wrapper';

-- A statement-level trigger hears every way of changing the registry: register_model, the COPY of
-- a restore, an administrator's own SQL.
CREATE TRIGGER announce_model_change
    AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON vector_tools.model_registry
    FOR EACH STATEMENT EXECUTE FUNCTION vector_tools.announce_model_change();
-- On a logical subscriber too.
ALTER TABLE vector_tools.model_registry ENABLE ALWAYS TRIGGER announce_model_change;
COMMENT ON FUNCTION vector_tools.announce_model_change() IS 'statement trigger: tells every session that the registry has changed';

CREATE VIEW vector_tools.models WITH (security_barrier) AS
SELECT r.name,
       r.provider,
       r.dimensions,
       r.max_tokens,
       r.pooling,
       r.normalize,
       r.query_prefix,
       r.passage_prefix,
       r.size_bytes,
       r.sha256,
       r.bundled,
       r.registered_at,
       CASE
           WHEN pg_catalog.pg_has_role('pg_read_server_files', 'USAGE') THEN r.source
       END AS source
FROM vector_tools.model_registry AS r;
COMMENT ON VIEW vector_tools.models IS 'registered models; source is NULL for roles that may not read files of the server';
COMMENT ON COLUMN vector_tools.models.name IS 'what embed(text, model) takes';
COMMENT ON COLUMN vector_tools.models.provider IS 'who computes the vectors: onnx, this server by ONNX Runtime';
COMMENT ON COLUMN vector_tools.models.dimensions IS 'numbers in each vector';
COMMENT ON COLUMN vector_tools.models.max_tokens IS 'longer texts are truncated to this many tokens';
COMMENT ON COLUMN vector_tools.models.pooling IS 'how token vectors become one: mean or cls';
COMMENT ON COLUMN vector_tools.models.normalize IS 'whether vectors have unit length';
COMMENT ON COLUMN vector_tools.models.query_prefix IS 'put before every query by embed_query';
COMMENT ON COLUMN vector_tools.models.passage_prefix IS 'put before every passage by embed';
COMMENT ON COLUMN vector_tools.models.size_bytes IS 'size of the ONNX file';
COMMENT ON COLUMN vector_tools.models.sha256 IS 'sha256 of the ONNX file, checked whenever the model is loaded';
COMMENT ON COLUMN vector_tools.models.bundled IS 'whether it came with the extension';
COMMENT ON COLUMN vector_tools.models.registered_at IS 'when it was registered in this database';
COMMENT ON COLUMN vector_tools.models.source IS 'folder or file on the server';
GRANT SELECT ON vector_tools.models TO PUBLIC;
