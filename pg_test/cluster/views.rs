//! The lists of the extension to strangers: functions that tell what they are given, and triggers with any
//! arguments (4, 26).

use crate::adoption::doubled_model;
use crate::database::{Database, MODEL};
use crate::models::Folder;
use crate::session::Session;

/// Every view of the extension, and its columns.
const COLUMNS: &str = "SELECT c.oid::regclass, quote_ident(a.attname)
    FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass
    JOIN pg_class AS c ON c.oid = d.objid AND d.classid = 'pg_class'::regclass AND c.relkind = 'v'
    JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0
    WHERE e.extname = 'vector_tools' ORDER BY c.oid::regclass::text, a.attnum";

/// Something of an owner's in every view.
const DATA: &str = "SET search_path = owned, public;
    SELECT create_domain_memories_table('secret'); SELECT store_memory('a secret', 'secret');
    CREATE TABLE docs (id int PRIMARY KEY, body text, l tsvector GENERATED ALWAYS AS (to_tsvector('simple', body)) STORED);
    INSERT INTO docs SELECT i, 'secret ' || i FROM generate_series(1, 5) AS i;
    SELECT enable_search('docs', '{body}', mode => 'manual', index_kind => 'none'), enable_audit('docs'), refresh_search_stats('docs')";

#[test]
fn every_view_is_a_barrier() {
    let database = Database::with_extension("views_barrier");
    let open = "SELECT c.oid::regclass FROM pg_class AS c WHERE relnamespace = 'vector_tools'::regnamespace AND relkind = 'v'
        AND NOT coalesce('security_barrier=true' = ANY (reloptions), false)";
    assert_eq!(database.connect().rows(open), [""; 0]);
}

// trust 4, 30
#[test]
fn functions_of_a_stranger_see_what_the_views_show_him() {
    let database = Database::with_extension("views_leaks");
    let mut superuser = database.connect();
    for role in ["owner", "stranger"] {
        database.create_role(&format!("views_leaks_{role}"));
    }
    superuser.run(
        "CREATE SCHEMA owned AUTHORIZATION views_leaks_owner; CREATE SCHEMA own AUTHORIZATION views_leaks_stranger;
         GRANT CREATE ON DATABASE views_leaks TO views_leaks_owner",
    );
    let mut owner = database.connect_as("views_leaks_owner");
    owner.run(&format!("SELECT create_vector_store('reg', '{MODEL}')"));
    owner.run(DATA);
    owner.run("CALL run_embedding_jobs()");
    owner.run("INSERT INTO docs SELECT i, 'secret ' || i FROM generate_series(6, 9) AS i");
    superuser.run("UPDATE vector_tools.queue SET category = 'row', sqlstate = '22000', last_error = 'a secret of row 6'");
    superuser.run("INSERT INTO vector_tools.started_batches VALUES (1, now(), now(), 'owned.docs', '{1}', '{{a secret}}')");
    let columns = superuser.rows(COLUMNS);
    for view in columns.iter().filter_map(|line| line.split('|').next()) {
        assert_ne!(
            superuser.text(&format!("SELECT count(*) FROM {view}")),
            "0",
            "expected something in {view}"
        );
    }
    let mut stranger = database.connect_as("views_leaks_stranger");
    stranger.run(
        "CREATE FUNCTION own.leak(v anyelement) RETURNS bool LANGUAGE plpgsql COST 0.0000001 AS
             $$ BEGIN RAISE NOTICE 'LEAK %', v; RETURN true; END $$",
    );
    for line in columns {
        let (view, column) = line.split_once('|').expect("two columns");
        // As RAISE writes it, which is not everywhere as a cast does.
        let shown = format!(
            "SELECT CASE WHEN {column} IS NULL THEN 'LEAK <NULL>' ELSE format('LEAK %s', {column}) END FROM {view} AS t"
        );
        let leaked = format!("SELECT count(*) FROM {view} WHERE own.leak({column})");
        let shown = match stranger.ask_rows(&shown) {
            Ok(rows) => rows,
            Err(error) => {
                assert_eq!(error.code().code(), "42501", "{view}.{column}");
                stranger.fails("42501", &leaked);
                assert!(stranger.take_notices().is_empty(), "{view}.{column}");
                continue;
            }
        };
        stranger.take_notices();
        stranger.run(&leaked);
        let mut told: Vec<String> =
            stranger.take_notices().iter().map(|notice| notice.message().to_owned()).collect();
        assert_eq!(told.len(), shown.len(), "{view}.{column} shows {shown:?} and tells {told:?}");
        // The process counts on between two looks at it.
        if view != "vector_tools.embedder_stats" {
            let mut shown = shown;
            shown.sort_unstable();
            told.sort_unstable();
            assert_eq!(told, shown, "{view}.{column}");
        }
    }
}

