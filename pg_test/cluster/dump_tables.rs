//! Dump and restore of the tables people own, with all that hangs on them, by a superuser and by an
//! ordinary owner (16): rows, rights, policies, triggers and logs are equal, and nothing is there twice.

use crate::database::{Database, MODEL};
use crate::dump::run;
use crate::models::Folder;
use crate::session::Session;

/// A store, memories, audited tables, policies and grants in the schemas reg and own, made by whoever
/// calls it; `{reader}` is another role.
const TABLES: &str = r#"
    SET search_path = own, public;
    SELECT create_vector_store('reg', '{model}', 'dev', 'halfvec');
    SELECT create_namespace('reg', 'eu'); SELECT create_namespace('reg', 'Odd "Name"');
    SELECT create_collection('reg', 'laws', 'eu');
    SELECT enable_audit('reg.vector_embeddings');
    SELECT upsert_document('reg', 'law', '00000000-0000-0000-0000-000000000001', ARRAY['a pump', 'a valve'], 'eu', collection => 'laws');
    SELECT upsert_document('reg', 'law', '00000000-0000-0000-0000-000000000001', ARRAY['a new pump'], 'eu', collection => 'laws');
    SELECT upsert_document('reg', 'law', '00000000-0000-0000-0000-000000000002', 'a pipe', 'us');
    SELECT grant_vector_access('{reader}', 'reader', 'reg.vector_embeddings');
    SELECT isolate_namespaces('reg.vector_embeddings', '{reader}', '{eu}');
    SET vector_tools.log_searches = on;
    SELECT * FROM search_embeddings('reg', 'pump', 'eu');
    SET vector_tools.log_searches = off;
    SELECT create_domain_memories_table('health', '{memory_model}');
    SELECT store_memory('slept well', 'health', 'diary', 0.5, id => 'sleep'), store_memory('ran five miles', 'health', id => 'run');
    SELECT enable_audit('health_memories', 'health log', true);
    SELECT update_memory('sleep', 'slept badly', 'health'), delete_memory('run', 'health');
    GRANT SELECT ON health_memories TO {reader}; GRANT USAGE ON SCHEMA own TO {reader};
    ALTER TABLE health_memories ENABLE ROW LEVEL SECURITY;
    CREATE POLICY diary ON health_memories TO {reader} USING (metadata->>'source' = 'diary');
    ALTER TABLE health_memories ENABLE ALWAYS TRIGGER embed_content;
    CREATE TABLE notes (tenant text, id int, body text, embedding vector(384), namespace text DEFAULT 'n', PRIMARY KEY (tenant, id))
        PARTITION BY LIST (tenant);
    CREATE TABLE notes_a PARTITION OF notes FOR VALUES IN ('a');
    CREATE TABLE notes_b PARTITION OF notes FOR VALUES IN ('b');
    CREATE TRIGGER embed BEFORE INSERT OR UPDATE ON notes
        FOR EACH ROW EXECUTE FUNCTION vector_tools.embed_row('body', 'embedding', 'all-MiniLM-L6-v2-int8');
    SELECT enable_audit('notes', 'health log');
    SELECT isolate_namespaces('notes'); GRANT SELECT ON notes TO {reader};
    INSERT INTO notes VALUES ('a', 1, 'a pump'), ('b', 2, 'a valve');
    UPDATE notes SET tenant = 'b' WHERE id = 1; TRUNCATE notes_a"#;

