//! Workers that die, and servers that go down, at thirty points each, while others write: in the end
//! every row is embedded as it is, and nothing is left (9, 10, 11).

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use postgres::{Client, NoTls};

use crate::database::{Database, MODEL, make_template};
use crate::process::{Ending, send_signal, wait_until};
use crate::searchable::{ENABLE, ENTRIES, settled};
use crate::server::Server;
use crate::session::Session;

const POINTS: usize = 30;
const PRELOADED: [(&str, &str); 2] =
    [("shared_preload_libraries", "vector_tools"), ("max_connections", "30")];
const WORKER: &str =
    "SELECT pid, query <> '' FROM pg_stat_activity WHERE backend_type = 'vector_tools worker'";
/// Rows that a process is said to have died over.
const BLAMED: &str = "SELECT count(*) FROM vector_tools.queue WHERE sqlstate = '57P02'";

/// Numbers that look random and are the same in each run (xorshift).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most
    }
}

/// A session that goes on when the server is back.
struct Writer<'a> {
    connection: String,
    client: Option<Client>,
    is_over: &'a AtomicBool,
}

impl Writer<'_> {
    /// Runs a statement; tells whether it was committed for certain.
    fn run(&mut self, sql: &str) -> bool {
        if self.client.is_none() {
            self.client = Client::connect(&self.connection, NoTls).ok();
        }
        let done = self.client.as_mut().is_some_and(|client| client.batch_execute(sql).is_ok());
        if !done {
            self.client = None;
            thread::sleep(Duration::from_millis(20));
        }
        done
    }

    fn write(mut self, seed: u64) -> usize {
        let mut numbers = Numbers(seed);
        let mut committed = 0;
        while !self.is_over.load(Ordering::Relaxed) {
            let (id, other) = (numbers.below(200), numbers.below(1 << 30));
            let sql = match numbers.below(8) {
                0 => format!("DELETE FROM docs WHERE id = {id}"),
                1 => {
                    format!("UPDATE docs SET body = 'all of a kind, ' || {other} WHERE id % 40 = {}", id % 40)
                }
                2 => format!("UPDATE docs SET title = 'new title' WHERE id = {id}"),
                3 => format!(
                    "SELECT queue_documents('reg', 'law', ARRAY[md5('{id}')::uuid, md5('{other}')::uuid],
                         ARRAY['law {other}', 'law {id}'])"
                ),
                _ => format!(
                    "INSERT INTO docs SELECT i, 'title', 'content number {other} of ' || i
                     FROM generate_series({id}, {id} + 5) AS i
                     ON CONFLICT (id) DO UPDATE SET body = excluded.body"
                ),
            };
            committed += usize::from(self.run(&sql));
            thread::sleep(Duration::from_millis(numbers.below(15)));
        }
        committed
    }
}

struct Scene {
    server: Server,
}

impl Scene {
    fn begin(name: &'static str) -> Scene {
        let server = Server::start(name, &PRELOADED);
        make_template(&server);
        let mut session = Database::with_extension_on(&server, "work").connect();
        session.run("CREATE TABLE docs (id int PRIMARY KEY, title text, body text)");
        session.run(ENABLE);
        session.run(&format!("SELECT create_vector_store('reg', '{MODEL}')"));
        session.run("INSERT INTO docs SELECT i, 't', 'b' || i FROM generate_series(1, 50) AS i");
        Scene { server }
    }

    /// A session, once the server is back. It may take one and go down with it.
    fn connect(&self) -> Session {
        let connection = self.server.connection("work", "postgres");
        let mut session = None;
        wait_until("the server is back", || {
            let answers = |mut client: Client| client.simple_query("SELECT pg_sleep(0.1)");
            if Client::connect(&connection, NoTls).and_then(answers).is_ok() {
                session = Some(Session::open(&self.server, "work", "postgres"));
            }
            session.is_some()
        });
        session.expect("it was opened")
    }

    /// Interrupts the work at all points while others write, and looks at what it comes to.
    fn interrupt(&self, seed: u64, mut interrupt: impl FnMut(&mut Numbers) -> bool) {
        let is_over = AtomicBool::new(false);
        let (written, inside) = (AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for number in 1..=2 {
                let (is_over, written) = (&is_over, &written);
                let connection = self.server.connection("work", "postgres");
                scope.spawn(move || {
                    let writer = Writer { connection, client: None, is_over };
                    written.fetch_add(writer.write(seed + number), Ordering::Relaxed);
                });
            }
            // The writers end with a failure, too.
            let _ending = Ending(&is_over);
            let mut numbers = Numbers(seed);
            for _ in 0..POINTS {
                thread::sleep(Duration::from_millis(numbers.below(300)));
                inside.fetch_add(usize::from(interrupt(&mut numbers)), Ordering::Relaxed);
            }
        });
        assert!(written.into_inner() > POINTS, "expected the writers to get on");
        assert!(inside.into_inner() > 0, "expected some points to lie in a batch");
        let mut session = self.connect();
        settled(&mut session);
        assert_ne!(session.text("SELECT count(*) FROM docs_search"), "0");
        assert_eq!(session.text("SELECT count(*) FROM vector_tools.queued_documents"), "0");
        let jobs =
            "SELECT DISTINCT status, processed_count = source_count, failed_count FROM reg.embedding_jobs";
        assert_eq!(session.rows(jobs), ["completed|t|0"], "expected every document to be counted once");
        let embedded = "SELECT bool_and(embedding <=> embed(content, embedding_model) < 1e-5) FROM reg.vector_embeddings";
        assert_eq!(session.text(embedded), "t");
    }
}

