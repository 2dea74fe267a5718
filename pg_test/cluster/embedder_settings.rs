//! Changing the embedding process while it serves: its settings, its executable, its end.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::database::{Database, make_template};
use crate::embedder::{
    check_nothing_leaks, check_server_unharmed, files, process, started_process, supervisor, wait_until_gone,
};
use crate::models::Folder;
use crate::process::{is_alive, wait_until};
use crate::server::{Server, program};

#[test]
fn changed_settings_reach_a_new_process_and_no_call_fails() {
    let server = Server::start("test-embedder-settings", &[("vector_tools.embedder_threads", "2")]);
    make_template(&server);
    let database = Database::with_extension_on(&server, "settings");
    let mut session = database.connect();
    let first = started_process(&mut session);
    let threads = "SELECT max(threads) FROM vector_tools.embedder_stats";
    assert_eq!(session.text(threads), "2");
    let mut observer = database.connect();
    observer.change_setting("vector_tools.embedder_threads", "1");
    wait_until("another process serves", || {
        session.still_embeds();
        process(&mut observer).is_some_and(|process| process != first)
    });
    assert_eq!(session.text(threads), "1");
    wait_until("the first process is gone", || !is_alive(first));
    observer.change_setting("vector_tools.embedder_memory_limit", "2GB");
    let limit = "SELECT max(memory_limit_bytes) FROM vector_tools.embedder_stats";
    wait_until("the limit is in force", || {
        session.still_embeds();
        observer.ask_rows(limit).is_ok_and(|rows| rows == [(2i64 << 30).to_string()])
    });
    // A setting that does not concern the process leaves it alone.
    let second = started_process(&mut session);
    observer.change_setting("vector_tools.default_domain", "other");
    assert_eq!(started_process(&mut session), second, "expected the process to go on");
    assert!(session.take_notices().is_empty(), "expected no session to load the model itself");
    check_nothing_leaks(&mut session);
    check_server_unharmed(&server);
}

#[test]
fn without_requests_it_ends_and_the_next_call_starts_it_again() {
    let server = Server::start("test-embedder-idle", &[("vector_tools.embedder_idle_timeout", "1s")]);
    make_template(&server);
    let database = Database::with_extension_on(&server, "idle");
    let mut session = database.connect();
    for _ in 0..2 {
        let process = started_process(&mut session);
        let worker = supervisor(&mut session).expect("expected a supervisor");
        wait_until_gone(worker, process);
        assert!(files(&mut session).is_empty(), "expected no file of it, not {:?}", files(&mut session));
    }
    session.still_embeds();
    assert!(session.take_notices().is_empty(), "expected the session to go on as if nothing had been");
    check_server_unharmed(&server);
}

/// Puts a copy of the installed executable there, as an installation does: by renaming.
fn install(installed: &Path, target: &Path) {
    let new = target.with_extension("new");
    fs::copy(installed, &new).expect("the executable is installed");
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).expect("its owner may");
    fs::rename(&new, target).expect("a file can be replaced");
}

#[test]
fn a_replaced_executable_serves_the_next_calls() {
    let folder = Folder::new();
    let own = folder.path().join("vector_tools_embedder");
    let libraries = std::process::Command::new(program("pg_config")).arg("--pkglibdir").output();
    let libraries = String::from_utf8_lossy(&libraries.expect("pg_config runs").stdout).trim().to_owned();
    let installed = PathBuf::from(libraries).join("vector_tools/vector_tools_embedder");
    install(&installed, &own);
    let setting = own.display().to_string();
    let server = Server::start("test-embedder-replaced", &[("vector_tools.embedder_program", &setting)]);
    make_template(&server);
    let database = Database::with_extension_on(&server, "replaced");
    let mut session = database.connect();
    let first = started_process(&mut session);
    install(&installed, &own);
    wait_until("the new executable runs", || {
        session.still_embeds();
        process(&mut session).is_some_and(|process| process != first)
    });
    wait_until("the old executable has ended", || !is_alive(first));
    assert!(session.take_notices().is_empty(), "expected no session to load the model itself");
    check_nothing_leaks(&mut session);
    check_server_unharmed(&server);
}
