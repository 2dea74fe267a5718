//! Many short sessions, long ones, and many at once (12, 14, 15).

use std::thread;

use crate::database::Database;
use crate::process::resident_kib;
use crate::server::Server;

const CONNECTIONS: usize = 200;
const CLIENTS: usize = 4;

// trust 12
#[test]
fn sessions_that_embed_and_leave_do_no_harm() {
    let server = Server::start("test-lifecycle", &[]);
    crate::database::make_template(&server);
    let database = Database::with_extension_on(&server, "lifecycle");
    let started = "SELECT pg_postmaster_start_time()";
    let before = database.connect().text(started);
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                for _ in 0..CONNECTIONS / CLIENTS {
                    database.connect().still_embeds();
                }
            });
        }
    });
    let mut session = database.connect();
    assert_eq!(session.text(started), before, "expected the server not to restart");
    let ended_by_signal: Vec<String> = server
        .log()
        .lines()
        .filter(|line| line.contains("terminated by signal") || line.contains("PANIC"))
        .map(str::to_owned)
        .collect();
    assert!(ended_by_signal.is_empty(), "expected no process to die, but the log has {ended_by_signal:?}");
}

/// What a warm session may grow by while it embeds 20,000 texts, and 20,000 more.
const GROWTH_KIB: u64 = 8 * 1024;
/// Batches of 500 texts: to warm up with, and then twice those to embed unwatched and to look at.
const BATCHES: [usize; 3] = [8, 28, 12];

// trust 14
#[test]
fn a_session_does_not_grow_with_the_texts_it_embeds() {
    let database = Database::with_extension("memory");
    let mut session = database.connect();
    session.run("SET vector_tools.embedder = 'backend'");
    let mut number = 0;
    let mut after_batches = |batches: usize| -> Vec<u64> {
        let after_batch = (0..batches).map(|_| {
            number += 1;
            // Lengths from two words to twelve, in another order in each batch.
            let batch = format!(
                "SELECT count(*) FROM (SELECT unnest(embed(array_agg('text ' || i || \
                 repeat(' word', (i * 7919 + {number}) % 11)))) FROM generate_series(1, 500) AS i) AS e"
            );
            assert_eq!(session.text(&batch), "500", "expected a vector for each text");
            resident_kib(session.pid)
        });
        after_batch.collect()
    };
    let [warming, unwatched, watched] = BATCHES;
    let mut looks = vec![after_batches(warming)];
    for _ in 0..2 {
        after_batches(unwatched);
        looks.push(after_batches(watched));
    }
    // Some batches give working memory back to the system and others do not, so it goes up and down by 20 MB,
    // or up once for good. A leak lifts even the lowest value over what was the highest, and does it again.
    let has_grown = |pair: &[Vec<u64>]| {
        let (before, after) = (pair[0].iter().max(), pair[1].iter().min());
        after.zip(before).is_some_and(|(after, before)| *after >= before + GROWTH_KIB)
    };
    assert!(
        !looks.windows(2).all(has_grown),
        "expected to grow by less than {GROWTH_KIB} KiB between these: {looks:?}"
    );
}

// trust 15
#[test]
fn writers_and_searchers_share_a_memories_table() {
    let (writers, rows_each) = (8, 25);
    let database = Database::with_extension("concurrency");
    let mut session = database.connect();
    session.run("SELECT create_domain_memories_table('shared')");
    thread::scope(|scope| {
        for writer in 0..writers {
            let mut session = database.connect();
            scope.spawn(move || {
                for row in 0..rows_each {
                    session.run(&format!(
                        "INSERT INTO shared_memories (content) VALUES ('memory {row} of writer {writer}')"
                    ));
                }
            });
        }
        for _ in 0..2 {
            let mut session = database.connect();
            scope.spawn(move || {
                for _ in 0..20 {
                    session.run("SELECT * FROM hybrid_search('shared_memories', 'memory of a writer', 5)");
                }
            });
        }
    });
    let expected = format!("{0}|{0}|{0}", writers * rows_each);
    let found =
        session.text("SELECT count(*), count(embedding), count(DISTINCT content) FROM shared_memories");
    assert_eq!(found, expected, "expected every row once, each with its embedding");
    let wrong = session.text(
        "SELECT count(*) FROM (SELECT embedding, embed(content) AS truth FROM shared_memories LIMIT 20) AS m \
         WHERE embedding <=> truth > 1e-5",
    );
    assert_eq!(wrong, "0", "expected each embedding to be that of its content");
}
