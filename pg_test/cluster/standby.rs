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
const CHANGES: [&str; 7] = [
    "SELECT register_model('n', 'all-MiniLM-L6-v2-int8')",
    "SELECT create_domain_memories_table('startup')",
    "SELECT drop_model('all-MiniLM-L6-v2')",
    "SELECT store_memory('walked to work', 'health')",
    "SELECT update_memory('x', 'walked to work', 'health')",
    "SELECT delete_memory('x', 'health')",
    "SELECT drop_domain('health')",
];

/// A standby of `primary` that has begun to stream.
fn start_standby(primary: &Server, folder: &Folder) -> Server {
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
    Server::start_on("test-standby", &data)
}

#[test]
fn a_standby_embeds_and_searches_read_only() {
    let primary = Server::start("test-primary", &[]);
    make_template(&primary);
    let database = Database::with_extension_on(&primary, "replicated");
    let mut writer = database.connect();
    writer.run("SELECT create_domain_memories_table('health'); INSERT INTO health_memories (content) VALUES ('slept well')");
    let folder = Folder::new();
    let standby = start_standby(&primary, &folder);
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
    ] {
        assert_eq!(reader.rows(question), writer.rows(question), "expected the answer of the primary");
    }
    assert_eq!(
        reader.text("SELECT count_tokens('how many tokens')"),
        writer.text("SELECT count_tokens('how many tokens')")
    );
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
    assert_eq!(refused, ["25006"; 7], "expected the standby to refuse {CHANGES:?} as read-only");
}

#[test]
fn a_read_only_transaction_embeds_and_searches() {
    let database = Database::with_extension_on(shared_server(), "read_only");
    let mut session = database.connect();
    session.run("SELECT create_domain_memories_table('health'); INSERT INTO health_memories (content) VALUES ('slept well')");
    session.run("BEGIN READ ONLY");
    session.still_embeds();
    assert_eq!(session.text("SELECT content FROM hybrid_search('health_memories', 'sleep')"), "slept well");
    assert_eq!(session.text("SELECT content FROM search_memories('sleep', 'health')"), "slept well");
    assert_eq!(session.text("SELECT memories FROM vector_tools.domains"), "1");
    session.run("ROLLBACK");
    session.run("SET default_transaction_read_only = on");
    let refused: Vec<String> = CHANGES.map(|change| session.refusal(change)).to_vec();
    assert_eq!(refused, ["25006"; 7], "expected a read-only transaction to refuse {CHANGES:?}");
}
