-- Access to tables: everyone may call these, and PostgreSQL decides who may grant what.

CREATE FUNCTION create_vector_roles() RETURNS integer
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'create_vector_roles_wrapper';
COMMENT ON FUNCTION create_vector_roles() IS 'creates the roles vector_reader, vector_writer and vector_admin, each a member of the one before it; returns how many were not there';

CREATE FUNCTION grant_vector_access(grantee text, level text, target regclass) RETURNS void
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'grant_vector_access_wrapper';
COMMENT ON FUNCTION grant_vector_access(text, text, regclass) IS 'lets a role use a table, and the vector store around it, as reader, writer or admin';

CREATE FUNCTION revoke_vector_access(grantee text, target regclass) RETURNS void
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'revoke_vector_access_wrapper';
COMMENT ON FUNCTION revoke_vector_access(text, regclass) IS 'takes all rights on a table, and on the vector store around it, from a role';

CREATE FUNCTION isolate_namespaces(target regclass, grantee text DEFAULT NULL, namespaces text[] DEFAULT NULL) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'isolate_namespaces_wrapper';
COMMENT ON FUNCTION isolate_namespaces(regclass, text, text[]) IS 'shows rows of a table, and of the vector store around it, by their namespace: to a role those of its namespaces, else to each session those of vector_tools.namespace';

CREATE FUNCTION share_namespaces(target regclass) RETURNS boolean
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'share_namespaces_wrapper';
COMMENT ON FUNCTION share_namespaces(regclass) IS 'undoes isolate_namespaces; returns whether there was something to undo';
