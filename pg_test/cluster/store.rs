//! Vector stores with several sessions, roles, a dump, a standby and hostile names.

use std::process::{Command, Stdio};
use std::thread;

use crate::database::{Database, MODEL};
use crate::models::Folder;
use crate::names::{check_canary, expect_refusal, guarded, hostile_names};
use crate::process::wait_until;
use crate::server::program;
use crate::session::{Session, described};

const ONE: &str = "'00000000-0000-0000-0000-000000000001'";

/// A database with a store, in which one namespace has a partition.
fn with_store(name: &str) -> (Database<'static>, Session) {
    let database = Database::with_extension(name);
    let mut session = database.connect();
    session
        .run(&format!("SELECT create_vector_store('reg', '{MODEL}'); SELECT create_namespace('reg', 'eu')"));
    (database, session)
}

fn document(chunks: &str, more: &str) -> String {
    format!(
        "SELECT inserted + updated FROM upsert_document('reg', 'document', {ONE}, ARRAY[{chunks}]::text[]{more})"
    )
}

// trust 15
#[test]
fn sessions_that_write_one_document_leave_one_consistent_document() {
    let (database, mut session) = with_store("store_writers");
    session.run(
        "CREATE TABLE versions AS SELECT v, array_agg('version ' || v || ' chunk ' || c) AS chunks
                 FROM generate_series(1, 8) AS v, LATERAL generate_series(1, 1 + v * 3) AS c GROUP BY v",
    );
    let writers: Vec<_> = (1..=8)
        .map(|version| {
            let mut session = database.connect();
            thread::spawn(move || {
                for round in 0..6 {
                    let version = (version + round) % 8 + 1;
                    let call = format!(
                        "SELECT u.* FROM versions, upsert_document('reg', 'document', {ONE}, chunks, 'eu') AS u \
                         WHERE v = {version}"
                    );
                    session.try_rows(&call).map_err(|error| described(&error))?;
                }
                Ok::<(), String>(())
            })
        })
        .collect();
    for writer in writers {
        let result = writer.join().expect("the thread only runs statements");
        assert_eq!(result, Ok(()), "expected no deadlock and no duplicate");
    }
    let whole = session.text(
        "SELECT count(*) FROM versions AS v WHERE chunks = (
             SELECT array_agg(content ORDER BY chunk_index) FROM reg.vector_embeddings)",
    );
    assert_eq!(whole, "1", "expected the chunks of one version and no other");
    let embedded = session.text(&format!(
        "SELECT bool_and((embedding <=> embed(content, '{MODEL}')) < 0.001) FROM reg.vector_embeddings"
    ));
    assert_eq!(embedded, "t", "expected each chunk with its own embedding");
}

// trust 15
#[test]
fn writers_and_clearers_of_a_namespace_do_not_wait_for_each_other_in_a_circle() {
    let (database, mut session) = with_store("store_clear");
    session.run(
        "CREATE TABLE ready AS SELECT i, md5((i / 10)::text)::uuid AS source, i % 10 AS place, 'text ' || i AS content,
             (SELECT array_agg(sin(i * n)) FROM generate_series(1, 384) AS n)::vector AS v
         FROM generate_series(0, 299) AS i",
    );
    let statements = [
        "SELECT upsert_embeddings('reg', array_agg('a'::text), array_agg(source), array_agg(place), array_agg(content || random()),
             array_agg(v), array_agg('eu'::text)) FROM ready"
            .to_owned(),
        "SELECT upsert_embeddings('reg', array_agg('a'::text ORDER BY i DESC), array_agg(source ORDER BY i DESC),
             array_agg(place ORDER BY i DESC), array_agg(content || random() ORDER BY i DESC),
             array_agg(v ORDER BY i DESC), array_agg('eu'::text)) FROM ready"
            .to_owned(),
        "SELECT clear_namespace('reg', 'eu')".to_owned(),
        "SELECT delete_document('reg', 'a', md5('7')::uuid)".to_owned(),
        "SELECT upsert_document('reg', 'a', md5('7')::uuid, ARRAY['x' || random(), 'y'], 'eu')".to_owned(),
    ];
    let runners: Vec<_> = statements
        .into_iter()
        .map(|statement| {
            let mut session = database.connect();
            thread::spawn(move || {
                for _ in 0..10 {
                    session
                        .try_rows(&statement)
                        .map_err(|error| format!("{}: {statement}", described(&error)))?;
                }
                Ok::<(), String>(())
            })
        })
        .collect();
    for runner in runners {
        let result = runner.join().expect("the thread only runs statements");
        assert_eq!(result, Ok(()), "expected neither a deadlock nor an error");
    }
    session.run("SELECT clear_namespace('reg', 'eu')");
    assert_eq!(session.text("SELECT count_embeddings('reg')"), "0");
}

