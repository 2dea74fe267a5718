//! What becomes of a searchable table whose shape or place changes, tables of unusual shapes (3, 4), the
//! index that has to wait for rows (25), and progress that may be asked for every second.

use crate::database::Database;
use crate::searchable::{UNTRUE, drain, embedded};
use crate::session::Session;

const BEGIN: &str = "SELECT set_search_model('docs', 'all-MiniLM-L6-v2')";

#[test]
fn tables_and_columns_may_be_renamed_and_moved_during_a_change() {
    let (_database, mut session) = embedded("shapes_renamed");
    session.run(BEGIN);
    session.run(
        "CREATE SCHEMA elsewhere; ALTER TABLE docs RENAME id TO number; ALTER TABLE docs RENAME body TO words;
         ALTER TABLE docs RENAME TO papers; ALTER TABLE papers SET SCHEMA elsewhere;
         ALTER TABLE docs_search RENAME TO pieces",
    );
    session.run("INSERT INTO elsewhere.papers VALUES (3, 'tea', 'coffee is ready')");
    drain(&mut session);
    assert_eq!(session.text("SELECT finish_search_model('elsewhere.papers')"), "pieces");
    session.run("UPDATE elsewhere.papers SET number = 30, words = 'tea is ready' WHERE number = 3");
    drain(&mut session);
    assert_eq!(session.rows("SELECT id FROM hybrid_search('elsewhere.papers', 'tea', 1)"), ["30"]);
    session.fails("0A000", "ALTER TABLE elsewhere.papers ALTER number TYPE bigint");
    session.run("SELECT rollback_search_model('elsewhere.papers')");
    drain(&mut session);
    assert_eq!(session.rows("SELECT id FROM hybrid_search('elsewhere.papers', 'tea', 1)"), ["30"]);
    assert_eq!(session.text("SELECT count(*) FROM pieces"), "3");
}

#[test]
fn a_dropped_column_is_said_and_can_be_left_out() {
    let (database, mut session) = embedded("shapes_dropped");
    session.fails("2BP01", "ALTER TABLE docs DROP title");
    session.run("ALTER TABLE docs DROP title CASCADE");
    let error = session.fails("55000", "SELECT id FROM hybrid_search('docs', 'pump')");
    assert_eq!(error.message(), "a column that searches of table public.docs read is gone");
    // Others go on: its rows wait, and lists do not stumble over it.
    session.run(
        "CREATE TABLE other (id int PRIMARY KEY, body text); SELECT enable_search('other', ARRAY['body'])",
    );
    session.run("INSERT INTO docs (id, body) VALUES (3, 'new'); INSERT INTO other VALUES (1, 'other')");
    drain(&mut session);
    assert_eq!(session.text("SELECT total, embedded FROM vector_tools.search_progress"), "1|1");
    session.run("SELECT * FROM vector_tools.search_drift");
    database.create_role("shapes_dropped_reader");
    session.run("GRANT SELECT ON docs TO shapes_dropped_reader");
    let mut reader = database.connect_as("shapes_dropped_reader");
    assert_eq!(
        reader.text("SELECT count(*) FROM docs_search"),
        "0",
        "expected the policy to be gone with the column"
    );
    session.run("SELECT enable_search('docs', ARRAY['body'])");
    drain(&mut session);
    assert_eq!(session.rows("SELECT id FROM hybrid_search('docs', 'leaking valve', 1)"), ["2"]);
    assert_eq!(reader.text("SELECT count(*) FROM docs_search"), "3");
    // Or ended.
    session.run("ALTER TABLE docs DROP body CASCADE");
    assert_eq!(session.text("SELECT disable_search('docs')"), "t");
    session.run("DROP TABLE docs");
}

#[test]
fn what_goes_takes_its_chunks_during_a_change_and_after_it() {
    let (_database, mut session) = embedded("shapes_gone");
    session.run("INSERT INTO docs SELECT i, 'note', 'row ' || i FROM generate_series(3, 20) AS i");
    session.run(BEGIN);
    drain(&mut session);
    session.run("DELETE FROM docs WHERE id = 3; UPDATE docs SET id = 100 WHERE id = 4");
    let rows = |companion: &str| format!("SELECT count(*), max(row_id) FROM {companion}");
    assert_eq!(session.text(&rows("docs_search_next")), "19|100");
    session.run("SELECT finish_search_model('docs'); DELETE FROM docs WHERE id = 5; UPDATE docs SET id = 101 WHERE id = 100");
    assert_eq!(session.text(&rows("docs_search_previous")), "18|101");
    session.fails("0A000", "TRUNCATE docs");
    session.run("TRUNCATE docs CASCADE");
    for companion in ["docs_search", "docs_search_previous"] {
        assert_eq!(session.text(&rows(companion)), "0|∅");
    }
    session.run("INSERT INTO docs VALUES (1, 'a', 'b')");
    drain(&mut session);
    session.run("SELECT rollback_search_model('docs')");
    drain(&mut session);
    assert_eq!(session.text(UNTRUE), "0");
}