/// What the catalogue says of the two schemas.
const FACTS: [&str; 9] = [
    "SELECT c.oid::regclass, relkind, pg_get_userbyid(relowner), relrowsecurity, reloptions, obj_description(c.oid),
         (SELECT string_agg(a::text, ' ' ORDER BY a::text) FROM unnest(relacl) AS a)
         FROM pg_class AS c WHERE relnamespace IN ('own'::regnamespace, 'reg'::regnamespace) ORDER BY c.oid::regclass::text",
    "SELECT tgrelid::regclass, tgname, tgenabled, tgparentid <> 0, pg_get_triggerdef(oid) FROM pg_trigger
         WHERE NOT tgisinternal ORDER BY tgrelid::regclass::text, tgname",
    "SELECT schemaname, tablename, policyname, roles, cmd, qual, with_check FROM pg_policies ORDER BY 1, 2, 3",
    "SELECT conrelid::regclass, conname, pg_get_constraintdef(oid) FROM pg_constraint
         WHERE connamespace IN ('own'::regnamespace, 'reg'::regnamespace) ORDER BY conrelid::regclass::text, conname",
    "SELECT attrelid::regclass, attname, format_type(atttypid, atttypmod), attnotnull, pg_get_expr(adbin, adrelid),
         col_description(attrelid, attnum)
         FROM pg_attribute JOIN pg_class AS c ON c.oid = attrelid LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
         WHERE relnamespace IN ('own'::regnamespace, 'reg'::regnamespace) AND attnum > 0 AND relkind IN ('r', 'p')
         ORDER BY attrelid::regclass::text, attname",
    "SELECT * FROM vector_tools.vector_stores",
    "SELECT domain, source, model, memories, embedded, last_update FROM vector_tools.domains",
    "SELECT * FROM vector_tools.audited_tables ORDER BY source::text",
    "SELECT source, content_column, embedding_column, model FROM vector_tools.embedded_tables ORDER BY source::text",
];

/// Everything that must be equal, rows included.
fn facts(session: &mut Session) -> Vec<String> {
    session.run("SET search_path = public");
    let mut facts: Vec<String> = FACTS.iter().flat_map(|fact| session.rows(fact)).collect();
    let tables = session.rows(
        "SELECT c.oid::regclass FROM pg_class AS c WHERE relkind = 'r'
             AND relnamespace IN ('own'::regnamespace, 'reg'::regnamespace) ORDER BY c.oid::regclass::text",
    );
    assert!(tables.len() > 10, "expected the tables of store and memories among {tables:?}");
    for table in tables {
        facts.push(format!("rows of {table}"));
        facts.extend(
            session.rows(&format!("SELECT t::text FROM {table} AS t ORDER BY t::text COLLATE \"C\"")),
        );
    }
    facts
}

fn check_same(original: &mut Session, restored: &mut Session) {
    let (expected, found) = (facts(original), facts(restored));
    for (expected, found) in expected.iter().zip(&found) {
        assert_eq!(found, expected, "expected the same after the restore");
    }
    assert_eq!(found.len(), expected.len());
}

/// The restored tables must go on as those that were dumped.
fn check_goes_on(owner: &mut Session, reader: &mut Session) {
    let search = "SELECT content FROM search_embeddings('reg', 'pump')";
    assert_eq!(reader.rows(search), ["a new pump"], "expected the reader's namespace only");
    assert!(reader.rows("SELECT id FROM own.notes").is_empty(), "expected no row without a namespace");
    reader.run("SET search_path = own, public");
    assert_eq!(reader.rows("SELECT id FROM search_memories('sleep', 'health')"), ["sleep"]);
    owner.run("SET search_path = own, public");
    let upsert = "SELECT u.* FROM upsert_document('reg', 'law', '00000000-0000-0000-0000-000000000001', ARRAY['a new pump'], 'eu', collection => 'laws') AS u";
    assert_eq!(owner.rows(upsert), ["0|0|1|0"], "expected nothing to embed");
    let count = "SELECT (SELECT count(*) FROM reg.vector_audit_log), (SELECT count(*) FROM \"health log\")";
    let before = owner.text(count);
    let (store, memories) = before.split_once('|').expect("two counts");
    let number = |text: &str| text.parse::<i64>().expect("a count");
    owner.run("SELECT upsert_document('reg', 'law', '00000000-0000-0000-0000-000000000003', 'a tap', 'us')");
    owner.run("SELECT store_memory('walked to work', 'health', id => 'walk')");
    owner.run("INSERT INTO notes (tenant, id, body) VALUES ('a', 3, 'a pipe'); TRUNCATE notes_a");
    let expected = format!("{}|{}", number(store) + 1, number(memories) + 3);
    assert_eq!(owner.text(count), expected, "expected each change in its log once");
    let found = owner.text("SELECT id FROM search_memories('going by foot', 'health', 1)");
    assert_eq!(found, "walk", "expected the new memory to be embedded");
    owner.run("SELECT create_namespace('reg', 'us'); SELECT drop_namespace('reg', 'Odd \"Name\"'); SELECT drop_domain('health')");
}

