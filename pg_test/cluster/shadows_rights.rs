//! Nothing of an attacker's runs with rights that are not its own, whatever is called, by whom, and in whose
//! search_path the attacker's schema is (6, 27).
//!
//! The traps of `traps.sql` stand before the server's own objects, answer as those do, and tell of their use. Every
//! function and view of the extension is called under them; one that no call here covers is a failure.

use std::collections::BTreeSet;

use crate::database::{Database, MODEL, make_template};
use crate::process::wait_until;
use crate::server::Server;
use crate::session::{Schemas, Session};

const TRAPS: &str = include_str!("traps.sql");
/// What a trap says where it runs with rights that are not the session's.
const OTHER_RIGHTS: &str = "OTHER RIGHTS";
/// What it says where it runs with the caller's own.
const USED: &str = "USED";

const HOSTILE_PATH: &str = "SET search_path = home, attacker, pg_catalog, public";
const CLEAN_PATH: &str = "SET search_path = home, public";

/// The relations and types of pg_temp, which come first even when unnamed; they are the caller's own.
const TRAPS_IN_TEMP: &str = "DO $$ DECLARE t record; BEGIN
    FOR t IN SELECT c.relname FROM pg_catalog.pg_class AS c WHERE c.relnamespace = 'attacker'::regnamespace AND c.relkind = 'v' LOOP
        EXECUTE format('CREATE TEMP VIEW %I WITH (security_invoker) AS SELECT * FROM attacker.%I', t.relname, t.relname);
    END LOOP;
    FOR t IN SELECT x.typname, b.typname AS base, n.nspname FROM pg_catalog.pg_type AS x JOIN pg_catalog.pg_type AS b ON b.oid = x.typbasetype
        JOIN pg_catalog.pg_namespace AS n ON n.oid = b.typnamespace WHERE x.typnamespace = 'attacker'::regnamespace AND x.typtype = 'd' LOOP
        EXECUTE format('CREATE DOMAIN pg_temp.%I AS %I.%I CHECK (attacker.seen(%L))', t.typname, t.nspname, t.base, 'type in pg_temp ' || t.typname);
    END LOOP;
END $$";