// trust 4, 30
#[test]
fn models_of_other_databases_are_shown_to_monitors() {
    let folder = Folder::new();
    let model = doubled_model(&folder);
    let (one, other) =
        (Database::with_extension("views_models_one"), Database::with_extension("views_models_other"));
    let mut session = one.connect();
    session.run(&format!(
        "SELECT register_model('secret-merger', '{model}'); SELECT embed('x', 'secret-merger')"
    ));
    let models = "SELECT model FROM vector_tools.embedder_stats WHERE model = 'secret-merger'";
    assert_eq!(session.rows(models), ["secret-merger"]);
    for role in ["views_models_stranger", "views_models_monitor"] {
        other.create_role(role);
    }
    session.run("GRANT pg_monitor TO views_models_monitor");
    let mut stranger = other.connect_as("views_models_stranger");
    stranger.still_embeds();
    let own = "SELECT DISTINCT m.model IS NOT NULL FROM vector_tools.embedder_stats AS s LEFT JOIN
        (SELECT name AS model FROM vector_tools.models) AS m USING (model)";
    assert_eq!(stranger.rows(own), ["t"], "expected models of its own database only");
    assert!(stranger.rows(models).is_empty());
    assert_eq!(other.connect_as("views_models_monitor").rows(models), ["secret-merger"]);
    // By the name that a model has here, whatever others call it.
    other.connect().run(&format!("SELECT register_model('ours', '{model}')"));
    assert_eq!(
        stranger.rows(
            "SELECT DISTINCT model, dimensions FROM vector_tools.embedder_stats WHERE dimensions = 768"
        ),
        ["ours|768"]
    );
}

