//! A hot standby, which answers searches read-only (18).

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use crate::database::{Database, make_template, shared_server};
use crate::embedder;
use crate::models::Folder;
use crate::process::wait_until;
use crate::server::{Server, program, root};
use crate::session::Session;

/// What only a primary can do.
const CHANGES: [&str; 20] = [
    "SELECT register_model('n', 'all-MiniLM-L6-v2-int8')",
    "SELECT create_domain_memories_table('startup')",
    "SELECT drop_model('all-MiniLM-L6-v2')",
    "SELECT store_memory('walked to work', 'health')",
    "SELECT update_memory('x', 'walked to work', 'health')",
    "SELECT delete_memory('x', 'health')",
    "SELECT drop_domain('health')",
    "SELECT create_vector_store('other')",
    "SELECT create_namespace('reg', 'us')",
    "SELECT drop_namespace('reg', 'eu')",
    "SELECT index_vector_store('reg')",
    "SELECT create_collection('reg', 'x')",
    "SELECT upsert_document('reg', 'd', '00000000-0000-0000-0000-000000000009', 'x')",
    "SELECT upsert_embeddings('reg', '[]'::jsonb)",
    "SELECT delete_document('reg', 'd', '00000000-0000-0000-0000-000000000001')",
    "SELECT clear_namespace('reg', 'eu')",
    "SELECT enable_audit('reg.embedding_jobs')",
    "SELECT disable_audit('reg.vector_embeddings')",
    "SELECT isolate_namespaces('reg.vector_embeddings')",
    "SELECT grant_vector_access('postgres', 'reader', 'reg.vector_embeddings')",
];

/// A store with a document, whose changes are audited.
const STORE: &str = "SELECT create_vector_store('reg'); SELECT create_namespace('reg', 'eu');
    SELECT enable_audit('reg.vector_embeddings');
    SELECT upsert_document('reg', 'd', '00000000-0000-0000-0000-000000000001', ARRAY['a pump', 'a valve'], 'eu')";

/// A standby of `primary` that has begun to stream, called `name` (`test-…`).
pub fn start_standby(primary: &Server, folder: &Folder, name: &str, settings: &[(&str, &str)]) -> Server {
    // The server's account makes the data folder, so it must be able to write here.
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).expect("its owner may open it");
    let data = folder.path().join("data");
    let output = Command::new("python3")
        .current_dir(root())
        .arg("tools/as_server_user.py")
        .arg(program("pg_basebackup"))
        .args(["--write-recovery-conf", "--checkpoint=fast", "--pgdata"])
        .arg(&data)
        .args(["--dbname", &primary.connection("postgres", "postgres")])
        .stdin(Stdio::null())
        .output()
        .expect("python3 is needed");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "expected pg_basebackup to succeed:\n{errors}");
    Server::start_on(name, &data, settings)
}

