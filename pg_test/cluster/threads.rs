//! Which processes have threads and ONNX Runtime, and when (13).

use crate::database::{Database, make_template};
use crate::process::{blocked_signals, has_onnxruntime, open_files, open_sockets, threads_of};
use crate::server::Server;
use crate::session::Session;

/// All signals but those nobody can block: KILL, STOP, and the two the C library keeps.
const BLOCKABLE: u64 = !(1 << (9 - 1) | 1 << (19 - 1) | 1 << (32 - 1) | 1 << (33 - 1));

/// The process id of the server itself.
fn postmaster(session: &mut Session) -> i32 {
    let first_line = "SELECT split_part(pg_read_file('postmaster.pid'), E'\\n', 1)";
    session.text(first_line).parse().expect("the first line of postmaster.pid is a number")
}

fn expect_one_thread(pid: i32, when: &str) {
    let threads = threads_of(pid);
    assert_eq!(threads, [pid], "expected one thread in process {pid} {when}");
}

/// Everything a session may do without embedding.
const WITHOUT_EMBEDDING: [&str; 8] = [
    "LOAD 'vector_tools'",
    "SHOW vector_tools.backend_threads",
    "SELECT rrf_score(1)",
    "SELECT * FROM chunk_text(repeat('A pump moves water. ', 1000), 'sliding')",
    "SELECT * FROM rrf_fuse(ARRAY[1, 2], ARRAY[2, 3])",
    "SELECT * FROM vector_tools.models",
    "SELECT create_domain_memories_table('quiet')",
    "SELECT * FROM vector_tools.embedded_tables",
];

// trust 13
#[test]
fn nothing_opens_onnxruntime_before_the_first_embedding() {
    let database = Database::with_extension("threads_before");
    let mut session = database.connect();
    for statement in WITHOUT_EMBEDDING {
        session.run(statement);
        expect_one_thread(session.pid, &format!("after {statement}"));
        assert!(!has_onnxruntime(session.pid), "expected no ONNX Runtime in memory after {statement}");
    }
    session.still_embeds();
    expect_one_thread(session.pid, "after the embedding process has embedded");
    assert!(!has_onnxruntime(session.pid), "expected ONNX Runtime in the embedding process only");
    session.run("SET vector_tools.embedder = 'backend'");
    session.still_embeds();
    assert!(has_onnxruntime(session.pid), "expected ONNX Runtime in memory after an embedding");
    expect_one_thread(session.pid, "after an embedding with vector_tools.backend_threads = 1");
    let postmaster = postmaster(&mut session);
    expect_one_thread(postmaster, "that is the postmaster");
    assert!(!has_onnxruntime(postmaster), "expected no ONNX Runtime in the postmaster");
}

// trust 13
#[test]
fn threads_of_a_session_have_all_signals_blocked() {
    let database = Database::with_extension("threads_signals");
    let mut session = database.connect();
    session.run("SET vector_tools.embedder = 'backend'; SET vector_tools.backend_threads = 3");
    session.still_embeds();
    let threads = threads_of(session.pid);
    assert!(
        threads.len() > 1,
        "expected more than one thread with vector_tools.backend_threads = 3, not {threads:?}"
    );
    for thread in threads {
        let blocked = blocked_signals(session.pid, thread) & BLOCKABLE;
        if thread == session.pid {
            let cancel = 1u64 << (2 - 1);
            assert_eq!(blocked & cancel, 0, "expected the backend's own thread to take SIGINT again");
        } else {
            assert_eq!(blocked, BLOCKABLE, "expected thread {thread} to have all signals blocked");
        }
    }
    session.run("SET vector_tools.backend_threads = 1");
    session.still_embeds();
    expect_one_thread(session.pid, "after vector_tools.backend_threads went back to 1");
}

// trust 13
#[test]
fn many_threads_and_one_give_the_same_vectors() {
    let database = Database::with_extension("threads_vectors");
    let mut session = database.connect();
    session.run("SET vector_tools.embedder = 'backend'");
    session
        .run("CREATE TABLE one AS SELECT embed('the same text') AS v; SET vector_tools.backend_threads = 2");
    let distance = session.text("SELECT (v <=> embed('the same text')) < 1e-6 FROM one");
    assert_eq!(distance, "t", "expected two threads to give the vector that one gives");
}

// trust 13
#[test]
fn shared_preload_libraries_keeps_the_postmaster_clean() {
    let server = Server::start("test-preload", &[("shared_preload_libraries", "vector_tools")]);
    make_template(&server);
    let database = Database::with_extension_on(&server, "preloaded");
    let mut session = database.connect();
    assert_eq!(
        session.text("SHOW vector_tools.backend_threads"),
        "1",
        "expected the settings without any LOAD"
    );
    assert!(!has_onnxruntime(session.pid), "expected no ONNX Runtime before the first embedding");
    session.still_embeds();
    let postmaster = postmaster(&mut session);
    assert!(!has_onnxruntime(postmaster), "expected no ONNX Runtime in the postmaster");
    expect_one_thread(postmaster, "that is the postmaster");
}

// trust 13
#[test]
fn embedding_keeps_no_file_outside_the_server_and_reports_to_nobody() {
    let database = Database::with_extension("threads_reports");
    let mut session = database.connect();
    session.run("SET vector_tools.embedder = 'backend'");
    let before = open_sockets(session.pid);
    session.still_embeds();
    // ONNX Runtime's own usage reports: a data base below the home folder, sent by a thread.
    let written: Vec<String> =
        open_files(session.pid).into_iter().filter(|file| file.contains("/.cache/")).collect();
    assert!(written.is_empty(), "expected no file in a home folder to be open or mapped, not {written:?}");
    assert_eq!(open_sockets(session.pid), before, "expected no more sockets than before the first embedding");
}
