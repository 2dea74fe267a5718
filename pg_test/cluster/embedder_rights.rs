//! Who can reach the embedding process, and what it can be made to do (4).

use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::{fs, io};

use vector_tools_core::embed::protocol::{BUILD, Request};

use crate::database::{Database, shared_server};
use crate::embedder::{files, process, started_process, supervisor};
use crate::report::skipped;

#[test]
fn its_socket_is_for_the_servers_account_only() {
    let database = Database::with_extension("embedder_socket");
    let mut session = database.connect();
    let process = started_process(&mut session);
    let folder = shared_server().data().join("pg_stat_tmp");
    for file in files(&mut session) {
        let metadata = fs::metadata(folder.join(&file)).expect("root and the server's account may look");
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600, "expected {file} to be its owner's only");
    }
    let owner = fs::metadata(shared_server().data()).expect("a folder").uid();
    let me = fs::metadata("/proc/self").expect("Linux has /proc").uid();
    if me == owner {
        return skipped("its_socket_is_for_the_servers_account_only", "no other account is at hand");
    }
    // Root may connect to any socket; the process itself turns other accounts away. A short path,
    // because that of a socket must be short.
    let near = tempfile::tempdir().expect("a folder");
    symlink(&folder, near.path().join("s")).expect("a link in a new folder");
    let socket = near.path().join("s").join(format!("vector_tools_embedder.{BUILD}.sock"));
    let mut connection = UnixStream::connect(socket).expect("root may connect");
    let mut hello = Vec::new();
    Request::Hello { build: BUILD }.write(&mut hello).expect("a greeting fits");
    let answer = connection.write_all(&hello).and_then(|()| connection.read(&mut [0; 1]));
    let is_turned_away = match answer {
        Ok(read) => read == 0,
        Err(error) => matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset),
    };
    assert!(is_turned_away, "expected another account to be turned away without an answer");
    session.still_embeds();
    assert_eq!(crate::embedder::process(&mut session), Some(process), "expected the process to go on");
}

#[test]
fn a_stranger_sees_counts_and_no_path_and_names_no_path() {
    let database = Database::with_extension("embedder_stranger");
    database.create_role("embedder_stranger");
    let mut stranger = database.connect_as("embedder_stranger");
    stranger.still_embeds();
    assert!(process(&mut stranger).is_some(), "expected the statistics for anyone");
    let shown = stranger.rows("SELECT s::text FROM vector_tools.embedder_stats AS s").join("\n");
    assert!(!shown.contains('/'), "expected no path in {shown}");
    assert_eq!(stranger.text("SELECT warm_up()"), "384");
    // The process loads what the registry names, and that is not a stranger's to change.
    for statement in [
        "SELECT register_model('mine', '/tmp/model')",
        "INSERT INTO vector_tools.model_registry SELECT * FROM vector_tools.model_registry",
        "UPDATE vector_tools.model_registry SET source = '/tmp/model'",
        "SET vector_tools.model_directory = '/tmp'",
        "ALTER SYSTEM SET vector_tools.embedder_program = '/bin/true'",
    ] {
        stranger.fails("42501", statement);
    }
    let supervisor = supervisor(&mut database.connect()).expect("expected a supervisor");
    stranger.fails("42501", &format!("SELECT pg_terminate_backend({supervisor})"));
    for statement in
        ["SET vector_tools.embedder_program = '/bin/true'", "SET vector_tools.embedder_threads = 99"]
    {
        stranger.fails("55P02", statement);
    }
    stranger.fails("42704", "SELECT embed('anything', '/tmp/model')");
    stranger.fails("42501", "SHOW vector_tools.embedder_program");
    stranger.still_embeds();
}