#[test]
fn partitions_come_and_go() {
    let database = Database::with_extension("shapes_partitions");
    let mut session = database.connect();
    session.run(
        "CREATE TABLE docs (region text, id int, body text, PRIMARY KEY (region, id)) PARTITION BY LIST (region);
         CREATE TABLE north PARTITION OF docs FOR VALUES IN ('n');
         CREATE TABLE south (region text, id int, body text, PRIMARY KEY (region, id));
         INSERT INTO docs VALUES ('n', 1, 'the pump lost pressure'); INSERT INTO south VALUES ('s', 2, 'a valve is leaking');
         SELECT enable_search('docs', ARRAY['body']);",
    );
    drain(&mut session);
    session.run(BEGIN);
    // A partition that comes during a change has the triggers; its rows are queued by asking again.
    session.run("ALTER TABLE docs ATTACH PARTITION south FOR VALUES IN ('s'); INSERT INTO south VALUES ('s', 3, 'coffee is ready')");
    session.run("SELECT enable_search('docs', ARRAY['body'])");
    drain(&mut session);
    session.run("SELECT finish_search_model('docs')");
    assert_eq!(
        session.rows("SELECT role, rows FROM vector_tools.search_drift ORDER BY 1"),
        ["live|3", "previous|3"]
    );
    assert_eq!(session.rows("SELECT id FROM hybrid_search('docs', 'leaking', 1)"), ["[\"s\", 2]"]);
    // One that goes is asked to leave its chunks behind first, by PostgreSQL.
    session.fails("23503", "ALTER TABLE docs DETACH PARTITION south");
    session.run(
        "DELETE FROM docs_search WHERE row_region = 's'; DELETE FROM docs_search_previous WHERE row_region = 's';
         ALTER TABLE docs DETACH PARTITION south; UPDATE south SET body = 'nobody hears of it'",
    );
    assert_eq!(session.text("SELECT count(*) FROM vector_tools.queue"), "0");
    session.run("SELECT rollback_search_model('docs')");
    drain(&mut session);
    assert_eq!(session.rows("SELECT row_id FROM docs_search"), ["1"]);
    session.run("SELECT disable_search('docs'); DROP TABLE docs, south");
}

