//! Who may audit, who writes a log, and who cannot (22): the writer of a row has no right on the
//! log, and no stranger's trigger reaches it.

use crate::database::Database;
use crate::session::Session;

/// A database in which `{prefix}_ann` has an audited table that `{prefix}_bob` may write to; sessions of
/// a superuser, of Ann and of Bob.
fn with_writer(prefix: &str) -> (Database<'static>, Session, Session, Session) {
    let database = Database::with_extension(prefix);
    let (ann, bob) = (format!("{prefix}_ann"), format!("{prefix}_bob"));
    database.create_role(&ann);
    database.create_role(&bob);
    let mut root = database.connect();
    root.run(&format!(
        "CREATE SCHEMA shared AUTHORIZATION {ann}; GRANT USAGE, CREATE ON SCHEMA shared TO {bob};
         ALTER DATABASE {prefix} SET search_path = shared, public"
    ));
    let (mut owner, writer) = (database.connect_as(&ann), database.connect_as(&bob));
    owner.run(&format!(
        "CREATE TABLE t (id int PRIMARY KEY, body text); GRANT ALL ON t TO {bob}; REVOKE TRIGGER ON t FROM {bob};
         SELECT enable_audit('t')"
    ));
    (database, root, owner, writer)
}

const COUNT: &str = "SELECT count(*) FROM shared.vector_audit_log";

// trust 6, 22
#[test]
fn what_the_owner_hangs_on_a_log_means_the_owners_functions() {
    let (_database, mut root, mut owner, mut writer) = with_writer("audit_names");
    root.run("GRANT CREATE ON DATABASE audit_names TO audit_names_bob");
    owner.run(
        "CREATE FUNCTION note(entry bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT entry';
         CREATE FUNCTION note_entry() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             PERFORM note(NEW.id); RETURN NEW;
         EXCEPTION WHEN undefined_function THEN RETURN NEW;
         END $$;
         CREATE FUNCTION note_of(entry bigint) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
             RETURN note(entry);
         EXCEPTION WHEN undefined_function THEN RETURN entry;
         END $$",
    );
    writer.run(
        "CREATE SCHEMA own; GRANT USAGE ON SCHEMA own TO PUBLIC;
         CREATE FUNCTION own.note(entry bigint) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS
             'BEGIN RAISE EXCEPTION ''ran as %'', current_user; END';
         SET search_path = own, shared, public",
    );
    for (number, addition) in [
        "CREATE TRIGGER noted AFTER INSERT ON vector_audit_log FOR EACH ROW EXECUTE FUNCTION note_entry()",
        "DROP TRIGGER noted ON vector_audit_log; CREATE INDEX ON vector_audit_log (note_of(id))",
    ]
    .into_iter()
    .enumerate()
    {
        owner.run(addition);
        writer.run(&format!("INSERT INTO shared.t VALUES ({number}, 'a')"));
        assert_eq!(owner.text(COUNT), (number + 1).to_string(), "expected the change in the log");
    }
}

