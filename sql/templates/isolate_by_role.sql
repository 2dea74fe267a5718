-- Rows of the namespaces that belong to a role.
ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;
CREATE POLICY {policy} ON {table} TO {grantee}
    USING (namespace OPERATOR(pg_catalog.=) ANY (ARRAY[{namespaces}]::pg_catalog.text[]));
COMMENT ON POLICY {policy} ON {table} IS {comment};