fn tables_for(reader: &str, model: &str, memory_model: &str) -> String {
    TABLES.replace("{reader}", reader).replace("{model}", model).replace("{memory_model}", memory_model)
}

// trust 16
#[test]
fn a_superuser_dumps_and_restores_every_table() {
    let folder = Folder::new();
    let model = folder.copy_model(MODEL, "custom");
    let original = Database::with_extension("dump_all");
    original.create_role("dump_all_reader");
    let mut session = original.connect();
    session.run(&format!("SELECT register_model('custom', '{}'); CREATE SCHEMA own", model.display()));
    session.run(&tables_for("dump_all_reader", "custom", "custom"));
    let file = folder.path().join("dump").display().to_string();
    let models = "SELECT name, source, sha256, bundled FROM vector_tools.model_registry ORDER BY name";
    let events = "SELECT evtname, evtenabled FROM pg_event_trigger";
    // A copy, and a copy of the copy.
    let copies = ["dump_all_restored", "dump_all_again"].map(Database::empty);
    for (from, to) in [(&original, &copies[0]), (&copies[0], &copies[1])] {
        run("pg_dump", &["--format=custom", "--file", &file, "--dbname", &from.connection()]);
        run("pg_restore", &["--exit-on-error", "--dbname", &to.connection(), &file]);
        let mut copy = to.connect();
        check_same(&mut session, &mut copy);
        assert_eq!(copy.rows(models), session.rows(models), "expected each model once");
        assert_eq!(copy.rows(events), ["vector_tools_audit_partitions|O"], "expected one event trigger");
    }
    let restored = &copies[1];
    check_goes_on(&mut restored.connect(), &mut restored.connect_as("dump_all_reader"));
}

// trust 16
#[test]
fn an_ordinary_owner_dumps_and_restores_every_table() {
    let (owner, reader) = ("dump_owned_ann", "dump_owned_reader");
    let original = Database::with_extension("dump_owned");
    original.create_role(owner);
    original.create_role(reader);
    original.connect().run(&format!(
        "GRANT CREATE ON DATABASE dump_owned TO {owner}; GRANT SET ON PARAMETER vector_tools.log_searches TO {owner}"
    ));
    let mut session = original.connect_as(owner);
    session.run("CREATE SCHEMA own; CREATE SCHEMA reg");
    session.run(&tables_for(reader, MODEL, "all-MiniLM-L6-v2"));
    let restored = Database::with_extension("dump_owned_restored");
    restored.connect().run(&format!("GRANT CREATE ON DATABASE dump_owned_restored TO {owner}"));
    let folder = Folder::new();
    let file = folder.path().join("dump").display().to_string();
    let as_owner = |database: &Database| database.server.connection(&database.name, owner);
    run(
        "pg_dump",
        &[
            "--schema=own",
            "--schema=reg",
            "--format=custom",
            "--file",
            &file,
            "--dbname",
            &as_owner(&original),
        ],
    );
    run("pg_restore", &["--exit-on-error", "--dbname", &as_owner(&restored), &file]);
    check_same(&mut session, &mut restored.connect_as(owner));
    check_goes_on(&mut restored.connect_as(owner), &mut restored.connect_as(reader));
}

