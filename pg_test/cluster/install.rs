//! Creating the extension where somebody was before, elsewhere than usual, and dropping it (7, 20, 21).

use crate::database::Database;
use crate::session::Schemas;

fn check_clean_failure(name: &str, sqlstate: &str, before: &str) {
    let database = Database::empty(name);
    let mut session = database.connect();
    session.run("CREATE EXTENSION vector");
    session.run(before);
    session.fails(sqlstate, "CREATE EXTENSION vector_tools");
    let left = session.text("SELECT count(*) FROM pg_extension WHERE extname = 'vector_tools'");
    assert_eq!(left, "0", "expected no extension after a failed CREATE EXTENSION");
    let functions = session.rows("SELECT proname FROM pg_proc WHERE probin LIKE '%vector_tools%'");
    assert!(functions.is_empty(), "expected nothing of the extension to be left, not {functions:?}");
}

// trust 7
#[test]
fn a_schema_that_is_already_there_is_not_adopted() {
    check_clean_failure("install_schema", "42P06", "CREATE SCHEMA vector_tools");
}

// trust 7
#[test]
fn a_function_that_is_already_there_is_not_adopted() {
    check_clean_failure(
        "install_function",
        "42723",
        "CREATE FUNCTION embed(text) RETURNS vector LANGUAGE sql AS 'SELECT NULL::vector'",
    );
    check_clean_failure(
        "install_rrf",
        "42723",
        "CREATE FUNCTION rrf_score(bigint, bigint, float8) RETURNS float8 LANGUAGE sql AS 'SELECT 0::float8'",
    );
}

// trust 7
#[test]
fn none_of_its_functions_is_adopted() {
    let made = Database::with_extension("install_signatures");
    // In the schema of the extension; that of its state must not be there at all.
    let functions = made.connect().rows(
        "SELECT p.proname || '(' || coalesce((SELECT string_agg(format_type(t, NULL), ', ' ORDER BY place)
                    FROM unnest(p.proargtypes::oid[]) WITH ORDINALITY AS u(t, place)), '') || ')'
         FROM pg_proc AS p JOIN pg_depend AS d ON d.objid = p.oid AND d.classid = 'pg_proc'::regclass AND d.deptype = 'e'
         JOIN pg_extension AS e ON e.oid = d.refobjid JOIN pg_namespace AS n ON n.oid = p.pronamespace
         WHERE e.extname = 'vector_tools' AND n.nspname <> 'vector_tools'
         AND NOT EXISTS (SELECT FROM unnest(p.proargtypes::oid[]) AS t WHERE format_type(t, NULL) LIKE '%word_match')
         ORDER BY 1",
    );
    assert!(functions.len() > 40, "expected the functions of the extension, not {functions:?}");
    let database = Database::empty("install_taken");
    let mut session = database.connect();
    let Schemas { extension, pgvector } = Schemas::in_use();
    session.run(&format!(
        "CREATE SCHEMA IF NOT EXISTS {extension}; CREATE SCHEMA IF NOT EXISTS {pgvector}; CREATE EXTENSION vector SCHEMA {pgvector}"
    ));
    for function in functions {
        session.run(&format!("BEGIN; CREATE FUNCTION {extension}.{function} RETURNS int LANGUAGE sql AS 'SELECT 1'; SAVEPOINT s"));
        session.fails("42723", &format!("CREATE EXTENSION vector_tools SCHEMA {extension}"));
        session.run("ROLLBACK TO s");
        let members = "SELECT count(*) FROM pg_depend WHERE deptype = 'e' AND classid = 'pg_proc'::regclass
                       AND objid = (SELECT max(oid) FROM pg_proc)";
        assert_eq!(session.text(members), "0", "expected {function} to stay its maker's");
        session.run("ROLLBACK");
    }
    session.run(
        "CREATE FUNCTION mine() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
         CREATE EVENT TRIGGER vector_tools_audit_partitions ON ddl_command_end EXECUTE FUNCTION mine()",
    );
    session.fails("42710", &format!("CREATE EXTENSION vector_tools SCHEMA {extension}"));
    session.run(&format!(
        "DROP EVENT TRIGGER vector_tools_audit_partitions; CREATE EXTENSION vector_tools SCHEMA {extension}"
    ));
}

// trust 23
#[test]
fn other_encodings_are_refused() {
    let template = Database::empty("install_encoding");
    template.connect().run(
        "CREATE DATABASE install_latin1 TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C' LOCALE_PROVIDER libc",
    );
    let mut session = crate::session::Session::open(template.server, "install_latin1", "postgres");
    session.run("CREATE EXTENSION vector");
    session.fails("0A000", "CREATE EXTENSION vector_tools");
}

// trust 1
#[test]
fn an_ordinary_role_cannot_create_it() {
    let database = Database::empty("install_role");
    database.create_role("install_role_role");
    database
        .connect()
        .run("CREATE EXTENSION vector; GRANT CREATE ON DATABASE install_role TO install_role_role");
    database.connect_as("install_role_role").fails("42501", "CREATE EXTENSION vector_tools");
}

