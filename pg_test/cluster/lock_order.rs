//! Calls that lock tables, each pair of kinds against each other (15): nobody waits in a circle, and nobody is made to wait
//! by somebody who has no right to it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::database::{Database, MODEL};
use crate::process::wait_until;
use crate::session::{Session, described};

/// What a session does again and again, in one turn; `{n}` is the number of the session.
const PARTIES: [(&str, &[&str]); 7] = [
    (
        "index_vector_store",
        &[
            "SELECT index_vector_store('reg', 'hnsw', 'dev')",
            "SELECT index_vector_store('reg', 'none')",
            "SELECT index_vector_store('reg', 'ivfflat')",
        ],
    ),
    (
        "isolate_namespaces",
        &[
            "SELECT isolate_namespaces('reg.vector_embeddings', 'lock_order_reader', '{eu}')",
            "SELECT share_namespaces('reg.vector_embeddings')",
        ],
    ),
    (
        "run_embedding_batch",
        &[
            "SELECT queue_documents('reg', 'queued', ARRAY[md5('{n}' || random())::uuid], ARRAY['a queued text'], 'eu')",
            "SELECT vector_tools.run_embedding_batch()",
            "SELECT vector_tools.run_embedding_batch('reg.embedding_jobs')",
        ],
    ),
    (
        "documents",
        &[
            "SELECT upsert_document('reg', 'd', md5('{n}')::uuid, ARRAY['a text', 'of ' || (random() * 9)::int], 'eu')",
            "SELECT upsert_document('reg', 'd', md5('shared')::uuid, ARRAY['by {n}'], 'n0')",
            "SELECT delete_document('reg', 'd', md5('shared')::uuid)",
            "SELECT content FROM search_embeddings('reg', 'a text', 'eu', 2)",
        ],
    ),
    (
        "enable_search",
        &[
            "SELECT enable_search('docs', '{body}', mode => 'manual', index_kind => 'none')",
            "INSERT INTO docs (body) VALUES ('a row')",
            "SELECT id FROM keyword_search('docs', 'row', 1)",
            "SELECT disable_search('docs')",
        ],
    ),
    ("create_namespace", &["SELECT create_namespace('reg', 'n{n}')", "SELECT drop_namespace('reg', 'n{n}')"]),
    (
        "enable_audit",
        &[
            "SELECT disable_audit('reg.vector_embeddings')",
            "SELECT enable_audit('reg.vector_embeddings', 'vector_audit_log')",
        ],
    ),
];

/// Errors that say what the other one has done meanwhile: a table that is not searched just now.
const EXPECTED: [&str; 2] = ["42703", "42809"];