/// Every list, and everything in it.
fn lists(session: &mut Session) -> Vec<String> {
    let views = session.rows("SELECT DISTINCT c.oid::regclass::text FROM pg_class AS c
        WHERE relnamespace = 'vector_tools'::regnamespace AND relkind = 'v' AND has_table_privilege(oid, 'SELECT')");
    assert!(views.len() > 8, "{views:?}");
    views.into_iter().map(|view| format!("SELECT count(l::text) FROM {view} AS l")).collect()
}

// trust 26, 29
#[test]
fn no_trigger_of_anybody_spoils_the_lists() {
    let database = Database::with_extension("views_triggers");
    let mut owner = database.connect();
    owner.run(
        "CREATE TABLE docs (id int PRIMARY KEY, body text);
         SELECT enable_search('docs', '{body}', mode => 'manual', index_kind => 'none'), enable_audit('docs');
         SELECT create_domain_memories_table('calm')",
    );
    database.create_role("views_triggers_role");
    owner.run("CREATE SCHEMA mal AUTHORIZATION views_triggers_role");
    let mut mallory = database.connect_as("views_triggers_role");
    mallory.run(&format!(
        r#"SET client_min_messages = error;
        CREATE TABLE mal.odd (number serial, arguments text[], is_for_queue bool DEFAULT false);
        INSERT INTO mal.odd (arguments) VALUES ('{{}}'), (ARRAY['']), (ARRAY['content', 'content', 'content', 'content']),
            (ARRAY['content', 'embedding', '{MODEL}']), (ARRAY['content', 'embedding', 'no such model']),
            (ARRAY['gone', 'missing', '{MODEL}']), (ARRAY['id', 'id', '{MODEL}']),
            (ARRAY['mal', 'no such log', 'with embeddings']), (ARRAY['pg_catalog', 'pg_class', 'without embeddings']),
            (ARRAY[repeat('\', 1000000), repeat('"', 1000000), repeat('ü', 1000000)]),
            (ARRAY[repeat('x', 16000), 'y', 'z']), (array_fill('a'::text, ARRAY[1000])), (array_fill('a'::text, ARRAY[20000]));
        INSERT INTO mal.odd (arguments) SELECT ARRAY[repeat('[', 100000) || repeat(']', 100000), watched]
            FROM unnest('{{content,rows,key,configuration}}'::text[]) AS watched;
        INSERT INTO mal.odd (arguments, is_for_queue) SELECT ARRAY[options, 'content'], true
            FROM (
                SELECT repeat('[', n) || repeat(']', n) FROM unnest('{{100,7000,100000,3000000}}'::int[]) AS n
                UNION ALL SELECT '{{"order":' || repeat('[', n) || repeat(']', n) || '}}' FROM unnest('{{100,7000,100000}}'::int[]) AS n
                UNION ALL SELECT repeat('{{"a":', 100000) || '1' || repeat('}}', 100000)
                UNION ALL SELECT s FROM unnest(ARRAY['', '{{', 'null', '1e999999', '"x"', '\000', '[1,2', '{{"order": "x"}}']) AS s
                UNION ALL SELECT replace(replace(t, '#', v), '~', 'async') FROM unnest(ARRAY[
                    '{{"model": #, "mode": "~", "chunking": null, "text_configuration": "pg_catalog.english", "storage": "vector", "index_kind": "none", "order": [0]}}',
                    '{{"model": "m", "mode": "~", "chunking": null, "text_configuration": #, "storage": "vector", "index_kind": "none", "order": [0]}}',
                    '{{"model": "m", "mode": "~", "chunking": null, "text_configuration": "\"pg_catalog\".\"english\"", "storage": "vector", "index_kind": "none", "order": [#]}}',
                    '{{"model": "m", "mode": "~", "chunking": #, "text_configuration": null, "storage": "vector", "index_kind": "none", "order": [0], "next": #, "previous": #}}',
                    '{{"model": "m", "model": "n", "mode": "~", "chunking": null, "text_configuration": #, "storage": "vector", "index_kind": "none", "order": [0]}}'
                ]) AS t, unnest(ARRAY['"m"', '"\u0000"', '"\ud800"', '1e999999', '99999999999999999999', '0', '1600', 'null', '{{}}', '[]', 'true',
                    '"' || repeat('y', 20000) || '"', '{{"strategy": "", "max_tokens": -1, "overlap": 2147483647}}']) AS v
            ) AS u(options);
        CREATE FUNCTION mal.make(kind text, place int) RETURNS int LANGUAGE plpgsql AS $$
        DECLARE o record; f name; e text; made int := 0; relation text;
        BEGIN
            FOR f IN SELECT proname FROM pg_proc WHERE pronamespace = 'vector_tools'::regnamespace AND prorettype = 'trigger'::regtype LOOP
                FOR o IN SELECT * FROM mal.odd WHERE NOT is_for_queue OR f = 'queue_row' LOOP
                    relation := format('mal.%I', f || '_' || o.number || '_' || place || '_memories');
                    EXECUTE format(kind, relation);
                    FOREACH e IN ARRAY ARRAY['BEFORE INSERT OR UPDATE ON % FOR EACH ROW', 'AFTER UPDATE ON % FOR EACH ROW WHEN (old.content <> new.content)',
                        'AFTER INSERT ON % FOR EACH STATEMENT', 'INSTEAD OF INSERT ON % FOR EACH ROW'] LOOP
                        BEGIN
                            EXECUTE format('CREATE TRIGGER %I %s EXECUTE FUNCTION vector_tools.%I(%s)', e, replace(e, '%', relation), f,
                                (SELECT string_agg(quote_literal(a), ', ' ORDER BY n) FROM unnest(o.arguments) WITH ORDINALITY AS u(a, n)));
                            made := made + 1;
                        EXCEPTION WHEN undefined_column OR wrong_object_type OR feature_not_supported OR program_limit_exceeded
                            OR invalid_table_definition OR invalid_object_definition THEN NULL;
                        END;
                    END LOOP;
                END LOOP;
            END LOOP;
            RETURN made;
        END $$"#
    ));
    let kinds = [
        "CREATE TABLE %s (id int PRIMARY KEY, content text, embedding vector(384), metadata jsonb, created_at timestamptz, updated_at timestamptz)",
        "CREATE TABLE %s (content text)",
        "CREATE TABLE %s (id text, content text, embedding int) PARTITION BY LIST (id)",
        "CREATE VIEW %s AS SELECT 1 AS id, 'x'::text AS content, 2 AS embedding",
    ];
    for (place, kind) in kinds.iter().enumerate() {
        let made = mallory.text(&format!("SELECT mal.make('{}', {place})", kind.replace('\'', "''")));
        assert_ne!(made, "0", "expected triggers on {kind}");
    }
    // A default that takes more of the stack to write out than to make.
    mallory.run(
        "DO $$ DECLARE depth int := 1000; BEGIN
             LOOP
                 BEGIN
                     EXECUTE 'DROP TABLE IF EXISTS mal.vector_embeddings';
                     EXECUTE format('CREATE TABLE mal.vector_embeddings (embedding vector(3), embedding_model text DEFAULT %s''x''%s,
                         namespace text) PARTITION BY LIST (namespace)', repeat('lower(', depth), repeat(')', depth));
                 EXCEPTION WHEN statement_too_complex OR syntax_error THEN EXIT;
                 END;
                 EXIT WHEN depth > 8000;
                 depth := depth + 500;
             END LOOP;
         END $$",
    );
    let mut stranger = database.connect_as("views_triggers_role");
    for session in [&mut owner, &mut stranger] {
        for list in lists(session) {
            assert_ne!(session.refusal(&list), "54001", "{list}");
            session.run(&list);
        }
        let rows = "SELECT source, companion, content_columns FROM vector_tools.searchable_tables WHERE source = 'docs'::regclass";
        assert_eq!(session.rows(rows), ["docs|docs_search|body"]);
        let twice = "SELECT count(*) FROM (SELECT FROM vector_tools.searchable_tables GROUP BY source HAVING count(*) > 1) AS t";
        assert_eq!(session.text(twice), "0");
    }
    owner.run(&format!("SELECT register_model('spare', '{MODEL}')"));
    owner.run("SELECT drop_model('spare')");
}

// trust 4
#[test]
fn a_foreign_key_of_somebody_else_makes_no_companion() {
    let database = Database::with_extension("views_keys");
    let mut owner = database.connect();
    owner.run(
        "CREATE TABLE docs (id int PRIMARY KEY, body text); INSERT INTO docs VALUES (1, 'a pump');
         SELECT enable_search('docs', '{body}', mode => 'manual', index_kind => 'none')",
    );
    database.create_role("views_keys_role");
    owner.run("CREATE SCHEMA mal AUTHORIZATION views_keys_role; GRANT REFERENCES, TRIGGER ON docs TO views_keys_role");
    let lists = [
        "SELECT source, companion, model, next_model, previous_model FROM vector_tools.searchable_tables",
        "SELECT source, companion FROM vector_tools.embedded_tables",
        "SELECT table_name, total, pending FROM vector_tools.search_progress",
        "SELECT source, role, companion, rows FROM vector_tools.search_drift",
    ];
    let before: Vec<Vec<String>> = lists.iter().map(|list| owner.rows(list)).collect();
    database.connect_as("views_keys_role").run(
        "CREATE TABLE mal.a (id int CONSTRAINT vector_tools_search REFERENCES docs);
         CREATE TABLE mal.b (id int CONSTRAINT vector_tools_search REFERENCES docs);
         CREATE TABLE mal.c (id int CONSTRAINT vector_tools_search_next REFERENCES docs);
         CREATE TABLE mal.d (id int CONSTRAINT vector_tools_search_previous REFERENCES docs);
         CREATE TRIGGER a AFTER UPDATE ON docs FOR EACH ROW EXECUTE FUNCTION vector_tools.queue_row('{\"order\": [0]}', 'content')",
    );
    let after: Vec<Vec<String>> = lists.iter().map(|list| owner.rows(list)).collect();
    assert_eq!(after, before);
}
