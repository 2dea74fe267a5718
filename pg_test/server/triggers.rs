//! The lists of tables that are read from triggers: what the arguments of one may be.

#[pgrx::pg_schema]
mod tests {
    use crate::server_tests::{one, run};
    use pgrx::prelude::*;

    #[pg_test]
    fn arguments_of_triggers_are_read_as_they_were_written() {
        run("CREATE TABLE t (id integer)");
        run("CREATE TABLE expected (name text, arguments text[])");
        run(
            r#"INSERT INTO expected VALUES ('t1', '{}'), ('t2', ARRAY['']), ('t3', ARRAY['a']), ('t4', ARRAY['', '', 'b', '']),
                ('t5', ARRAY['ü', '€😀', 'NULL', ' null ']), ('t6', ARRAY['\', '\\', '\000', 'a\000b', '\134']),
                ('t7', ARRAY['"', '\"', '"",""', '{}', '{"a"}', ',']), ('t8', ARRAY[repeat('long', 4000), E'\n\t\r\x01']),
                ('t9', ARRAY[repeat('x', 16383)])"#,
        );
        run("DO $$ DECLARE e expected; BEGIN
                 FOR e IN SELECT * FROM expected LOOP
                     EXECUTE format('CREATE TRIGGER %I BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION vector_tools.embed_row(%s)',
                         e.name, (SELECT string_agg(quote_literal(a), ', ' ORDER BY n) FROM unnest(e.arguments) WITH ORDINALITY AS u(a, n)));
                 END LOOP;
             END $$");
        let differing = "SELECT coalesce(string_agg(e.name, ', '), '') FROM expected AS e
             LEFT JOIN (SELECT tgname, vector_tools.trigger_arguments(tgargs) AS arguments FROM pg_trigger) AS f
             ON f.tgname = e.name WHERE f.arguments IS DISTINCT FROM e.arguments";
        assert_eq!(one::<String>(differing), "");
        for bytes in [16384, 1_000_000, 10_000_000] {
            let read = format!(
                "SELECT vector_tools.trigger_arguments(convert_to(repeat('x', {bytes}), 'UTF8') || '\\x00') IS NULL"
            );
            assert!(one::<bool>(&read), "expected {bytes} bytes and their end not to be read");
        }
        assert!(one::<bool>("SELECT vector_tools.trigger_arguments(NULL) IS NULL"));
    }

    /// Whoever may make a trigger may give it any argument, and the lists are everyone's.
    #[pg_test]
    fn no_arguments_of_a_trigger_spoil_the_lists() {
        run("SELECT create_domain_memories_table('calm')");
        run("CREATE TABLE notes (id integer PRIMARY KEY, body text)");
        run("SELECT enable_search('notes', ARRAY['body'], mode => 'manual'), enable_audit('notes')");
        run("CREATE TABLE odd (id integer PRIMARY KEY, body text, v vector(384))");
        for arguments in ["", "''", r"'a\000b', 'v', 'm'", r"'\', '\\', '\134'", r#"'"', '{', 'ü€😀'"#] {
            check_lists("embed_row", arguments);
            check_lists("audit_change", arguments);
            check_lists("queue_row", arguments);
        }
        for options in [
            r#"{"order": ["x"]}"#,
            r#"{"order": ["\u0000"]}"#,
            r#"{"order": ["\ud800"]}"#,
            r#"{"order": [1e1000000]}"#,
            r#"{"order": [99999999999999999999]}"#,
            r#"{"order": [null, {}, []]}"#,
            r#"{"order": 1, "model": {}, "chunking": 1}"#,
            "[]",
            "1",
            "",
            "{",
            "\\000",
        ] {
            check_lists("queue_row", &format!("'{options}', 'content'"));
        }
    }

    fn check_lists(function: &str, arguments: &str) {
        // With a column to find, as enable_search has it.
        run(&format!(
            "CREATE TRIGGER odd AFTER UPDATE ON odd FOR EACH ROW WHEN (old.body <> new.body)
                 EXECUTE FUNCTION vector_tools.{function}({arguments})"
        ));
        for (list, column) in [
            ("embedded_tables", "source"),
            ("searchable_tables", "source"),
            ("audited_tables", "source"),
            ("domains", "source"),
            ("search_progress", "table_name"),
            ("search_drift", "source"),
        ] {
            let rows = format!(
                "SELECT count(l::text) > 0 FROM vector_tools.{list} AS l
                 WHERE {column} IN ('notes'::regclass, 'calm_memories'::regclass)"
            );
            let all = format!("SELECT count(l::text) FROM vector_tools.{list} AS l");
            assert!(one::<bool>(&rows) && one::<i64>(&all) > 0, "{list} with {function}({arguments})");
        }
        run("DROP TRIGGER odd ON odd");
    }

    #[pg_test]
    fn a_partitioned_table_is_listed_once() {
        run("CREATE TABLE parted (region text, body text, v vector(384)) PARTITION BY LIST (region)");
        run("CREATE TABLE north PARTITION OF parted FOR VALUES IN ('n')");
        run("CREATE TRIGGER embed BEFORE INSERT OR UPDATE ON parted
             FOR EACH ROW EXECUTE FUNCTION vector_tools.embed_row('body', 'v', 'all-MiniLM-L6-v2-int8')");
        let listed = "SELECT string_agg(source::text, ' ') FROM vector_tools.embedded_tables";
        assert_eq!(one::<String>(listed), "parted");
        // A partition may have a trigger of its own.
        run("CREATE TRIGGER again BEFORE INSERT ON north
             FOR EACH ROW EXECUTE FUNCTION vector_tools.embed_row('region', 'v', 'all-MiniLM-L6-v2-int8')");
        let columns = "SELECT string_agg(source || ' ' || content_column, ', ' ORDER BY source::text)
            FROM vector_tools.embedded_tables";
        assert_eq!(one::<String>(columns), "north region, parted body");
    }

    /// PostgreSQL applies the modifier of a type to what a statement gives alone.
    #[pg_test]
    fn the_time_of_a_change_has_the_digits_of_its_column() {
        run(
            "CREATE TABLE touched (id integer PRIMARY KEY, a timestamptz(0), b timestamptz(3), c timestamptz)",
        );
        for column in ["a", "b", "c"] {
            run(&format!(
                "CREATE TRIGGER touch_{column} BEFORE UPDATE ON touched
                     FOR EACH ROW EXECUTE FUNCTION vector_tools.touch_row('{column}')"
            ));
        }
        run("INSERT INTO touched VALUES (1, '2020-01-01', '2020-01-01', '2020-01-01')");
        run("UPDATE touched SET id = 2");
        let shown =
            "SELECT a = now()::timestamptz(0) AND b = now()::timestamptz(3) AND c = now() FROM touched";
        assert!(one::<bool>(shown), "expected {}", one::<String>("SELECT touched::text FROM touched"));
    }
}
