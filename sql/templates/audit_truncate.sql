-- Partitions get no copy of a statement trigger, so each has one of its own.
CREATE OR REPLACE TRIGGER vector_tools_audit_truncate
    AFTER TRUNCATE ON {table}
    FOR EACH STATEMENT EXECUTE FUNCTION vector_tools.audit_change({log_schema}, {log_name}, {embeddings});
