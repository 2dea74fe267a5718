//! What a role may do, and what it must not see (1, 4, 5).

use crate::database::{Database, MODEL};
use crate::session::Session;

/// A table that can be searched, with three rows that two tenants own.
const NOTES: &str = "CREATE TABLE notes (
         id int PRIMARY KEY, tenant text NOT NULL, body text NOT NULL, secret text DEFAULT 'hush',
         embedding vector(384),
         lexemes tsvector GENERATED ALWAYS AS (to_tsvector('english', body)) STORED);
     INSERT INTO notes (id, tenant, body, embedding)
         SELECT id, tenant, body, embed(body) FROM (VALUES
             (1, 'rights_ann', 'the pump lost pressure'), (2, 'rights_bob', 'the pump was repaired'),
             (3, 'rights_bob', 'a valve is leaking')) AS v(id, tenant, body);";
const SEARCH: &str = "SELECT id FROM hybrid_search('notes', 'pump pressure') ORDER BY id";

/// A database with the notes, and a session of an ordinary role that may not read them yet.
fn notes_for(name: &str, role: &str) -> (Database<'static>, Session, Session) {
    let database = Database::with_extension(name);
    let mut owner = database.connect();
    owner.run(NOTES);
    database.create_role(role);
    let session = database.connect_as(role);
    (database, owner, session)
}

// trust 1
#[test]
fn an_ordinary_role_embeds_and_searches_its_own_tables() {
    let database = Database::with_extension("rights_own");
    database.create_role("rights_own_role");
    database.connect().run("CREATE SCHEMA own AUTHORIZATION rights_own_role");
    let mut session = database.connect_as("rights_own_role");
    session.run("SET search_path = own, public");
    session.run(NOTES);
    assert_eq!(session.rows(SEARCH), ["1", "2", "3"], "expected all three notes");
    session.run(
        "SELECT create_domain_memories_table('mine'); INSERT INTO mine_memories (content) VALUES ('a pump')",
    );
    let found = session.text("SELECT content FROM hybrid_search('mine_memories', 'pump')");
    assert_eq!(found, "a pump", "expected the role's own memory");
    session.run("SELECT embed(ARRAY['a', NULL]), embed_query('a'), count_tokens('a')");
}

// trust 1
#[test]
fn registering_and_dropping_models_is_for_trusted_roles() {
    let database = Database::with_extension("rights_models");
    database.create_role("rights_models_role");
    let mut session = database.connect_as("rights_models_role");
    session.fails("42501", &format!("SELECT register_model('mine', '{MODEL}')"));
    session.fails("42501", &format!("SELECT drop_model('{MODEL}')"));
    session.fails("42501", "SELECT vector_tools.register_bundled_models()");
    session.fails("42501", "SELECT * FROM vector_tools.model_registry");
    session.fails("42501", "INSERT INTO vector_tools.models (name) VALUES ('x')");
    session.fails("42501", "CREATE TABLE vector_tools.mine (id int)");
    let sources = session.rows("SELECT DISTINCT source FROM vector_tools.models");
    assert_eq!(sources, ["∅"], "expected no role to see where models lie on the server");
    database.connect().run("GRANT pg_read_server_files TO rights_models_role");
    let sources = session.rows("SELECT source FROM vector_tools.models ORDER BY source");
    assert_eq!(sources, ["all-MiniLM-L6-v2", MODEL], "expected a reader of server files to see sources");
}

// trust 1
#[test]
fn a_role_trusted_with_functions_and_registry_registers_models() {
    let database = Database::with_extension("rights_granted");
    database.create_role("rights_granted_role");
    database.connect().run(
        "GRANT EXECUTE ON FUNCTION register_model(text, text, text, jsonb), drop_model(text) TO rights_granted_role;
         GRANT SELECT, INSERT, DELETE ON vector_tools.model_registry TO rights_granted_role",
    );
    let mut session = database.connect_as("rights_granted_role");
    session.run(&format!("SELECT register_model('mine', '{MODEL}'); SELECT embed('a', 'mine')"));
    session.run("SELECT drop_model('mine')");
    session.fails("42704", "SELECT embed('a', 'mine')");
}

// trust 1
#[test]
fn paths_of_libraries_and_models_are_for_superusers() {
    let database = Database::with_extension("rights_settings");
    database.create_role("rights_settings_role");
    for setting in ["vector_tools.onnxruntime_library", "vector_tools.model_directory"] {
        let set = format!("SET {setting} = '/tmp/mine'");
        let mut loaded = database.connect_as("rights_settings_role");
        loaded.still_embeds();
        loaded.fails("42501", &set);
        loaded.fails("42501", &format!("SHOW {setting}"));
        loaded.fails("42501", &format!("SELECT set_config('{setting}', '/tmp/mine', false)"));
        // Before the library is loaded the name is a mere placeholder, which anyone may set.
        let mut fresh = database.connect_as("rights_settings_role");
        fresh.run(&set);
        fresh.still_embeds();
        let effective =
            database.connect().text(&format!("SELECT embed('a') IS NULL, current_setting('{setting}')"));
        assert_eq!(effective, "f|", "expected {setting} to be empty for others");
    }
}

