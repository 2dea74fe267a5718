-- Rights are granted by whole schemas now and then; the log stays append-only all the same.
CREATE OR REPLACE TRIGGER vector_tools_guard
    BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON {log}
    FOR EACH STATEMENT EXECUTE FUNCTION vector_tools.guard_audit_log();
