//! The searchable table that many tests begin with, and what must be true of it in the end.

use crate::database::Database;
use crate::process::wait_until;
use crate::session::Session;

/// A table with two rows.
pub const CREATE: &str = "CREATE TABLE docs (id int PRIMARY KEY, title text, body text, views int DEFAULT 0);
    INSERT INTO docs VALUES (1, 'pumps', 'the pump lost pressure'), (2, 'valves', 'a valve is leaking')";
/// What makes it searchable and queues its rows.
pub const ENABLE: &str = "SELECT enable_search('docs', ARRAY['title', 'body'])";
/// The rows in the queue, not its entries.
pub const QUEUED: &str =
    "SELECT array_to_string(keys[r:r], ',') FROM vector_tools.queue, generate_subscripts(keys, 1) AS r
    ORDER BY id, r";
/// How many entries there are in the queue.
pub const ENTRIES: &str = "SELECT count(*) FROM vector_tools.queue";
/// Rows whose chunks are not those of their content, or have no embedding.
pub const UNTRUE: &str = "SELECT count(*) FROM docs AS d FULL JOIN docs_search AS c ON c.row_id = d.id
    WHERE c.content IS DISTINCT FROM concat_ws(E'\\n\\n', d.title, d.body) OR c.embedding IS NULL
    OR c.embedding <=> embed(c.content) > 1e-5";

/// A new database on the shared server, with the table.
pub fn created(name: &str) -> (Database<'static>, Session) {
    let database = Database::with_extension(name);
    let mut session = database.connect();
    session.run(CREATE);
    (database, session)
}

/// A new database on the shared server, whose table is searchable and whose rows are queued.
pub fn enabled(name: &str) -> (Database<'static>, Session) {
    let (database, mut session) = created(name);
    session.run(ENABLE);
    (database, session)
}

/// A new database on the shared server, whose table is searchable and whose rows are embedded.
pub fn embedded(name: &str) -> (Database<'static>, Session) {
    let (database, mut session) = enabled(name);
    drain(&mut session);
    (database, session)
}

/// Embeds everything that is queued.
pub fn drain(session: &mut Session) {
    session.run("CALL run_embedding_jobs()");
}

/// Waits until workers have embedded everything, and checks that it is true.
pub fn settled(session: &mut Session) {
    wait_until("the queue is empty", || session.text(ENTRIES) == "0");
    assert_eq!(session.text(UNTRUE), "0", "expected every row to be embedded as it is");
}

/// Has every batch sleep over its first row, as long as there is a table `slow`.
pub const SLEEP_OVER_ROWS: &str =
    "CREATE TABLE slow (); CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql
    SET search_path FROM CURRENT AS $$ BEGIN
        IF to_regclass('slow') IS NOT NULL THEN PERFORM pg_sleep(600); END IF;
        RETURN NEW; END $$;
    CREATE TRIGGER dawdle BEFORE INSERT ON docs_search FOR EACH ROW EXECUTE FUNCTION dawdle()";

/// Waits until a process sleeps over a row, and cancels it; the next batch does not sleep.
pub fn cancel_sleeper(session: &mut Session, pid: i32) {
    let sleeps =
        format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid} AND wait_event = 'PgSleep'");
    wait_until("a row is being written", || session.text(&sleeps) == "1");
    session.run("DROP TABLE slow");
    session.run(&format!("SELECT pg_cancel_backend({pid})"));
}
