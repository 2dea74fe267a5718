//! Another model for a searchable table: what is searched until the end, the way there and back, and
//! what writes, crashes, dumps and other sessions do in between (11, 15, 16).

use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use crate::database::{Database, make_template};
use crate::dump;
use crate::models::Folder;
use crate::names::{hostile_names, quoted};
use crate::process::{Ending, wait_until};
use crate::searchable::{CREATE, ENABLE, ENTRIES, created, drain};
use crate::server::Server;
use crate::session::Session;

/// The tests' default model, and the same one in full precision.
const OLD: &str = "all-MiniLM-L6-v2-int8";
const NEW: &str = "all-MiniLM-L6-v2";
const BEGIN: &str = "SELECT set_search_model('docs', 'all-MiniLM-L6-v2')";
const FINISH: &str = "SELECT finish_search_model('docs')";
const BACK: &str = "SELECT rollback_search_model('docs')";
const MODELS: &str = "SELECT model, next_model, previous_model FROM vector_tools.searchable_tables";
const DRIFT: &str = "SELECT role, model, is_current, rows FROM vector_tools.search_drift ORDER BY role";

/// Rows whose chunks in a companion are not those of their content under a model.
fn untrue(companion: &str, model: &str) -> String {
    format!(
        "SELECT count(*) FROM docs AS d FULL JOIN {companion} AS c ON c.row_id = d.id
         WHERE c.content IS DISTINCT FROM concat_ws(E'\\n\\n', d.title, d.body) OR c.embedding IS NULL
         OR c.model <> '{model}' OR c.embedding <=> embed(c.content, '{model}') > 1e-5"
    )
}

fn filled(name: &str) -> (Database<'static>, Session) {
    let (database, mut session) = created(name);
    session
        .run("INSERT INTO docs SELECT i, 'note', 'the pump number ' || i FROM generate_series(3, 40) AS i");
    session.run(ENABLE);
    drain(&mut session);
    (database, session)
}

fn notices(session: &mut Session) -> String {
    let said = session.take_notices();
    said.iter().map(|notice| notice.message().to_owned()).collect::<Vec<_>>().join("; ")
}

#[test]
fn searches_change_the_model_at_the_end() {
    let (_database, mut session) = filled("change_end");
    session.take_notices();
    session.run("SELECT set_search_model('docs', 'all-MiniLM-L6-v2-int8')");
    assert!(notices(&mut session).contains("is embedded with"), "expected it to be said, and nothing done");
    assert_eq!(session.text(MODELS), format!("{OLD}|∅|∅"));
    assert_eq!(session.text(BEGIN), "docs_search_next");
    assert_eq!(session.text(MODELS), format!("{OLD}|{NEW}|∅"));
    let error = session.fails("55000", FINISH);
    assert!(error.detail().is_some_and(|detail| detail.contains("Of 40 rows that searches find, 40")));
    assert_eq!(
        session.text(
            "SELECT pending, next_model, next_embedded, next_pending FROM vector_tools.search_progress"
        ),
        format!("0|{NEW}|0|40")
    );
    drain(&mut session);
    assert_eq!(session.rows(DRIFT), [format!("live|{OLD}|t|40"), format!("next|{NEW}|t|40")]);
    assert_eq!(session.text(&untrue("docs_search", OLD)), "0");
    assert_eq!(session.text(&untrue("docs_search_next", NEW)), "0");
    let similarity = |model: &str| {
        format!(
            "SELECT s.similarity = 1 - (c.embedding <=> embed_query('leaking valve', '{model}'))
                 FROM semantic_search('docs', 'leaking valve', 1) AS s
                 JOIN docs_search AS c ON c.row_id = s.id::int WHERE c.model = '{model}'"
        )
    };
    assert_eq!(session.text(&similarity(OLD)), "t", "expected the old vectors to answer until the end");
    session.fails("2BP01", "SELECT drop_model('all-MiniLM-L6-v2')");
    assert_eq!(session.text(FINISH), "docs_search");
    assert_eq!(session.text(MODELS), format!("{NEW}|∅|{OLD}"));
    assert_eq!(session.text(&similarity(NEW)), "t");
    assert_eq!(session.text(&untrue("docs_search", NEW)), "0");
    assert_eq!(session.rows(DRIFT), [format!("live|{NEW}|t|40"), format!("previous|{OLD}|t|40")]);
    session.fails("2BP01", "SELECT drop_model('all-MiniLM-L6-v2-int8')");
    session.fails("55000", FINISH);
    // Indexes have the names of their tables, and the table is still the one that enable_search gives.
    let indexes = "SELECT indexname FROM pg_indexes WHERE tablename LIKE 'docs_search%' ORDER BY 1";
    let names = ["docs_search_embedding_idx", "docs_search_lexemes_idx", "docs_search_pkey"];
    let kept = names.map(|name| name.replace("search_", "search_previous_"));
    let mut expected: Vec<&str> = names.into_iter().chain(kept.iter().map(String::as_str)).collect();
    expected.sort_unstable();
    assert_eq!(session.rows(indexes), expected);
    session.take_notices();
    assert_eq!(session.text(ENABLE), "docs_search");
    assert!(notices(&mut session).contains("already searchable in this way"), "expected the model to stay");
    // What is kept is an ordinary table.
    session.run("DROP TABLE docs_search_previous");
    assert_eq!(session.text(MODELS), format!("{NEW}|∅|∅"));
    session.fails("55000", BACK);
    session.run("SELECT disable_search('docs'); DROP TABLE docs");
}

