//! Auditing: one line for each committed change, whatever statement makes it (22), on a subscriber
//! too (19), after a restore (16), without the extension (21), under hostile names (3) and shadows (6).

use std::process::{Command, Stdio};

use crate::database::{Database, shared_server};
use crate::models::Folder;
use crate::process::wait_until;
use crate::server::{Server, program};
use crate::session::Session;

const LOG: &str = "SELECT operation, table_name, partition_name, record_id, old_data, new_data \
                   FROM vector_audit_log ORDER BY id";
const OPERATIONS: &str =
    "SELECT operation || ' ' || coalesce(record_id, '') FROM vector_audit_log ORDER BY id";

/// A database with an audited table.
fn audited(name: &str, table: &str) -> (Database<'static>, Session) {
    let database = Database::with_extension(name);
    let mut session = database.connect();
    session.run(table);
    session.run("SELECT enable_audit('t')");
    (database, session)
}

const PARTITIONED: &str =
    "CREATE TABLE t (tenant text, id int, body text, PRIMARY KEY (tenant, id)) PARTITION BY LIST (tenant);
    CREATE TABLE t_a PARTITION OF t FOR VALUES IN ('a');
    CREATE TABLE t_b PARTITION OF t FOR VALUES IN ('b') PARTITION BY RANGE (id);
    CREATE TABLE t_b1 PARTITION OF t_b FOR VALUES FROM (0) TO (10);
    CREATE TABLE t_b2 PARTITION OF t_b FOR VALUES FROM (10) TO (20);";

