-- Functions that nobody calls by hand, and the trigger by which the registry tells every session
-- when it changes.

CREATE FUNCTION vector_tools.register_bundled_models() RETURNS integer
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'register_bundled_models_wrapper';

CREATE FUNCTION vector_tools.embed_row() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'embed_row_wrapper';

CREATE FUNCTION vector_tools.touch_row() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'touch_row_wrapper';

CREATE FUNCTION vector_tools.announce_model_change() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'announce_model_change_wrapper';

-- A statement-level trigger hears every way of changing the registry: register_model, the COPY of
-- a restore, an administrator's own SQL.
CREATE TRIGGER announce_model_change
    AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON vector_tools.model_registry
    FOR EACH STATEMENT EXECUTE FUNCTION vector_tools.announce_model_change();
-- On a logical subscriber too.
ALTER TABLE vector_tools.model_registry ENABLE ALWAYS TRIGGER announce_model_change;
