-- The log of audited tables: the columns of the regulation store's audit log, and what they leave out.
CREATE TABLE {log} (
    id pg_catalog.int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    operation pg_catalog.text NOT NULL,
    table_schema pg_catalog.text NOT NULL,
    table_name pg_catalog.text NOT NULL,
    partition_name pg_catalog.text,
    record_id pg_catalog.text COLLATE pg_catalog."C",
    old_data pg_catalog.jsonb,
    new_data pg_catalog.jsonb,
    changed_by pg_catalog.text NOT NULL,
    session_user_name pg_catalog.text NOT NULL,
    changed_at pg_catalog.timestamptz NOT NULL,
    transaction_id pg_catalog.xid8 NOT NULL
);

COMMENT ON TABLE {log} IS 'every committed change of the audited tables; written by their triggers alone';
COMMENT ON COLUMN {log}.operation IS 'INSERT, UPDATE, DELETE or TRUNCATE';
COMMENT ON COLUMN {log}.table_name IS 'the audited table, as it was called then';
COMMENT ON COLUMN {log}.partition_name IS 'the partition that the row is in, or that was truncated';
COMMENT ON COLUMN {log}.record_id IS 'the primary key; a JSON array where it has several columns';
COMMENT ON COLUMN {log}.old_data IS 'the row before the change';
COMMENT ON COLUMN {log}.new_data IS 'the row after the change';
COMMENT ON COLUMN {log}.changed_by IS 'the role whose rights the change had';
COMMENT ON COLUMN {log}.session_user_name IS 'the role that had logged in';
COMMENT ON COLUMN {log}.changed_at IS 'the start of the transaction';

-- A btree costs half of what a hash index does, but has a limit of length; audit_history knows the condition.
CREATE INDEX ON {log} (record_id) WHERE pg_catalog.length(record_id) OPERATOR(pg_catalog.<=) 600;