// trust 16
#[test]
fn an_ordinary_owner_of_a_database_dumps_the_whole_of_it_once_the_state_is_readable() {
    let owner = "dump_whole_ann";
    let original = Database::with_extension("dump_whole");
    original.create_role(owner);
    original.connect().run(&format!("ALTER DATABASE dump_whole OWNER TO {owner}"));
    let mut session = original.connect_as(owner);
    session.run("CREATE SCHEMA own; SET search_path = own, public; SELECT create_domain_memories_table('health'); SELECT store_memory('slept well', 'health', id => 'a')");
    let state = "vector_tools.model_registry, vector_tools.queue, vector_tools.queue_id_seq,
        vector_tools.queued_documents, vector_tools.queued_documents_id_seq";
    original.connect().run(&format!("GRANT SELECT ON {state} TO {owner}"));
    let restored = Database::empty("dump_whole_restored");
    let folder = Folder::new();
    let file = folder.path().join("dump").display().to_string();
    let as_owner = original.server.connection(&original.name, owner);
    run("pg_dump", &["--format=custom", "--file", &file, "--dbname", &as_owner]);
    run("pg_restore", &["--exit-on-error", "--dbname", &restored.connection(), &file]);
    let memories = "SELECT m.*, pg_get_userbyid(relowner) FROM own.health_memories AS m, pg_class WHERE oid = 'own.health_memories'::regclass";
    assert_eq!(restored.connect().rows(memories), session.rows(memories));
    // The right itself is dumped too.
    let right = format!("SELECT has_table_privilege('{owner}', 'vector_tools.model_registry', 'SELECT')");
    assert_eq!(restored.connect().text(&right), "t");
}

// trust 16
#[test]
fn every_table_of_the_state_is_dumped_or_made_anew() {
    let database = Database::with_extension("dump_state");
    let mut session = database.connect();
    let found = session.rows(
        "SELECT c.relname, coalesce((SELECT condition FROM unnest(e.extconfig, e.extcondition) AS u(config, condition)
             WHERE config = c.oid), 'not dumped')
         FROM pg_extension AS e JOIN pg_depend AS d ON d.refobjid = e.oid AND d.refclassid = 'pg_extension'::regclass
         JOIN pg_class AS c ON c.oid = d.objid AND d.classid = 'pg_class'::regclass
         WHERE e.extname = 'vector_tools' AND d.deptype = 'e' AND c.relkind IN ('r', 'p', 'S', 'm') ORDER BY 1",
    );
    let expected = [
        // What was done in the last minutes.
        "batches|not dumped",
        "batches_id_seq|not dumped",
        // What is in the cache can be computed again.
        "cache_uses|not dumped",
        // Both are counted anew by the first search after a restore.
        "document_frequencies|not dumped",
        "embedding_cache|not dumped",
        // Bundled models are registered by CREATE EXTENSION.
        "model_registry|WHERE NOT bundled",
        // Rows of tables that are gone are not embedded any more.
        "queue|WHERE EXISTS (SELECT FROM pg_catalog.pg_class AS c \
         WHERE c.oid OPERATOR(pg_catalog.=) source::pg_catalog.oid)",
        "queue_id_seq|",
        // With the entries that they belong to.
        "queued_documents|WHERE EXISTS (SELECT FROM pg_catalog.pg_class AS c \
         WHERE c.oid OPERATOR(pg_catalog.=) source::pg_catalog.oid) \
         AND EXISTS (SELECT FROM pg_catalog.pg_roles AS r WHERE r.oid OPERATOR(pg_catalog.=) queued_by::pg_catalog.oid)",
        "queued_documents_id_seq|",
        // No process of another server is at any of these.
        "started_batches|not dumped",
        "statistics_snapshots|not dumped",
    ];
    assert_eq!(
        found, expected,
        "expected pg_extension_config_dump for each table whose rows nothing else brings back"
    );
    let others = session.rows(
        "SELECT c.oid::regclass FROM pg_class AS c WHERE relnamespace = 'vector_tools'::regnamespace
         AND relkind IN ('r', 'p', 'S', 'm') AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = c.oid AND deptype = 'e')",
    );
    assert!(others.is_empty(), "expected no table beside those of the extension, not {others:?}");
}
