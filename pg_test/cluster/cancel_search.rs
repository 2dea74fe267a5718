//! Stopping a search that has much to do outside of its statements (8, 9): diversity, fusion, merging, reading rows.

use std::time::{Duration, Instant};

use crate::database::{Database, MODEL};
use crate::process::{is_alive, processor_ticks, wait_until};
use crate::session::{Session, described};

/// What a search may go on for when it was told to stop: the server looks every 0.2 seconds at most, and machines with
/// other work are slow.
const OVERRUN: Duration = Duration::from_secs(2);

/// The largest search that can be asked for, over 400,000 rows.
const LARGEST: &str = "SELECT count(*) FROM hybrid_search('many', 'common', 10000, depth => 400000, fusion => 'adaptive', \
     query_embedding => '[1,2,3]', diversity => 0.5)";
const WITHOUT_DIVERSITY: &str = "SELECT count(*) FROM hybrid_search('many', 'common', 10000, depth => 400000, \
     fusion => 'adaptive', query_embedding => '[1,2,3]')";
/// Thousands of directions, each much like the others.
const DIVERSE: &str = "SELECT count(*) FROM semantic_search('vecs', 'x', 10000, depth => 12000, \
     query_embedding => (SELECT v FROM vecs WHERE id = 5), diversity => 0.5)";

fn fill(session: &mut Session) {
    session.run(
        "CREATE TABLE vecs (id int PRIMARY KEY, v vector(384));
         INSERT INTO vecs SELECT i, (SELECT array_agg(((i*k)%9973)::real/9973) FROM generate_series(1, 384) k)::vector
             FROM generate_series(1, 12000) i;
         CREATE TABLE many (id int PRIMARY KEY, v vector(3), l tsvector);
         INSERT INTO many SELECT i, ARRAY[i % 1009, i % 97, i % 13 - 6]::vector, to_tsvector('simple', 'common w' || i % 50)
             FROM generate_series(1, 400000) i;
         CREATE INDEX ON many USING gin (l); ANALYZE",
    );
}

/// How long after its time a statement ended, where it did not end before.
fn overrun(session: &mut Session, milliseconds: u64, statement: &str) -> Option<Duration> {
    session.run(&format!("SET statement_timeout = {milliseconds}"));
    let start = Instant::now();
    let result = session.ask_rows(statement);
    let elapsed = start.elapsed();
    session.run("SET statement_timeout = 0");
    let error = result.err()?;
    assert_eq!(error.code().code(), "57014", "expected a timeout, not {error} of {statement}");
    Some(elapsed.saturating_sub(Duration::from_millis(milliseconds)))
}

// trust 8, 28
#[test]
fn statement_timeout_stops_a_search_in_all_of_its_parts() {
    let database = Database::with_extension("cancel_search");
    let mut session = database.connect();
    fill(&mut session);
    let mut worst = Duration::ZERO;
    for statement in [LARGEST, WITHOUT_DIVERSITY, DIVERSE] {
        // Each ends somewhere else.
        for milliseconds in [100, 250, 500, 800, 1200, 1700, 2300, 3000, 4000, 6000] {
            let Some(overrun) = overrun(&mut session, milliseconds, statement) else { break };
            worst = worst.max(overrun);
        }
    }
    assert!(worst < OVERRUN, "expected every part to stop at once, but one went on for {worst:?}");
    session.still_embeds();
}

// trust 8, 28
#[test]
fn statement_timeout_stops_long_questions_and_lists() {
    let database = Database::with_extension("cancel_questions");
    let mut session = database.connect();
    fill(&mut session);
    for statement in [
        "SELECT count(*) FROM keyword_search('many', repeat('\"common w1\" ', 999), 1000)",
        "SELECT count(*) FROM keyword_search('many', 'common ' || repeat('-w1 ', 999), 1000)",
        "SELECT count(*) FROM keyword_search('many', (SELECT string_agg('w' || n, ' ') FROM generate_series(1, 100000) n), 10000, match => '2')",
        "SELECT count(*) FROM keyword_search('many', 'common', filter => jsonb_build_object('id', jsonb_build_object('$nin', (SELECT jsonb_agg(n) FROM generate_series(1, 100000) n))))",
        "SELECT count(*) FROM rrf_fuse((SELECT array_agg(id) FROM many), (SELECT array_agg(id) FROM many))",
    ] {
        for milliseconds in [50, 200, 500] {
            let Some(overrun) = overrun(&mut session, milliseconds, statement) else { break };
            assert!(overrun < OVERRUN, "expected {statement} to stop at once, not after {overrun:?}");
        }
    }
}

// trust 8, 28
#[test]
fn statement_timeout_stops_calls_with_many_documents() {
    let database = Database::with_extension("cancel_documents");
    let mut session = database.connect();
    session.run(&format!("SELECT create_vector_store('reg', '{MODEL}')"));
    session.run(
        "CREATE TABLE given AS SELECT array_agg(lpad(n::text, 32, '0')::uuid) AS ids, array_agg('a chunk ' || n) AS texts
             FROM generate_series(1, 100000) n",
    );
    for statement in [
        "SELECT upsert_document('reg', 'report', ids[1], texts) FROM given",
        "SELECT queue_documents('reg', 'report', ids, texts) FROM given",
    ] {
        for milliseconds in [50, 200, 500, 1000] {
            let Some(overrun) = overrun(&mut session, milliseconds, statement) else { break };
            assert!(overrun < OVERRUN, "expected {statement} to stop at once, not after {overrun:?}");
        }
    }
    session.still_embeds();
}

// trust 9, 28
#[test]
fn pg_terminate_backend_ends_a_search() {
    let database = Database::with_extension("terminate_search");
    let mut observer = database.connect();
    fill(&mut observer);
    for ticks in [5, 40, 90, 150] {
        let mut session = database.connect();
        session.run("LOAD 'vector_tools'");
        let pid = session.pid;
        let before = processor_ticks(pid);
        let running = std::thread::spawn(move || match session.try_rows(LARGEST) {
            Ok(_) => None,
            Err(error) => Some(described(&error)),
        });
        wait_until("the search has begun", || running.is_finished() || processor_ticks(pid) > before + ticks);
        let start = Instant::now();
        observer.run(&format!("SELECT pg_terminate_backend({pid})"));
        wait_until("the terminated backend is gone", || !is_alive(pid));
        assert!(
            start.elapsed() < OVERRUN,
            "expected the search to end at once, not after {:?}",
            start.elapsed()
        );
        let error = running.join().expect("the thread only runs a statement");
        let is_told = error.iter().all(|error| error.starts_with("57P01 ") || error.contains("kind: Closed"));
        assert!(is_told, "expected SQLSTATE 57P01, not {error:?}");
    }
    database.connect().still_embeds();
}
