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