// trust 15
#[test]
fn stores_made_by_several_sessions_at_once_are_one() {
    let database = Database::with_extension("store_race");
    let makers: Vec<_> = (0..6)
        .map(|_| {
            let mut session = database.connect();
            thread::spawn(move || {
                let make = format!(
                    "SELECT create_vector_store('race', '{MODEL}'); SELECT create_namespace('race', 'x')"
                );
                session.try_rows(&make).map(|_| ()).map_err(|error| described(&error))
            })
        })
        .collect();
    for maker in makers {
        assert_eq!(maker.join().expect("the thread only runs statements"), Ok(()));
    }
    let found = database.connect().text("SELECT partitions FROM vector_tools.vector_stores");
    assert_eq!(found, "2", "expected the default partition and one more");
}

#[test]
fn a_search_of_one_namespace_leaves_the_partitions_of_others_alone() {
    let (database, mut session) = with_store("store_pruning");
    session.run("SELECT create_namespace('reg', 'us')");
    session.run(&document("'a pump', 'a valve'", ", 'eu', '{\"lang\": \"en\"}'"));
    session.run("SELECT refresh_search_stats('reg.vector_embeddings')");
    let mut other = database.connect();
    other.run(
        "BEGIN; LOCK TABLE ONLY reg.vector_embeddings_us, reg.vector_embeddings_default IN ACCESS EXCLUSIVE MODE",
    );
    session.run("SET lock_timeout = '5s'; SET vector_tools.auto_refresh_statistics = off");
    for more in ["", ", fusion => 'relative'", ", vector_weight => 0", ", metadata => '{\"lang\": \"en\"}'"] {
        // Often enough that a statement could get a plan for all values.
        for _ in 0..8 {
            let found =
                session.rows(&format!("SELECT content FROM search_embeddings('reg', 'pump', 'eu', 1{more})"));
            assert_eq!(found, ["a pump"], "expected the search not to wait, with {more:?}");
        }
    }
    session.run(&document("'a pump', 'a new valve'", ", 'eu'"));
    other.run("ROLLBACK");
}

// trust 15
#[test]
fn a_namespace_dropped_under_a_running_search_waits_for_it() {
    let (database, mut session) = with_store("store_drop");
    session.run(&document("'a pump', 'a valve'", ", 'eu'"));
    session.run("BEGIN");
    let question = "SELECT content FROM search_embeddings('reg', 'pump', 'eu', 1)";
    assert_eq!(session.rows(question), ["a pump"]);
    let mut dropper = database.connect();
    let pid = dropper.pid;
    let dropping = thread::spawn(move || {
        dropper.try_rows("SELECT drop_namespace('reg', 'eu')").map(|_| ()).map_err(|error| described(&error))
    });
    let mut observer = database.connect();
    let waiting = format!("SELECT coalesce(wait_event_type, '') FROM pg_stat_activity WHERE pid = {pid}");
    wait_until("the drop waits for the search", || observer.text(&waiting) == "Lock");
    assert_eq!(session.rows(question), ["a pump"], "expected the same answer to the end of the transaction");
    session.run("COMMIT");
    assert_eq!(dropping.join().expect("the thread only runs a statement"), Ok(()));
    assert!(session.rows(question).is_empty(), "expected no row of a namespace that is gone");
}

