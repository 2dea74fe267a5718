//! A text that kills the embedding process, within ONNX Runtime: the rows beside it are embedded, and it
//! is dead in the end (10).

use crate::database::{Database, MODEL, make_template};
use crate::embedder::{check_nothing_leaks, check_server_unharmed, server_started, statistic};
use crate::models::Folder;
use crate::process::{send_signal, wait_until};
use crate::searchable::{CREATE, ENABLE, UNTRUE};
use crate::server::Server;
use crate::session::Session;

const ERRORS: &str = "SELECT id, category, sqlstate, gave_up, attempts FROM vector_tools.embedding_errors";
const HURRY: &str =
    "UPDATE vector_tools.queue SET next_try = now() WHERE NOT gave_up AND sqlstate IS NOT NULL";
const POISON: &str = "a deadly poison";

/// A database with a model that kills the process over the word poison, and a table searched by it.
fn poisonable<'a>(server: &'a Server, folder: &Folder, mode: &str) -> (Database<'a>, Session) {
    make_template(server);
    let database = Database::with_extension_on(server, "poison");
    let model = folder.changed_model("deadly", MODEL, &["poison"]);
    let mut session = database.connect();
    session.run(&format!(
        "SELECT register_model('deadly', '{model}');
         CREATE TABLE docs (id int PRIMARY KEY, body text);
         SELECT enable_search('docs', ARRAY['body'], model => 'deadly', mode => '{mode}')"
    ));
    (database, session)
}

// trust 10
#[test]
#[cfg_attr(not(target_arch = "x86_64"), ignore = "other processors divide without a signal")]
fn a_text_that_kills_the_embedding_process_is_dead_in_the_end_and_blames_no_other() {
    let server = Server::start("test-poison", &[]);
    let folder = Folder::new();
    let (_database, mut session) = poisonable(&server, &folder, "async");
    let started = server_started(&mut session);
    session.run(&format!(
        "INSERT INTO docs SELECT i, CASE i WHEN 77 THEN '{POISON}' ELSE 'pump number ' || i END
         FROM generate_series(60, 99) AS i"
    ));
    let embedded = "SELECT count(*) FROM docs_search WHERE embedding <=> embed(content, 'deadly') < 1e-5";
    wait_until("the others are embedded", || session.ask_rows(embedded).is_ok_and(|rows| rows == ["39"]));
    let errors = session.rows(ERRORS);
    assert_eq!(errors.len(), 1, "expected no other row to be left, not {errors:?}");
    assert!(errors[0].starts_with("77|resource|57P02|f|"), "expected it to be tried on, not {errors:?}");
    wait_until("it is dead", || {
        // Nobody waits for the wait here.
        session.run(HURRY);
        session.rows(ERRORS) == ["77|resource|57P02|t|5"]
    });
    let message = session.text("SELECT message FROM vector_tools.embedding_errors");
    assert_eq!(message, "the embedding process died while it embedded the row");
    assert_eq!(session.rows("SELECT id FROM docs EXCEPT SELECT row_id FROM docs_search"), ["77"]);
    check_nothing_leaks(&mut session);
    assert_eq!(
        statistic(&mut session, "restarts"),
        10,
        "expected two processes to die of it each time: with all rows, with some, and three times alone"
    );
    assert_eq!(server_started(&mut session), started, "expected the server not to restart");
    check_server_unharmed(&server);
    // Mended in a way that queues nothing, as replication does.
    session.run(
        "SET session_replication_role = replica; UPDATE docs SET body = 'an antidote' WHERE id = 77;
         RESET session_replication_role",
    );
    assert_eq!(session.text("SELECT retry_embedding_errors('docs', 'model')"), "0");
    assert_eq!(session.text("SELECT retry_embedding_errors('docs', 'resource')"), "1");
    wait_until("it is embedded", || session.text("SELECT count(*) FROM vector_tools.queue") == "0");
    assert_eq!(session.text("SELECT content FROM docs_search WHERE row_id = 77"), "an antidote");
}

