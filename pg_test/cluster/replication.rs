//! Logical replication (19): what the subscriber applies is neither embedded nor touched nor audited again, and is when
//! the subscriber asks for it.

use crate::database::{Database, MODEL, make_template};
use crate::process::wait_until;
use crate::server::Server;
use crate::session::Session;

/// Tables that both sides have: memories and a store, audited.
fn tables() -> String {
    format!(
        "SELECT create_domain_memories_table('health', '{MODEL}'); SELECT create_domain_memories_table('texts', '{MODEL}');
         SELECT create_vector_store('reg', '{MODEL}'); SELECT create_namespace('reg', 'eu');
         SELECT enable_audit('health_memories'); SELECT enable_audit('reg.vector_embeddings')"
    )
}

const CHANGES: &str = "
    SELECT store_memory('slept well', 'health', id => 'a'), store_memory('ran five miles', 'health', id => 'b');
    SELECT update_memory('a', 'slept badly', 'health'), delete_memory('b', 'health');
    INSERT INTO health_memories (id, content, embedding) SELECT 'given', 'an embedding of its own', embed('something else');
    SELECT store_memory('only the text is published', 'texts', id => 't');
    SELECT upsert_document('reg', 'd', '00000000-0000-0000-0000-000000000001', ARRAY['a pump', 'a valve'], 'eu');
    SELECT upsert_document('reg', 'd', '00000000-0000-0000-0000-000000000001', ARRAY['a new pump'], 'eu');
    SELECT upsert_document('reg', 'd', '00000000-0000-0000-0000-000000000002', 'a pipe', 'us')";

/// What must be equal on both sides, times of changes included.
const ROWS: [&str; 3] = [
    "SELECT id, content, embedding, metadata, created_at, updated_at, lexemes FROM health_memories ORDER BY id",
    "SELECT tableoid::regclass, * FROM reg.vector_embeddings ORDER BY id",
    "SELECT content, similarity FROM search_embeddings('reg', 'pump')",
];

fn caught_up(writer: &mut Session, reader: &mut Session, marker: &str) {
    writer.run(&format!("SELECT store_memory('{marker}', 'health', id => '{marker}')"));
    wait_until("the subscriber has the last row", || {
        reader.text(&format!("SELECT count(*) FROM health_memories WHERE id = '{marker}'")) == "1"
    });
}

// trust 19
#[test]
fn applied_rows_are_neither_embedded_nor_audited_again_unless_asked_for() {
    let publisher = Server::start("test-publisher", &[("wal_level", "logical")]);
    make_template(&publisher);
    let subscriber = Server::start("test-subscriber", &[]);
    make_template(&subscriber);
    let source = Database::with_extension_on(&publisher, "source");
    let target = Database::with_extension_on(&subscriber, "target");
    let (mut writer, mut reader) = (source.connect(), target.connect());
    writer.run(&tables());
    reader.run(&tables());
    // Rows that were there before are copied by the subscription itself.
    writer.run("SELECT store_memory('there before', 'health', id => 'before')");
    writer.run(
        "CREATE PUBLICATION everything FOR TABLE health_memories, reg.vector_embeddings, reg.embedding_collections,
             texts_memories (id, content, metadata) WITH (publish_via_partition_root = true)",
    );
    reader.run(&format!(
        "CREATE SUBSCRIPTION everything CONNECTION '{}' PUBLICATION everything",
        publisher.connection("source", "postgres")
    ));
    wait_until("the subscriber has copied the tables", || {
        reader.text("SELECT bool_and(srsubstate = 'r') FROM pg_subscription_rel") == "t"
            && reader.text("SELECT count(*) FROM health_memories WHERE id = 'before'") == "1"
    });
    writer.run(CHANGES);
    caught_up(&mut writer, &mut reader, "first");
    for fact in ROWS {
        assert_eq!(reader.rows(fact), writer.rows(fact), "expected the rows as they were sent: {fact}");
    }
    let texts = "SELECT content, embedding IS NOT NULL FROM texts_memories ORDER BY id";
    assert_eq!(reader.rows(texts), ["only the text is published|f"], "expected no embedding to be made");
    let audited =
        "SELECT (SELECT count(*) FROM vector_audit_log), (SELECT count(*) FROM reg.vector_audit_log)";
    assert_eq!(reader.text(audited), "0|0", "expected nothing to be audited a second time");
    assert_ne!(writer.text(audited), "0|0");
    // What the subscriber's own clients write is embedded and audited there.
    reader.run("SELECT store_memory('of the subscriber', 'health', id => 'own')");
    assert_eq!(reader.text("SELECT count(embedding) FROM health_memories WHERE id = 'own'"), "1");
    assert_eq!(reader.text(audited), "1|0");

    reader.run(
        "ALTER TABLE texts_memories ENABLE ALWAYS TRIGGER embed_content;
         ALTER TABLE health_memories ENABLE ALWAYS TRIGGER vector_tools_audit;
         ALTER TABLE reg.vector_embeddings ENABLE ALWAYS TRIGGER vector_tools_audit",
    );
    writer.run(
        "SELECT store_memory('asked for', 'texts', id => 'u'), update_memory('t', 'changed', 'texts');
         SELECT upsert_document('reg', 'd', '00000000-0000-0000-0000-000000000003', 'a tap', 'eu')",
    );
    caught_up(&mut writer, &mut reader, "second");
    assert_eq!(reader.rows(texts), ["changed|t", "asked for|t"], "expected embeddings after ENABLE ALWAYS");
    let wrong =
        format!("SELECT count(*) FROM texts_memories WHERE embedding <=> embed(content, '{MODEL}') > 0.001");
    assert_eq!(reader.text(&wrong), "0", "expected each embedding to be that of its content");
    assert_eq!(
        reader.text("SELECT content FROM search_memories('was it requested?', 'texts', 1)"),
        "asked for"
    );
    assert_eq!(reader.text(audited), "2|1", "expected each applied change once in the log");
    assert_eq!(reader.rows(ROWS[1]), writer.rows(ROWS[1]), "expected the store as it was sent");
    reader.run("DROP SUBSCRIPTION everything");
}

// trust 19
#[test]
fn models_registered_by_replication_are_known_to_warm_sessions() {
    let publisher = Server::start("test-models-publisher", &[("wal_level", "logical")]);
    make_template(&publisher);
    let source = Database::with_extension_on(&publisher, "source");
    let target = Database::with_extension_on(&publisher, "target");
    let (mut writer, mut reader) = (source.connect(), target.connect());
    writer.run("CREATE PUBLICATION models FOR TABLE vector_tools.model_registry WHERE (NOT bundled)");
    writer.text("SELECT pg_create_logical_replication_slot('models', 'pgoutput') IS NOT NULL");
    reader.run(&format!(
        "CREATE SUBSCRIPTION models CONNECTION '{}' PUBLICATION models
         WITH (create_slot = false, slot_name = 'models', copy_data = false)",
        publisher.connection("source", "postgres")
    ));
    reader.fails("42704", "SELECT embed('a', 'mine')");
    writer.run(&format!("SELECT register_model('mine', '{MODEL}')"));
    wait_until("the subscriber knows the model", || {
        reader.ask("SELECT embed('a', 'mine')::text", &[]).is_ok()
    });
    reader.run("ALTER SUBSCRIPTION models DISABLE; ALTER SUBSCRIPTION models SET (slot_name = NONE); DROP SUBSCRIPTION models");
}