// trust 4, 22
#[test]
fn the_writer_of_a_row_cannot_touch_the_log() {
    let (_database, mut root, mut owner, mut writer) = with_writer("audit_writer");
    writer.run("INSERT INTO t VALUES (1, 'a'); UPDATE t SET body = 'b'; DELETE FROM t; TRUNCATE t");
    let found =
        owner.rows("SELECT operation, changed_by, session_user_name FROM vector_audit_log ORDER BY id");
    let expected =
        ["INSERT", "UPDATE", "DELETE", "TRUNCATE"].map(|o| format!("{o}|audit_writer_bob|audit_writer_bob"));
    assert_eq!(found, expected, "expected the writer's name, not the owner's");
    let attempts = [
        "SELECT * FROM vector_audit_log",
        "INSERT INTO vector_audit_log (operation, table_schema, table_name, changed_by, session_user_name, changed_at, transaction_id)
             VALUES ('DELETE', 'shared', 't', 'ann', 'ann', now(), '1')",
        "UPDATE vector_audit_log SET changed_by = 'ann'",
        "DELETE FROM vector_audit_log",
        "TRUNCATE vector_audit_log",
        "DROP TABLE vector_audit_log",
        "ALTER TABLE vector_audit_log DISABLE TRIGGER ALL",
        "ALTER TABLE t DISABLE TRIGGER vector_tools_audit",
        "DROP TRIGGER vector_tools_audit ON t",
        "SET session_replication_role = replica",
        "SELECT disable_audit('t')",
        "SELECT enable_audit('t', 'other')",
        "SELECT * FROM audit_history('t')",
    ];
    for attempt in attempts {
        writer.fails("42501", attempt);
    }
    // Rights given away with a whole schema let read, not write.
    root.run("GRANT ALL ON ALL TABLES IN SCHEMA shared TO audit_writer_bob");
    for attempt in &attempts[1..5] {
        writer.fails("42501", attempt);
    }
    writer.fails(
        "42501",
        "MERGE INTO vector_audit_log AS l USING (VALUES (1)) AS v(i) ON l.id = i WHEN MATCHED THEN DELETE",
    );
    assert_eq!(writer.text(COUNT), "4");
    writer.run("INSERT INTO t VALUES (2)");
    assert_eq!(writer.rows("SELECT operation FROM audit_history('t', '2')"), ["INSERT"]);
    owner.run("DELETE FROM vector_audit_log");
    assert_eq!(owner.text(COUNT), "0", "expected the owner to clear the log");
}

