-- A row trigger, since PostgreSQL gives every partition its own copy, those attached later too.
CREATE OR REPLACE TRIGGER vector_tools_audit
    AFTER INSERT OR UPDATE OR DELETE ON {table}
    FOR EACH ROW EXECUTE FUNCTION vector_tools.audit_change({log_schema}, {log_name}, {embeddings});
