//! Domain memories among several roles and sessions, and through dump, drop and create (4, 5, 16, 21).

use std::thread;

use crate::database::Database;
use crate::dump;
use crate::models::Folder;
use crate::process::wait_until;
use crate::session::Session;

const STORE: &str = "
    SELECT create_domain_memories_table('health');
    SELECT store_memory('slept well after a long walk', 'health', 'diary', 0.3, id => 'sleep'),
           store_memory('blood pressure was 120 over 80', 'health', 'doctor', 0.9, id => 'pressure'),
           store_memory('ran five miles', 'health', 'diary', id => 'run')";
const SEARCH: &str = "SELECT id FROM search_memories('blood pressure', 'health', 3) ORDER BY id";

/// A database with the domain health, and a session of an ordinary role.
fn health_for(name: &str, role: &str) -> (Database<'static>, Session, Session) {
    let database = Database::with_extension(name);
    let mut owner = database.connect();
    owner.run(STORE);
    database.create_role(role);
    let session = database.connect_as(role);
    (database, owner, session)
}

// trust 4
#[test]
fn a_stranger_to_a_domain_learns_nothing() {
    let (_database, mut owner, mut stranger) = health_for("memories_stranger", "memories_stranger_role");
    for call in [
        "search_memories('the', 'health')",
        "search_memories('the', 'health', use_vector => false)",
        "store_memory('x', 'health')",
        "update_memory('run', 'x', 'health')",
        "delete_memory('run', 'health')",
        "drop_domain('health')",
        "search_memories('the', 'health', filter => '{\"source\": \"diary\"}')",
    ] {
        stranger.fails("42501", &format!("SELECT {call}"));
    }
    let listed = stranger.text("SELECT * FROM vector_tools.domains");
    assert_eq!(listed, "health|health_memories|all-MiniLM-L6-v2-int8|∅|∅|∅|∅", "expected no counts");
    let error = stranger.fails("42704", "SELECT store_memory('x', 'heal')");
    assert_eq!(error.detail(), Some("There is no domain in the schemas of search_path that you may use."));
    // Without a right to use the schema there is no such domain.
    owner.run("CREATE SCHEMA closed; ALTER TABLE health_memories SET SCHEMA closed; GRANT ALL ON closed.health_memories TO PUBLIC");
    stranger.run("SET search_path = closed, public");
    stranger.fails("42704", SEARCH);
    let counts =
        stranger.text("SELECT memories, embedded, size_bytes, last_update FROM vector_tools.domains");
    assert_eq!(counts, "∅|∅|∅|∅", "expected no counts without USAGE on the schema");
}

// trust 4
#[test]
fn each_verb_needs_only_its_own_right() {
    let (_database, mut owner, mut session) = health_for("memories_verbs", "memories_verbs_role");
    owner.run("GRANT INSERT ON health_memories TO memories_verbs_role");
    // Storing reads nothing back.
    session.run("SELECT store_memory('drank two litres of water', 'health', id => 'water')");
    let error = session.fails("23505", "SELECT store_memory('x', 'health', id => 'run')");
    assert!(error.hint().is_some_and(|hint| hint.contains("update_memory")), "expected a hint: {error:?}");
    session.fails("42501", SEARCH);
    let error = session.fails("42704", "SELECT store_memory('x', 'helth')");
    assert_eq!(error.detail(), Some("The nearest domain is \"health\"."));
    owner.run("GRANT SELECT ON health_memories TO memories_verbs_role");
    assert_eq!(session.rows(SEARCH).len(), 3, "expected a reader to search");
    session.fails("42501", "SELECT delete_memory('run', 'health')");
    owner.run("GRANT UPDATE (metadata, updated_at) ON health_memories TO memories_verbs_role");
    session.run("SELECT update_memory('run', domain => 'health', importance => 0.1)");
    session.fails("42501", "SELECT update_memory('run', 'x', 'health')");
    owner.run("GRANT DELETE, UPDATE, TRIGGER ON health_memories TO memories_verbs_role");
    assert_eq!(session.text("SELECT delete_memory('run', 'health')"), "t");
    session.fails("42501", "SELECT drop_domain('health')");
    // Only the owner mends.
    owner.run(
        "DROP TRIGGER embed_content ON health_memories; DROP TRIGGER touch_updated_at ON health_memories",
    );
    session.fails("55000", "SELECT create_domain_memories_table('health')");
    let triggers = owner.text("SELECT count(*) FROM pg_trigger WHERE tgrelid = 'health_memories'::regclass");
    assert_eq!(triggers, "0", "expected no trigger by a role that does not own the table");
}