// trust 22
#[test]
fn default_privileges_give_nobody_a_right_on_a_new_log() {
    let (_database, mut root, mut owner, mut writer) = with_writer("audit_default");
    owner.run("ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC, audit_default_bob");
    owner.run("CREATE TABLE u (id int PRIMARY KEY); SELECT enable_audit('u', 'u_log')");
    let rights = root.text("SELECT coalesce(string_agg(a.grantee::regrole::text, ','), 'nobody') FROM pg_class, aclexplode(relacl) AS a
         WHERE oid = 'shared.u_log'::regclass AND a.grantee <> relowner");
    assert_eq!(rights, "nobody");
    writer.run("INSERT INTO u VALUES (1)");
    writer.fails("42501", "SELECT * FROM u_log");
}

// trust 4, 22
#[test]
fn a_stranger_s_trigger_does_not_reach_a_log() {
    let (_database, mut root, mut owner, mut stranger) = with_writer("audit_stranger");
    stranger.run("CREATE TABLE mine (id int PRIMARY KEY)");
    stranger.run(
        "CREATE TRIGGER forge AFTER INSERT ON mine FOR EACH ROW
             EXECUTE FUNCTION vector_tools.audit_change('shared', 'vector_audit_log', 'without embeddings')",
    );
    stranger.fails("42501", "INSERT INTO mine VALUES (1)");
    // Nor when somebody else, who may, writes into the stranger's table.
    stranger.run("GRANT INSERT ON mine TO audit_stranger_ann");
    owner.fails("42501", "INSERT INTO mine VALUES (2)");
    root.fails("42501", "INSERT INTO shared.mine VALUES (3)");
    stranger.fails("42501", "SELECT enable_audit('mine')");
    stranger.fails("42501", "CREATE TRIGGER forge AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION vector_tools.audit_change('shared', 'mine', 'without embeddings')");
    stranger.run("SELECT enable_audit('mine', 'my_log')");
    assert_eq!(owner.text(COUNT), "0", "expected no line of a stranger");
    // Arguments that are none.
    stranger.run("CREATE TABLE odd (id int); CREATE TRIGGER odd AFTER INSERT ON odd FOR EACH ROW EXECUTE FUNCTION vector_tools.audit_change('x')");
    stranger.fails("39P01", "INSERT INTO odd VALUES (1)");
    stranger.run(
        "CREATE TABLE early (id int); CREATE TRIGGER early BEFORE INSERT ON early FOR EACH ROW
        EXECUTE FUNCTION vector_tools.audit_change('shared', 'my_log', 'without embeddings')",
    );
    stranger.fails("39P01", "INSERT INTO early VALUES (1)");
}

// trust 22
#[test]
fn a_log_that_was_replaced_runs_nobody_s_code() {
    let (_database, _root, mut owner, mut stranger) = with_writer("audit_replaced");
    owner.run("CREATE TABLE secrets (word text); INSERT INTO secrets VALUES ('hush')");
    stranger.run(
        "CREATE TABLE loot (word text); GRANT INSERT ON loot TO PUBLIC;
         CREATE FUNCTION steal() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             INSERT INTO shared.loot SELECT word FROM shared.secrets; RETURN NEW; END $$",
    );
    // The owner drops the log, and the stranger puts something into its place.
    owner.run("ALTER TABLE vector_audit_log RENAME TO kept_log");
    assert_eq!(stranger.refusal("INSERT INTO t VALUES (1)"), "42P01", "expected no change without a log");
    let columns = "(operation text, table_schema text, table_name text, partition_name text, record_id text, old_data jsonb,
         new_data jsonb, changed_by text, session_user_name text, changed_at timestamptz, transaction_id xid8)";
    stranger.run(&format!(
        "CREATE TABLE vector_audit_log {columns}; GRANT ALL ON vector_audit_log TO PUBLIC;
         CREATE TRIGGER steal BEFORE INSERT ON vector_audit_log FOR EACH ROW EXECUTE FUNCTION steal()"
    ));
    stranger.fails("42501", "INSERT INTO t VALUES (1)");
    owner.fails("42501", "INSERT INTO t VALUES (1)");
    stranger.run(&format!(
        "DROP TABLE vector_audit_log; CREATE TABLE under {columns};
         CREATE VIEW vector_audit_log AS SELECT * FROM under; GRANT ALL ON vector_audit_log, under TO PUBLIC;
         CREATE TRIGGER steal INSTEAD OF INSERT ON vector_audit_log FOR EACH ROW EXECUTE FUNCTION steal()"
    ));
    stranger.fails("42809", "INSERT INTO t VALUES (1)");
    owner.fails("42809", "INSERT INTO t VALUES (1)");
    owner.fails("42P07", "SELECT enable_audit('t')");
    owner.fails("42809", "SELECT * FROM audit_history('t')");
    assert_eq!(
        stranger.text("SELECT count(*) FROM loot"),
        "0",
        "expected no function of the stranger to run"
    );
    owner.run("SELECT enable_audit('t', 'kept_log'); INSERT INTO t VALUES (1)");
    assert_eq!(owner.text("SELECT count(*) FROM kept_log"), "1");
    // Dropped, moved away, and back.
    owner.run("DROP TABLE kept_log");
    owner.fails("42P01", "INSERT INTO t VALUES (2)");
    owner.run("SELECT enable_audit('t', 'kept_log'); INSERT INTO t VALUES (2)");
    assert_eq!(owner.text("SELECT count(*) FROM kept_log"), "1", "expected a new log");
}

// trust 5, 22
#[test]
fn row_level_security_on_the_log_holds_for_readers_and_lets_triggers_write() {
    let (_database, _root, mut owner, mut writer) = with_writer("audit_policies");
    owner.run(
        "ALTER TABLE vector_audit_log ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
         GRANT SELECT ON vector_audit_log TO audit_policies_bob;
         CREATE POLICY odd ON vector_audit_log FOR SELECT TO audit_policies_bob USING (record_id = '1')",
    );
    writer.run("SET row_security = off; INSERT INTO t VALUES (1), (2); SET row_security = on");
    assert_eq!(
        writer.rows("SELECT record_id FROM audit_history('t')"),
        ["1"],
        "expected the visible line only"
    );
    owner.run("ALTER TABLE vector_audit_log NO FORCE ROW LEVEL SECURITY");
    assert_eq!(owner.text(COUNT), "2", "expected both lines");
}