/// How long each pair goes on.
fn time_of_a_pair() -> Duration {
    let seconds = std::env::var("LOCK_ORDER_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs_f64(seconds.unwrap_or(1.5))
}

/// Says what a party met that it should not have.
fn take_turns(
    session: &mut Session,
    party: usize,
    number: usize,
    is_over: &AtomicBool,
) -> (usize, Vec<String>) {
    // Whoever waits in a circle is to hear of it at once.
    session
        .run("SET deadlock_timeout = '20ms'; SET statement_timeout = '60s'; SET client_min_messages = error");
    let (name, statements) = PARTIES[party];
    let (mut done, mut met) = (0, Vec::new());
    while !is_over.load(Ordering::Relaxed) {
        for statement in statements {
            let statement = statement.replace("{n}", &number.to_string());
            match session.try_rows(&statement) {
                Ok(_) => done += 1,
                Err(error) => {
                    let sqlstate = error.code().map(|code| code.code().to_owned()).unwrap_or_default();
                    if !EXPECTED.contains(&sqlstate.as_str()) {
                        met.push(format!("{name}: {}\n{statement}", described(&error)));
                    }
                }
            }
        }
    }
    (done, met)
}

// trust 15
#[test]
fn no_two_kinds_of_calls_wait_for_each_other_in_a_circle() {
    let database = Database::with_extension("lock_order");
    database.create_role("lock_order_reader");
    let mut session = database.connect();
    session.run(&format!(
        "SELECT create_vector_store('reg', '{MODEL}', 'dev'); SELECT create_namespace('reg', 'eu');
         SELECT grant_vector_access('lock_order_reader', 'reader', 'reg.vector_embeddings');
         CREATE TABLE docs (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text);
         INSERT INTO docs (body) VALUES ('a first row')"
    ));
    let mut met = Vec::new();
    let numbers = || 0..PARTIES.len();
    for one in numbers() {
        for other in numbers().skip(one) {
            let is_over = AtomicBool::new(false);
            let ends = thread::scope(|scope| {
                let sides = [(one, 0), (other, 1)].map(|(party, number)| {
                    let (database, is_over) = (&database, &is_over);
                    scope.spawn(move || take_turns(&mut database.connect(), party, number, is_over))
                });
                thread::sleep(time_of_a_pair());
                is_over.store(true, Ordering::Relaxed);
                sides.map(|side| side.join().expect("the thread only runs statements"))
            });
            let names = format!("{} and {}", PARTIES[one].0, PARTIES[other].0);
            for (done, errors) in ends {
                assert!(done > 0, "expected both of {names} to get through: {errors:?}");
                met.extend(errors.into_iter().map(|error| format!("{names}: {error}")));
            }
        }
    }
    assert!(met.is_empty(), "expected no error, not {}:\n{}", met.len(), met.join("\n"));
}

// trust 15, 29
#[test]
fn the_locks_of_calls_are_none_that_a_session_can_take() {
    let database = Database::with_extension("lock_numbers");
    for role in ["lock_numbers_alice", "lock_numbers_mallory"] {
        database.create_role(role);
    }
    let mut owner = database.connect();
    owner.run(
        "CREATE SCHEMA mal AUTHORIZATION lock_numbers_mallory; GRANT CREATE ON SCHEMA public TO lock_numbers_alice;
         CREATE SCHEMA st AUTHORIZATION lock_numbers_alice",
    );
    let mut alice = database.connect_as("lock_numbers_alice");
    alice.run(&format!(
        "SET lock_timeout = '5s'; SELECT create_vector_store('st', '{MODEL}');
         CREATE TABLE docs (id int PRIMARY KEY, body text); INSERT INTO docs VALUES (1, 'a row')"
    ));
    // The numbers are known: those of the source are made of numbers in the catalogue.
    let mut mallory = database.connect_as("lock_numbers_mallory");
    mallory.run(
        "CREATE FUNCTION mal.vtkey(VARIADIC parts text[]) RETURNS bigint LANGUAGE sql AS $$ SELECT ('x' || left(encode(sha256(convert_to('vector_tools ' ||
             (SELECT string_agg(octet_length(p) || ':' || p, '' ORDER BY o) FROM unnest(parts) WITH ORDINALITY u(p, o)), 'UTF8')), 'hex'), 16))::bit(64)::bigint $$;
         CREATE FUNCTION mal.take(VARIADIC parts text[]) RETURNS void LANGUAGE plpgsql AS $$
         DECLARE plain bigint := mal.vtkey(VARIADIC parts); mixed bigint := mal.vtkey('database',
             (SELECT oid::text FROM pg_database WHERE datname = current_database()), plain::text);
         BEGIN
             PERFORM pg_advisory_lock(plain), pg_advisory_lock(mixed),
                 pg_advisory_lock((plain >> 32)::int, (plain & 2147483647)::int),
                 pg_advisory_lock((mixed >> 32)::int, (mixed & 2147483647)::int);
         END $$",
    );
    let store = "(SELECT c.oid::text FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
                  WHERE relname = 'vector_embeddings' AND nspname = 'st')";
    for key in [
        format!("'namespace', {store}, 'nb'"),
        format!("'partitions', {store}"),
        format!("'document', {store}, 'd', '00000000-0000-0000-0000-000000000001'"),
        "'store', 'st'".to_owned(),
        "'memories', 'public', 'crowd_memories'".to_owned(),
        "'definition', 'public.docs'::regclass::oid::text".to_owned(),
    ] {
        mallory.run(&format!("SELECT mal.take({key})"));
    }
    // Neither does a call that a stranger's transaction has made.
    mallory.run("BEGIN; SAVEPOINT s");
    for call in [
        "SELECT isolate_namespaces('docs')",
        "SELECT enable_search('docs', '{body}')",
        "SELECT disable_search('docs')",
        "SELECT enable_audit('docs')",
        "SELECT set_search_model('docs', 'all-MiniLM-L6-v2')",
        "SELECT share_namespaces('docs')",
    ] {
        mallory.fails("42501", call);
        mallory.run("ROLLBACK TO s");
    }
    let call = format!("SELECT create_vector_store('st', '{MODEL}')");
    mallory.run(&call);
    for call in [
        "SELECT upsert_document('st', 'd', '00000000-0000-0000-0000-000000000001', ARRAY['a pump'], 'nb')",
        "SELECT delete_document('st', 'd', '00000000-0000-0000-0000-000000000001')",
        "SELECT create_namespace('st', 'nb')",
        call.as_str(),
        "SELECT create_domain_memories_table('crowd')",
        "SELECT enable_search('docs', '{body}', mode => 'manual')",
        "SELECT share_namespaces('docs')",
        "SELECT enable_audit('docs')",
        "SELECT disable_search('docs')",
    ] {
        alice.run("BEGIN");
        alice.run(call);
        let in_database = alice.text(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND database <> 0",
        );
        assert_eq!(in_database, "0", "expected no lock that a session can take:\n{call}");
        alice.run("COMMIT");
    }
    let held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()";
    assert_eq!(alice.text(held), "0", "expected the locks to end with their transaction");
    mallory.run("COMMIT");
}

#[test]
fn a_call_that_waits_for_another_can_be_stopped_and_a_circle_is_found() {
    let database = Database::with_extension("lock_waits");
    let mut first = database.connect();
    first.run(&format!("SELECT create_vector_store('reg', '{MODEL}')"));
    let write = |source: i32| {
        format!("SELECT upsert_document('reg', 'd', md5('{source}')::uuid, ARRAY['text {source}'], 'eu')")
    };
    let mut second = database.connect();
    first.run("BEGIN");
    first.run(&write(1));
    second.run("SET lock_timeout = '50ms'");
    second.fails("55P03", &write(1));
    second.run("RESET lock_timeout; SET statement_timeout = '50ms'");
    second.fails("57014", &write(1));
    second.run("RESET statement_timeout; BEGIN");
    second.run(&write(2));
    let deadlocks = AtomicUsize::new(0);
    let waits = format!(
        "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'advisory' AND pid = {}",
        first.pid
    );
    let mut watcher = database.connect();
    let count = |result: Result<Vec<Vec<Option<String>>>, postgres::Error>| {
        if let Err(error) = result {
            assert_eq!(error.code().map(|code| code.code()), Some("40P01"));
            deadlocks.fetch_add(1, Ordering::Relaxed);
        }
    };
    thread::scope(|scope| {
        let (write, count) = (&write, &count);
        let first = &mut first;
        scope.spawn(move || {
            count(first.try_rows(&write(2)));
            first.run("ROLLBACK");
        });
        wait_until("the first waits", || watcher.text(&waits) == "1");
        count(second.try_rows(&write(1)));
        second.run("ROLLBACK");
    });
    assert_eq!(deadlocks.load(Ordering::Relaxed), 1, "expected one of the two to be told");
}
