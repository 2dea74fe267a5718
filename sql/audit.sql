-- Auditing tables. The arguments of the functions in C are those of src/audit/functions.rs (pg_test/arguments).

CREATE FUNCTION enable_audit(
    source regclass,
    log text DEFAULT 'vector_audit_log',
    include_embeddings boolean DEFAULT false
) RETURNS regclass
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'enable_audit_wrapper';

CREATE FUNCTION disable_audit(source regclass) RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'disable_audit_wrapper';

CREATE FUNCTION audit_history(source regclass, id text DEFAULT NULL, "limit" bigint DEFAULT 100)
RETURNS TABLE (
    change_id bigint,
    operation text,
    record_id text,
    partition_name text,
    old_data jsonb,
    new_data jsonb,
    changed_by text,
    session_user_name text,
    changed_at timestamptz,
    transaction_id xid8
)
LANGUAGE c STABLE PARALLEL RESTRICTED COST 1000 ROWS 100
AS 'MODULE_PATHNAME', 'audit_history_wrapper';

CREATE FUNCTION vector_tools.audit_change() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'audit_change_wrapper';

CREATE FUNCTION vector_tools.guard_audit_log() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'guard_audit_log_wrapper';

-- The triggers themselves are the catalogue: they are dumped, renamed and dropped with their table.
CREATE VIEW vector_tools.audited_tables WITH (security_barrier) AS
SELECT t.tgrelid::pg_catalog.regclass AS source,
       l.oid::pg_catalog.regclass AS log,
       a.arguments[3] OPERATOR(pg_catalog.=) 'with embeddings' AS include_embeddings
FROM pg_catalog.pg_trigger AS t
JOIN pg_catalog.pg_proc AS p ON p.oid OPERATOR(pg_catalog.=) t.tgfoid
JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) p.pronamespace
CROSS JOIN LATERAL vector_tools.trigger_arguments(t.tgargs) AS a(arguments)
LEFT JOIN (pg_catalog.pg_class AS l
           JOIN pg_catalog.pg_namespace AS s ON s.oid OPERATOR(pg_catalog.=) l.relnamespace)
  ON s.nspname OPERATOR(pg_catalog.=) a.arguments[1]::pg_catalog.name
 AND l.relname OPERATOR(pg_catalog.=) a.arguments[2]::pg_catalog.name
WHERE n.nspname OPERATOR(pg_catalog.=) 'vector_tools'
  AND p.proname OPERATOR(pg_catalog.=) 'audit_change'
  AND a.arguments IS NOT NULL
  -- Row triggers that are no copies in partitions.
  AND (t.tgtype::pg_catalog.int4 OPERATOR(pg_catalog.&) 1) OPERATOR(pg_catalog.=) 1
  AND t.tgparentid OPERATOR(pg_catalog.=) 0::pg_catalog.oid;
COMMENT ON VIEW vector_tools.audited_tables IS 'tables whose changes are written to a log, by their triggers';
COMMENT ON COLUMN vector_tools.audited_tables.source IS 'the table; its partitions are audited with it';
COMMENT ON COLUMN vector_tools.audited_tables.log IS 'the log, NULL when it is gone';
COMMENT ON COLUMN vector_tools.audited_tables.include_embeddings IS 'whether the log has vectors, lexemes and bit strings too';
GRANT SELECT ON vector_tools.audited_tables TO PUBLIC;

-- Partitions made or attached later get the trigger for TRUNCATE, which PostgreSQL does not copy.
CREATE FUNCTION vector_tools.audit_new_partitions() RETURNS event_trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    changed oid;
BEGIN
    FOR changed IN
        SELECT DISTINCT c.objid FROM pg_event_trigger_ddl_commands() AS c
        JOIN pg_trigger AS t ON t.tgrelid = c.objid
        JOIN pg_proc AS p ON p.oid = t.tgfoid
        WHERE c.classid = 'pg_class'::regclass AND p.proname = 'audit_change'
          AND p.pronamespace = 'vector_tools'::regnamespace
    LOOP
        PERFORM vector_tools.audit_partitions(changed::regclass);
    END LOOP;
END
$$;

CREATE FUNCTION vector_tools.audit_partitions(source regclass) RETURNS integer
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'audit_partitions_wrapper';

CREATE EVENT TRIGGER vector_tools_audit_partitions ON ddl_command_end
    WHEN TAG IN ('CREATE TABLE', 'ALTER TABLE')
    EXECUTE FUNCTION vector_tools.audit_new_partitions();

COMMENT ON FUNCTION enable_audit(regclass, text, boolean) IS 'writes every change of a table and its partitions to a log in its schema; returns the log';
COMMENT ON FUNCTION disable_audit(regclass) IS 'stops writing the changes of a table to its log, which stays; returns whether it was audited';
COMMENT ON FUNCTION audit_history(regclass, text, bigint) IS 'changes of an audited table, or of one of its rows, newest first';
COMMENT ON FUNCTION vector_tools.audit_change() IS 'trigger (schema of the log, log, with or without embeddings): writes a change to the log with the rights of the table''s owner';
COMMENT ON FUNCTION vector_tools.guard_audit_log() IS 'statement trigger: lets only audit triggers and the owner write to a log';
COMMENT ON FUNCTION vector_tools.audit_new_partitions() IS 'event trigger: new partitions of audited tables record TRUNCATE too';
COMMENT ON FUNCTION vector_tools.audit_partitions(regclass) IS 'gives partitions of an audited table the trigger for TRUNCATE where it is missing; returns how many';
COMMENT ON EVENT TRIGGER vector_tools_audit_partitions IS 'new partitions of audited tables record TRUNCATE too';
