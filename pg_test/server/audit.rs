//! enable_audit, disable_audit, audit_history and what a log has of each row.

#[pgrx::pg_schema]
mod tests {
    use crate::server_tests::{assert_error, error_of, one, run};
    use pgrx::prelude::*;

    const TABLE: &str = "CREATE TABLE notes (id integer PRIMARY KEY, body text, embedding vector(3), half halfvec(3),
        many vector(3)[], bits bit(3), lexemes tsvector GENERATED ALWAYS AS (to_tsvector('english', body)) STORED)";
    const INSERT: &str = "INSERT INTO notes (id, body, embedding, half, many, bits)
        VALUES (1, 'pumps', '[1,2,3]', '[1,2,3]', ARRAY['[1,2,3]'::vector], '101')";

    #[pg_test]
    fn embeddings_are_left_out_unless_asked_for() {
        run(TABLE);
        assert_eq!(one::<String>("SELECT enable_audit('notes')::text"), "vector_audit_log");
        run(INSERT);
        assert_eq!(
            one::<String>("SELECT new_data::text FROM audit_history('notes')"),
            r#"{"id": 1, "body": "pumps"}"#
        );
        run("SELECT enable_audit('notes', include_embeddings => true)");
        run("UPDATE notes SET body = NULL");
        assert_eq!(
            one::<String>("SELECT (old_data - 'id')::text FROM audit_history('notes', '1', 1)"),
            r#"{"bits": "101", "body": "pumps", "half": "[1,2,3]", "many": ["[1,2,3]"], "lexemes": "'pump':1", "embedding": "[1,2,3]"}"#
        );
        assert!(one::<bool>("SELECT new_data->'body' = 'null' FROM audit_history('notes', '1', 1)"));
    }

    #[pg_test]
    fn a_line_says_who_when_and_in_which_transaction() {
        run(TABLE);
        run("SELECT enable_audit('notes', 'the log')");
        run(INSERT);
        assert!(one::<bool>(
            "SELECT operation = 'INSERT' AND table_schema = current_schema() AND table_name = 'notes' AND partition_name IS NULL
                 AND record_id = '1' AND old_data IS NULL AND changed_by = current_user
                 AND session_user_name = session_user AND changed_at = now() AND transaction_id = pg_current_xact_id()
             FROM \"the log\""
        ));
        assert!(one::<bool>(
            "SELECT h.change_id = l.id AND h.transaction_id = l.transaction_id AND h.changed_at = l.changed_at
                 AND h.session_user_name = l.session_user_name
             FROM audit_history('notes') AS h, \"the log\" AS l"
        ));
    }

    #[pg_test]
    fn a_row_is_written_as_to_jsonb_writes_it() {
        // More columns than the entries of a jsonb that say their length, one of them dropped.
        let many: String = (0..40).map(|number| format!(", column_{number} integer")).collect();
        run("CREATE DOMAIN count AS integer; CREATE TYPE pair AS (a integer, b text)");
        run(&format!(
            "CREATE TABLE notes (truth bool, i2 smallint, i4 integer, gone integer, i8 bigint, f4 real, f8 double precision,
                 n numeric, t text, v varchar(10), c char(10), name name, u uuid, j json, d date, ts timestamp,
                 tz timestamptz, time time, span interval, bytes bytea, many integer[], texts text[], counted count,
                 twin pair, r int4range, ip inet, one \"char\", object jsonb, string jsonb, number jsonb, nothing jsonb,
                 yes jsonb, list jsonb, \"Quoted \"\"k\" text, embedding vector(2), id bigint PRIMARY KEY {many});
             ALTER TABLE notes DROP COLUMN gone"
        ));
        run("SELECT enable_audit('notes', include_embeddings => true)");
        let long = "('{\"k\": [1, {\"x\": null}], \"long\": \"' || repeat('y', 9000) || '\"}')::jsonb";
        run(&format!(
            "INSERT INTO notes (truth, i2, i4, i8, f4, f8, n, t, v, c, name, u, j, d, ts, tz, time, span, bytes, many, texts,
                 counted, twin, r, ip, one, object, string, number, nothing, yes, list, \"Quoted \"\"k\", embedding, id)
             VALUES (true, -5, 2147483647, -9223372036854775808, 1.5, 'NaN', 1234567.8900, E'tä\"\\\\\n', 'v', 'c', 'name',
                 gen_random_uuid(), '{{\"a\": 1.10, \"a\": 2}}', '0044-03-15 BC', '2020-01-02 03:04:05.6', 'infinity', '03:04',
                 '1 day', '\\xdead', '{{1,NULL}}', '{{a}}', 7, '(1,x)', '[1,5)', '10.0.0.1', 'c', {long}, '\"s\"', '12.50',
                 'null', 'true', '[[1],{{}}]', repeat('z', 9000), '[1,2]', 10000), (false, 0, 0, 100000000, 0, 0, 0, '', '', '',
                 '', NULL, '3', now(), now(), now(), NULL, NULL, '', '{{}}', '{{}}', NULL, NULL, 'empty', NULL, NULL, '{{}}', '\"\"',
                 '-5', 'false', '[]', '[]', NULL, NULL, -7)"
        ));
        let same =
            "SELECT count(*) FROM audit_history('notes') AS h JOIN notes AS whole ON whole.id::text = h.record_id
            WHERE h.new_data = to_jsonb(whole) AND h.new_data::text = to_jsonb(whole)::text
              AND (SELECT bool_and(h.new_data->k = to_jsonb(whole)->k) FROM jsonb_object_keys(to_jsonb(whole)) AS k)
              AND (SELECT count(*) FROM jsonb_object_keys(h.new_data)) = 75";
        assert_eq!(one::<i64>(same), 2);
        // What a statement makes of it is the same again.
        assert!(one::<bool>("SELECT bool_and(new_data || '{}' = new_data) FROM audit_history('notes')"));
    }

    #[pg_test]
    fn a_log_that_its_owner_has_changed_is_written_too() {
        let changes = [
            ("ALTER TABLE vector_audit_log ADD COLUMN host text DEFAULT 'here'", "host = 'here'"),
            (
                "CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS
                     $$ BEGIN NEW.record_id := 'by ' || TG_NAME; RETURN NEW; END $$;
                 CREATE TRIGGER stamp BEFORE INSERT ON vector_audit_log FOR EACH ROW EXECUTE FUNCTION stamp()",
                "record_id = 'by stamp'",
            ),
            (
                "DROP TRIGGER stamp ON vector_audit_log;
                 CREATE TABLE copies (record_id text); CREATE RULE copy AS ON INSERT TO vector_audit_log
                     DO ALSO INSERT INTO copies VALUES (new.record_id)",
                "record_id IN (SELECT record_id FROM copies)",
            ),
            ("ALTER TABLE vector_audit_log ALTER id DROP IDENTITY, ALTER id SET DEFAULT -1", "id = -1"),
        ];
        run(TABLE);
        run("SELECT enable_audit('notes'); INSERT INTO notes (id) VALUES (0)");
        for (number, (change, expected)) in changes.into_iter().enumerate() {
            let number = number + 1;
            run(change);
            run(&format!("INSERT INTO notes (id) VALUES ({number})"));
            let found = format!(
                "SELECT count(*) FROM vector_audit_log WHERE new_data->>'id' = '{number}' AND {expected}"
            );
            assert_eq!(one::<i64>(&found), 1, "expected a line after {change}");
        }
        run("DROP RULE copy ON vector_audit_log; ALTER TABLE vector_audit_log ADD CHECK (record_id <> '9')");
        run(
            "DO $$ BEGIN INSERT INTO notes (id) VALUES (9); RAISE 'no error'; EXCEPTION WHEN check_violation THEN NULL; END $$",
        );
    }

    #[pg_test]
    fn what_a_log_forbids_is_refused() {
        run("CREATE TABLE keyless (body text)");
        run("SELECT enable_audit('keyless'); INSERT INTO keyless VALUES ('a')");
        run("TRUNCATE vector_audit_log; ALTER TABLE vector_audit_log ALTER record_id SET NOT NULL");
        run(
            "DO $$ BEGIN INSERT INTO keyless VALUES ('b'); RAISE 'no error'; EXCEPTION WHEN not_null_violation THEN NULL; END $$",
        );
        run(
            "ALTER TABLE vector_audit_log ALTER record_id DROP NOT NULL, ALTER changed_at TYPE timestamptz(0)",
        );
        run("INSERT INTO keyless VALUES ('c')");
        assert!(one::<bool>("SELECT changed_at = date_trunc('second', changed_at) FROM vector_audit_log"));
    }

    #[pg_test]
    fn keys_are_those_of_searches() {
        run("CREATE TABLE pairs (n integer, t timestamptz, k text, PRIMARY KEY (k, n, t))");
        run("CREATE TABLE keyless (body text)");
        run("CREATE TABLE named (id uuid PRIMARY KEY)");
        run("SELECT enable_audit(t) FROM unnest('{pairs,keyless,named}'::regclass[]) AS t");
        run("INSERT INTO pairs VALUES (7, '2020-01-01 00:00Z', 'a \"b\"')");
        run("INSERT INTO keyless VALUES ('x')");
        run("INSERT INTO named VALUES ('00000000-0000-0000-0000-000000000001')");
        assert!(one::<bool>(
            "SELECT record_id = jsonb_build_array(n, t, k)::text FROM audit_history('pairs'), pairs"
        ));
        assert!(one::<bool>("SELECT record_id IS NULL FROM audit_history('keyless')"));
        assert!(one::<bool>("SELECT record_id = id::text FROM audit_history('named'), named"));
        assert!(one::<bool>("SELECT count(*) = 1 FROM audit_history('named', (SELECT id::text FROM named))"));
    }

    #[pg_test]
    fn long_keys_and_rows_without_columns_are_no_hindrance() {
        run("CREATE TABLE long (id bytea PRIMARY KEY)");
        run("CREATE TABLE bare ()");
        run("SELECT enable_audit('long'), enable_audit('bare')");
        run(
            "INSERT INTO long SELECT string_agg(sha256(i::text::bytea), '') FROM generate_series(1, 80) AS i",
        );
        run("INSERT INTO bare DEFAULT VALUES");
        assert!(one::<bool>("SELECT length(record_id) = 5122 FROM audit_history('long')"));
        assert!(one::<bool>("SELECT count(*) = 1 FROM audit_history('long', (SELECT id::text FROM long))"));
        assert_eq!(one::<String>("SELECT new_data::text FROM audit_history('bare')"), "{}");
    }

    #[pg_test]
    fn columns_that_come_and_go_are_followed() {
        run(TABLE);
        run("SELECT enable_audit('notes')");
        run("ALTER TABLE notes DROP COLUMN embedding, ADD COLUMN tag text DEFAULT 'old'");
        run("INSERT INTO notes (id, body) VALUES (1, 'a')");
        assert_eq!(
            one::<String>("SELECT new_data::text FROM audit_history('notes', NULL, 1)"),
            r#"{"id": 1, "tag": "old", "body": "a"}"#
        );
        run("ALTER TABLE notes RENAME COLUMN tag TO label; ALTER TABLE notes RENAME TO papers");
        run("UPDATE papers SET label = 'new'");
        assert_eq!(
            one::<String>(
                "SELECT concat(operation, old_data->>'label', new_data->>'label') FROM audit_history('papers')"
            ),
            "UPDATEoldnew"
        );
    }

    #[pg_test]
    fn the_history_is_newest_first_and_limited() {
        run(TABLE);
        run("SELECT enable_audit('notes')");
        run("INSERT INTO notes (id, body) SELECT i, 'a' FROM generate_series(1, 150) AS i");
        run("UPDATE notes SET body = 'b' WHERE id = 7");
        assert_eq!(one::<i64>("SELECT count(*) FROM audit_history('notes')"), 100);
        assert_eq!(one::<i64>("SELECT count(*) FROM audit_history('notes', \"limit\" => NULL)"), 151);
        assert_eq!(
            one::<String>("SELECT string_agg(operation, ',') FROM audit_history('notes', '7')"),
            "UPDATE,INSERT"
        );
        assert_eq!(one::<i64>("SELECT count(*) FROM audit_history('notes', '7', 0)"), 0);
        assert_eq!(one::<i64>("SELECT count(*) FROM audit_history(NULL)"), 0);
        assert_error("SELECT audit_history('notes', '7', -1)", "22023");
        run("CREATE TABLE other (id integer)");
        assert_error("SELECT audit_history('other')", "55000");
    }

    #[pg_test]
    fn asking_again_changes_what_is_asked_for() {
        run(TABLE);
        run("SELECT enable_audit('notes'), enable_audit('notes')");
        let audits = "SELECT string_agg(concat_ws(' ', source, log, include_embeddings), ',') FROM vector_tools.audited_tables";
        assert_eq!(one::<String>(audits), "notes vector_audit_log f");
        run("SELECT enable_audit('notes', 'other', true)");
        assert_eq!(one::<String>(audits), "notes other t");
        run(INSERT);
        assert_eq!(one::<i64>("SELECT count(*) FROM other"), 1);
        run(
            "ALTER TABLE notes DISABLE TRIGGER ALL; SELECT enable_audit('notes', 'other', true); DELETE FROM notes; TRUNCATE notes",
        );
        assert_eq!(one::<i64>("SELECT count(*) FROM other"), 3);
        run("ALTER TRIGGER vector_tools_audit ON notes RENAME TO renamed; SELECT enable_audit('notes')");
        assert_eq!(one::<String>(audits), "notes vector_audit_log f");
        assert!(one::<bool>("SELECT disable_audit('notes')"));
        assert!(!one::<bool>("SELECT disable_audit('notes')"));
        assert!(one::<bool>("SELECT count(*) = 0 FROM pg_trigger WHERE tgrelid = 'notes'::regclass"));
        assert!(one::<bool>("SELECT enable_audit(NULL) IS NULL AND disable_audit(NULL) IS NULL"));
    }

    // trust 23
    #[pg_test]
    fn what_cannot_be_audited_is_refused() {
        run("CREATE VIEW seen AS SELECT 1 AS id");
        run("CREATE TABLE notes (id integer)");
        run("CREATE TABLE taken (id integer)");
        run("CREATE TABLE whole (id integer) PARTITION BY LIST (id)");
        run("CREATE TABLE part PARTITION OF whole FOR VALUES IN (1)");
        run("SELECT enable_audit('whole')");
        assert_error("SELECT enable_audit('seen')", "42809");
        assert_error("SELECT enable_audit('vector_audit_log')", "42809");
        assert_error("SELECT enable_audit('notes', 'taken')", "42P07");
        assert_error("SELECT enable_audit('notes', 'notes')", "42P07");
        assert_error("SELECT enable_audit('notes', '')", "42602");
        assert_error("SELECT enable_audit('part')", "55000");
        assert_error("SELECT disable_audit('part')", "55000");
        let (state, _, _, hint) = error_of("SELECT enable_audit('part', 'x')");
        assert!(state == "55000" && hint.contains("\"whole\""), "{hint}");
        run("SET transaction_read_only = on");
        for call in ["enable_audit('notes')", "disable_audit('whole')"] {
            run(&format!(
                "DO $$ BEGIN PERFORM {call}; RAISE 'no error'; EXCEPTION WHEN read_only_sql_transaction THEN NULL; END $$"
            ));
        }
    }

    #[pg_test]
    fn a_temporary_table_has_a_temporary_log() {
        run("CREATE TEMP TABLE notes (id integer PRIMARY KEY)");
        run("SELECT enable_audit('notes')");
        run("INSERT INTO notes VALUES (1)");
        assert!(one::<bool>("SELECT count(*) = 1 FROM pg_temp.vector_audit_log"));
    }

    #[pg_test]
    fn rows_of_searched_tables_are_audited_with_them() {
        run("SELECT create_domain_memories_table('startup'); SELECT enable_audit('startup_memories')");
        run("INSERT INTO startup_memories (id, content) VALUES ('m1', 'Series A closed')");
        run("UPDATE startup_memories SET content = 'Series B closed'");
        assert_eq!(
            one::<String>(
                "SELECT string_agg(operation || ' ' || (new_data->>'content'), ', ' ORDER BY change_id)
                 FROM audit_history('startup_memories', 'm1') WHERE NOT new_data ?| '{embedding,lexemes}'"
            ),
            "INSERT Series A closed, UPDATE Series B closed"
        );
    }
}