// trust 4
#[test]
fn a_stranger_to_the_table_finds_nothing() {
    let (_database, _owner, mut stranger) = notes_for("rights_stranger", "rights_stranger_role");
    stranger.fails("42501", SEARCH);
    stranger.fails("42501", "SELECT * FROM hybrid_search('notes', 'the', vector_weight => 0)");
    stranger.fails("42501", "SELECT * FROM hybrid_search('notes', 'zzz', text_weight => 0)");
    stranger.fails("42501", "SELECT * FROM hybrid_search('notes', '')");
}

// trust 4
#[test]
fn a_reader_of_some_columns_finds_nothing() {
    let (_database, mut owner, mut reader) = notes_for("rights_columns", "rights_columns_role");
    owner.run("GRANT SELECT (id, body) ON notes TO rights_columns_role");
    reader.fails("42501", SEARCH);
    // The scores and the whole row would tell of the columns that were not granted.
    owner.run("GRANT SELECT (embedding, lexemes) ON notes TO rights_columns_role");
    reader.fails("42501", SEARCH);
    reader.fails("42501", "SELECT * FROM hybrid_search('notes', 'pump', filter => '{\"secret\": \"hush\"}')");
}

// trust 4
#[test]
fn a_role_without_usage_on_the_schema_finds_nothing() {
    let database = Database::with_extension("rights_usage");
    database.create_role("rights_usage_role");
    let mut owner = database.connect();
    owner.run("CREATE SCHEMA closed; SET search_path = closed, public");
    owner.run(NOTES);
    owner.run("GRANT SELECT ON closed.notes TO rights_usage_role");
    let oid = owner.text("SELECT 'closed.notes'::regclass::oid");
    let mut session = database.connect_as("rights_usage_role");
    session.fails("42501", "SELECT * FROM hybrid_search('closed.notes', 'pump')");
    // An object identifier needs no name, and so no right to look one up.
    session.fails("42501", &format!("SELECT * FROM hybrid_search({oid}::regclass, 'pump')"));
}

// trust 5
#[test]
fn row_level_security_hides_rows_and_their_scores() {
    let (_database, mut owner, mut session) = notes_for("rights_rows", "rights_ann");
    owner.run(
        "GRANT SELECT ON notes TO rights_ann; ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
         CREATE POLICY own_rows ON notes USING (tenant = current_user)",
    );
    assert_eq!(session.rows(SEARCH), ["1"], "expected the visible row only");
    let filtered = session
        .rows("SELECT id FROM hybrid_search('notes', 'pump', filter => '{\"tenant\": \"rights_bob\"}')");
    assert!(filtered.is_empty(), "expected no row of another tenant, not {filtered:?}");
    // The same session as another role: a plan that was kept must not show what the first saw.
    owner.run("GRANT rights_ann TO postgres");
    assert_eq!(owner.rows(SEARCH), ["1", "2", "3"], "expected the owner to see every row");
    owner.run("SET ROLE rights_ann");
    assert_eq!(owner.rows(SEARCH), ["1"], "expected the visible row only, after SET ROLE");
    owner.run("RESET ROLE");
    assert_eq!(owner.rows(SEARCH), ["1", "2", "3"], "expected every row again");
}

// trust 5
#[test]
fn with_one_row_in_a_hundred_visible_k_rows_still_come_back() {
    let database = Database::with_extension("rights_few");
    database.create_role("rights_few_role");
    let mut owner = database.connect();
    // Embeddings made up, since only their number matters: the hidden rows lie all nearer.
    owner.run(
        "CREATE TABLE many (id int PRIMARY KEY, mine bool NOT NULL, body text, embedding vector(384),
             lexemes tsvector GENERATED ALWAYS AS (to_tsvector('english', body)) STORED);
         CREATE TABLE numbers AS SELECT x, n
             FROM unnest(embed_query('pump')::real[]) WITH ORDINALITY AS u(x, n);
         INSERT INTO many SELECT i, i % 100 = 0, 'pump ' || i, (SELECT array_agg(x + CASE WHEN i % 100 = 0
                 THEN 0.05 ELSE 0.01 END * sin(i * n) ORDER BY n)::vector FROM numbers)
             FROM generate_series(1, 3000) AS i;
         CREATE INDEX ON many USING hnsw (embedding vector_cosine_ops);
         GRANT SELECT ON many TO rights_few_role;
         ALTER TABLE many ENABLE ROW LEVEL SECURITY;
         CREATE POLICY own_rows ON many USING (mine);
         ANALYZE many",
    );
    let mut session = database.connect_as("rights_few_role");
    session.run("SET enable_seqscan = off");
    for weights in ["", ", text_weight => 0", ", vector_weight => 0"] {
        let found = session.text(&format!(
            "SELECT count(*), bool_and((doc->>'mine')::bool) FROM hybrid_search('many', 'pump', 10{weights})"
        ));
        assert_eq!(found, "10|t", "expected ten visible rows with {weights:?}");
    }
}

// trust 1
#[test]
fn public_may_create_nothing_in_the_schema_of_the_state() {
    let database = Database::with_extension("rights_public");
    let mut session = database.connect();
    let rights = session.text(
        "SELECT has_schema_privilege('public', 'vector_tools', 'CREATE'),
                has_schema_privilege('public', 'vector_tools', 'USAGE')",
    );
    assert_eq!(rights, "f|t", "expected PUBLIC to use the schema vector_tools and create nothing in it");
}