// trust 10
#[test]
#[cfg_attr(not(target_arch = "x86_64"), ignore = "other processors divide without a signal")]
fn no_row_is_to_blame_for_an_embedding_process_that_cannot_be_had() {
    let server = Server::start("test-poison-lack", &[("vector_tools.embedder_program", "/nowhere/embedder")]);
    let folder = Folder::new();
    let (_database, mut session) = poisonable(&server, &folder, "manual");
    session.run("SET vector_tools.embedder = 'shared'");
    session.run(&format!("INSERT INTO docs VALUES (1, '{POISON}')"));
    let batch = "SELECT failed FROM vector_tools.run_embedding_batch('docs')";
    for time in 1..=6 {
        assert_eq!(session.text(batch), "1");
        assert_eq!(session.rows(ERRORS), [format!("1|model|57P03|f|{time}")]);
        session.run(HURRY);
    }
    server.stop("fast");
    server.start_again(&[("vector_tools.embedder_program", "")]);
    let mut session = Session::open(&server, "poison", "postgres");
    for time in 1..=5 {
        assert_eq!(session.text(batch), "1");
        let gave_up = if time == 5 { "t" } else { "f" };
        assert_eq!(
            session.rows(ERRORS),
            [format!("1|resource|57P02|{gave_up}|{time}")],
            "expected only what it has done itself to count"
        );
        session.run(HURRY);
    }
    // Whoever waits for the answer hears what happened.
    let error = session.fails("57P03", &format!("SELECT embed('{POISON}', 'deadly')"));
    assert_eq!(error.message(), "the embedding process died twice over the same text");
    assert!(error.hint().is_some_and(|hint| hint.contains("again")), "expected a hint in {error:?}");
    session.run(
        "DELETE FROM docs; SELECT enable_search('docs', ARRAY['body'], model => 'deadly', mode => 'sync')",
    );
    let error = session.fails("22000", &format!("INSERT INTO docs VALUES (2, '{POISON}')"));
    assert_eq!(error.message(), "row 2 of table \"public\".\"docs\" could not be embedded");
    assert_eq!(error.detail(), Some("The embedding process died while it embedded the row."));
    session.run("INSERT INTO docs VALUES (2, 'an antidote')");
    check_server_unharmed(&server);
}

/// Kills the embedding process when it is at texts of the queue, each time another one.
fn kill_at_work(session: &mut Session, times: usize) {
    let at_work = "SELECT process_id FROM vector_tools.embedder_stats WHERE queued > 0";
    let mut last = 0;
    for _ in 0..times {
        let mut next = None;
        wait_until("another process is at work", || {
            let found = session.ask_rows(at_work).ok().and_then(|rows| rows.first()?.parse().ok());
            next = found.filter(|process| *process != last);
            next.is_some()
        });
        last = next.unwrap_or_default();
        send_signal(last, "KILL");
    }
}

// trust 10
#[test]
fn an_embedding_process_that_others_kill_leaves_every_row_embedded() {
    let server = Server::start("test-poison-kills", &[]);
    make_template(&server);
    let database = Database::with_extension_on(&server, "kills");
    let mut session = database.connect();
    session.run(CREATE);
    session.run(ENABLE);
    session.run(
        "INSERT INTO docs SELECT i, 't', repeat('the body of ' || i || ', ', 12) FROM generate_series(3, 600) AS i",
    );
    kill_at_work(&mut session, 2);
    let suspected = "SELECT count(*) > 0 FROM vector_tools.queue WHERE sqlstate = '57P02' AND NOT gave_up";
    wait_until("rows are under suspicion", || session.text(suspected) == "t");
    kill_at_work(&mut session, 3);
    wait_until("every row is embedded", || {
        session.run(HURRY);
        session.text("SELECT count(*) FROM vector_tools.queue") == "0"
    });
    assert_eq!(session.text(UNTRUE), "0");
    check_server_unharmed(&server);
}