#[test]
fn another_dimension_and_other_chunks_change_as_well() {
    let folder = Folder::new();
    let database = Database::with_extension("change_dimension");
    let mut session = database.connect();
    let model = crate::adoption::doubled_model(&folder);
    session.run(&format!("SELECT register_model('doubled', '{model}', options => '{{\"max_tokens\": 32}}')"));
    session.run(
        "CREATE TABLE docs (id int PRIMARY KEY, body text);
         INSERT INTO docs SELECT i, string_agg('The pump number ' || i || ' has lost its pressure at hour ' || j || '.', ' ')
             FROM generate_series(1, 12) AS i, generate_series(1, 12) AS j GROUP BY i;
         SELECT enable_search('docs', ARRAY['body'], chunking => 'semantic', storage => 'halfvec')",
    );
    drain(&mut session);
    session.run("SELECT set_search_model('docs', 'doubled')");
    drain(&mut session);
    let chunks = "SELECT rows, chunks FROM vector_tools.search_drift ORDER BY role";
    let chunks = session.rows(chunks);
    assert!(
        chunks[0].starts_with("12|") && chunks[1].starts_with("12|") && chunks[0] != chunks[1],
        "expected as many rows, and other chunks: {chunks:?}"
    );
    assert_eq!(session.text("SELECT max(token_count) <= 32 FROM docs_search_next"), "t");
    session.run(FINISH);
    assert_eq!(
        session.text("SELECT DISTINCT vector_dims(embedding), pg_typeof(embedding) FROM docs_search"),
        "768|halfvec"
    );
    assert_eq!(session.rows("SELECT id FROM hybrid_search('docs', 'pump 7 pressure', 12)").len(), 12);
    session.run(BACK);
    assert_eq!(session.text("SELECT DISTINCT vector_dims(embedding) FROM docs_search"), "384");
    assert_eq!(session.rows("SELECT id FROM hybrid_search('docs', 'pump 7 pressure', 12)").len(), 12);
    session.fails("42704", "SELECT set_search_model('docs', 'nope')");
}

