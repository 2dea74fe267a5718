//! Twenty writers at once with deletes, searches and VACUUM (15): nothing waits in a circle, and no row
//! is lost or there twice.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::database::{Database, MODEL};
use crate::session::{Session, described};

const WRITERS: usize = 20;
/// One test at a time, since every session that embeds has a model in its memory.
static ONE: Mutex<()> = Mutex::new(());

/// Runs one client for each number, and others beside them until these are done. Each statement must
/// succeed.
fn run_clients(
    database: &Database,
    statements_of: impl Fn(usize) -> Vec<String> + Sync,
    beside: &[&'static str],
) {
    let done = AtomicBool::new(false);
    let run = |session: &mut Session, sql: &str| {
        if let Err(error) = session.try_rows(sql) {
            // Whoever runs beside would wait for ever.
            done.store(true, Ordering::Relaxed);
            panic!("expected this to succeed, not {}:\n{sql}", described(&error));
        }
    };
    thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (statements_of, run) = (&statements_of, &run);
                scope.spawn(move || {
                    let mut session = database.connect();
                    statements_of(writer).iter().for_each(|sql| run(&mut session, sql));
                })
            })
            .collect();
        for sql in beside {
            let (done, run) = (&done, &run);
            scope.spawn(move || {
                let mut session = database.connect();
                while !done.load(Ordering::Relaxed) {
                    run(&mut session, sql);
                }
            });
        }
        let ends: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
        done.store(true, Ordering::Relaxed);
        assert!(ends.iter().all(Result::is_ok), "expected every writer to get through");
    });
}

// trust 15
#[test]
fn twenty_writers_deletes_and_vacuum_keep_memories_whole() {
    let _one = ONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let database = Database::with_extension("concurrency_memories");
    let mut session = database.connect();
    session.run(
        "SELECT create_domain_memories_table('crowd'); SELECT enable_audit('crowd_memories');
         SELECT store_memory('shared memory ' || i, 'crowd', id => 'shared-' || i) FROM generate_series(0, 4) AS i",
    );
    let (rounds, kept) = (12, 8);
    let statements_of = |writer: usize| {
        let round = |round: usize| {
            let id = format!("{writer}-{round}");
            let shared = (writer + round) % 5;
            let mut statements = vec![
                format!("SELECT store_memory('writer {writer} noticed {round}', 'crowd', id => '{id}')"),
                format!("SELECT update_memory('{id}', 'writer {writer} changed {round}', 'crowd')"),
                format!("SELECT update_memory('shared-{shared}', 'shared by {writer} in {round}', 'crowd')"),
            ];
            // A third of them goes again.
            if round % 3 == 2 {
                statements.push(format!("SELECT delete_memory('{id}', 'crowd')"));
            }
            statements
        };
        (0..rounds).flat_map(round).collect()
    };
    run_clients(
        &database,
        statements_of,
        &[
            "VACUUM crowd_memories",
            "VACUUM (ANALYZE, INDEX_CLEANUP ON) crowd_memories",
            "SELECT * FROM search_memories('what did the writers notice?', 'crowd', 10)",
            "SELECT * FROM vector_tools.domains",
        ],
    );
    let expected: Vec<String> = {
        let id = |writer: usize, round: usize| format!("{writer}-{round}|writer {writer} changed {round}");
        let mut ids: Vec<String> = (0..WRITERS)
            .flat_map(|writer| (0..rounds).filter(|round| round % 3 != 2).map(move |round| id(writer, round)))
            .collect();
        ids.sort_unstable();
        ids
    };
    assert_eq!(expected.len(), WRITERS * kept);
    let mut found = session.rows("SELECT id, content FROM crowd_memories WHERE id NOT LIKE 'shared%'");
    found.sort_unstable();
    assert_eq!(found, expected, "expected each memory that was not deleted once, as it was changed last");
    let shared = session.text(
        "SELECT count(*), bool_and(content LIKE 'shared by%') FROM crowd_memories WHERE id LIKE 'shared%'",
    );
    assert_eq!(shared, "5|t");
    // One batch of another composition gives int8 vectors that differ a little.
    let wrong = session.text(&format!(
        "SELECT count(*) FROM crowd_memories WHERE embedding IS NULL OR embedding <=> embed(content, '{MODEL}') > 0.001"
    ));
    assert_eq!(wrong, "0", "expected each embedding to be that of its content");
    let audited = session.text(
        "SELECT count(*) FROM vector_audit_log WHERE operation = 'INSERT' AND record_id NOT LIKE 'shared%'",
    );
    assert_eq!(audited, (WRITERS * rounds).to_string(), "expected each memory in the log once");
}

