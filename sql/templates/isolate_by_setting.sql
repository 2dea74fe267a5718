-- Rows of the namespace that the session is set to, and of none where it is not set.
ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;
CREATE POLICY {policy} ON {table} USING ({condition});
COMMENT ON POLICY {policy} ON {table} IS {comment};
