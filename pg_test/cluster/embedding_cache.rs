//! The cache of embeddings: what it saves, who may look into it, and that nobody waits for it.

use crate::database::{Database, MODEL, make_template};
use crate::embedder::statistic;
use crate::searchable::{ENABLE, UNTRUE, created, drain};
use crate::server::Server;
use crate::session::Session;

const STATS: &str = "SELECT entries, hits, misses FROM vector_tools.cache_stats";
const SYNC: &str = "SELECT enable_search('docs', ARRAY['title', 'body'], mode => 'sync')";

#[test]
fn a_text_is_embedded_once_whoever_asks_for_it() {
    let server = Server::start("test-embedding-cache", &[]);
    make_template(&server);
    let database = Database::with_extension_on(&server, "cache_once");
    let mut session = database.connect();
    assert_eq!(session.text("SELECT warm_up()"), "384");
    let begin = statistic(&mut session, "texts");
    let embedded = |session: &mut Session| statistic(session, "texts") - begin;
    session.run("CREATE TABLE docs (id int PRIMARY KEY, title text, body text)");
    session.run(ENABLE);
    session.run("INSERT INTO docs SELECT i, 'kind ' || i % 3, 'same' FROM generate_series(1, 60) AS i");
    drain(&mut session);
    assert_eq!(embedded(&mut session), 3, "expected equal texts of a batch to be embedded once");
    // Another table, in sync mode; what is there already; one that is new.
    session.run(
        "CREATE TABLE notes (id int PRIMARY KEY, body text);
         SELECT enable_search('notes', ARRAY['body'], mode => 'sync');
         INSERT INTO notes SELECT i, E'kind 1\n\nsame' FROM generate_series(1, 3) AS i;
         INSERT INTO notes VALUES (9, 'new')",
    );
    assert_eq!(embedded(&mut session), 4);
    // A document of a store.
    session.run("SELECT create_vector_store('store', index_kind => 'none')");
    session.run(
        "SELECT upsert_document('store', 'document', gen_random_uuid(), ARRAY['new', E'kind 2\n\nsame', 'newer'])",
    );
    assert_eq!(embedded(&mut session), 5);
    assert_eq!(session.text(STATS), "5|3|5");
    let untrue = "SELECT (SELECT count(*) FROM docs_search WHERE embedding <=> embed(content) > 1e-5)
        + (SELECT count(*) FROM notes_search WHERE embedding <=> embed(content) > 1e-5)
        + (SELECT count(*) FROM store.vector_embeddings WHERE embedding <=> embed(content) > 1e-5)";
    assert_eq!(session.text(untrue), "0");
    // Without the cache equal texts of a batch are embedded once all the same.
    let begin = statistic(&mut session, "texts");
    session.run(
        "SET vector_tools.embedding_cache_size = 0; INSERT INTO notes SELECT i, 'new' FROM generate_series(20, 30) AS i",
    );
    assert_eq!(statistic(&mut session, "texts") - begin, 1);
    assert_eq!(session.text(STATS), "5|3|5");
}

#[test]
fn a_model_that_is_registered_anew_finds_nothing_of_the_one_before() {
    let (_database, mut session) = created("cache_model");
    session.run(&format!("SELECT register_model('mine', '{MODEL}')"));
    let enable = "SELECT enable_search('docs', ARRAY['title', 'body'], 'mine')";
    session.run(enable);
    drain(&mut session);
    session.run("SELECT disable_search('docs'); SELECT drop_model('mine')");
    session.run(&format!(
        "SELECT register_model('mine', '{MODEL}', options => '{{\"passage_prefix\": \"about: \"}}')"
    ));
    session.run(enable);
    drain(&mut session);
    assert_eq!(session.text(STATS), "4|0|4");
    let untrue = "SELECT count(*) FROM docs_search WHERE embedding <=> embed(content, 'mine') > 1e-5";
    assert_eq!(session.text(untrue), "0");
    // The same files under another name are the same model.
    session.run(&format!("SELECT register_model('copy', '{MODEL}')"));
    session.run("SELECT enable_search('docs', ARRAY['title', 'body'], 'copy')");
    drain(&mut session);
    assert_eq!(session.text(STATS), "4|2|4");
    assert_eq!(session.text(UNTRUE), "0");
}

// trust 15
#[test]
fn nobody_waits_for_it() {
    let (database, mut session) = created("cache_waiting");
    session.run(SYNC);
    session.run("CREATE TABLE notes (id int PRIMARY KEY, body text)");
    session.run("SELECT enable_search('notes', ARRAY['body'], mode => 'sync')");
    let mut other = database.connect();
    // Lock waits would end in an error here; one of the cache's would be a warning.
    session.run("SET lock_timeout = '200ms'");
    other.run("BEGIN; INSERT INTO docs VALUES (10, NULL, 'one'), (11, NULL, 'two'), (12, NULL, 'three')");
    session.run("BEGIN; INSERT INTO notes VALUES (1, 'three'), (2, 'two'), (3, 'one')");
    other.run("INSERT INTO docs VALUES (13, NULL, 'four')");
    session.run("INSERT INTO notes VALUES (4, 'four')");
    session.run("COMMIT");
    other.run("COMMIT");
    assert_eq!(
        session.text("SELECT count(*), count(DISTINCT key) FROM vector_tools.embedding_cache"),
        "10|6"
    );
    // Both note that they use the same entries, and both evict.
    session.run("UPDATE vector_tools.embedding_cache SET last_used = now() - interval '1 day'");
    other.run("BEGIN; INSERT INTO docs VALUES (20, NULL, 'one'), (21, NULL, 'two')");
    session.run("BEGIN; INSERT INTO notes VALUES (20, 'two'), (21, 'one'), (22, 'three')");
    other.run("INSERT INTO docs VALUES (22, NULL, 'three')");
    session.run("COMMIT");
    other.run("COMMIT");
    let notices = session.take_notices();
    assert!(notices.is_empty(), "{notices:?}");
    assert_eq!(session.text("SELECT sum(hits) FROM vector_tools.cache_stats"), "6");
}

