//! Servers that cannot have an embedding process: sessions load models themselves, and say so once.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::database::{Database, make_template};
use crate::embedder::{files, process};
use crate::models::Folder;
use crate::process::{has_onnxruntime, wait_until};
use crate::server::Server;

/// Checks that a new session embeds by itself, and that `shared` is an error that tells why.
fn check_lack(database: &Database, reason: &str) {
    let mut session = database.connect();
    session.still_embeds();
    session.still_embeds();
    assert!(has_onnxruntime(session.pid), "expected the session to load the model itself");
    let notices = session.take_notices();
    let told: Vec<&str> = notices.iter().map(postgres::error::DbError::message).collect();
    assert_eq!(told.len(), 1, "expected one message in a session, not {told:?}");
    let detail = notices[0].detail().unwrap_or_default();
    assert!(detail.contains(reason), "expected the reason \"{reason}\" in: {detail}");
    assert_eq!(notices[0].severity(), "NOTICE");
    session.run("SET vector_tools.embedder = 'backend'");
    session.still_embeds();
    assert!(session.take_notices().is_empty(), "expected no message where it was asked for");
    session.run("SET vector_tools.embedder = 'shared'");
    let error = session.fails("57P03", "SELECT embed('anything')");
    let (detail, hint) = (error.detail().unwrap_or_default(), error.hint().unwrap_or_default());
    assert!(detail.contains(reason), "expected the reason \"{reason}\" in: {detail}");
    assert!(hint.contains("vector_tools.embedder"), "expected the setting in: {hint}");
    session.run("RESET vector_tools.embedder");
    session.still_embeds();
    assert_eq!(process(&mut session), None, "expected no embedding process");
    wait_until("no file is left of an attempt", || files(&mut session).is_empty());
}

#[test]
fn without_a_free_worker_sessions_embed_themselves() {
    let server = Server::start("test-embedder-workers", &[("max_worker_processes", "0")]);
    make_template(&server);
    check_lack(&Database::with_extension_on(&server, "workers"), "max_worker_processes");
}

#[test]
fn without_a_program_that_works_sessions_embed_themselves() {
    let missing = "/nowhere/vector_tools_embedder";
    let server = Server::start("test-embedder-program", &[("vector_tools.embedder_program", missing)]);
    make_template(&server);
    let database = Database::with_extension_on(&server, "program");
    check_lack(&database, "executable");
    let folder = Folder::new();
    let program = folder.path().join("vector_tools_embedder");
    // What cannot be run at all, what ends at once in two ways, and what another system's is.
    for (text, mode) in [
        ("not a program", 0o755),
        ("#!/bin/sh\nexit 3\n", 0o755),
        ("#!/bin/sh\n", 0o755),
        ("#!/bin/sh\n", 0o644),
    ] {
        fs::write(&program, text).expect("a file in a new folder");
        fs::set_permissions(&program, fs::Permissions::from_mode(mode)).expect("its owner may");
        let mut session = database.connect();
        session.change_setting("vector_tools.embedder_program", &program.display().to_string());
        check_lack(&database, "the server log says why");
    }
}