// trust 3
#[test]
fn hostile_schemas_namespaces_collections_and_sources() {
    let (_database, mut session) = guarded("store_names");
    session.run(&format!("SELECT create_vector_store('reg', '{MODEL}', index_kind => 'none')"));
    session.run("CREATE TABLE ready AS SELECT embed('kept') AS v");
    for name in hostile_names() {
        let upsert = "SELECT inserted::text FROM upsert_document('reg', $1, gen_random_uuid(), $1, $1, jsonb_build_object($1::text, $1::text))";
        let named: &[&str] = &["42602"];
        if name.is_empty() {
            expect_refusal(session.ask("SELECT create_namespace('reg', $1)::text", &[&name]), named, &name);
            expect_refusal(session.ask("SELECT create_collection('reg', $1)::text", &[&name]), named, &name);
            expect_refusal(session.ask("SELECT create_vector_store($1)::text", &[&name]), named, &name);
            continue;
        }
        if name.chars().count() <= 50 {
            assert_eq!(
                session.ask(upsert, &[&name]),
                Ok(vec![Some("1".to_owned())]),
                "expected a row for {name:?}"
            );
        } else {
            expect_refusal(session.ask(upsert, &[&name]), &["22001"], &name);
            let by_namespace =
                "SELECT inserted::text FROM upsert_document('reg', 'd', gen_random_uuid(), 'x', $1)";
            assert!(session.ask(by_namespace, &[&name]).is_ok(), "expected a row in the namespace {name:?}");
        }
        let created = session.ask("SELECT create_namespace('reg', $1)::text", &[&name]);
        let partition =
            created.unwrap_or_else(|error| panic!("expected a partition for {name:?}, not {error:?}"));
        let partition = partition.concat_text();
        assert!(partition.starts_with("reg.vector_embeddings_") && partition.len() <= 67, "{partition}");
        let counted = session.ask("SELECT count_embeddings('reg', $1)::text", &[&name]);
        assert_eq!(counted, Ok(vec![Some("1".to_owned())]), "expected the row of {name:?} in its partition");
        let again = session.ask("SELECT create_namespace('reg', $1)::text", &[&name]);
        assert_eq!(again.map(|rows| rows.concat_text()), Ok(partition), "expected the same partition again");
        let collection = session.ask("SELECT create_collection('reg', $1, $1)::text", &[&name]);
        assert!(collection.is_ok(), "expected a collection {name:?}, not {collection:?}");
        let search =
            "SELECT content FROM search_embeddings('reg', $1, $1, query_embedding => (SELECT v FROM ready))";
        let found = session.ask(search, &[&name]);
        assert_eq!(found.map(|rows| rows.len()), Ok(1), "expected one row in the namespace {name:?}");
        for call in [
            "SELECT count_embeddings('reg', source_type => $1)::text",
            "SELECT count_embeddings('reg', collection => $1)::text",
            "SELECT drop_collection('reg', $1)::text",
            "SELECT clear_namespace('reg', $1)::text",
            "SELECT drop_namespace('reg', $1)::text",
        ] {
            let done = session.ask(call, &[&name]);
            assert!(done.is_ok(), "expected {call} to work for {name:?}, not {done:?}");
        }
        let made = session.ask("SELECT create_vector_store($1, index_kind => 'none')::text", &[&name]);
        if name.len() > 63 {
            expect_refusal(made, named, &name);
        } else if name == "pg_catalog" {
            expect_refusal(made, &["42501"], &name);
        } else {
            assert!(made.is_ok(), "expected a store in the schema {name:?}, not {made:?}");
            let counted = session.ask("SELECT count_embeddings($1)::text", &[&name]);
            assert_eq!(counted, Ok(vec![Some("0".to_owned())]), "expected a store in {name:?}");
        }
        check_canary(&mut session, &name);
    }
}

/// The only text of the only row.
trait ConcatText {
    fn concat_text(self) -> String;
}

impl ConcatText for Vec<Option<String>> {
    fn concat_text(self) -> String {
        self.into_iter().flatten().collect()
    }
}