#[test]
fn writes_during_a_change_are_embedded_by_both() {
    let (database, mut session) = filled("change_writes");
    session.run(BEGIN);
    // What is new comes before what can wait.
    session.run("INSERT INTO docs VALUES (100, 'new', 'row'); UPDATE docs SET body = 'changed' WHERE id = 5");
    assert_eq!(session.text("SELECT embedded FROM vector_tools.run_embedding_batch('docs', 2)"), "2");
    assert_eq!(session.rows("SELECT row_id FROM docs_search_next ORDER BY 1"), ["5", "100"]);
    drain(&mut session);
    session.run("UPDATE docs SET id = -id WHERE id = 7; DELETE FROM docs WHERE id = 8; UPDATE docs SET title = 'x' WHERE id = 9");
    drain(&mut session);
    for (companion, model) in [("docs_search", OLD), ("docs_search_next", NEW)] {
        assert_eq!(session.text(&untrue(companion, model)), "0", "{companion}");
    }
    // In sync mode the statement itself does both.
    session.run("SELECT enable_search('docs', ARRAY['title', 'body'], mode => 'sync')");
    assert_eq!(
        session.text(MODELS),
        format!("{OLD}|{NEW}|∅"),
        "expected another mode to leave the change alone"
    );
    session.run("INSERT INTO docs SELECT i, 'sync', 'row ' || i FROM generate_series(200, 500) AS i; UPDATE docs SET body = 'y' WHERE id = 9");
    for (companion, model) in [("docs_search", OLD), ("docs_search_next", NEW)] {
        assert_eq!(session.text(&untrue(companion, model)), "0", "{companion} in sync mode");
    }
    // A new model that is out of order is no reason to refuse a row.
    session.run(
        "CREATE TABLE kept AS SELECT * FROM vector_tools.model_registry WHERE name = 'all-MiniLM-L6-v2';
                 DELETE FROM vector_tools.model_registry WHERE name = 'all-MiniLM-L6-v2'",
    );
    let mut writer = database.connect();
    writer.run("INSERT INTO docs VALUES (600, 'late', 'row'); UPDATE docs SET body = 'late' WHERE id = 10");
    assert_eq!(session.text(&untrue("docs_search", OLD)), "0");
    let batch = session.text("SELECT embedded, failed FROM vector_tools.run_embedding_batch('docs')");
    assert_eq!(batch, "0|2");
    session.run("INSERT INTO vector_tools.model_registry SELECT * FROM kept");
    session.fails("55000", FINISH);
    session.run("SELECT retry_embedding_errors('docs')");
    drain(&mut session);
    session.run(FINISH);
    assert_eq!(session.text(&untrue("docs_search", NEW)), "0");
}

#[test]
fn there_is_a_way_back() {
    let (_database, mut session) = filled("change_back");
    session.fails("55000", BACK);
    session.run(BEGIN);
    session.run("SELECT * FROM vector_tools.run_embedding_batch('docs', 10)");
    assert_eq!(session.text(BACK), "docs_search");
    assert_eq!(session.text("SELECT to_regclass('docs_search_next') IS NULL"), "t");
    assert_eq!(
        session.text("SELECT count(*) FROM vector_tools.queue"),
        "0",
        "expected nothing to be left to do"
    );
    assert_eq!(session.text(MODELS), format!("{OLD}|∅|∅"));
    session.run(BEGIN);
    drain(&mut session);
    session.run(FINISH);
    // Writes after the end are not for what is kept, which is brought up to date when it is needed.
    session.run("UPDATE docs SET body = 'after the end' WHERE id = 4; DELETE FROM docs WHERE id = 5; INSERT INTO docs VALUES (100, 'after', 'too')");
    drain(&mut session);
    session.take_notices();
    assert_eq!(session.text(BACK), "docs_search");
    assert!(notices(&mut session).contains("rows that changed meanwhile: 2"));
    assert_eq!(session.text(MODELS), format!("{OLD}|∅|{NEW}"));
    drain(&mut session);
    assert_eq!(session.text(&untrue("docs_search", OLD)), "0");
    // What is kept is taken up where it is wanted again.
    session.run("UPDATE docs SET body = 'third' WHERE id = 4");
    drain(&mut session);
    assert_eq!(session.text(BEGIN), "docs_search_next");
    assert_eq!(session.text("SELECT next_embedded, next_pending FROM vector_tools.search_progress"), "40|1");
    drain(&mut session);
    session.run(FINISH);
    assert_eq!(session.text(&untrue("docs_search", NEW)), "0");
    // In sync mode the way back ends with all rows true.
    session.run("SELECT enable_search('docs', ARRAY['title', 'body'], mode => 'sync'); UPDATE docs SET body = 'sync' WHERE id < 9");
    session.run(BACK);
    assert_eq!(session.text(&untrue("docs_search", OLD)), "0");
    assert_eq!(session.text("SELECT count(*) FROM vector_tools.queue"), "0");
}