/// The worker, if there is one, and whether it is at a batch.
fn find_worker(session: &mut Session) -> Option<(i32, bool)> {
    let rows = session.try_rows(WORKER).ok()?;
    let [pid, is_active] = rows.first()?.as_slice() else { return None };
    Some((pid.as_ref()?.parse().ok()?, is_active.as_deref() == Some("t")))
}

/// Waits for a worker, and tells whether it is at a batch.
fn is_worker_active(session: &mut Session) -> bool {
    let mut found = None;
    wait_until("there is a worker", || {
        found = find_worker(session);
        found.is_some()
    });
    found.is_some_and(|(_, is_active)| is_active)
}

// trust 10
#[test]
fn a_worker_that_is_killed_loses_nothing() {
    let scene = Scene::begin("test-kills-worker");
    scene.interrupt(10, |_| {
        let mut session = scene.connect();
        let mut is_active = false;
        // One that has nothing to do may leave before it is killed.
        wait_until("a worker is killed, and the server has noticed", || {
            if let Some((pid, active)) = find_worker(&mut session) {
                is_active = active;
                send_signal(pid, "KILL");
            }
            session.try_rows("SELECT 1").is_err()
        });
        is_active
    });
}

// trust 11
#[test]
fn a_server_that_crashes_loses_nothing() {
    let scene = Scene::begin("test-kills-server");
    scene.interrupt(20, |_| {
        let is_active = is_worker_active(&mut scene.connect());
        scene.server.stop("immediate");
        scene.server.start_again(&PRELOADED);
        assert_eq!(scene.connect().text(BLAMED), "0", "expected no row to be blamed");
        is_active
    });
}

// trust 9
#[test]
fn a_server_that_is_shut_down_loses_nothing() {
    let scene = Scene::begin("test-kills-shutdown");
    scene.interrupt(30, |_| {
        let is_active = is_worker_active(&mut scene.connect());
        scene.server.stop("fast");
        scene.server.start_again(&PRELOADED);
        assert_eq!(scene.connect().text(BLAMED), "0", "expected no row to be blamed");
        is_active
    });
    let log = scene.server.log();
    let ours = log.lines().find(|line| line.contains("FATAL") && line.contains("vector_tools"));
    assert_eq!(ours, None, "expected workers to leave quietly");
}

/// A row that brings the server down is tried in ever smaller batches, by workers and by sessions, until
/// it is dead; the others are embedded.
// trust 10, 11
#[test]
fn a_row_that_kills_its_process_is_dead_in_the_end_and_blames_no_other() {
    let scene = Scene::begin("test-kills-poison");
    let mut session = scene.connect();
    wait_until("the queue is empty", || session.text(ENTRIES) == "0");
    session.change_setting("vector_tools.max_workers", "0");
    wait_until("the worker has left", || find_worker(&mut session).is_none());
    session.run(
        "CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             IF NEW.row_id = 77 THEN COPY (SELECT 1) TO PROGRAM 'kill -9 $PPID'; END IF;
             RETURN NEW; END $$;
         CREATE TRIGGER die BEFORE INSERT ON docs_search FOR EACH ROW EXECUTE FUNCTION die();
         INSERT INTO docs SELECT i, 't', 'b' || i FROM generate_series(60, 99) AS i",
    );
    let downs = || scene.server.log().matches("all server processes terminated; reinitializing").count();
    assert!(session.try_rows("CALL run_embedding_jobs()").is_err());
    wait_until("the server has gone down", || downs() == 1);
    session = scene.connect();
    // Not waited for, since the server may go down at once.
    session.run("ALTER SYSTEM RESET vector_tools.max_workers");
    session.run("SELECT pg_reload_conf()");
    let left =
        "SELECT array_to_string(keys, ','), category, sqlstate, gave_up, last_error FROM vector_tools.queue";
    let dead = ["77", "resource", "57P02", "t", "the server process died while it embedded the row"];
    let mut number = 1000;
    wait_until("it alone is left", || {
        // Nobody waits for the wait here, and the server may be down.
        number += 1;
        let hurry = format!(
            "UPDATE vector_tools.queue SET next_try = now() WHERE NOT gave_up AND sqlstate IS NOT NULL; INSERT INTO docs VALUES ({number}, 't', 'b')"
        );
        if session.try_rows(&hurry).is_err() {
            session = scene.connect();
        }
        thread::sleep(Duration::from_millis(200));
        let rows = session.try_rows(left).unwrap_or_default();
        let texts = rows.iter().map(|row| row.iter().flatten().map(String::as_str).collect::<Vec<_>>());
        texts.eq([dead.to_vec()])
    });
    assert_eq!(downs(), 5, "expected it to be tried with 40 rows, with 16, and three times alone");
    assert_eq!(session.text("SELECT count(*) FROM docs_search WHERE row_id BETWEEN 60 AND 99"), "39");
}