// trust 4, 5
#[test]
fn roles_may_do_what_they_were_granted() {
    let (database, mut owner) = with_store("store_rights");
    owner.run(&document("'a pump'", ", 'eu'"));
    for role in ["store_rights_reader", "store_rights_writer", "store_rights_stranger"] {
        database.create_role(role);
    }
    owner.run(
        "GRANT USAGE ON SCHEMA reg TO store_rights_reader, store_rights_writer;
         GRANT SELECT ON reg.vector_embeddings, reg.embedding_collections TO store_rights_reader, store_rights_writer;
         GRANT INSERT, UPDATE ON reg.vector_embeddings TO store_rights_writer",
    );
    let search = "SELECT content FROM search_embeddings('reg', 'pump', 'eu')";
    let mut stranger = database.connect_as("store_rights_stranger");
    let denied = [
        search.to_owned(),
        "SELECT count_embeddings('reg')".to_owned(),
        document("'x'", ""),
        format!("SELECT delete_document('reg', 'document', {ONE})"),
        "SELECT clear_namespace('reg', 'eu')".to_owned(),
        "SELECT create_namespace('reg', 'x')".to_owned(),
        "SELECT drop_namespace('reg', 'eu')".to_owned(),
        "SELECT index_vector_store('reg')".to_owned(),
        "SELECT create_collection('reg', 'x')".to_owned(),
        "SELECT create_vector_store('mine')".to_owned(),
    ];
    for call in &denied {
        stranger.fails("42501", call);
    }
    let mut reader = database.connect_as("store_rights_reader");
    // A reader's search is logged, though the reader can neither read nor write the log.
    let switch = "SET vector_tools.log_searches = on";
    let count = "SELECT count(*) FROM reg.vector_search_logs";
    // Before the library is loaded it is a mere name, which counts for nothing.
    reader.run(switch);
    assert_eq!(reader.rows(search), ["a pump"]);
    assert_eq!(owner.text(count), "0");
    reader.fails("42501", switch);
    owner.run("ALTER ROLE store_rights_reader SET vector_tools.log_searches = on");
    let mut reader = database.connect_as("store_rights_reader");
    assert_eq!(reader.rows(search), ["a pump"]);
    reader.fails("42501", "SELECT * FROM reg.vector_search_logs");
    for call in denied.iter().skip(2) {
        reader.fails("42501", call);
    }
    let logged = owner.rows("SELECT caller, query_text FROM reg.vector_search_logs");
    assert_eq!(logged, ["store_rights_reader|pump"]);
    // A question has its length, whatever was asked.
    reader.run("SELECT * FROM search_embeddings('reg', repeat('ü', 100000), vector_weight => 0)");
    let longest = "SELECT max(length(query_text)) FROM reg.vector_search_logs";
    assert_eq!(owner.text(longest), "2000");
    let mut writer = database.connect_as("store_rights_writer");
    writer.run(&document("'a pump', 'a valve'", ", 'eu'"));
    writer.fails("42501", "SELECT clear_namespace('reg', 'eu')");
    // Policies hold, in the log's way too.
    owner.run(
        "ALTER TABLE reg.vector_embeddings ENABLE ROW LEVEL SECURITY;
         CREATE POLICY valves ON reg.vector_embeddings FOR SELECT USING (content LIKE '%valve%')",
    );
    assert_eq!(reader.rows(search), ["a valve"], "expected the visible row only");
    assert_eq!(reader.text("SELECT count_embeddings('reg')"), "1");
}

// trust 4
#[test]
fn a_log_of_somebody_else_is_not_written() {
    let (database, mut owner) = with_store("store_log");
    database.create_role("store_log_role");
    owner.run(&document("'a pump'", ""));
    // Another role's trigger would run with the rights of whoever writes.
    owner.run(
        "GRANT USAGE, CREATE ON SCHEMA reg TO store_log_role; GRANT SELECT ON reg.vector_embeddings TO store_log_role;
         DROP TABLE reg.vector_search_logs",
    );
    let mut other = database.connect_as("store_log_role");
    other.run("CREATE TABLE reg.vector_search_logs (id int, query_text text, caller name)");
    owner.run("SET vector_tools.log_searches = on; SELECT * FROM search_embeddings('reg', 'pump')");
    assert_eq!(other.text("SELECT count(*) FROM reg.vector_search_logs"), "0");
    owner.run("DROP TABLE reg.vector_search_logs; SELECT * FROM search_embeddings('reg', 'pump')");
}