/// What the owner has made before the traps are there.
const DATA: &str = "
    CREATE TABLE home.docs (id int PRIMARY KEY, title text, body text, views int DEFAULT 0, meta jsonb DEFAULT '{\"n\": 1}');
    INSERT INTO home.docs VALUES (1, 'pumps', 'the pump lost pressure'), (2, 'valves', 'a valve is leaking');
    SELECT enable_search('home.docs', ARRAY['title', 'body'], index_kind => 'none');
    CREATE TABLE home.sync_docs (id bigint, lang text, body text, PRIMARY KEY (id, lang));
    SELECT enable_search('home.sync_docs', ARRAY['body'], mode => 'sync', chunking => 'semantic', index_kind => 'none');
    INSERT INTO home.sync_docs VALUES (1, 'en', 'the pump lost pressure'), (2, 'de', 'a valve is leaking');
    CREATE TABLE home.notes (id int PRIMARY KEY, content text, embedding vector(384),
        lexemes tsvector GENERATED ALWAYS AS (to_tsvector('english', content)) STORED);
    INSERT INTO home.notes SELECT i, 'pump number ' || i, CASE WHEN i < 4 THEN embed('pump number ' || i) END FROM generate_series(1, 30) AS i;
    CREATE TABLE home.plain (id int PRIMARY KEY, body text);
    INSERT INTO home.plain VALUES (1, 'a plain row');
    CREATE TABLE home.parts (id int, at date, body text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
    CREATE TABLE home.parts_1 PARTITION OF home.parts FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
    SELECT enable_audit('home.parts', 'parts_log');
    CREATE TABLE home.ledger (id int PRIMARY KEY, amount numeric, at timestamptz, note text);
    SELECT enable_audit('home.ledger', 'ledger_log');
    INSERT INTO home.ledger VALUES (1, 1.5, '2024-01-01', 'first');
    SELECT create_domain_memories_table('calm');
    INSERT INTO home.calm_memories (id, content, metadata, created_at, updated_at) VALUES
        ('1', 'the pump lost pressure', '{\"year\": 2024}', '2024-01-01', '2024-01-01'),
        ('2', 'the pump was repaired', '{\"year\": 2025}', '2024-01-01', '2024-01-01');
    SELECT create_vector_store('st', index_kind => 'none');
    SELECT create_collection('st', 'laws');
    SELECT upsert_document('st', 'd', '00000000-0000-0000-0000-000000000001'::uuid, ARRAY['a pump', 'a valve']);
    CALL run_embedding_jobs()";

const ONE: &str = "'00000000-0000-0000-0000-000000000001'::pg_catalog.uuid";

/// One function, by its name or where that is not enough with its arguments, and a statement that calls it.
struct Call {
    function: &'static str,
    sql: String,
}

/// Calls that reach every function; each is undone again.
fn calls() -> Vec<Call> {
    let document = format!("public.upsert_document('st', 'd', {ONE}, ");
    let calls: Vec<(&str, String)> = vec![
        ("embed(text)", "SELECT public.embed('a pump')".into()),
        ("embed(text, text)", format!("SELECT public.embed('a pump', '{MODEL}')")),
        ("embed(text[])", "SELECT public.embed(ARRAY['a pump', NULL])".into()),
        ("embed(text[], text)", format!("SELECT public.embed(ARRAY['a pump', NULL], '{MODEL}')")),
        ("embed_query(text)", "SELECT public.embed_query('a pump')".into()),
        ("embed_query(text, text)", format!("SELECT public.embed_query('a pump', '{MODEL}')")),
        ("count_tokens(text)", "SELECT public.count_tokens('a pump')".into()),
        ("count_tokens(text, text)", format!("SELECT public.count_tokens('a pump', '{MODEL}')")),
        ("warm_up", "SELECT public.warm_up() IS NULL".into()),
        ("chunk_text", "SELECT c.* FROM public.chunk_text('One pump. Two valves.', max_tokens => 12) AS c".into()),
        ("hybrid_search", "SELECT h.* FROM public.hybrid_search('home.docs', 'leaking valve') AS h".into()),
        (
            "hybrid_search",
            "SELECT h.* FROM public.hybrid_search('home.docs', 'valve', filter => '{\"id\": {\"$in\": [1, 2]},
                 \"title\": {\"$like\": \"v%\"}, \"views\": {\"$gte\": 0}, \"meta.n\": 1}', highlight => true, chunks => 'all') AS h"
                .into(),
        ),
        (
            "hybrid_search",
            "SELECT h.* FROM public.hybrid_search('home.sync_docs', 'valve', filter => '{\"$not\": {\"lang\": \"en\"}}',
                 match => 'all', fusion => 'relative', diversity => 0.5) AS h"
                .into(),
        ),
        (
            "hybrid_search",
            "SELECT h.* FROM public.hybrid_search('home.notes', '\"pump number\" -7', filter => '{\"id\": {\"$lt\": 20}}') AS h".into(),
        ),
        ("semantic_search", "SELECT s.* FROM public.semantic_search('home.docs', 'pressure', 1) AS s".into()),
        ("keyword_search", "SELECT s.* FROM public.keyword_search('home.docs', 'pressure', 1) AS s".into()),
        ("keyword_search", "SELECT s.* FROM public.keyword_search('home.notes', 'pump', 3) AS s".into()),
        ("explain_search", "SELECT pg_catalog.jsonb_typeof(public.explain_search('home.docs', 'pressure'))".into()),
        ("bm25_rank", "SELECT public.bm25_rank(n.lexemes, 'pump', 'home.notes') FROM home.notes AS n".into()),
        (
            "bm25_score",
            "SELECT vector_tools.bm25_score('pump:1'::pg_catalog.tsvector, ARRAY['pump'], ARRAY[1]::pg_catalog.float8[], 1, 1.2, 0.75, 1)"
                .into(),
        ),
        ("refresh_search_stats", "SELECT public.refresh_search_stats('home.notes')".into()),
        (
            "refresh_search_stats",
            "SELECT public.refresh_search_stats('home.notes'); SELECT k.id FROM public.keyword_search('home.notes', 'pump', 3) AS k".into(),
        ),
        ("rrf_fuse", "SELECT r.* FROM public.rrf_fuse(ARRAY['a', 'b'], ARRAY['b', 'c']) AS r".into()),
        ("rrf_score", "SELECT public.rrf_score(1)".into()),
        ("word_match_in", "SELECT k.id FROM public.keyword_search('home.docs', 'a valve', match => 'all') AS k".into()),
        ("word_match_out", "SELECT 'any'::vector_tools.word_match".into()),
        ("search_memories", "SELECT m.content, m.metadata FROM public.search_memories('pump', 'calm', filter => '{\"year\": 2024}', min_importance => 0) AS m".into()),
        ("store_memory", "SELECT public.store_memory('a tap', 'calm', 'shop', 0.5, '{\"n\": 1}', 'new')".into()),
        ("embed_row", "SELECT public.store_memory('a tap', 'calm', id => 'new'); SELECT m.embedding FROM home.calm_memories AS m".into()),
        ("update_memory", "SELECT public.update_memory('1', 'a tap', 'calm', metadata => '{\"n\": 2}')".into()),
        ("touch_row", "UPDATE home.calm_memories SET content = 'a tap' RETURNING content, updated_at OPERATOR(pg_catalog.>) created_at".into()),
        ("delete_memory", "SELECT public.delete_memory('1', 'calm')".into()),
        ("count_memories", "SELECT vector_tools.count_memories('home.calm_memories', true)".into()),
        ("size_of_memories", "SELECT vector_tools.size_of_memories('home.calm_memories') OPERATOR(pg_catalog.>) 0".into()),
        ("text_of_default", "SELECT pg_catalog.count(vector_tools.text_of_default(d.adbin::pg_catalog.text)) FROM pg_catalog.pg_attrdef AS d".into()),
        ("last_memory_update", "SELECT vector_tools.last_memory_update('home.calm_memories')".into()),
        ("create_domain_memories_table", "SELECT public.create_domain_memories_table('wary')".into()),
        ("drop_domain", "SELECT public.drop_domain('calm')".into()),
        ("create_vector_store", "SELECT public.create_vector_store('other', storage => 'halfvec')".into()),
        ("index_vector_store", "SELECT public.index_vector_store('st', 'ivfflat')".into()),
        ("create_namespace", "SELECT public.create_namespace('st', 'eu')".into()),
        ("drop_namespace", "SELECT public.create_namespace('st', 'eu'); SELECT public.drop_namespace('st', 'eu')".into()),
        ("create_collection", "SELECT public.create_collection('st', 'books') IS NULL".into()),
        ("drop_collection", "SELECT public.drop_collection('st', 'laws', true)".into()),
        ("upsert_document(text, text, uuid, text[], text, jsonb, text)", format!("SELECT {document}ARRAY['a pump', 'a tap'], collection => 'laws')")),
        ("upsert_document(text, text, uuid, text, text, jsonb, text, text, bigint, bigint)", format!("SELECT {document}'a pump'::pg_catalog.text, strategy => 'semantic')")),
        (
            "upsert_embeddings(text, text[], uuid[], integer[], text[], vector[], text[], jsonb[], text)",
            format!("SELECT public.upsert_embeddings('st', ARRAY['d'], ARRAY[{ONE}], ARRAY[7], ARRAY['ready'], ARRAY[public.embed('ready')])"),
        ),
        (
            "upsert_embeddings(text, jsonb, text)",
            format!("SELECT public.upsert_embeddings('st', pg_catalog.jsonb_build_array(pg_catalog.jsonb_build_object('source_type', 'd', 'source_id', {ONE}, 'chunk_index', 7, 'content', 'ready', 'embedding', public.embed('ready')::pg_catalog.text::pg_catalog.jsonb)))"),
        ),
        ("delete_document", format!("SELECT public.delete_document('st', 'd', {ONE})")),
        ("clear_namespace", "SELECT public.clear_namespace('st', 'default')".into()),
        ("count_embeddings", "SELECT public.count_embeddings('st', 'default', 'd')".into()),
        ("search_embeddings", "SELECT s.content, s.similarity, s.score FROM public.search_embeddings('st', 'pump', 'default', 2, metadata => '{}', filter => '{\"source_type\": \"d\"}') AS s".into()),
        ("search_embeddings", "SELECT s.content FROM public.search_embeddings('st', 'pump') AS s".into()),
        ("count_store_models", "SELECT n.* FROM vector_tools.count_store_models('st.vector_embeddings') AS n".into()),
        (
            "queue_documents",
            format!("SELECT public.queue_documents('st', 'q', ARRAY[{ONE}], ARRAY['a queue'], 'eu') IS NULL;
                SELECT public.upsert_document('st', 'q', {ONE}, ARRAY['a queue'], 'eu');
                SELECT public.queue_documents('st', 'q', ARRAY[{ONE}], ARRAY['another'], 'eu') IS NULL;
                SELECT public.queue_documents('st', 'q', ARRAY[{ONE}], ARRAY['a third'], 'eu') IS NULL;
                SELECT b.* FROM vector_tools.run_embedding_batch() AS b; SELECT b.* FROM vector_tools.run_embedding_batch() AS b;
                SELECT j.status, j.processed_count FROM st.embedding_jobs AS j"),
        ),
        ("create_vector_roles", "SELECT public.create_vector_roles() IS NULL".into()),
        ("grant_vector_access", "SELECT public.grant_vector_access('shadows_reader', 'writer', 'st.vector_embeddings')".into()),
        ("revoke_vector_access", "SELECT public.revoke_vector_access('shadows_reader', 'st.vector_embeddings')".into()),
        ("isolate_namespaces", "SELECT public.isolate_namespaces('st.vector_embeddings', 'shadows_reader', '{us}')".into()),
        ("isolate_namespaces", "SELECT public.isolate_namespaces('st.vector_embeddings')".into()),
        ("share_namespaces", "SELECT public.isolate_namespaces('st.vector_embeddings'); SELECT public.share_namespaces('st.vector_embeddings')".into()),
        ("enable_audit", "SELECT public.enable_audit('home.docs', 'docs_log', true)".into()),
        ("disable_audit", "SELECT public.disable_audit('home.ledger')".into()),
        ("audit_history", "SELECT h.operation, h.record_id, h.old_data, h.new_data FROM public.audit_history('home.ledger') AS h".into()),
        (
            "audit_change",
            "INSERT INTO home.ledger VALUES (2, 2.5, '2024-01-02', 'second'); UPDATE home.ledger SET note = 'x' RETURNING id;
                DELETE FROM home.ledger RETURNING id; SELECT l.operation, l.new_data FROM home.ledger_log AS l".into(),
        ),
        ("audit_change", "TRUNCATE home.ledger; SELECT l.operation FROM home.ledger_log AS l".into()),
        ("guard_audit_log", "DELETE FROM home.ledger_log".into()),
        ("audit_partitions", "SELECT vector_tools.audit_partitions('home.parts')".into()),
        ("audit_new_partitions", "CREATE TABLE home.parts_2 PARTITION OF home.parts FOR VALUES FROM ('2025-01-01') TO ('2026-01-01'); INSERT INTO home.parts VALUES (1, '2025-02-02', 'x') RETURNING id".into()),
        ("enable_search", "SELECT public.enable_search('home.plain', ARRAY['body'], mode => 'sync'); SELECT h.id, h.content FROM public.hybrid_search('home.plain', 'row') AS h".into()),
        ("enable_search", "SELECT public.enable_search('home.docs', ARRAY['body'], mode => 'sync'); SELECT h.id, h.content FROM public.hybrid_search('home.docs', 'pump', 1) AS h".into()),
        ("disable_search", "UPDATE home.docs SET body = 'x' RETURNING id; SELECT public.disable_search('home.docs')".into()),
        ("queue_row", "UPDATE home.docs SET body = 'a new valve' RETURNING id; UPDATE home.docs SET id = 7 WHERE id OPERATOR(pg_catalog.=) 2 RETURNING id; DELETE FROM home.docs WHERE id OPERATOR(pg_catalog.=) 1; SELECT b.* FROM vector_tools.run_embedding_batch('home.docs') AS b; SELECT c.content FROM home.docs_search AS c".into()),
        ("queue_row", "UPDATE home.sync_docs SET body = 'a new valve' RETURNING id; SELECT c.content FROM home.sync_docs_search AS c ORDER BY 1".into()),
        ("set_search_model", "SELECT public.set_search_model('home.docs', 'all-MiniLM-L6-v2')".into()),
        ("set_search_model", "SELECT public.set_search_model('home.docs', 'all-MiniLM-L6-v2'); SELECT public.set_search_model('home.docs', 'all-MiniLM-L6-v2'); SELECT public.rollback_search_model('home.docs')".into()),
        ("finish_search_model", "SELECT public.set_search_model('home.docs', 'all-MiniLM-L6-v2'); SELECT public.finish_search_model('home.docs', true)".into()),
        ("rollback_search_model", "SELECT public.set_search_model('home.docs', 'all-MiniLM-L6-v2'); SELECT b.* FROM vector_tools.run_embedding_batch('home.docs') AS b; SELECT public.finish_search_model('home.docs', true); SELECT public.rollback_search_model('home.docs')".into()),
        ("count_search_rows", "SELECT n.* FROM vector_tools.count_search_rows('home.docs') AS n".into()),
        ("count_search_models", "SELECT n.* FROM vector_tools.count_search_models('home.docs') AS n".into()),
        ("count_embedded_rows", "SELECT vector_tools.count_embedded_rows('home.calm_memories', 'embedding')".into()),
        ("retry_embedding_errors", "SELECT public.retry_embedding_errors('home.docs', 'row')".into()),
        ("run_embedding_batch", "UPDATE home.docs SET body = 'a new valve' RETURNING id; SELECT b.* FROM vector_tools.run_embedding_batch() AS b".into()),
        ("begin_embedding_batch", "UPDATE home.docs SET body = 'a new valve' RETURNING id; SELECT vector_tools.begin_embedding_batch('home.docs'); SELECT b.* FROM vector_tools.run_embedding_batch('home.docs') AS b".into()),
        ("wait_for_embedding", "SELECT vector_tools.wait_for_embedding('home.docs')".into()),
        ("register_model", format!("SELECT public.register_model('m', '{MODEL}') IS NULL; SELECT public.embed('x', 'm')")),
        ("drop_model", format!("SELECT public.register_model('m', '{MODEL}') IS NULL; SELECT public.drop_model('m')")),
        ("drop_model", format!("SELECT public.drop_model('{MODEL}')")),
        ("announce_model_change", format!("SELECT public.register_model('m', '{MODEL}') IS NULL")),
        ("register_bundled_models", "SELECT vector_tools.register_bundled_models()".into()),
        ("embedder_statistics", "SELECT NULL FROM vector_tools.embedder_statistics() LIMIT 0".into()),
        ("search_options", "SELECT vector_tools.search_options('{}\\000content\\000'::pg_catalog.bytea)".into()),
        ("trigger_arguments", "SELECT vector_tools.trigger_arguments('a\\000b\\000'::pg_catalog.bytea)".into()),
    ];
    calls.into_iter().map(|(function, sql)| Call { function, sql }).collect()
}

/// What is not called by a statement of [`calls`], and why.
const ELSEWHERE: [(&str, &str); 1] =
    [("run_embedding_jobs", "commits, so that it runs outside of a transaction")];

/// What an ordinary owner is refused, and what nobody may do.
const REFUSED: [&str; 7] = [
    "create_vector_roles",
    "guard_audit_log",
    "register_model",
    "drop_model",
    "announce_model_change",
    "register_bundled_models",
    "cache_stats",
];

/// Columns that are never twice the same.
const CHANGING_VIEWS: [&str; 4] = ["embedder_stats", "cache_stats", "search_progress", "embedding_errors"];

/// The functions and procedures of the extension, each by its name, with its arguments where there are several.
fn functions(session: &mut Session) -> Vec<String> {
    session.run("SET search_path = ''");
    let names = session.rows(
        "SELECT CASE WHEN pg_catalog.count(*) OVER (PARTITION BY p.proname) OPERATOR(pg_catalog.>) 1
                THEN pg_catalog.format('%s(%s)', p.proname, pg_catalog.replace(pg_catalog.oidvectortypes(p.proargtypes), 'public.', ''))
                ELSE p.proname::pg_catalog.text END
         FROM pg_catalog.pg_depend AS d JOIN pg_catalog.pg_proc AS p ON p.oid OPERATOR(pg_catalog.=) d.objid
         WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.deptype OPERATOR(pg_catalog.=) 'e'
           AND d.refobjid OPERATOR(pg_catalog.=) (SELECT e.oid FROM pg_catalog.pg_extension AS e WHERE e.extname OPERATOR(pg_catalog.=) 'vector_tools')
         ORDER BY 1",
    );
    session.run("RESET search_path");
    names
}

fn views(session: &mut Session) -> Vec<String> {
    session.rows(
        "SELECT relname FROM pg_class WHERE relnamespace = 'vector_tools'::regnamespace AND relkind = 'v' ORDER BY 1",
    )
}

/// A database with the owner's data, and the traps of an attacker whom everybody has in the path.
fn trapped(name: &str) -> Database<'static> {
    with_traps(Database::with_extension(name))
}