#[test]
fn calls_that_do_not_fit_are_refused_and_those_that_do_are_repeatable() {
    let (database, mut session) = filled("change_calls");
    session.run("CREATE TABLE plain (id int PRIMARY KEY, body text)");
    for call in [
        "set_search_model('plain', 'all-MiniLM-L6-v2')",
        "finish_search_model('plain')",
        "rollback_search_model('plain')",
    ] {
        session.fails("55000", &format!("SELECT {call}"));
    }
    database.create_role("change_calls_other");
    session.run("GRANT SELECT ON docs TO change_calls_other");
    let mut other = database.connect_as("change_calls_other");
    for call in [BEGIN, FINISH, BACK] {
        other.fails("42501", call);
        assert_eq!(session.rows(&call.replace("'docs'", "NULL")), ["∅"]);
    }
    session.run("BEGIN; SET TRANSACTION READ ONLY");
    session.fails("25006", BEGIN);
    session.run("ROLLBACK");
    session.run(BEGIN);
    session.run("SELECT * FROM vector_tools.run_embedding_batch('docs', 30)");
    session.take_notices();
    assert_eq!(session.text(BEGIN), "docs_search_next");
    assert!(notices(&mut session).contains("10 rows are queued"), "expected only what is missing");
    session.fails("55000", "SELECT set_search_model('docs', 'all-MiniLM-L6-v2-int8')");
    let error = session.fails("55000", "SELECT enable_search('docs', ARRAY['body'])");
    assert_eq!(error.message(), "a change of the model of table \"public\".\"docs\" is under way");
    // A queue that is lost is no harm: the call finds what is missing.
    session.run("DELETE FROM vector_tools.queue");
    session.fails("55000", FINISH);
    session.run(BEGIN);
    drain(&mut session);
    session.run(FINISH);
    // Rows that cannot be embedded can be left out.
    session.run("SELECT set_search_model('docs', 'all-MiniLM-L6-v2-int8'); SELECT * FROM vector_tools.run_embedding_batch('docs', 30)");
    session.run("UPDATE docs SET body = 'while it is kept' WHERE id = 3");
    session.run("SELECT finish_search_model('docs', force => true)");
    drain(&mut session);
    assert_eq!(session.text(&untrue("docs_search", OLD)), "0");
    // Other content makes what is kept useless, and asks for the right to read it.
    session.run("GRANT SELECT (id, body) ON docs TO PUBLIC; REVOKE SELECT ON docs FROM change_calls_other");
    session.take_notices();
    session.run("SELECT enable_search('docs', ARRAY['body'])");
    assert!(notices(&mut session).contains("that were kept"));
    drain(&mut session);
    assert_eq!(other.text("SELECT count(*) FROM docs_search"), "40");
    session.run("SELECT enable_search('docs', ARRAY['body', 'title'])");
    drain(&mut session);
    other.fails("42501", "SELECT count(*) FROM docs_search");
    session.run(BEGIN);
    other.fails("42501", "SELECT count(*) FROM docs_search_next");
    let hidden = "SELECT source, role, companion, rows, chunks FROM vector_tools.search_drift";
    assert_eq!(other.rows(hidden), ["docs|∅|∅|∅|∅"]);
    assert_eq!(session.text("SELECT disable_search('docs')"), "t");
    assert_eq!(session.rows("SELECT relname FROM pg_class WHERE relname LIKE 'docs_search%'"), [""; 0]);
    session.run("DROP TABLE docs");
}