// trust 18
#[test]
fn a_standby_embeds_and_searches_read_only() {
    let primary = Server::start("test-primary", &[]);
    make_template(&primary);
    let database = Database::with_extension_on(&primary, "replicated");
    let mut writer = database.connect();
    writer.run("SELECT create_domain_memories_table('health'); INSERT INTO health_memories (content) VALUES ('slept well')");
    writer.run(STORE);
    let folder = Folder::new();
    let standby = start_standby(&primary, &folder, "test-standby", &[]);
    writer.run("INSERT INTO health_memories (content) VALUES ('ran five miles')");

    let mut reader = Session::open(&standby, "replicated", "postgres");
    assert_eq!(reader.text("SELECT pg_is_in_recovery()"), "t", "expected this server to be a standby");
    wait_until("the standby has the second memory", || {
        reader.text("SELECT count(*) FROM health_memories") == "2"
    });
    reader.still_embeds();
    let process = embedder::process(&mut reader);
    assert!(process.is_some(), "expected the standby to have an embedding process");
    assert_ne!(process, embedder::process(&mut writer), "expected each server to have its own");
    assert!(reader.take_notices().is_empty(), "expected no session to load the model itself");
    let question = "SELECT * FROM hybrid_search('health_memories', 'jogging', 2)";
    assert_eq!(reader.rows(question), writer.rows(question), "expected the answer of the primary");
    for question in [
        "SELECT * FROM search_memories('jogging', 'health')",
        "SELECT domain, memories, embedded, last_update FROM vector_tools.domains",
        "SELECT * FROM search_embeddings('reg', 'pump', 'eu')",
        "SELECT content FROM search_embeddings('reg', query_embedding => embed('valve'), top_k => 1)",
        "SELECT count_embeddings('reg', 'eu')",
        "SELECT change_id, operation, record_id FROM audit_history('reg.vector_embeddings')",
        "SELECT * FROM vector_tools.vector_stores",
        "SELECT * FROM vector_tools.search_drift ORDER BY source::text",
        "SELECT * FROM vector_tools.audited_tables",
    ] {
        assert_eq!(reader.rows(question), writer.rows(question), "expected the answer of the primary");
    }
    assert_eq!(
        reader.text("SELECT count_tokens('how many tokens')"),
        writer.text("SELECT count_tokens('how many tokens')")
    );
    // The switch for the log does not make a search fail that cannot write.
    reader.run("SET vector_tools.log_searches = on");
    assert_eq!(reader.rows("SELECT content FROM search_embeddings('reg', 'pump', 'eu', 1)"), ["a pump"]);
    let refused: Vec<String> = CHANGES.map(|change| reader.refusal(change)).to_vec();

    // Models that are registered and dropped on the primary are so on a warm standby session.
    reader.fails("42704", "SELECT embed('a', 'm')");
    writer.run("SELECT register_model('m', 'all-MiniLM-L6-v2-int8')");
    wait_until("the standby knows the new model", || reader.ask("SELECT embed('a', 'm')::text", &[]).is_ok());
    writer.run("SELECT drop_model('m')");
    wait_until("the standby has dropped the model", || {
        reader.ask("SELECT embed('a', 'm')::text", &[]).is_err()
    });

    reader.run("SELECT pg_promote()");
    wait_until("the standby is promoted", || reader.text("SELECT pg_is_in_recovery()") == "f");
    reader.run("INSERT INTO health_memories (content) VALUES ('written after promotion')");
    let embedded = reader.text("SELECT count(embedding) FROM health_memories");
    assert_eq!(embedded, "3", "expected a promoted server to embed new rows");
    reader.run("SELECT upsert_document('reg', 'd', '00000000-0000-0000-0000-000000000002', 'a pipe', 'eu'); SELECT * FROM search_embeddings('reg', 'pipe')");
    assert_eq!(
        reader.rows("SELECT query_text FROM reg.vector_search_logs"),
        ["pipe"],
        "expected the log to be written"
    );
    assert_eq!(reader.text("SELECT count(*) FROM audit_history('reg.vector_embeddings')"), "3");
    assert_eq!(refused, ["25006"; CHANGES.len()], "expected the standby to refuse {CHANGES:?} as read-only");
}

// trust 18
#[test]
fn a_read_only_transaction_embeds_and_searches() {
    let database = Database::with_extension_on(shared_server(), "read_only");
    let mut session = database.connect();
    session.run("SELECT create_domain_memories_table('health'); INSERT INTO health_memories (content) VALUES ('slept well')");
    session.run(STORE);
    session.run("SET vector_tools.log_searches = on; BEGIN READ ONLY");
    session.still_embeds();
    assert_eq!(session.text("SELECT content FROM hybrid_search('health_memories', 'sleep')"), "slept well");
    assert_eq!(session.text("SELECT content FROM search_memories('sleep', 'health')"), "slept well");
    assert_eq!(session.text("SELECT memories FROM vector_tools.domains"), "1");
    assert_eq!(session.text("SELECT content FROM search_embeddings('reg', 'pump', top_k => 1)"), "a pump");
    session.run("ROLLBACK");
    session.run("SET default_transaction_read_only = on");
    let refused: Vec<String> = CHANGES.map(|change| session.refusal(change)).to_vec();
    assert_eq!(refused, ["25006"; CHANGES.len()], "expected a read-only transaction to refuse {CHANGES:?}");
}