#[test]
fn it_stays_within_its_bounds_and_forgets_what_was_not_used() {
    let (_database, mut session) = created("cache_bounds");
    session.run("SET vector_tools.embedding_cache_size = 1");
    session.run(ENABLE);
    drain(&mut session);
    // Two entries that were used just now, among many that were not.
    session.run(
        "INSERT INTO vector_tools.embedding_cache (last_used, key, embedding)
         SELECT now() - i * interval '1 minute', sha256(i::text::bytea), embedding
         FROM generate_series(1, 900) AS i, (SELECT embedding FROM vector_tools.embedding_cache LIMIT 1) AS e",
    );
    session.run("INSERT INTO docs SELECT i, 't', 'text ' || i FROM generate_series(100, 250) AS i");
    drain(&mut session);
    let entries: usize =
        session.text("SELECT entries FROM vector_tools.cache_stats").parse().expect("a number");
    assert!((500..=604).contains(&entries), "expected what fits into a megabyte, not {entries}");
    let oldest = "SELECT max(now() - last_used) < interval '900 minutes' FROM vector_tools.embedding_cache";
    assert_eq!(session.text(oldest), "t", "expected the oldest to be gone");
    session.run("UPDATE docs SET title = 'other' WHERE id < 3");
    drain(&mut session);
    session
        .run("UPDATE docs SET title = 'pumps' WHERE id = 1; UPDATE docs SET title = 'valves' WHERE id = 2");
    drain(&mut session);
    let hits = session.text("SELECT hits FROM vector_tools.cache_stats");
    assert_eq!(hits, "2", "expected those used lately to be there");
    assert_eq!(session.text(UNTRUE), "0");
}

// trust 4
#[test]
fn it_is_for_nobody_to_read() {
    let (database, mut session) = created("cache_rights");
    session.run(SYNC);
    database.create_role("cache_rights_writer");
    database.create_role("cache_rights_observer");
    session
        .run("GRANT INSERT ON docs TO cache_rights_writer; GRANT pg_read_all_stats TO cache_rights_observer");
    let mut writer = database.connect_as("cache_rights_writer");
    writer.run("INSERT INTO docs VALUES (7, 'pumps', 'the pump lost pressure')");
    for forbidden in [
        "TABLE vector_tools.embedding_cache",
        "TABLE vector_tools.cache_uses",
        "TABLE vector_tools.cache_stats",
        "INSERT INTO vector_tools.embedding_cache (key, embedding) VALUES ('', '[1]')",
        "TRUNCATE vector_tools.embedding_cache",
        "SET vector_tools.embedding_cache_size = 0",
    ] {
        writer.fails("42501", forbidden);
    }
    let mut observer = database.connect_as("cache_rights_observer");
    assert_eq!(observer.text(STATS), "2|1|2");
    observer.fails("42501", "TABLE vector_tools.embedding_cache");
    assert_eq!(session.text(UNTRUE), "0");
}

#[test]
fn what_is_rolled_back_is_not_kept_and_what_fails_is_a_warning() {
    let (_database, mut session) = created("cache_rollback");
    session.run(SYNC);
    session.run("BEGIN; INSERT INTO docs VALUES (3, 'a', 'b'); ROLLBACK");
    session.run("BEGIN; SAVEPOINT s; INSERT INTO docs VALUES (3, 'a', 'b'); ROLLBACK TO s; COMMIT");
    assert_eq!(session.text(STATS), "2|0|2");
    // A transaction that keeps its snapshot leaves it alone.
    session.run("BEGIN ISOLATION LEVEL SERIALIZABLE; INSERT INTO docs VALUES (3, 'pumps', 'b'); COMMIT");
    assert_eq!(session.text(STATS), "2|0|2");
    session.take_notices();
    session.run("ALTER TABLE vector_tools.embedding_cache ADD CHECK (false) NOT VALID");
    session.run("INSERT INTO docs VALUES (4, 'c', 'd')");
    let notices = session.take_notices();
    assert_eq!(notices.len(), 1, "{notices:?}");
    assert_eq!(notices[0].code().code(), "01000");
    assert_eq!(session.text(UNTRUE), "0");
    assert_eq!(session.text(STATS), "2|0|2");
    // Once a statement, not once a row.
    for _ in 0..2 {
        session.run(
            "DO $$ BEGIN
                 FOR i IN 1..30 LOOP INSERT INTO docs VALUES ((SELECT max(id) + 1 FROM docs), 'row ' || i, 'text'); END LOOP;
             END $$",
        );
        let notices = session.take_notices();
        assert_eq!(notices.len(), 1, "{notices:?}");
    }
    assert_eq!(session.text(UNTRUE), "0");
}
