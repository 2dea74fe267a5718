//! Stopping an embedding that is under way (8, 9), in the session and in the embedding process.

use postgres::NoTls;

use crate::database::{Database, make_template};
use crate::embedder::statistic;
use crate::process::{is_alive, processor_ticks, wait_until};
use crate::server::Server;
use crate::session::{Session, described};

/// Processor time, in clock ticks, after which a warm session is surely inside the model.
const TICKS_INSIDE: u64 = 20;
const LONG_EMBED: &str = "SELECT count(*) FROM (SELECT unnest(embed(texts)) FROM long_input) AS e";
const LONG_INSERT: &str = "INSERT INTO long_memories (content) SELECT 'memory number ' || i || ' of many that are \
     told at some length' FROM generate_series(1, 50000) AS i";

/// Where models run, as `vector_tools.embedder` says it.
const PLACES: [&str; 2] = ["backend", "shared"];

/// A database with work for a minute, and a session that has its model loaded.
fn prepare(name: &str, place: &str) -> (Database<'static>, Session) {
    let database = Database::with_extension(&format!("{name}_{place}"));
    let mut session = database.connect();
    session.run(&format!(
        "ALTER ROLE CURRENT_USER IN DATABASE {} SET vector_tools.embedder = '{place}'",
        database.name
    ));
    let mut session = database.connect();
    prepare_session(&mut session);
    (database, session)
}

fn prepare_session(session: &mut Session) {
    session.run(
        "CREATE TABLE long_input AS SELECT array_agg('passage ' || i || repeat(' of some length', 20)) AS texts \
         FROM generate_series(1, 20000) AS i;
         SELECT create_domain_memories_table('long')",
    );
    session.still_embeds();
}

/// Runs `statement` in `session`, calls `stop` once it is inside the model, and gives back the
/// session with the SQLSTATE and text of the error it ended with.
fn interrupt(
    database: &Database,
    mut session: Session,
    statement: &'static str,
    stop: impl FnOnce(&mut Session, i32),
) -> (Session, String) {
    let mut observer = database.connect();
    observer.run("LOAD 'vector_tools'");
    let pid = session.pid;
    let before = processor_ticks(pid);
    let running = std::thread::spawn(move || {
        let result = session.try_rows(statement);
        (session, result)
    });
    let place = observer.text("SHOW vector_tools.embedder");
    let activity = format!("SELECT state, wait_event_type FROM pg_stat_activity WHERE pid = {pid}");
    wait_until("the statement runs inside the model", || match place.as_str() {
        "backend" => {
            observer.text(&activity).starts_with("active") && processor_ticks(pid) > before + TICKS_INSIDE
        }
        // The session waits for what the process computes.
        _ => observer.text(&activity) == "active|Extension" && statistic(&mut observer, "queued") > 0,
    });
    stop(&mut observer, pid);
    wait_until("the statement ends after it was stopped", || running.is_finished());
    let (session, result) = running.join().expect("the thread only runs a statement");
    match result {
        Ok(rows) => panic!("expected the statement to be stopped, but it ended with {rows:?}"),
        Err(error) => (session, described(&error)),
    }
}

fn check_cancelled(session: &mut Session, error: &str) {
    assert!(error.starts_with("57014 "), "expected SQLSTATE 57014, not {error}");
    session.still_embeds();
    assert_eq!(
        session.text("SELECT count(*) FROM long_memories"),
        "0",
        "expected no row of a cancelled INSERT"
    );
}

// trust 8
#[test]
fn pg_cancel_backend_stops_a_long_array() {
    for place in PLACES {
        let (database, session) = prepare("cancel_array", place);
        let (mut session, error) = interrupt(&database, session, LONG_EMBED, |observer, pid| {
            observer.run(&format!("SELECT pg_cancel_backend({pid})"));
        });
        check_cancelled(&mut session, &error);
    }
}

// trust 8
#[test]
fn pg_cancel_backend_stops_an_insert_of_many_rows() {
    for place in PLACES {
        let (database, session) = prepare("cancel_insert", place);
        let (mut session, error) = interrupt(&database, session, LONG_INSERT, |observer, pid| {
            observer.run(&format!("SELECT pg_cancel_backend({pid})"));
        });
        check_cancelled(&mut session, &error);
    }
}

// trust 8
#[test]
fn a_clients_cancel_request_stops_an_embedding() {
    for place in PLACES {
        let (database, session) = prepare("cancel_request", place);
        let token = session.cancel_token();
        let (mut session, error) = interrupt(&database, session, LONG_EMBED, |_, _| {
            token.cancel_query(NoTls).expect("the server takes cancel requests");
        });
        check_cancelled(&mut session, &error);
    }
}

// trust 8
#[test]
fn statement_timeout_stops_arrays_inserts_and_counting() {
    for place in PLACES {
        let (_database, mut session) = prepare("cancel_timeout", place);
        session.run("SET statement_timeout = '300ms'");
        session.fails("57014", LONG_EMBED);
        session.fails("57014", LONG_INSERT);
        session.fails("57014", "SELECT count_tokens(repeat('a long story about a long road ', 5000000))");
        session.run("SET statement_timeout = 0");
        check_cancelled(&mut session, "57014 three times");
    }
}