// trust 5
#[test]
fn policies_hold_in_every_verb() {
    let (_database, mut owner, mut session) = health_for("memories_rows", "memories_rows_role");
    owner.run(
        "GRANT SELECT, INSERT, UPDATE, DELETE ON health_memories TO memories_rows_role;
         ALTER TABLE health_memories ENABLE ROW LEVEL SECURITY;
         CREATE POLICY diary ON health_memories USING (metadata->>'source' = 'diary')",
    );
    assert_eq!(session.rows(SEARCH), ["run", "sleep"], "expected the diary only");
    let words = "SELECT id FROM search_memories('blood pressure', 'health', use_vector => false)";
    assert!(session.rows(words).is_empty(), "expected no hidden row by its words");
    assert_eq!(session.text("SELECT update_memory('pressure', 'x', 'health')"), "f");
    assert_eq!(session.text("SELECT delete_memory('pressure', 'health')"), "f");
    session.fails("42501", "SELECT store_memory('x', 'health', 'doctor')");
    session.fails("42501", "SELECT update_memory('run', domain => 'health', source => 'doctor')");
    session.run("SELECT store_memory('walked to work', 'health', 'diary')");
    assert_eq!(owner.rows(SEARCH).len(), 3, "expected the owner to see hidden rows");
    assert_eq!(owner.text("SELECT memories FROM vector_tools.domains"), "4");
}

/// Looking at the list of domains runs nobody's code: a policy is a function of the table's owner.
// trust 4, 5
#[test]
fn listing_domains_runs_no_code_of_their_owners() {
    let database = Database::with_extension("memories_trojan");
    database.create_role("memories_trojan_role");
    database.create_role("memories_trojan_reader");
    database.connect().run("CREATE SCHEMA own AUTHORIZATION memories_trojan_role");
    let mut session = database.connect_as("memories_trojan_role");
    session.run(
        "SET search_path = own, public;
         CREATE FUNCTION own.trap() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'own.trap() ran'; END $$;
         SELECT create_domain_memories_table('bait'); SELECT store_memory('a', 'bait');
         GRANT USAGE ON SCHEMA own TO PUBLIC; GRANT SELECT ON own.bait_memories TO PUBLIC;
         ALTER TABLE own.bait_memories ENABLE ROW LEVEL SECURITY;
         CREATE POLICY trap ON own.bait_memories USING (own.trap())",
    );
    let counts = "SELECT domain, memories, embedded, last_update IS NULL FROM vector_tools.domains";
    let mut reader = database.connect_as("memories_trojan_reader");
    assert_eq!(reader.text(counts), "bait|∅|∅|t", "expected no count under another's policy");
    assert_eq!(session.text(counts), "bait|1|1|f", "expected the owner's own count");
    // A table that only looks like a domain spoils the list for nobody.
    session.run(
        "CREATE TABLE odd_memories (id int, content text, embedding vector(384), metadata jsonb, created_at text, updated_at point);
         CREATE TRIGGER embed BEFORE INSERT ON odd_memories
             FOR EACH ROW EXECUTE FUNCTION vector_tools.embed_row('content', 'embedding', 'no such model');
         GRANT SELECT ON own.odd_memories TO PUBLIC",
    );
    assert_eq!(
        reader.rows(counts),
        ["bait|∅|∅|t", "odd|∅|∅|t"],
        "expected the list in spite of the odd table"
    );
}