// trust 15
#[test]
fn twenty_writers_deletes_and_vacuum_keep_a_store_whole() {
    let _one = ONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let database = Database::with_extension("concurrency_store");
    let mut session = database.connect();
    session.run(&format!(
        "SELECT create_vector_store('reg', '{MODEL}'); SELECT create_namespace('reg', 'n0');
         CREATE TABLE ready AS SELECT i, (SELECT array_agg(sin(i * n)) FROM generate_series(1, 384) AS n)::vector AS v
             FROM generate_series(1, 20) AS i"
    ));
    let source = |number: usize| format!("'00000000-0000-0000-0000-{number:012}'::uuid");
    let rounds = 5;
    let statements_of = |writer: usize| {
        // Four writers share a namespace; only one of the five namespaces has a partition at first.
        let namespace = format!("n{}", writer % 5);
        let mut statements = Vec::new();
        for round in 0..rounds {
            let chunks: Vec<String> =
                (0..=round).map(|place| format!("'writer {writer} chunk {place}'")).collect();
            let call = |verb: &str, number: usize, chunks: &str| {
                format!("SELECT {verb}('reg', 'document', {}, {chunks} '{namespace}')", source(number))
            };
            statements.push(call("upsert_document", writer, &format!("ARRAY[{}],", chunks.join(", "))));
            // A document that others write and delete too.
            statements.push(call(
                "upsert_document",
                100 + writer % 5,
                &format!("ARRAY['round {round}', 'by {writer}'],"),
            ));
            statements.push(format!(
                "SELECT upsert_embeddings('reg', array_agg('bulk'::text), array_agg(md5('{writer}/' || i)::uuid), array_agg(0),
                     array_agg('bulk {writer} ' || i || ' {round}'), array_agg(v), array_agg('{namespace}'::text)) FROM ready"
            ));
            statements.push(call("delete_document", 100 + writer % 5, ""));
        }
        if writer < 5 {
            statements.insert(3, format!("SELECT create_namespace('reg', '{namespace}')"));
        }
        statements
    };
    run_clients(
        &database,
        statements_of,
        &[
            "VACUUM reg.vector_embeddings",
            "VACUUM (ANALYZE, INDEX_CLEANUP ON) reg.vector_embeddings_default",
            "SELECT * FROM search_embeddings('reg', 'chunk of a writer', 'n1', query_embedding => (SELECT v FROM ready WHERE i = 3))",
            "SELECT count_embeddings('reg')",
        ],
    );
    let documents = session.rows(
        "SELECT source_id, count(*), string_agg(content, ', ' ORDER BY chunk_index) FROM reg.vector_embeddings
         WHERE source_type = 'document' AND source_id < '00000000-0000-0000-0000-000000000100' GROUP BY 1 ORDER BY 1",
    );
    let expected: Vec<String> = (0..WRITERS)
        .map(|writer| {
            let chunks: Vec<String> =
                (0..rounds).map(|place| format!("writer {writer} chunk {place}")).collect();
            format!("00000000-0000-0000-0000-{writer:012}|{rounds}|{}", chunks.join(", "))
        })
        .collect();
    assert_eq!(documents, expected, "expected each document as it was written last");
    let bulk = session.text(
        "SELECT count(*), count(DISTINCT source_id), bool_and(content LIKE '% 4') FROM reg.vector_embeddings WHERE source_type = 'bulk'",
    );
    assert_eq!(
        bulk,
        format!("{0}|{0}|t", WRITERS * 20),
        "expected each ready embedding once, as it was written last"
    );
    // The documents that several wrote and deleted are one version or gone.
    let shared = session.rows(
        "SELECT count(*) FROM reg.vector_embeddings WHERE source_type = 'document'
             AND source_id >= '00000000-0000-0000-0000-000000000100' GROUP BY source_id HAVING count(*) <> 2",
    );
    assert!(shared.is_empty(), "expected whole documents, not {shared:?}");
    let misplaced = session.text(
        "SELECT count(*), (SELECT count(*) FROM pg_inherits WHERE inhparent = 'reg.vector_embeddings'::regclass)
         FROM reg.vector_embeddings_default",
    );
    assert_eq!(misplaced, "0|6", "expected every row in the partition of its namespace");
    let wrong = session.text(&format!(
        "SELECT count(*) FROM reg.vector_embeddings WHERE source_type = 'document' AND embedding <=> embed(content, '{MODEL}') > 0.001"
    ));
    assert_eq!(wrong, "0", "expected each chunk with its own embedding");
}

// trust 15
#[test]
fn triggers_that_change_while_a_table_is_looked_at_do_no_harm() {
    let database = Database::with_extension("concurrency_triggers");
    let mut session = database.connect();
    session.run("SELECT create_domain_memories_table('crowd'); SELECT store_memory('the pump leaks', 'crowd', id => 'pump')");
    let started = session.text("SELECT pg_postmaster_start_time()");
    // One changes, in each transaction the trigger and its function, and all others look.
    let changes = |writer: usize| {
        let change = |round: usize| {
            let able = ["DISABLE", "ENABLE"][round % 2];
            format!(
                "BEGIN; ALTER TABLE crowd_memories {able} TRIGGER touch_updated_at;
                 ALTER FUNCTION vector_tools.embed_row() COST {}; COMMIT",
                100 + round
            )
        };
        if writer == 0 { (0..1000).map(change).collect() } else { vec![] }
    };
    const LOOK: &str = "SELECT id FROM hybrid_search('crowd_memories', 'pump', query_embedding => \
         (SELECT embedding FROM crowd_memories))";
    run_clients(&database, changes, &[LOOK, LOOK, LOOK, LOOK]);
    assert_eq!(
        session.text("SELECT pg_postmaster_start_time()"),
        started,
        "expected the server not to restart"
    );
}