/// Every search is of one model as a whole, with all rows, in whatever transaction.
#[test]
fn searches_through_the_change_are_of_one_model_each() {
    let (database, mut session) = created("change_through");
    let folder = Folder::new();
    let model = crate::adoption::doubled_model(&folder);
    session.run(&format!("SELECT register_model('doubled', '{model}')"));
    session.run("INSERT INTO docs SELECT i, 'note', 'the pump number ' || i || repeat(' of the house', i % 7) FROM generate_series(3, 60) AS i");
    session.run("SELECT enable_search('docs', ARRAY['title', 'body'], model => 'all-MiniLM-L6-v2')");
    drain(&mut session);
    let question =
        "SELECT string_agg(id || ':' || round(similarity::numeric, 4), ' ' ORDER BY similarity DESC, id)
        FROM semantic_search('docs', 'leaking valve of the house', 60)";
    let old = session.text(question);
    let mut before = database.connect();
    before.run("BEGIN ISOLATION LEVEL REPEATABLE READ");
    assert_eq!(before.text("SELECT count(*) FROM docs"), "60");
    session.run("SELECT set_search_model('docs', 'doubled')");
    drain(&mut session);
    let is_over = AtomicBool::new(false);
    let searches = AtomicUsize::new(0);
    let answers = thread::scope(|scope| {
        let searchers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let mut searcher = database.connect();
                    let mut answers = Vec::new();
                    while !is_over.load(Ordering::Relaxed) {
                        let answer = searcher.text(question);
                        if !answers.contains(&answer) {
                            answers.push(answer);
                        }
                        searches.fetch_add(1, Ordering::Relaxed);
                    }
                    answers
                })
            })
            .collect();
        let ending = Ending(&is_over);
        let some_searches = || {
            let now = searches.load(Ordering::Relaxed);
            wait_until("more searches are done", || searches.load(Ordering::Relaxed) > now + 6);
        };
        some_searches();
        session.run(FINISH);
        some_searches();
        for _ in 0..10 {
            session.run(BACK);
            some_searches();
        }
        drop(ending);
        let answers = searchers.into_iter().map(|searcher| searcher.join().expect("no search fails"));
        answers.collect::<Vec<Vec<String>>>()
    });
    let new = session.text(question);
    assert_ne!(old, new, "expected the models to differ in their answers");
    for answers in answers {
        assert_eq!(answers.len(), 2, "{answers:#?}");
        assert!(answers.iter().all(|answer| *answer == old || *answer == new), "{answers:#?}");
    }
    // A transaction that began before goes on with what it saw.
    assert_eq!(before.text(question), old);
    before.run("COMMIT");
    assert_eq!(before.text(question), new);
}

/// Trust 15: nobody waits for a change that waits, and nothing is lost.
#[test]
fn writers_drivers_and_changes_at_once() {
    let (database, mut session) = filled("change_writers");
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let _ending = Ending(&is_over);
        for _ in 0..2 {
            scope.spawn(|| {
                let mut driver = database.connect();
                while !is_over.load(Ordering::Relaxed) {
                    driver.run("SELECT * FROM vector_tools.run_embedding_batch('docs', 7)");
                }
            });
        }
        scope.spawn(|| {
            let mut writer = database.connect();
            let mut round = 0;
            while !is_over.load(Ordering::Relaxed) {
                round += 1;
                // A transaction that searches and then writes holds what a change wants, and the reverse.
                writer.run(&format!(
                    "BEGIN; SELECT id FROM hybrid_search('docs', 'pump', 3);
                     UPDATE docs SET body = 'round {round} of ' || id WHERE id % 7 = {};
                     DELETE FROM docs WHERE id = 40; INSERT INTO docs VALUES (40, 'again', 'born'); COMMIT",
                    round % 7
                ));
            }
        });
        for (model, other) in [(NEW, OLD), (OLD, NEW)] {
            session.run(&format!("SELECT set_search_model('docs', '{model}')"));
            wait_until("the change is complete", || session.try_rows(FINISH).is_ok());
            session.run(BACK);
            assert_eq!(session.text("SELECT model FROM vector_tools.searchable_tables"), other);
            session.run(BACK);
        }
    });
    while session.text("SELECT count(*) FROM vector_tools.queue") != "0" {
        drain(&mut session);
    }
    assert_eq!(session.text("SELECT count(*) FROM vector_tools.embedding_errors"), "0");
    assert_eq!(session.text(&untrue("docs_search", OLD)), "0");
}

#[test]
fn a_finish_that_waits_keeps_nobody_waiting_for_long() {
    let (database, mut session) = filled("change_patience");
    session.run(BEGIN);
    drain(&mut session);
    let mut reader = database.connect();
    reader.run("BEGIN; SELECT id FROM hybrid_search('docs', 'pump', 1)");
    let pid = session.pid;
    thread::scope(|scope| {
        let finisher = scope.spawn(move || {
            session.run(FINISH);
            session
        });
        let mut other = database.connect();
        let waits = format!("SELECT count(*) FROM pg_locks WHERE pid = {pid} AND NOT granted");
        wait_until("the finish waits", || other.text(&waits) == "1");
        // The reader that holds it up can still write, and others can search and write.
        reader.run("UPDATE docs SET title = 'written by the reader' WHERE id = 1");
        other.run("INSERT INTO docs VALUES (200, 'other', 'row')");
        assert_eq!(other.text("SELECT id FROM keyword_search('docs', 'valve', 1)"), "2");
        reader.run("COMMIT");
        let mut session = finisher.join().expect("the change ends");
        assert_eq!(session.text("SELECT model FROM vector_tools.searchable_tables"), NEW);
        session.run("SET lock_timeout = '400ms'");
        reader.run("BEGIN; SELECT id FROM hybrid_search('docs', 'pump', 1)");
        session.fails("55P03", BACK);
        reader.run("COMMIT");
        session.run(BACK);
    });
}