// trust 16
#[test]
fn domains_are_dumped_and_restored() {
    let original = Database::with_extension("memories_dump");
    let mut session = original.connect();
    session.run(STORE);
    session.run("CREATE SCHEMA \"Other Schema\"; SET search_path = \"Other Schema\", public");
    session
        .run("SELECT create_domain_memories_table('it''s'), store_memory('elsewhere', 'it''s', id => 'e')");
    session.run("RESET search_path; SELECT create_domain_memories_table('old'), store_memory('renamed', 'old', id => 'r')");
    session.run("ALTER TABLE old_memories RENAME TO new_memories");
    let restored = Database::empty("memories_dump_restored");
    let folder = Folder::new();
    let file = folder.path().join("dump").display().to_string();
    dump::run("pg_dump", &["--format=custom", "--file", &file, "--dbname", &original.connection()]);
    dump::run("pg_restore", &["--exit-on-error", "--dbname", &restored.connection(), &file]);
    let mut copy = restored.connect();
    for fact in [
        "SELECT domain, source, model, memories, embedded, last_update FROM vector_tools.domains ORDER BY domain",
        "SELECT * FROM health_memories ORDER BY id",
        "SELECT * FROM \"Other Schema\".\"it's_memories\"",
        "SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1",
        "SELECT indexdef FROM pg_indexes WHERE tablename LIKE '%memories' ORDER BY indexdef",
    ] {
        assert_eq!(copy.rows(fact), session.rows(fact), "expected the same after the restore: {fact}");
    }
    check_verbs(&mut copy);
    assert_eq!(copy.text("SELECT id FROM search_memories('renamed', 'new')"), "r");
    copy.run("SET search_path = \"Other Schema\", public");
    assert_eq!(copy.text("SELECT id FROM search_memories('elsewhere', 'it''s')"), "e");
}

// trust 16
#[test]
fn an_ordinary_owner_dumps_and_restores_a_domain() {
    let original = Database::with_extension("memories_owner");
    original.create_role("memories_owner_role");
    original.connect().run("CREATE SCHEMA own AUTHORIZATION memories_owner_role");
    let mut session = original.connect_as("memories_owner_role");
    session.run("SET search_path = own, public");
    session.run(STORE);
    let restored = Database::with_extension("memories_owner_restored");
    restored.connect().run("CREATE SCHEMA own AUTHORIZATION memories_owner_role");
    let folder = Folder::new();
    let file = folder.path().join("dump").display().to_string();
    let as_owner = |database: &Database| database.server.connection(&database.name, "memories_owner_role");
    dump::run(
        "pg_dump",
        &["--table=own.*", "--format=custom", "--file", &file, "--dbname", &as_owner(&original)],
    );
    dump::run("pg_restore", &["--exit-on-error", "--dbname", &as_owner(&restored), &file]);
    let mut copy = restored.connect_as("memories_owner_role");
    copy.run("SET search_path = own, public");
    let rows = "SELECT * FROM health_memories ORDER BY id";
    assert_eq!(copy.rows(rows), session.rows(rows), "expected the same memories");
    check_verbs(&mut copy);
    assert_eq!(copy.text("SELECT drop_domain('health')"), "t", "expected the owner to drop the domain");
}

/// Every verb on the domain health.
fn check_verbs(session: &mut Session) {
    session.run("SELECT store_memory('bought new running shoes', 'health', id => 'shoes')");
    let found = session.text("SELECT id FROM search_memories('footwear', 'health', 1)");
    assert_eq!(found, "shoes", "expected a new memory to be embedded");
    assert_eq!(session.text("SELECT update_memory('shoes', 'sold the old bicycle', 'health')"), "t");
    let found = session.text("SELECT id FROM search_memories('cycling', 'health', 1)");
    assert_eq!(found, "shoes", "expected a changed memory to be embedded again");
    assert_eq!(session.text("SELECT delete_memory('shoes', 'health')"), "t");
    assert_eq!(
        session.text("SELECT memories, embedded FROM vector_tools.domains WHERE domain = 'health'"),
        "3|3"
    );
}

