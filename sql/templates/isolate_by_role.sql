-- Rows of the namespaces that belong to a role.
ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;
CREATE POLICY {policy} ON {table} TO {grantee} USING ({condition});
COMMENT ON POLICY {policy} ON {table} IS {comment};