// trust 20
#[test]
fn everything_works_in_a_quoted_schema_with_pgvector_elsewhere() {
    let database = Database::empty("install_elsewhere");
    let mut session = database.connect();
    session.run(
        r#"CREATE SCHEMA "My Schema"; CREATE SCHEMA "Vector's"; CREATE SCHEMA data;
           CREATE EXTENSION vector SCHEMA "Vector's"; CREATE EXTENSION vector_tools SCHEMA "My Schema""#,
    );
    let mut session = database.connect();
    session.run("SET search_path = ''");
    assert_eq!(
        session.text(r#"SELECT "Vector's".vector_dims("My Schema".embed('a'))"#),
        "384",
        "expected embed to work by its qualified name"
    );
    session.fails("3F000", r#"SELECT "My Schema".create_domain_memories_table('health')"#);
    session.run(r#"SET search_path = data; SELECT "My Schema".create_domain_memories_table('health')"#);
    session.run("SET search_path = ''");
    session.run("INSERT INTO data.health_memories (content) VALUES ('slept well'), ('ran five miles')");
    session.run("UPDATE data.health_memories SET content = 'slept badly' WHERE content = 'slept well'");
    let found = session.text(
        r#"SELECT content FROM "My Schema".hybrid_search('data.health_memories', 'slept', 1, '{"content": {"$like": "slept%"}}')"#,
    );
    assert_eq!(found, "slept badly", "expected the search to work by its qualified name");
    let fused = session.rows(r#"SELECT item FROM "My Schema".rrf_fuse(ARRAY[1, 2], ARRAY[2, 3])"#);
    assert_eq!(fused, ["2", "1", "3"], "expected rrf_fuse to find rrf_score in its own schema");
    session.run(
        r#"CREATE TABLE data.generated (id int PRIMARY KEY, body text,
               e "Vector's".vector(384) GENERATED ALWAYS AS ("My Schema".embed(body, 'all-MiniLM-L6-v2-int8')) STORED,
               l tsvector GENERATED ALWAYS AS (to_tsvector('english', body)) STORED);
           INSERT INTO data.generated VALUES (1, 'a pump');
           CREATE INDEX ON data.generated USING hnsw (e "Vector's".vector_cosine_ops)"#,
    );
    let found = session.text(r#"SELECT id FROM "My Schema".hybrid_search('data.generated', 'pump')"#);
    assert_eq!(found, "1", "expected a generated column to be searched");
    session.run(r#"SELECT "My Schema".register_model('m', 'all-MiniLM-L6-v2-int8'); SELECT "My Schema".drop_model('m')"#);
    session.run(r#"DROP EXTENSION vector_tools CASCADE; CREATE EXTENSION vector_tools SCHEMA "My Schema""#);
}

// trust 20
#[test]
fn pgvector_and_the_extension_may_be_moved_or_renamed_only_where_that_is_safe() {
    let database = Database::with_extension("install_moved");
    let mut session = database.connect();
    session.run("SELECT create_domain_memories_table('moved'); INSERT INTO moved_memories (content) VALUES ('a pump')");
    session.fails("0A000", "ALTER EXTENSION vector_tools SET SCHEMA pg_catalog");
    // pgvector is relocatable: searches find its type and operators where they went.
    session.run("CREATE SCHEMA ext; ALTER EXTENSION vector SET SCHEMA ext");
    assert_eq!(
        session.text("SELECT content FROM hybrid_search('moved_memories', 'pump')"),
        "a pump",
        "expected a search after pgvector moved, in the same session"
    );
    session.run("INSERT INTO moved_memories (content) VALUES ('a valve')");
    let mut fresh = database.connect();
    assert_eq!(
        fresh.text("SELECT count(*) FROM hybrid_search('moved_memories', 'pump')"),
        "2",
        "expected a search after pgvector moved, in a new session"
    );
}

// trust 21
#[test]
fn dropping_refuses_while_tables_depend_and_cascade_leaves_no_trigger() {
    let database = Database::with_extension("install_drop");
    let mut session = database.connect();
    session.run(
        "SELECT create_domain_memories_table('kept'); INSERT INTO kept_memories (content) VALUES ('a pump')",
    );
    session.fails("2BP01", "DROP EXTENSION vector_tools");
    session.still_embeds();
    session.run("DROP EXTENSION vector_tools CASCADE");
    let triggers = session.rows("SELECT tgname FROM pg_trigger WHERE tgrelid = 'kept_memories'::regclass");
    assert!(triggers.is_empty(), "expected no trigger without the extension, not {triggers:?}");
    session.run("INSERT INTO kept_memories (content) VALUES ('without an embedding')");
    let rows = session.text("SELECT count(*), count(embedding) FROM kept_memories");
    assert_eq!(rows, "2|1", "expected the user's table and its embeddings to stay");
    let schemas = session.rows("SELECT nspname FROM pg_namespace WHERE nspname = 'vector_tools'");
    assert!(schemas.is_empty(), "expected the schema vector_tools to be gone");
    session.run(&format!("CREATE EXTENSION vector_tools SCHEMA {}", Schemas::in_use().extension));
    session.still_embeds();
    let found = session.text("SELECT content FROM hybrid_search('kept_memories', 'pump', 1)");
    assert_eq!(found, "a pump", "expected the kept table to be searched after CREATE EXTENSION");
    session
        .run("SELECT create_domain_memories_table('anew'); INSERT INTO anew_memories (content) VALUES ('b')");
}