// trust 22
#[test]
fn every_kind_of_statement_gives_one_line_a_change() {
    let (_database, mut session) =
        audited("audit_statements", "CREATE TABLE t (id int PRIMARY KEY, body text)");
    session.run("COPY t FROM PROGRAM 'printf ''1\\ta\\n2\\tb\\n'''");
    session
        .run("INSERT INTO t VALUES (2, 'x'), (3, 'c') ON CONFLICT (id) DO UPDATE SET body = excluded.body");
    session.run("INSERT INTO t VALUES (1, 'x') ON CONFLICT DO NOTHING");
    session.run(
        "MERGE INTO t USING (VALUES (1, 'gone'), (3, 'changed'), (4, 'new')) AS v(id, body) ON t.id = v.id
         WHEN MATCHED AND v.body = 'gone' THEN DELETE
         WHEN MATCHED THEN UPDATE SET body = v.body
         WHEN NOT MATCHED THEN INSERT VALUES (v.id, v.body)",
    );
    session.run(
        "WITH moved AS (DELETE FROM t WHERE id = 2 RETURNING *) INSERT INTO t SELECT 20, body FROM moved",
    );
    session.run("UPDATE t SET body = 'd' WHERE false; UPDATE t SET id = 5 WHERE id = 4; TRUNCATE t");
    let found = session.rows(OPERATIONS);
    let mut merged = found[4..7].to_vec();
    merged.sort_unstable();
    assert_eq!(found[..4], ["INSERT 1", "INSERT 2", "UPDATE 2", "INSERT 3"]);
    assert_eq!(merged, ["DELETE 1", "INSERT 4", "UPDATE 3"], "expected what MERGE did");
    let mut with = found[7..9].to_vec();
    with.sort_unstable();
    assert_eq!(with, ["DELETE 2", "INSERT 20"]);
    assert_eq!(found[9..], ["UPDATE 5", "TRUNCATE "]);
    let update = session.rows("SELECT old_data, new_data FROM vector_audit_log WHERE record_id = '5'");
    assert_eq!(update, [r#"{"id": 4, "body": "new"}|{"id": 5, "body": "new"}"#]);
    // Rows of two tables by turns.
    session.run(
        "CREATE TABLE u (id int PRIMARY KEY); SELECT enable_audit('u'); INSERT INTO t VALUES (6), (7), (8)",
    );
    session.run("WITH gone AS (DELETE FROM t RETURNING id) INSERT INTO u SELECT id FROM gone");
    for table in ["t", "u"] {
        let last = format!(
            "SELECT concat_ws(' ', operation, record_id) FROM vector_audit_log WHERE table_name = '{table}' ORDER BY id DESC LIMIT 3"
        );
        let operation = if table == "t" { "DELETE" } else { "INSERT" };
        assert_eq!(session.rows(&last), [8, 7, 6].map(|id| format!("{operation} {id}")));
    }
}

// trust 22
#[test]
fn what_is_rolled_back_leaves_nothing() {
    let (_database, mut session) =
        audited("audit_rollback", "CREATE TABLE t (id int PRIMARY KEY, body text)");
    session.run("BEGIN; INSERT INTO t VALUES (1); TRUNCATE t; ROLLBACK");
    session.run("BEGIN; INSERT INTO t VALUES (2); SAVEPOINT s; INSERT INTO t VALUES (3); ROLLBACK TO s; INSERT INTO t VALUES (4); COMMIT");
    session.fails("23505", "INSERT INTO t VALUES (5), (6), (5)");
    session.run(
        "DO $$ BEGIN
             INSERT INTO t VALUES (7);
             BEGIN INSERT INTO t VALUES (8); RAISE 'no'; EXCEPTION WHEN raise_exception THEN NULL; END;
             INSERT INTO t VALUES (9);
         END $$",
    );
    // An error of a later trigger takes what the audit had collected with it.
    session.run(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             IF NEW.id = 11 THEN RAISE 'refused'; END IF; RETURN NULL; END $$;
         CREATE TRIGGER zzz_refuse AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION refuse()",
    );
    session.fails("P0001", "INSERT INTO t VALUES (10), (11)");
    session.run("INSERT INTO t VALUES (12)");
    assert_eq!(session.rows(OPERATIONS), ["INSERT 2", "INSERT 4", "INSERT 7", "INSERT 9", "INSERT 12"]);
    let transactions = session.text("SELECT count(DISTINCT transaction_id) FROM vector_audit_log");
    assert_eq!(transactions, "3", "expected each transaction under its own number");
}

// trust 22
#[test]
fn triggers_that_change_audited_tables_are_audited_too() {
    let (_database, mut session) = audited(
        "audit_nested",
        "CREATE TABLE t (id int PRIMARY KEY, parent int REFERENCES t ON DELETE CASCADE)",
    );
    session.run(
        "CREATE FUNCTION add_child() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             IF NEW.id < 100 THEN
                 INSERT INTO t VALUES (NEW.id + 100, NEW.id);
                 BEGIN INSERT INTO t VALUES (NEW.id + 200, NEW.id); RAISE 'no'; EXCEPTION WHEN raise_exception THEN NULL; END;
             END IF;
             RETURN NULL; END $$;
         CREATE TRIGGER add_child AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION add_child();
         INSERT INTO t VALUES (1), (2); DELETE FROM t WHERE id = 1",
    );
    let mut found = session.rows(OPERATIONS);
    found.sort_unstable();
    assert_eq!(
        found,
        ["DELETE 1", "DELETE 101", "INSERT 1", "INSERT 101", "INSERT 102", "INSERT 2"],
        "expected children and cascades once each"
    );
}

// trust 22
#[test]
fn many_rows_of_one_statement_are_all_there() {
    let (database, mut session) = audited("audit_many", "CREATE TABLE t (id int PRIMARY KEY, body text)");
    // A session whose first statement this is, and one that has audited before.
    for (mut writer, first) in [(database.connect(), 0), (session, 10_000)] {
        writer.run(&format!(
            "INSERT INTO t SELECT i, repeat('x', 300) FROM generate_series({first} + 1, {first} + 3500) AS i"
        ));
        writer.run(&format!("UPDATE t SET body = 'y' WHERE id > {first}"));
    }
    session = database.connect();
    let found = session.rows(
        "SELECT operation, count(*), count(DISTINCT record_id), count(new_data->>'body') FROM vector_audit_log GROUP BY 1 ORDER BY 1",
    );
    assert_eq!(found, ["INSERT|7000|7000|7000", "UPDATE|7000|7000|7000"]);
}

// trust 22
#[test]
fn partitions_are_audited_by_every_way_to_their_rows() {
    let (database, mut session) = audited("audit_partitions", PARTITIONED);
    session.run("INSERT INTO t VALUES ('a', 1, 'one'); INSERT INTO t_b2 VALUES ('b', 11, 'direct')");
    // A table with rows that joins later, and a new partition.
    session.run(
        "CREATE TABLE t_c (tenant text, id int, body text, PRIMARY KEY (tenant, id));
         ALTER TABLE t ATTACH PARTITION t_c FOR VALUES IN ('c');
         CREATE TABLE t_b3 PARTITION OF t_b FOR VALUES FROM (20) TO (30);
         INSERT INTO t_c VALUES ('c', 1, 'late'); INSERT INTO t_b3 VALUES ('b', 21, 'new');
         TRUNCATE t_c; TRUNCATE t_b3; TRUNCATE t_b; TRUNCATE t; BEGIN; TRUNCATE t; TRUNCATE t_a; COMMIT",
    );
    assert_eq!(
        session.rows(LOG),
        [
            r#"INSERT|t|t_a|["a", 1]|∅|{"id": 1, "body": "one", "tenant": "a"}"#,
            r#"INSERT|t|t_b2|["b", 11]|∅|{"id": 11, "body": "direct", "tenant": "b"}"#,
            r#"INSERT|t|t_c|["c", 1]|∅|{"id": 1, "body": "late", "tenant": "c"}"#,
            r#"INSERT|t|t_b3|["b", 21]|∅|{"id": 21, "body": "new", "tenant": "b"}"#,
            "TRUNCATE|t|t_c|∅|∅|∅",
            "TRUNCATE|t|t_b3|∅|∅|∅",
            "TRUNCATE|t|t_b|∅|∅|∅",
            "TRUNCATE|t|∅|∅|∅|∅",
            "TRUNCATE|t|∅|∅|∅|∅",
            "TRUNCATE|t|t_a|∅|∅|∅",
        ]
    );
    // A session that knows nothing of the extension yet.
    database.connect().run("TRUNCATE t");
    assert_eq!(session.text("SELECT count(*) FROM vector_audit_log WHERE operation = 'TRUNCATE'"), "7");
    session.run("ALTER TABLE t DETACH PARTITION t_c; INSERT INTO t_c VALUES ('c', 2, 'no more')");
    assert_eq!(session.text("SELECT count(*) FROM vector_audit_log"), "11");
    session.run("SELECT disable_audit('t'); INSERT INTO t_a VALUES ('a', 9); TRUNCATE t; TRUNCATE t_b1");
    assert_eq!(session.text("SELECT count(*) FROM vector_audit_log"), "11", "expected no audit any more");
}

// trust 22
#[test]
fn a_row_that_moves_to_another_partition_is_one_update() {
    let (database, mut session) = audited("audit_moves", PARTITIONED);
    session.run("INSERT INTO t VALUES ('a', 1, 'one'), ('a', 2, 'two'), ('b', 3, 'three')");
    let moved = |session: &mut Session| {
        session.rows(
            "SELECT operation, partition_name, record_id, old_data->>'tenant', new_data->>'tenant' FROM vector_audit_log
             WHERE operation <> 'INSERT' ORDER BY id",
        )
    };
    // The first statement of a session, which loads the library while its triggers run.
    database.connect().run("UPDATE t SET tenant = 'b' WHERE id < 3");
    let expected = [r#"UPDATE|t_b1|["b", 1]|a|b"#, r#"UPDATE|t_b1|["b", 2]|a|b"#];
    assert_eq!(moved(&mut session), expected, "expected one line each in a new session");
    session.run("UPDATE t_b SET id = 13 WHERE id = 3");
    session.run(
        "MERGE INTO t USING (VALUES (1), (7)) AS v(id) ON t.id = v.id
         WHEN MATCHED THEN UPDATE SET tenant = 'a' WHEN NOT MATCHED THEN INSERT VALUES ('b', v.id)",
    );
    // A move that a trigger stops half way is the end of the row.
    session.run(
        "CREATE FUNCTION stop() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
         CREATE TRIGGER stop BEFORE INSERT ON t_a FOR EACH ROW EXECUTE FUNCTION stop();
         UPDATE t SET tenant = 'a' WHERE id = 2",
    );
    database.connect().run("UPDATE t SET tenant = 'a' WHERE id = 7");
    let more = [
        r#"UPDATE|t_b2|["b", 13]|b|b"#,
        r#"UPDATE|t_a|["a", 1]|b|a"#,
        r#"DELETE|t_b1|["b", 2]|b|∅"#,
        r#"DELETE|t_b1|["b", 7]|b|∅"#,
    ];
    assert_eq!(moved(&mut session), [&expected[..], &more[..]].concat());
    assert_eq!(session.text("SELECT count(*) FROM t"), "2");
}

// trust 19
#[test]
fn applied_changes_are_audited_only_when_the_trigger_says_always() {
    // Two servers, since one of them must log logically.
    let publisher = Server::start("test-audit-publisher", &[("wal_level", "logical")]);
    crate::database::make_template(&publisher);
    let source = Database::with_extension_on(&publisher, "audit_source");
    let target = Database::with_extension_on(&publisher, "audit_target");
    let (mut writer, mut reader) = (source.connect(), target.connect());
    let table = "CREATE TABLE t (id int PRIMARY KEY, body text); SELECT enable_audit('t')";
    writer.run(table);
    reader.run(table);
    writer.run("CREATE PUBLICATION changes FOR TABLE t");
    writer.text("SELECT pg_create_logical_replication_slot('audit_slot', 'pgoutput') IS NOT NULL");
    // In one server the slot must be there already, or the two would wait for each other.
    reader.run(&format!(
        "CREATE SUBSCRIPTION changes CONNECTION '{}' PUBLICATION changes
         WITH (create_slot = false, slot_name = 'audit_slot', copy_data = false)",
        publisher.connection("audit_source", "postgres")
    ));
    writer.run("INSERT INTO t VALUES (1, 'a'); UPDATE t SET body = 'b'; DELETE FROM t; INSERT INTO t VALUES (2, 'c')");
    wait_until("the subscriber has row 2", || reader.text("SELECT count(*) FROM t WHERE id = 2") == "1");
    assert_eq!(writer.text("SELECT count(*) FROM vector_audit_log"), "4");
    assert_eq!(
        reader.text("SELECT count(*) FROM vector_audit_log"),
        "0",
        "expected no audit of applied rows"
    );
    reader.run("INSERT INTO t VALUES (50, 'own')");
    reader.run(
        "ALTER TABLE t ENABLE ALWAYS TRIGGER vector_tools_audit, ENABLE ALWAYS TRIGGER vector_tools_audit_truncate",
    );
    writer.run("INSERT INTO t VALUES (3, 'd'); UPDATE t SET body = 'e' WHERE id = 3; DELETE FROM t WHERE id = 2; TRUNCATE t; INSERT INTO t VALUES (4)");
    wait_until("the subscriber has row 4", || reader.text("SELECT count(*) FROM t WHERE id = 4") == "1");
    assert_eq!(
        reader.rows(OPERATIONS),
        ["INSERT 50", "INSERT 3", "UPDATE 3", "DELETE 2", "TRUNCATE ", "INSERT 4"],
        "expected the applied changes after ENABLE ALWAYS"
    );
    // Asking again for other options keeps ALWAYS.
    reader.run("SELECT enable_audit('t', include_embeddings => true)");
    writer.run("INSERT INTO t VALUES (5)");
    wait_until("the subscriber has row 5", || reader.text("SELECT count(*) FROM t WHERE id = 5") == "1");
    assert_eq!(reader.text("SELECT count(*) FROM vector_audit_log WHERE record_id = '5'"), "1");
    reader.run("ALTER SUBSCRIPTION changes DISABLE; ALTER SUBSCRIPTION changes SET (slot_name = NONE); DROP SUBSCRIPTION changes");
}

// trust 16
#[test]
fn an_audited_table_is_dumped_and_restored_by_its_owner() {
    let original = Database::with_extension("audit_dump");
    original.create_role("audit_dump_role");
    original.connect().run("CREATE SCHEMA own AUTHORIZATION audit_dump_role");
    let mut session = original.connect_as("audit_dump_role");
    session.run("SET search_path = own, public");
    session.run(PARTITIONED);
    session.run("SELECT enable_audit('t'); INSERT INTO t VALUES ('a', 1, 'one'); UPDATE t SET body = 'x', tenant = 'b'");
    let restored = Database::with_extension("audit_restored");
    restored.connect().run("CREATE SCHEMA own AUTHORIZATION audit_dump_role");
    let folder = Folder::new();
    let file = folder.path().join("dump").display().to_string();
    let as_owner = |database: &Database| database.server.connection(&database.name, "audit_dump_role");
    let run = |name: &str, arguments: &[&str]| {
        let output = Command::new(program(name)).args(arguments).stdin(Stdio::null()).output();
        let output = output.unwrap_or_else(|error| panic!("expected {name} to start: {error}"));
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "expected {name} to succeed:\n{errors}");
    };
    run("pg_dump", &["--format=custom", "--table=own.*", "--file", &file, "--dbname", &as_owner(&original)]);
    run("pg_restore", &["--exit-on-error", "--dbname", &as_owner(&restored), &file]);
    let mut again = restored.connect_as("audit_dump_role");
    again.run("SET search_path = own, public");
    for fact in [
        "SELECT * FROM own.vector_audit_log ORDER BY id",
        "SELECT tgrelid::regclass, tgname, tgparentid <> 0, pg_get_triggerdef(oid) FROM pg_trigger
             WHERE NOT tgisinternal ORDER BY 1, 2",
        "SELECT * FROM vector_tools.audited_tables",
        "SELECT * FROM audit_history('own.t')",
    ] {
        assert_eq!(again.rows(fact), session.rows(fact), "expected the same: {fact}");
    }
    again.run("INSERT INTO own.t VALUES ('a', 2); TRUNCATE own.t_a");
    assert_eq!(again.text("SELECT count(*) FROM audit_history('own.t')"), "4", "expected the audit to go on");
}

// trust 21
#[test]
fn without_the_extension_tables_and_logs_stay() {
    let (_database, mut session) = audited("audit_drop", PARTITIONED);
    session.run("INSERT INTO t VALUES ('a', 1)");
    session.fails("2BP01", "DROP EXTENSION vector_tools");
    session.run("DROP EXTENSION vector_tools CASCADE");
    let triggers = session.rows("SELECT tgname FROM pg_trigger WHERE NOT tgisinternal");
    assert!(triggers.is_empty(), "expected no trigger without the extension, not {triggers:?}");
    let events = session.rows("SELECT evtname FROM pg_event_trigger");
    assert!(events.is_empty(), "expected no event trigger without the extension, not {events:?}");
    session.run("INSERT INTO t VALUES ('a', 2); TRUNCATE t; CREATE TABLE other (id int)");
    assert_eq!(session.text("SELECT count(*) FROM vector_audit_log"), "1", "expected the log to stay");
    session.run("CREATE EXTENSION vector_tools");
    // Without its guard a table is no log; the old one is kept under another name.
    session.fails("42P07", "SELECT enable_audit('t')");
    session.run("SELECT enable_audit('t', 'new_log'); INSERT INTO t VALUES ('a', 3)");
    assert_eq!(session.text("SELECT count(*) FROM new_log"), "1");
}

// trust 20
#[test]
fn audits_work_in_a_quoted_schema_with_pgvector_elsewhere() {
    let database = Database::empty("audit_elsewhere");
    let mut session = database.connect();
    session.run(
        r#"CREATE SCHEMA "My Schema"; CREATE SCHEMA "Vector's"; CREATE SCHEMA "Da'ta";
           CREATE EXTENSION vector SCHEMA "Vector's"; CREATE EXTENSION vector_tools SCHEMA "My Schema";
           SET search_path = '';
           CREATE TABLE "Da'ta".t (id int PRIMARY KEY, v "Vector's".vector(2)) PARTITION BY LIST (id);
           CREATE TABLE "Da'ta".t_1 PARTITION OF "Da'ta".t FOR VALUES IN (1);
           SELECT "My Schema".enable_audit('"Da''ta".t');
           INSERT INTO "Da'ta".t VALUES (1, '[1,2]'); TRUNCATE "Da'ta".t_1"#,
    );
    let found = session
        .rows(r#"SELECT operation, partition_name, new_data FROM "My Schema".audit_history('"Da''ta".t')"#);
    assert_eq!(found, ["TRUNCATE|t_1|∅", r#"INSERT|t_1|{"id": 1}"#]);
    session.run(r#"SELECT "My Schema".disable_audit('"Da''ta".t')"#);
}

// trust 6
#[test]
fn shadows_change_no_audit() {
    let (_database, mut session) = audited("audit_shadows", "CREATE TABLE t (id int PRIMARY KEY, body text)");
    session.run(
        "CREATE SCHEMA evil;
         CREATE FUNCTION evil.fails() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RAISE 'a shadow was used'; END $$;
         CREATE FUNCTION evil.unnest(anyarray) RETURNS SETOF anyelement LANGUAGE sql AS 'SELECT $1[evil.fails()]';
         CREATE FUNCTION evil.now() RETURNS timestamptz LANGUAGE sql AS 'SELECT to_timestamp(evil.fails())';
         CREATE FUNCTION evil.to_jsonb(anyelement) RETURNS jsonb LANGUAGE sql AS 'SELECT to_jsonb(evil.fails())';
         CREATE FUNCTION evil.pg_current_xact_id() RETURNS xid8 LANGUAGE sql AS 'SELECT evil.fails()::text::xid8';
         CREATE FUNCTION evil.equal(text, text) RETURNS bool LANGUAGE sql AS 'SELECT evil.fails() IS NULL';
         CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.equal);
         CREATE TABLE evil.vector_audit_log (LIKE public.vector_audit_log);
         CREATE TEMP TABLE vector_audit_log (LIKE public.vector_audit_log);
         CREATE TEMP TABLE pg_trigger (oid pg_catalog.oid); CREATE TEMP TABLE pg_class (oid pg_catalog.oid);
         CREATE DOMAIN pg_temp.text AS pg_catalog.int4; CREATE DOMAIN pg_temp.jsonb AS pg_catalog.int4;
         SET search_path = pg_temp, evil, public, pg_catalog",
    );
    session.run("INSERT INTO public.t VALUES (1, 'a'); UPDATE public.t SET body = 'b'; DELETE FROM public.t; TRUNCATE public.t");
    session.run("SELECT public.enable_audit('public.t', include_embeddings => true)");
    session.run("CREATE TABLE public.u (id pg_catalog.int4 PRIMARY KEY); SELECT public.enable_audit('public.u', 'u_log')");
    session.run("INSERT INTO public.u VALUES (1)");
    let history = "SELECT operation FROM public.audit_history('public.t', '1')";
    assert_eq!(session.rows(history), ["DELETE", "UPDATE", "INSERT"]);
    session.run("SET search_path = public");
    assert_eq!(
        session.rows("SELECT operation FROM public.vector_audit_log ORDER BY id"),
        ["INSERT", "UPDATE", "DELETE", "TRUNCATE"]
    );
    let types = session.text(
        "SELECT string_agg(pg_catalog.format_type(atttypid, atttypmod), ' ' ORDER BY attnum) FROM pg_catalog.pg_attribute
         WHERE attrelid = 'public.u_log'::regclass AND attnum IN (2, 7)",
    );
    assert_eq!(types, "pg_catalog.text pg_catalog.jsonb", "expected no types of pg_temp");
}

// trust 22
#[test]
fn what_a_session_has_set_hides_nothing() {
    let (_database, mut session) =
        audited("audit_settings", "CREATE TABLE t (id int PRIMARY KEY, f float8, r daterange, i interval)");
    session.run("SET extra_float_digits = -15; SET DateStyle = 'SQL, DMY'; SET IntervalStyle = sql_standard; SET bytea_output = 'escape'");
    session.run("INSERT INTO t VALUES (1, 0.1234567890123456, '[2020-02-01,2020-03-04)', '1 year -2 days')");
    session.run("RESET extra_float_digits; RESET DateStyle; RESET IntervalStyle");
    assert_eq!(
        session.text("SELECT new_data FROM vector_audit_log"),
        r#"{"f": 0.1234567890123456, "i": "1 year -2 days", "r": "[2020-02-01,2020-03-04)", "id": 1}"#
    );
    assert_eq!(shared_server().log().matches("PANIC").count(), 0);
}