// trust 22
#[test]
fn a_superuser_keeps_a_log_that_the_table_s_owner_cannot_clear() {
    let (database, mut root, mut owner, mut writer) = with_writer("audit_kept");
    owner.run("SELECT disable_audit('t'); DROP TABLE vector_audit_log");
    // Whoever owns a schema can drop what is in it.
    root.run("ALTER SCHEMA shared OWNER TO postgres; GRANT ALL ON SCHEMA shared TO audit_kept_ann");
    root.run("SET search_path = shared, public; SELECT enable_audit('t')");
    writer.run("INSERT INTO t VALUES (1, 'a')");
    owner.run("UPDATE t SET body = 'b'");
    for attempt in [
        "DELETE FROM vector_audit_log",
        "TRUNCATE vector_audit_log",
        "DROP TABLE vector_audit_log",
        "INSERT INTO vector_audit_log (operation, table_schema, table_name, changed_by, session_user_name, changed_at, transaction_id)
             VALUES ('DELETE', 'shared', 't', 'bob', 'bob', now(), '1')",
    ] {
        owner.fails("42501", attempt);
    }
    assert_eq!(root.text(COUNT), "2");
    // A row that moves as the first statement of a session is joined with the log owner's rights.
    root.run("CREATE TABLE p (k text, n int, PRIMARY KEY (k, n)) PARTITION BY LIST (k); ALTER TABLE p OWNER TO audit_kept_ann;
        CREATE TABLE p_a PARTITION OF p FOR VALUES IN ('a'); CREATE TABLE p_b PARTITION OF p FOR VALUES IN ('b');
        ALTER TABLE p_a OWNER TO audit_kept_bob; SELECT enable_audit('p'); INSERT INTO p VALUES ('a', 1)");
    database.connect_as("audit_kept_ann").run("UPDATE p SET k = 'b'");
    // A partition of another owner is written with the rights of the whole table's.
    writer.run("INSERT INTO p_a VALUES ('a', 2); TRUNCATE p_a");
    let found = root.rows("SELECT operation, partition_name, changed_by FROM vector_audit_log WHERE table_name = 'p' ORDER BY id");
    assert_eq!(
        found,
        [
            "INSERT|p_a|postgres",
            "UPDATE|p_b|audit_kept_ann",
            "INSERT|p_a|audit_kept_bob",
            "TRUNCATE|p_a|audit_kept_bob"
        ]
    );
}

// trust 22
#[test]
fn members_of_the_owner_s_role_may_audit() {
    let (_database, mut root, mut owner, mut member) = with_writer("audit_member");
    owner.run("CREATE TABLE u (id int PRIMARY KEY)");
    member.fails("42501", "SELECT enable_audit('u', 'u_log')");
    root.run("GRANT audit_member_ann TO audit_member_bob");
    member.run("SELECT enable_audit('u', 'u_log'); INSERT INTO u VALUES (1)");
    owner.run("INSERT INTO u VALUES (2)");
    assert_eq!(
        member.rows("SELECT record_id, changed_by FROM audit_history('u')"),
        ["2|audit_member_ann", "1|audit_member_bob"]
    );
    owner.fails("42501", "DELETE FROM u_log");
    // The log's owner is no longer one whose functions may run with the table owner's rights.
    root.run("REVOKE audit_member_ann FROM audit_member_bob");
    owner.fails("42501", "INSERT INTO u VALUES (3)");
    root.run("ALTER TABLE shared.u_log OWNER TO audit_member_ann");
    owner.run("INSERT INTO u VALUES (3)");
}

// trust 22
#[test]
fn functions_that_run_with_other_rights_are_named() {
    let (_database, mut root, mut owner, mut writer) = with_writer("audit_definer");
    owner.run("CREATE FUNCTION add(int) RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = shared AS 'INSERT INTO t VALUES ($1)'");
    writer.run("SELECT add(1)");
    root.run("SET search_path = shared; SET ROLE audit_definer_bob; INSERT INTO t VALUES (2); RESET ROLE");
    let found =
        root.rows("SELECT record_id, changed_by, session_user_name FROM vector_audit_log ORDER BY id");
    assert_eq!(found, ["1|audit_definer_ann|audit_definer_bob", "2|audit_definer_bob|postgres"]);
}
