//! vector_tools.search_drift: the rows of every kind of table by the model that embedded them.

#[pgrx::pg_schema]
mod tests {
    use crate::server_tests::{one, run};
    use pgrx::prelude::*;

    const MODEL: &str = "all-MiniLM-L6-v2-int8";

    fn document(number: u8) -> String {
        format!("'00000000-0000-0000-0000-00000000000{number}'")
    }

    /// The lines of the view, NULLs as ∅.
    fn drift() -> Vec<String> {
        let lines = "SELECT string_agg(line, E'\\n' ORDER BY line COLLATE \"C\") FROM (
            SELECT array_to_string(ARRAY[source::text, role, companion::text, model, is_current::text, rows::text, chunks::text],
                '|', '∅') AS line FROM vector_tools.search_drift) AS l";
        one::<String>(lines).lines().map(str::to_owned).collect()
    }

    fn create_tickets() {
        run("CREATE TABLE tickets (id integer PRIMARY KEY, subject text, embedding vector(384))");
        run(&format!(
            "CREATE TRIGGER embed_subject BEFORE INSERT OR UPDATE ON tickets
                 FOR EACH ROW EXECUTE FUNCTION vector_tools.embed_row('subject', 'embedding', '{MODEL}')"
        ));
    }

    #[pg_test]
    fn every_kind_of_table_is_counted_by_model() {
        run(&format!("SELECT create_domain_memories_table('calm', '{MODEL}')"));
        create_tickets();
        run(&format!("SELECT create_vector_store('reg', '{MODEL}')"));
        run("CREATE TABLE notes (id integer PRIMARY KEY, body text); INSERT INTO notes VALUES (1, 'a pump')");
        run(&format!("SELECT enable_search('notes', ARRAY['body'], '{MODEL}', mode => 'sync')"));
        let expected = |calm: u8, store: &[&str], tickets: u8| -> Vec<String> {
            let mut lines = vec![
                format!("calm_memories|live|∅|{MODEL}|true|{calm}|{calm}"),
                format!("notes|live|notes_search|{MODEL}|true|1|1"),
            ];
            lines.extend(store.iter().map(|line| format!("reg.vector_embeddings|live|∅|{line}")));
            lines.push(format!("tickets|live|∅|{MODEL}|true|{tickets}|{tickets}"));
            lines
        };
        let nothing = format!("{MODEL}|true|0|0");
        assert_eq!(drift(), expected(0, &[&nothing], 0));

        run("SELECT store_memory('slept well', 'calm'), store_memory('ran five miles', 'calm')");
        run("INSERT INTO tickets VALUES (1, 'printer on fire'), (2, NULL)");
        run(&format!(
            "SELECT upsert_document('reg', 'd', {}, ARRAY['a pump', 'a valve', 'a pipe'], 'eu');
             SELECT upsert_document('reg', 'd', {}, ARRAY['a tap'])",
            document(1),
            document(2)
        ));
        run("SELECT create_namespace('reg', 'eu')");
        let all = format!("{MODEL}|true|2|4");
        assert_eq!(drift(), expected(2, &[&all], 1));

        run(&format!(
            "UPDATE reg.vector_embeddings SET embedding_model = 'a former model' WHERE source_id = {}",
            document(1)
        ));
        let rest = format!("{MODEL}|true|1|1");
        assert_eq!(drift(), expected(2, &["a former model|false|1|3", &rest], 1));
        // For a table alone.
        let rows = "SELECT rows FROM vector_tools.search_drift WHERE source = 'tickets'::regclass";
        assert_eq!(one::<i64>(rows), 1);
    }

    #[pg_test]
    fn a_table_may_be_embedded_in_several_ways() {
        create_tickets();
        run("ALTER TABLE tickets ADD \"My \"\"v\" vector(384)");
        run(r#"CREATE TRIGGER embed_precisely BEFORE INSERT ON tickets
               FOR EACH ROW EXECUTE FUNCTION vector_tools.embed_row('subject', 'My "v', 'all-MiniLM-L6-v2')"#);
        run("INSERT INTO tickets VALUES (1, 'printer on fire'); UPDATE tickets SET \"My \"\"v\" = NULL");
        run("INSERT INTO tickets VALUES (2, 'out of paper')");
        run(&format!("SELECT enable_search('tickets', ARRAY['subject'], '{MODEL}', mode => 'sync')"));
        assert_eq!(
            drift(),
            [
                format!("tickets|live|tickets_search|{MODEL}|true|2|2"),
                format!("tickets|live|∅|{MODEL}|true|2|2"),
                "tickets|live|∅|all-MiniLM-L6-v2|true|1|1".to_owned(),
            ]
        );
    }

    #[pg_test]
    fn rows_are_counted_once() {
        create_tickets();
        run("CREATE TABLE old_tickets () INHERITS (tickets)");
        run("INSERT INTO tickets VALUES (1, 'printer on fire')");
        run("INSERT INTO old_tickets SELECT * FROM tickets");
        assert_eq!(drift(), [format!("tickets|live|∅|{MODEL}|true|1|1")]);
        run("DROP TABLE tickets CASCADE");
        run("CREATE TABLE parted (region text, body text, v vector(384)) PARTITION BY LIST (region);
             CREATE TABLE north PARTITION OF parted FOR VALUES IN ('n');
             CREATE TABLE south PARTITION OF parted DEFAULT");
        run(&format!(
            "CREATE TRIGGER embed BEFORE INSERT OR UPDATE ON parted
                 FOR EACH ROW EXECUTE FUNCTION vector_tools.embed_row('body', 'v', '{MODEL}')"
        ));
        run("INSERT INTO parted VALUES ('n', 'a pump'), ('s', 'a valve')");
        assert_eq!(drift(), [format!("parted|live|∅|{MODEL}|true|2|2")]);
    }

    /// What is broken has a line without numbers, and spoils no other.
    #[pg_test]
    fn broken_tables_are_listed_without_numbers() {
        create_tickets();
        run("INSERT INTO tickets VALUES (1, 'printer on fire')");
        run("CREATE TABLE gone (id integer, body text, v vector(384))");
        run(&format!(
            "CREATE TRIGGER embed BEFORE INSERT ON gone
                 FOR EACH ROW EXECUTE FUNCTION vector_tools.embed_row('body', 'v', '{MODEL}');
             ALTER TABLE gone DROP v"
        ));
        run(&format!(
            "SELECT create_vector_store('whole', '{MODEL}'), create_vector_store('reg', '{MODEL}')"
        ));
        run("ALTER TABLE reg.vector_embeddings DROP chunk_index");
        // A table that only looks like a store, and cannot be counted as one.
        run("CREATE SCHEMA odd; CREATE TABLE odd.vector_embeddings
                 (embedding vector(3), embedding_model text DEFAULT 'a model', chunk_index point) PARTITION BY LIST (embedding_model)");
        run("CREATE TABLE notes (id integer PRIMARY KEY, body text); INSERT INTO notes VALUES (1, 'a pump')");
        run(&format!("SELECT enable_search('notes', ARRAY['body'], '{MODEL}', mode => 'sync')"));
        run("ALTER TABLE notes_search DROP model CASCADE");
        assert_eq!(
            drift(),
            [
                format!("gone|∅|∅|{MODEL}|∅|∅|∅"),
                format!("notes|live|notes_search|{MODEL}|∅|∅|∅"),
                "odd.vector_embeddings|∅|∅|a model|∅|∅|∅".to_owned(),
                format!("reg.vector_embeddings|∅|∅|{MODEL}|∅|∅|∅"),
                format!("tickets|live|∅|{MODEL}|true|1|1"),
                format!("whole.vector_embeddings|live|∅|{MODEL}|true|0|0"),
            ]
        );
    }
}