fn with_traps(database: Database<'_>) -> Database<'_> {
    let (name, mut session) = (&database.name, database.connect());
    // Roles are shared by the databases of these tests.
    for role in ["shadows_owner", "shadows_reader", "shadows_writer"] {
        let made = format!(
            "DO $$ BEGIN CREATE ROLE {role} LOGIN; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
        );
        session.run(&made);
    }
    session.run(&format!(
        "CREATE SCHEMA home AUTHORIZATION shadows_owner; GRANT USAGE ON SCHEMA home TO PUBLIC;
         GRANT CREATE ON DATABASE {name} TO shadows_owner; ALTER DATABASE {name} SET vector_tools.log_searches = on"
    ));
    let mut owner = database.connect_as("shadows_owner");
    owner.run(CLEAN_PATH);
    // One by one, since a procedure that commits stands alone.
    for statement in DATA.split(';') {
        owner.run(statement);
    }
    owner.run("GRANT SELECT ON ALL TABLES IN SCHEMA home TO shadows_reader");
    owner.run("SELECT public.grant_vector_access('shadows_reader', 'reader', 'st.vector_embeddings')");
    owner.run(
        "GRANT ALL ON home.docs, home.sync_docs, home.notes, home.plain, home.parts, home.ledger, home.calm_memories TO shadows_writer;
         GRANT SELECT ON ALL TABLES IN SCHEMA home TO shadows_writer",
    );
    owner.run("SELECT public.grant_vector_access('shadows_writer', 'writer', 'st.vector_embeddings')");
    let Schemas { extension, pgvector } = Schemas::in_use();
    session.run(&TRAPS.replace("__EXTENSION__", extension).replace("__PGVECTOR__", pgvector));
    database
}

/// What a statement gives, undone again; an error with its SQLSTATE.
fn answer(session: &mut Session, sql: &str) -> Result<Vec<String>, String> {
    session.run("BEGIN");
    let answer = session.ask_rows(sql);
    session.run("ROLLBACK");
    // regclass is written with a schema where another one comes first.
    let bare = |text: &str| text.replace("public.", "").replace("home.", "");
    match answer {
        Ok(lines) => Ok(lines.iter().map(|line| bare(line)).collect()),
        Err(error) => Err(bare(&format!("{} {}", error.code().code(), error.message()))),
    }
}

/// What traps have told since the last call.
fn sprung(session: &mut Session) -> BTreeSet<String> {
    let said = session.take_notices().into_iter().map(|notice| notice.message().to_owned());
    said.filter(|said| said.starts_with(OTHER_RIGHTS) || said.starts_with(USED)).collect()
}

/// Runs every call as a role with and without the traps, and says what they have changed.
fn compare(database: &Database, role: &str, with_temp: bool) -> Vec<String> {
    let mut clean = database.connect_as(role);
    let views = views(&mut clean);
    clean.run(CLEAN_PATH);
    let mut hostile = database.connect_as(role);
    if with_temp {
        hostile.run(TRAPS_IN_TEMP);
        hostile.run("SET search_path = home, pg_temp, attacker, pg_catalog, public");
    } else {
        hostile.run(HOSTILE_PATH);
    }
    let mut problems = Vec::new();
    let of_views = views.iter().map(|view| {
        let is_changing = CHANGING_VIEWS.contains(&view.as_str());
        let columns = if is_changing { "NULL" } else { "v.*" };
        (view.as_str(), format!("SELECT {columns} FROM vector_tools.{view} AS v"), is_changing)
    });
    let of_calls = calls().into_iter().map(|call| (call.function, call.sql, false));
    for (name, sql, may_differ) in of_calls.chain(of_views) {
        let expected = answer(&mut clean, &sql);
        hostile.take_notices();
        let found = answer(&mut hostile, &sql);
        let traps = sprung(&mut hostile);
        if !traps.is_empty() {
            problems.push(format!("as {role}: {sql}\n    {traps:?}"));
        }
        if !may_differ && expected != found {
            problems.push(format!("as {role}: {sql}\n    expected {expected:?}\n    found    {found:?}"));
        }
        // A call that is refused shows nothing of the function.
        if role == "shadows_owner" && expected.is_err() && !REFUSED.contains(&name) {
            problems.push(format!("as {role}: {sql}\n    {expected:?}"));
        }
    }
    // Commits, so that it is the last.
    for statement in ["UPDATE home.docs SET body = 'a newer valve'", "CALL public.run_embedding_jobs()"] {
        let done = hostile.ask_rows(statement).map_err(|error| error.message().to_owned());
        let traps = sprung(&mut hostile);
        let may_fail = matches!(role, "shadows_reader" | "shadows_writer");
        if !traps.is_empty() || done.is_err() && !may_fail {
            problems.push(format!("as {role}: {statement}\n    {done:?} {traps:?}"));
        }
    }
    problems
}

#[track_caller]
fn check_nothing(problems: Vec<String>) {
    assert!(
        problems.is_empty(),
        "expected no trap to be used, and the same answers:\n{}",
        problems.join("\n")
    );
}

// trust 27
#[test]
fn every_function_is_called_under_shadows() {
    let database = Database::with_extension("shadows_every");
    let there: BTreeSet<String> = functions(&mut database.connect()).into_iter().collect();
    let called: BTreeSet<String> = calls()
        .into_iter()
        .map(|call| call.function.to_owned())
        .chain(ELSEWHERE.iter().map(|(function, _)| (*function).to_owned()))
        .collect();
    assert_eq!(called, there, "expected calls() to name every function of the extension, and no other");
}

// trust 6, 27
#[test]
fn no_shadow_is_used_whoever_calls() {
    let database = trapped("shadows_callers");
    let problems: Vec<String> = ["shadows_owner", "shadows_reader", "shadows_writer", "postgres"]
        .into_iter()
        .flat_map(|role| compare(&database, role, false))
        .collect();
    check_nothing(problems);
}

// trust 6, 27
#[test]
fn no_shadow_in_pg_temp_is_used_whoever_calls() {
    let database = trapped("shadows_callers_temp");
    let problems: Vec<String> =
        ["shadows_owner", "postgres"].into_iter().flat_map(|role| compare(&database, role, true)).collect();
    check_nothing(problems);
}

/// What is queued, counted and written by background workers, which are a superuser's processes.
const FOR_WORKERS: [&str; 5] = [
    "INSERT INTO home.docs VALUES (3, 'taps', 'a tap drips'), (4, 'pipes', 'a pipe bursts')",
    "UPDATE home.docs SET body = 'the pump lost its pressure' WHERE id OPERATOR(pg_catalog.=) 1",
    "SELECT public.queue_documents('st', 'q', ARRAY['00000000-0000-0000-0000-000000000002'::pg_catalog.uuid], ARRAY['a queue'])",
    "SELECT public.set_search_model('home.docs', 'all-MiniLM-L6-v2')",
    "SELECT k.id FROM public.keyword_search('home.many', 'pump', 1) AS k",
];

// trust 6, 27
#[test]
fn no_shadow_is_used_by_workers() {
    let settings = [("vector_tools.max_workers", "2"), ("log_min_messages", "notice")];
    let server = Server::start("test-shadows", &settings);
    make_template(&server);
    let database = with_traps(Database::with_extension_on(&server, "shadows_workers"));
    let mut superuser = database.connect();
    superuser.run(
        "CREATE TABLE home.many AS SELECT i AS id, to_tsvector('simple', 'pump ' || i) AS lexemes FROM generate_series(1, 1500) AS i;
         ANALYZE home.many; ALTER TABLE home.many OWNER TO shadows_owner",
    );
    // Lines of batches that are old enough to be forgotten.
    superuser.run("UPDATE vector_tools.batches SET finished_at = finished_at - interval '1 hour'");
    let mut owner = database.connect_as("shadows_owner");
    owner.run(HOSTILE_PATH);
    // As the owner of a database may, so that workers have it, too.
    superuser.run("ALTER DATABASE shadows_workers SET search_path = home, attacker, pg_catalog, public");
    for statement in FOR_WORKERS {
        owner.run(statement);
    }
    wait_until("workers have done everything", || {
        let done = "SELECT (SELECT count(*) FROM vector_tools.queue WHERE NOT gave_up) = 0
            AND (SELECT count(*) FROM home.docs_search_next) = 4 AND (SELECT count(*) FROM home.docs_search) = 4
            AND (SELECT count(*) FROM st.vector_embeddings) = 3
            AND EXISTS (SELECT FROM vector_tools.statistics_snapshots WHERE source = 'home.many'::regclass)";
        superuser.text(done) == "t"
    });
    let log = server.log();
    let used: BTreeSet<&str> = log
        .lines()
        .filter_map(|line| {
            [OTHER_RIGHTS, USED].iter().find_map(|kind| line.find(kind).map(|start| &line[start..]))
        })
        .collect();
    assert_eq!(used, BTreeSet::new(), "expected no worker to use a trap");
}