// trust 18
#[test]
fn a_read_only_transaction_searches_and_logs_nothing() {
    let (_database, mut session) = with_store("store_read_only");
    session.run(&document("'a pump'", ""));
    session.run("SET vector_tools.log_searches = on; BEGIN READ ONLY");
    assert_eq!(session.rows("SELECT content FROM search_embeddings('reg', 'pump')"), ["a pump"]);
    assert_eq!(session.text("SELECT count_embeddings('reg')"), "1");
    session.run("ROLLBACK; SET default_transaction_read_only = on");
    let changes = [
        "SELECT create_vector_store('other')".to_owned(),
        "SELECT create_namespace('reg', 'x')".to_owned(),
        "SELECT drop_namespace('reg', 'eu')".to_owned(),
        "SELECT index_vector_store('reg')".to_owned(),
        "SELECT create_collection('reg', 'x')".to_owned(),
        "SELECT drop_collection('reg', 'x')".to_owned(),
        document("'a valve'", ""),
        "SELECT upsert_embeddings('reg', '[]'::jsonb)".to_owned(),
        format!("SELECT delete_document('reg', 'document', {ONE})"),
        "SELECT clear_namespace('reg', 'eu')".to_owned(),
    ];
    for change in changes {
        session.fails("25006", &change);
    }
    session.run("SET default_transaction_read_only = off");
    assert_eq!(session.text("SELECT count(*) FROM reg.vector_search_logs"), "0");
}

// trust 16
#[test]
fn a_dump_restores_a_store() {
    let (original, mut session) = with_store("store_dump");
    session.run(&document("'a pump', 'a valve'", ", 'eu', '{\"n\": 1}'"));
    session.run("SELECT create_collection('reg', 'laws', 'eu'); SELECT create_namespace('reg', 'Odd Name')");
    let restored = Database::empty("store_dump_restored");
    let folder = Folder::new();
    let file = folder.path().join("dump").display().to_string();
    let run = |name: &str, arguments: &[&str]| {
        let output = Command::new(program(name)).args(arguments).stdin(Stdio::null()).output();
        let output = output.unwrap_or_else(|error| panic!("expected {name} to start: {error}"));
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "expected {name} {arguments:?} to succeed:\n{errors}");
    };
    run("pg_dump", &["--format=custom", "--file", &file, "--dbname", &original.connection()]);
    run("pg_restore", &["--exit-on-error", "--dbname", &restored.connection(), &file]);
    let mut again = restored.connect();
    for fact in [
        "SELECT tableoid::regclass, * FROM reg.vector_embeddings ORDER BY id",
        "SELECT * FROM reg.embedding_collections",
        "SELECT * FROM vector_tools.vector_stores",
        "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'reg' ORDER BY 1",
        "SELECT conrelid::regclass, conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = 'reg'::regnamespace ORDER BY conrelid::regclass::text, conname",
        "SELECT content, score FROM search_embeddings('reg', 'pump', 'eu')",
    ] {
        assert_eq!(again.rows(fact), session.rows(fact), "expected the same after the restore: {fact}");
    }
    assert_eq!(
        again.text(&document("'a pump', 'a valve'", ", 'eu', '{\"n\": 1}'")),
        "0",
        "expected nothing to embed"
    );
    again.run("SELECT create_namespace('reg', 'us'); SELECT drop_namespace('reg', 'Odd Name')");
}

#[test]
fn a_superuser_makes_a_partition_for_the_owner() {
    let database = Database::with_extension("store_owner");
    database.create_role("store_owner_role");
    let mut superuser = database.connect();
    superuser.run("CREATE SCHEMA reg AUTHORIZATION store_owner_role");
    let mut owner = database.connect_as("store_owner_role");
    owner.run(&format!("SELECT create_vector_store('reg', '{MODEL}')"));
    superuser.run("SELECT create_namespace('reg', 'eu')");
    owner.run("SELECT drop_namespace('reg', 'eu')");
}