#[test]
fn partitions_keys_of_several_columns_and_hostile_names() {
    let database = Database::with_extension("change_names");
    let mut session = database.connect();
    session.run("CREATE TABLE canary (i int)");
    for (place, name) in hostile_names().into_iter().enumerate() {
        if name.is_empty() || name.len() > 63 {
            continue;
        }
        let table = format!("hostile_{place}.{}", quoted(&name));
        // A column cannot have the name of one of the system's.
        let content = if ["ctid", "tableoid"].contains(&name.as_str()) { "body" } else { name.as_str() };
        let column = quoted(content);
        session.run(&format!(
            "CREATE SCHEMA hostile_{place};
             CREATE TABLE {table} ({column} text, \"k\" int, PRIMARY KEY ({column}, \"k\")) PARTITION BY HASH (\"k\");
             CREATE TABLE hostile_{place}.p0 PARTITION OF {table} FOR VALUES WITH (MODULUS 2, REMAINDER 0);
             CREATE TABLE hostile_{place}.p1 PARTITION OF {table} FOR VALUES WITH (MODULUS 2, REMAINDER 1);
             INSERT INTO {table} VALUES ('the pump lost pressure', 1), ('a valve is leaking', 2)"
        ));
        let ask = |session: &mut Session, call: &str, second: &str| {
            let answer = session.ask(&format!("SELECT {call}::text"), &[&table.as_str(), &second]);
            let answer = answer.unwrap_or_else(|error| panic!("expected {call} for {name}, not {error:?}"));
            answer.into_iter().flatten().collect::<String>()
        };
        let of = |call: &str| call.replace("docs", "$1::text::regclass");
        ask(&mut session, &of("enable_search(docs, ARRAY[$2::text], mode => 'manual')"), content);
        ask(&mut session, &of("set_search_model(docs, $2::text)"), NEW);
        drain(&mut session);
        session.run(&format!("INSERT INTO {table} VALUES ('coffee is ready', 3)"));
        drain(&mut session);
        let finish = of("coalesce(finish_search_model(docs)::text, $2::text)");
        ask(&mut session, &finish, "");
        let search = of("(SELECT content FROM hybrid_search(docs, $2::text, 1))");
        assert_eq!(ask(&mut session, &search, "leaking"), "a valve is leaking", "{name}");
        let rows = of("(SELECT rows FROM vector_tools.search_drift WHERE source = docs AND role = $2::text)");
        assert_eq!(ask(&mut session, &rows, "live"), "3", "{name}");
        ask(&mut session, &of("coalesce(rollback_search_model(docs)::text, $2::text)"), "");
        assert_eq!(ask(&mut session, &search, "coffee"), "coffee is ready", "{name}");
        ask(&mut session, &of("set_search_model(docs, $2::text)"), NEW);
        assert_eq!(
            ask(&mut session, &of("coalesce(disable_search(docs)::text, $2::text)"), ""),
            "true",
            "{name}"
        );
        session.run(&format!("DROP TABLE {table}"));
        let left =
            format!("SELECT count(*) FROM pg_class WHERE relnamespace = 'hostile_{place}'::regnamespace");
        assert_eq!(session.text(&left), "0", "{name}");
    }
    assert_eq!(session.text("SELECT count(*) FROM canary"), "0");
}

/// Trust 11: the server goes down in the middle of a change, and it is taken up.
#[test]
fn a_crash_in_the_middle_loses_nothing() {
    let server = Server::start("test-change-crash", &[("vector_tools.max_workers", "0")]);
    make_template(&server);
    let database = Database::with_extension_on(&server, "change_crash");
    let mut session = database.connect();
    session.run(
        "CREATE TABLE docs (id int PRIMARY KEY, title text, body text);
        INSERT INTO docs SELECT i, 'note', 'row ' || i FROM generate_series(1, 1500) AS i",
    );
    session.run(ENABLE);
    drain(&mut session);
    session.run(BEGIN);
    let mut driver = database.connect();
    let pid = driver.pid;
    let running = thread::spawn(move || driver.try_rows("CALL run_embedding_jobs()").is_err());
    wait_until("a part is filled", || session.text("SELECT count(*) >= 256 FROM docs_search_next") == "t");
    let killed = Command::new("kill").args(["-9", &pid.to_string()]).status();
    assert!(killed.is_ok_and(|status| status.success()), "expected the driver {pid} to be there");
    assert!(running.join().expect("the thread only runs a statement"), "expected the driver to be gone");
    let connection = server.connection(&database.name, "postgres");
    // Until the server notices, it still takes connections, which go down with it.
    wait_until("the server ends all sessions", || session.try_rows("SELECT 1").is_err());
    wait_until("the server is back", || postgres::Client::connect(&connection, postgres::NoTls).is_ok());
    session = database.connect();
    assert_eq!(session.text(MODELS), format!("{OLD}|{NEW}|∅"));
    assert_eq!(session.rows("SELECT id FROM hybrid_search('docs', 'row 77', 3)").len(), 3);
    session.fails("55000", FINISH);
    // The rows that the driver died over are put off for some seconds.
    wait_until("everything is embedded", || {
        drain(&mut session);
        session.text(ENTRIES) == "0"
    });
    // A session that ends before its finish is committed has done nothing.
    let mut ending = database.connect();
    ending.run("BEGIN");
    ending.run(FINISH);
    session.run(&format!("SELECT pg_terminate_backend({}, 10000)", ending.pid));
    assert_eq!(session.text(MODELS), format!("{OLD}|{NEW}|∅"));
    session.run(FINISH);
    let counts = "SELECT role, rows, chunks FROM vector_tools.search_drift ORDER BY role";
    assert_eq!(session.rows(counts), ["live|1500|1500", "previous|1500|1500"]);
    assert_eq!(session.text(&untrue("docs_search", NEW)), "0");
}

/// Trust 16.
#[test]
fn an_ordinary_owner_dumps_and_restores_a_change() {
    let original = Database::with_extension("change_dump");
    original.create_role("change_dump_role");
    original.connect().run("CREATE SCHEMA own AUTHORIZATION change_dump_role");
    let mut session = original.connect_as("change_dump_role");
    session.run("SET search_path = own, public");
    session.run(CREATE);
    session
        .run("INSERT INTO docs SELECT i, 'note', 'the pump number ' || i FROM generate_series(3, 40) AS i");
    session.run(ENABLE);
    drain(&mut session);
    session.run(BEGIN);
    session.run("SELECT * FROM vector_tools.run_embedding_batch('docs', 25)");
    let restored = Database::with_extension("change_dump_restored");
    restored.connect().run("CREATE SCHEMA own AUTHORIZATION change_dump_role");
    let folder = Folder::new();
    let file = folder.path().join("dump").display().to_string();
    let as_owner = |database: &Database| database.server.connection(&database.name, "change_dump_role");
    dump::run(
        "pg_dump",
        &["--schema=own", "--schema-only", "--file", &file, "--dbname", &as_owner(&original)],
    );
    dump::run("pg_dump", &["--table=own.*", "--file", &file, "--dbname", &as_owner(&original)]);
    dump::run("psql", &["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", &file, &as_owner(&restored)]);
    let mut copy = restored.connect_as("change_dump_role");
    copy.run("SET search_path = own, public");
    assert_eq!(copy.text(MODELS), format!("{OLD}|{NEW}|∅"));
    assert_eq!(copy.rows(DRIFT), session.rows(DRIFT));
    assert_eq!(copy.text("SELECT id FROM hybrid_search('docs', 'leaking valve', 1)"), "2");
    copy.fails("55000", FINISH);
    // The queue is not his to dump; asking again finds what it held.
    copy.run(BEGIN);
    drain(&mut copy);
    copy.run(FINISH);
    assert_eq!(copy.text(&untrue("docs_search", NEW)), "0");
    // What is kept is dumped too.
    dump::run("pg_dump", &["--table=own.*", "--file", &file, "--dbname", &as_owner(&restored)]);
    copy.run("SELECT disable_search('docs'); DROP TABLE docs");
    dump::run("psql", &["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", &file, &as_owner(&restored)]);
    copy.run(BACK);
    assert_eq!(copy.text(&untrue("docs_search", OLD)), "0");
}