#[test]
fn generated_and_domain_typed_columns_are_content() {
    let database = Database::with_extension("shapes_columns");
    let mut session = database.connect();
    session.run(
        "CREATE DOMAIN label AS text CHECK (VALUE <> 'never'); CREATE DOMAIN number AS int CHECK (VALUE > 0);
         CREATE DOMAIN short AS varchar(20);
         CREATE TABLE docs (id number PRIMARY KEY, title label, hint short, fixed char(8), body text,
             both_of text GENERATED ALWAYS AS (title || ': ' || body) STORED,
             upper_of text GENERATED ALWAYS AS (upper(body)) STORED);
         INSERT INTO docs VALUES (1, 'pumps', 'h', 'f', 'the pump lost pressure'), (2, 'valves', NULL, 'f', 'a valve is leaking');
         SELECT enable_search('docs', ARRAY['both_of', 'title', 'hint', 'fixed'])",
    );
    drain(&mut session);
    assert_eq!(
        session.text("SELECT content FROM docs_search WHERE row_id = 1"),
        "pumps: the pump lost pressure\n\npumps\n\nh\n\nf"
    );
    // What is generated changes with what it is made of, and only then.
    session.run(
        "UPDATE docs SET body = 'a valve was repaired' WHERE id = 2; UPDATE docs SET id = 1 WHERE id = 1",
    );
    assert_eq!(session.rows("SELECT keys FROM vector_tools.queue"), ["{{2}}"]);
    drain(&mut session);
    assert_eq!(session.rows("SELECT id FROM hybrid_search('docs', 'repaired', 1)"), ["2"]);
    session.run("SELECT set_search_model('docs', 'all-MiniLM-L6-v2')");
    drain(&mut session);
    session.run("SELECT finish_search_model('docs')");
    assert_eq!(session.rows("SELECT id FROM hybrid_search('docs', 'repaired', 1)"), ["2"]);
    if session.text("SELECT current_setting('server_version_num')::int >= 180000") == "t" {
        session.run("CREATE TABLE virtual (id int PRIMARY KEY, body text, loud text GENERATED ALWAYS AS (upper(body)) VIRTUAL);
            INSERT INTO virtual VALUES (1, 'quiet'); SELECT enable_search('virtual', ARRAY['loud'])");
        session.run("UPDATE virtual SET body = 'silent'");
        drain(&mut session);
        assert_eq!(session.text("SELECT content FROM virtual_search"), "SILENT");
    }
}

/// Trust 25: the centres of lists are those of rows, whichever way the rows come.
#[test]
fn lists_are_made_of_rows_and_find_them() {
    let database = Database::with_extension("shapes_lists");
    let mut session = database.connect();
    session.run(
        "CREATE TABLE docs (id int PRIMARY KEY, body text);
         INSERT INTO docs SELECT i, (ARRAY['pump', 'valve', 'coffee', 'weather', 'music', 'invoice', 'garden', 'engine'])[1 + i % 8]
             || ' report ' || md5(i::text) FROM generate_series(1, 1200) AS i;
         SELECT enable_search('docs', ARRAY['body'], index_kind => 'ivfflat')",
    );
    let lists = "SELECT x.relname, x.reloptions FROM pg_index AS i JOIN pg_class AS x ON x.oid = i.indexrelid
        JOIN pg_am AS m ON m.oid = x.relam WHERE m.amname = 'ivfflat' ORDER BY 1";
    assert_eq!(session.rows(lists), [""; 0], "expected no index without rows");
    drain(&mut session);
    assert_eq!(session.rows(lists), ["docs_search_embedding_idx|{lists=35}"]);
    // Shares of the ten nearest that a search finds.
    let recall = |session: &mut Session, model: &str| {
        session.run(&format!(
            "DROP TABLE IF EXISTS questions; CREATE TABLE questions AS
             SELECT i, text, embed_query(text, '{model}') AS embedding FROM (SELECT i,
                 'a ' || (ARRAY['pump', 'valve', 'coffee', 'weather', 'music'])[1 + i % 5] || ' ' || md5(i::text) AS text
                 FROM generate_series(1, 20) AS i) AS q"
        ));
        session.text(
            "SELECT avg(found) >= 9.5 FROM (SELECT q.i, count(*) AS found FROM questions AS q
                 CROSS JOIN LATERAL (SELECT c.row_id FROM docs_search AS c
                     ORDER BY (c.embedding <=> q.embedding) + 0 LIMIT 10) AS e
                 JOIN LATERAL semantic_search('docs', q.text, 10, query_embedding => q.embedding) AS s
                     ON s.id = e.row_id::text GROUP BY q.i) AS r",
        )
    };
    assert_eq!(recall(&mut session, "all-MiniLM-L6-v2-int8"), "t");
    session.run(BEGIN);
    drain(&mut session);
    assert_eq!(session.rows(lists).len(), 1, "expected the new index at the end, not before");
    session.run("SELECT finish_search_model('docs')");
    assert_eq!(
        session.rows(lists),
        ["docs_search_embedding_idx|{lists=35}", "docs_search_previous_embedding_idx|{lists=35}"]
    );
    assert_eq!(recall(&mut session, "all-MiniLM-L6-v2"), "t");
    // In sync mode rows come with statements of others; asking again finds them.
    session.run(
        "CREATE TABLE later (id int PRIMARY KEY, body text);
         SELECT enable_search('later', ARRAY['body'], index_kind => 'ivfflat', mode => 'sync');
         INSERT INTO later SELECT id, body FROM docs",
    );
    assert_eq!(session.rows(lists).len(), 2);
    assert_eq!(session.rows("SELECT id FROM semantic_search('later', 'coffee', 10)").len(), 10);
    session.run("SELECT enable_search('later', ARRAY['body'], index_kind => 'ivfflat', mode => 'sync')");
    assert_eq!(session.rows(lists).len(), 3);
}

#[test]
fn progress_of_a_large_table_reads_none_of_its_rows() {
    let database = Database::with_extension("shapes_progress");
    let mut session = database.connect();
    session.run(
        "CREATE TABLE docs (id int PRIMARY KEY, title text, body text);
         INSERT INTO docs SELECT i, 't', 'row ' || i FROM generate_series(1, 120000) AS i; ANALYZE docs;
         SELECT enable_search('docs', ARRAY['title', 'body'], mode => 'manual')",
    );
    session.run("SELECT * FROM vector_tools.run_embedding_batch('docs', 50); ANALYZE docs_search");
    let mut session = database.connect();
    session.run("BEGIN");
    let progress = "SELECT total, embedded, pending, is_estimated FROM vector_tools.search_progress";
    assert_eq!(session.text(progress), "120000|50|119950|t");
    let read = "SELECT seq_tup_read + coalesce(idx_tup_fetch, 0) FROM pg_stat_xact_user_tables WHERE relname = 'docs'";
    assert_eq!(session.text(read), "0");
    session.run("ROLLBACK");
    // Others see that there is a table, and nothing of it.
    database.create_role("shapes_progress_other");
    let mut other = database.connect_as("shapes_progress_other");
    let hidden = "SELECT num_nulls(total, embedded, stale, pending, failed, rows_per_second, eta, oldest_pending, last_error,
        is_estimated, next_model, next_embedded, next_pending) FROM vector_tools.search_progress";
    assert_eq!(other.text(hidden), "13");
}
