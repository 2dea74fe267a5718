//! A store through DROP EXTENSION … CASCADE and CREATE EXTENSION: what stays, what goes, and the one call that mends it (21).

use crate::database::{Database, MODEL};
use crate::session::Schemas;

// trust 21
#[test]
fn a_store_lives_through_drop_and_create_of_the_extension() {
    let database = Database::with_extension("recreated");
    let mut session = database.connect();
    session.run(&format!(
        "SELECT create_vector_store('reg', '{MODEL}'); SELECT create_namespace('reg', 'eu');
         SELECT enable_audit('reg.vector_embeddings');
         SELECT isolate_namespaces('reg.vector_embeddings');
         SELECT upsert_document('reg', 'd', '00000000-0000-0000-0000-000000000001', ARRAY['a pump', 'a valve'], 'eu')"
    ));
    let rows = "SELECT * FROM reg.vector_embeddings ORDER BY id";
    let kept = "SELECT (SELECT count(*) FROM reg.vector_audit_log), (SELECT count(*) FROM pg_policies),
                    (SELECT count(*) FROM pg_indexes WHERE schemaname = 'reg')";
    let (before, stayed) = (session.rows(rows), session.text(kept));
    session.fails("2BP01", "DROP EXTENSION vector_tools");
    session.run("DROP EXTENSION vector_tools CASCADE");
    assert_eq!(session.rows(rows), before, "expected the rows to stay");
    assert_eq!(session.text(kept), stayed, "expected log, policies and indexes to stay");
    let triggers = "SELECT tgrelid::regclass, tgname FROM pg_trigger WHERE NOT tgisinternal AND tgparentid = 0 AND tgrelid::regclass::text LIKE 'reg.%' ORDER BY 1, 2";
    assert!(session.rows(triggers).is_empty(), "expected no trigger without the extension");
    let orphans = session.rows("SELECT evtname FROM pg_event_trigger UNION ALL SELECT proname FROM pg_proc WHERE probin LIKE '%vector_tools%'");
    assert!(orphans.is_empty(), "expected nothing of the extension to be left, not {orphans:?}");
    // Rows are rows meanwhile.
    session.run("UPDATE reg.vector_embeddings SET metadata = '{\"n\": 1}', updated_at = '2024-01-01'");

    session.run(&format!("CREATE EXTENSION vector_tools SCHEMA {}", Schemas::in_use().extension));
    assert_eq!(session.rows("SELECT content FROM search_embeddings('reg', 'pump', 'eu', 1)"), ["a pump"]);
    let upsert = "SELECT u.* FROM upsert_document('reg', 'd', '00000000-0000-0000-0000-000000000001', ARRAY['a pump', 'a tap'], 'eu', '{\"n\": 1}') AS u";
    assert_eq!(session.rows(upsert), ["0|1|1|0"], "expected the store to go on without being mended");
    session.run(&format!("SELECT create_vector_store('reg', '{MODEL}')"));
    assert_eq!(
        session.rows(triggers),
        [
            "reg.embedding_collections|touch_updated_at",
            "reg.vector_embeddings|touch_updated_at",
            "reg.vector_audit_log|vector_tools_guard"
        ],
        "expected the store's own triggers back"
    );
    // The log is one again, and is taken up where it ended.
    session.run("SELECT enable_audit('reg.vector_embeddings'); UPDATE reg.vector_embeddings SET metadata = '{}' WHERE content = 'a pump'");
    assert_eq!(session.text("SELECT count(*) FROM audit_history('reg.vector_embeddings')"), "3");
    assert_eq!(session.text("SELECT updated_at > now() - interval '1 hour' FROM reg.vector_embeddings WHERE content = 'a pump'"), "t");
    session.run(&format!("SELECT create_vector_store('reg', '{MODEL}')"));
    session.fails("2BP01", "DROP EXTENSION vector_tools");
}

// trust 21
#[test]
fn only_the_owner_of_a_store_mends_it() {
    let database = Database::with_extension("recreated_owner");
    database.create_role("recreated_owner_role");
    let mut owner = database.connect();
    owner.run(&format!(
        "SELECT create_vector_store('reg', '{MODEL}'); GRANT ALL ON SCHEMA reg TO recreated_owner_role;
         GRANT ALL ON ALL TABLES IN SCHEMA reg TO recreated_owner_role;
         DROP TRIGGER touch_updated_at ON reg.vector_embeddings"
    ));
    let call = format!("SELECT create_vector_store('reg', '{MODEL}')");
    let count = "SELECT count(*) FROM pg_trigger WHERE tgname = 'touch_updated_at' AND tgparentid = 0";
    database.connect_as("recreated_owner_role").run(&call);
    assert_eq!(owner.text(count), "1", "expected no trigger by a role that does not own the table");
    owner.run(&call);
    assert_eq!(owner.text(count), "2");
}