// trust 21
#[test]
fn a_domain_lives_through_drop_and_create_of_the_extension() {
    let database = Database::with_extension("memories_recreated");
    let mut session = database.connect();
    session.run(STORE);
    session.run("DROP EXTENSION vector_tools CASCADE");
    session.run("INSERT INTO health_memories (id, content) VALUES ('meanwhile', 'had no extension')");
    session.run("CREATE EXTENSION vector_tools");
    assert_eq!(session.rows(SEARCH).len(), 3, "expected the embedded memories to be found");
    let error = session.fails("55000", "SELECT store_memory('x', 'health')");
    assert!(
        error.hint().is_some_and(|hint| hint.contains("create_domain_memories_table('health')")),
        "expected to be told what mends it: {error:?}"
    );
    session.run("SELECT create_domain_memories_table('health')");
    assert_eq!(session.text("SELECT memories, embedded FROM vector_tools.domains"), "4|4");
    session.run("SELECT delete_memory('meanwhile', 'health')");
    check_verbs(&mut session);
    session.fails("2BP01", "DROP EXTENSION vector_tools");
}

// trust 20
#[test]
fn domains_work_in_a_quoted_schema_with_pgvector_elsewhere() {
    let database = Database::empty("memories_elsewhere");
    let mut session = database.connect();
    session.run(
        r#"CREATE SCHEMA "My Schema"; CREATE SCHEMA "Vector's"; CREATE SCHEMA data;
           CREATE EXTENSION vector SCHEMA "Vector's"; CREATE EXTENSION vector_tools SCHEMA "My Schema""#,
    );
    session.run("SET search_path = data, \"My Schema\"");
    session.run(STORE);
    check_verbs(&mut session);
    session.run(
        "DROP TRIGGER embed_content ON health_memories; DROP TRIGGER touch_updated_at ON health_memories",
    );
    session.run("UPDATE health_memories SET embedding = NULL");
    session.run("SELECT create_domain_memories_table('health')");
    check_verbs(&mut session);
}

// trust 15
#[test]
fn a_domain_dropped_while_it_is_searched_is_an_error() {
    let (database, mut owner, _) = health_for("memories_gone", "memories_gone_role");
    owner.run("BEGIN; SELECT drop_domain('health')");
    let mut reader = database.connect();
    let pid = reader.pid;
    let searching = thread::spawn(move || {
        reader.fails("42P01", SEARCH);
        reader.fails("42704", SEARCH);
    });
    let mut watcher = database.connect();
    let waiting = format!("SELECT wait_event_type FROM pg_stat_activity WHERE pid = {pid}");
    wait_until("the search waits for the lock", || watcher.text(&waiting) == "Lock");
    owner.run("COMMIT");
    searching.join().expect("the search ends with an error");
}

// trust 15
#[test]
fn two_sessions_cannot_store_one_id() {
    let (database, mut owner, _) = health_for("memories_twice", "memories_twice_role");
    owner.run("BEGIN; SELECT store_memory('first', 'health', id => 'one')");
    let mut second = database.connect();
    let pid = second.pid;
    let storing = thread::spawn(move || {
        let error = second.fails("23505", "SELECT store_memory('second', 'health', id => 'one')");
        assert!(error.hint().is_some(), "expected a hint: {error:?}");
        second.text("SELECT content FROM health_memories WHERE id = 'one'")
    });
    let mut watcher = database.connect();
    let waiting = format!("SELECT wait_event_type FROM pg_stat_activity WHERE pid = {pid}");
    wait_until("the second session waits for the first", || watcher.text(&waiting) == "Lock");
    owner.run("COMMIT");
    assert_eq!(storing.join().expect("the second session goes on"), "first");
}