// trust 8
#[test]
fn statement_timeout_stops_the_cutting_of_any_text() {
    let database = Database::with_extension("cancel_chunks");
    let mut session = database.connect();
    session.run(
        "CREATE TABLE long_texts AS SELECT repeat(part, 40000000 / octet_length(part)) AS body FROM (VALUES
             ('A pump moves water. It needs power. '), (E'- a\\n'), ('水泵输送水'), ('ปั๊มน้ำเคลื่อนย้ายน้ำ'), ('x'), ('[a]('), ('-'))
             AS parts(part)",
    );
    session.run("SELECT chunk_text('loads the tokenizer'); SET statement_timeout = '300ms'");
    for strategy in ["semantic", "fixed", "sliding", "hierarchical", "markdown"] {
        for start in ["A pump", "- a", "水泵", "ปั๊ม", "xx", "[a](", "--"] {
            let cut = format!(
                "SELECT count(*) FROM long_texts, chunk_text(body, '{strategy}') WHERE body LIKE '{start}%'"
            );
            session.fails("57014", &cut);
        }
    }
    session.run("SET statement_timeout = 0");
    session.still_embeds();
}

#[test]
fn statement_timeout_leaves_a_transaction_with_a_savepoint_usable() {
    for place in PLACES {
        let (_database, mut session) = prepare("cancel_savepoint", place);
        session.run("BEGIN; INSERT INTO long_memories (content) VALUES ('kept'); SAVEPOINT before");
        session.run("SET LOCAL statement_timeout = '300ms'");
        session.fails("57014", LONG_INSERT);
        session.run("ROLLBACK TO before; SET LOCAL statement_timeout = 0; COMMIT");
        let kept = session.text("SELECT count(*) FROM long_memories WHERE embedding IS NOT NULL");
        assert_eq!(kept, "1", "expected the row from before the savepoint, embedded");
    }
}

/// What waits for locks in a subtransaction must not leave it behind: the session would want a ROLLBACK.
// trust 8
#[test]
fn pg_cancel_backend_leaves_a_session_that_waits_for_locks_usable() {
    let database = Database::with_extension("cancel_locks");
    let mut holder = database.connect();
    holder.run("CREATE TABLE notes (id integer PRIMARY KEY, body text)");
    holder.run("SELECT enable_search('notes', '{body}')");
    holder.run("BEGIN; LOCK TABLE notes IN SHARE MODE");
    let mut observer = database.connect();
    let mut session = database.connect();
    for change in [
        "SELECT set_search_model('notes', 'all-MiniLM-L6-v2')",
        "DO $$ BEGIN PERFORM set_search_model('notes', 'all-MiniLM-L6-v2'); END $$",
    ] {
        session = cancel_waiting(&mut observer, session, change);
        assert_eq!(session.text("SELECT 1"), "1", "expected no transaction to be left by {change}");
        session.run("BEGIN; SAVEPOINT before");
        session = cancel_waiting(&mut observer, session, change);
        session.run("ROLLBACK TO before; COMMIT");
    }
    session.still_embeds();
}

/// Runs a statement until it waits for a lock, and cancels it.
fn cancel_waiting(observer: &mut Session, mut session: Session, statement: &'static str) -> Session {
    let pid = session.pid;
    let running = std::thread::spawn(move || {
        session.fails("57014", statement);
        session
    });
    let activity = format!("SELECT wait_event_type FROM pg_stat_activity WHERE pid = {pid}");
    wait_until("the statement waits for a lock", || observer.text(&activity) == "Lock");
    observer.run(&format!("SELECT pg_cancel_backend({pid})"));
    running.join().expect("the statement is cancelled")
}

// trust 9
#[test]
fn pg_terminate_backend_ends_one_session_and_no_other() {
    for place in PLACES {
        let (database, session) = prepare("terminate", place);
        let mut other = database.connect();
        other.still_embeds();
        let started = other.text("SELECT pg_postmaster_start_time()");
        let pid = session.pid;
        let (gone, error) = interrupt(&database, session, LONG_EMBED, |observer, pid| {
            observer.run(&format!("SELECT pg_terminate_backend({pid})"));
        });
        // The client reads no message that comes together with the end of the connection.
        let is_told = error.starts_with("57P01 ") || error.contains("kind: Closed");
        assert!(is_told, "expected SQLSTATE 57P01, not {error}");
        drop(gone);
        wait_until("the terminated backend is gone", || !is_alive(pid));
        other.still_embeds();
        let now = other.text("SELECT pg_postmaster_start_time()");
        assert_eq!(now, started, "expected the server not to restart");
        database.connect().still_embeds();
    }
}

#[test]
fn the_process_drops_work_that_nobody_waits_for() {
    let server = Server::start("test-embedder-cancel", &[]);
    make_template(&server);
    let database = Database::with_extension_on(&server, "cancel");
    database.connect().run("ALTER DATABASE cancel SET vector_tools.embedder = 'shared'");
    let mut observer = database.connect();
    let mut session = database.connect();
    prepare_session(&mut session);
    let started = observer.text("SELECT pg_postmaster_start_time()");
    let stops: [fn(&mut Session, i32); 2] = [
        |observer, pid| observer.run(&format!("SELECT pg_cancel_backend({pid})")),
        |observer, pid| observer.run(&format!("SELECT pg_terminate_backend({pid})")),
    ];
    for (number, stop) in stops.into_iter().enumerate() {
        let texts = statistic(&mut observer, "texts");
        let (gone, _) = interrupt(&database, session, LONG_EMBED, stop);
        wait_until("the process has dropped the work", || {
            statistic(&mut observer, "failures") > number as i64 && statistic(&mut observer, "queued") == 0
        });
        let done = statistic(&mut observer, "texts") - texts;
        assert!(done < 20_000, "expected not all texts to be embedded");
        drop(gone);
        session = database.connect();
        session.still_embeds();
    }
    wait_until("only living sessions are connected", || {
        observer.text("SELECT max(connections) FROM vector_tools.embedder_stats") == "2"
    });
    assert_eq!(observer.text("SELECT pg_postmaster_start_time()"), started);
}
