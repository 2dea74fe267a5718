//! A hostile search_path, and objects in pg_temp that shadow the server's own: same results (6).

use crate::database::{Database, MODEL};
use crate::session::Session;

/// Makes the schema `evil`: functions, operators, types and tables under the names that the
/// extension's statements use. Each of them raises an error that tells of its use.
pub const EVIL: &str = r#"
    CREATE SCHEMA evil;
    CREATE FUNCTION evil.trap(name) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RAISE 'evil.% was used', $1; END $$;
    CREATE FUNCTION evil.equal(text, text) RETURNS bool LANGUAGE sql AS 'SELECT evil.trap(''equal(text, text)'') = 0';
    CREATE FUNCTION evil.equal(oid, oid) RETURNS bool LANGUAGE sql AS 'SELECT evil.trap(''equal(oid, oid)'') = 0';
    CREATE FUNCTION evil.equal(name, name) RETURNS bool LANGUAGE sql AS 'SELECT evil.trap(''equal(name, name)'') = 0';
    CREATE FUNCTION evil.equal(name, text) RETURNS bool LANGUAGE sql AS 'SELECT evil.trap(''equal(name, text)'') = 0';
    CREATE FUNCTION evil.equal(int, int) RETURNS bool LANGUAGE sql AS 'SELECT evil.trap(''equal(int, int)'') OPERATOR(pg_catalog.=) 0';
    CREATE FUNCTION evil.equal(tid, tid) RETURNS bool LANGUAGE sql AS 'SELECT evil.trap(''equal(tid, tid)'') = 0';
    CREATE FUNCTION evil.equal(jsonb, jsonb) RETURNS bool LANGUAGE sql AS 'SELECT evil.trap(''equal(jsonb, jsonb)'') = 0';
    CREATE FUNCTION evil.nearness(public.vector, public.vector) RETURNS float8 LANGUAGE sql AS 'SELECT evil.trap(''nearness(public.vector, public.vector)'')::float8';
    CREATE FUNCTION evil.matches(tsvector, tsquery) RETURNS bool LANGUAGE sql AS 'SELECT evil.trap(''matches(tsvector, tsquery)'') = 0';
    CREATE FUNCTION evil.minus(int, float8) RETURNS float8 LANGUAGE sql AS 'SELECT evil.trap(''minus(int, float8)'')::float8';
    CREATE FUNCTION evil.minus(jsonb, text[]) RETURNS jsonb LANGUAGE sql AS 'SELECT ''{}''::jsonb WHERE evil.trap(''minus(jsonb, text[])'') = 0';
    CREATE FUNCTION evil.plus(float8, float8) RETURNS float8 LANGUAGE sql AS 'SELECT evil.trap(''plus(float8, float8)'')::float8';
    CREATE FUNCTION evil.joined(text, text) RETURNS text LANGUAGE sql AS 'SELECT evil.trap(''joined(text, text)'')::text';
    CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.equal);
    CREATE OPERATOR evil.= (LEFTARG = oid, RIGHTARG = oid, FUNCTION = evil.equal);
    CREATE OPERATOR evil.= (LEFTARG = name, RIGHTARG = name, FUNCTION = evil.equal);
    CREATE OPERATOR evil.= (LEFTARG = name, RIGHTARG = text, FUNCTION = evil.equal);
    CREATE OPERATOR evil.= (LEFTARG = int, RIGHTARG = int, FUNCTION = evil.equal);
    CREATE OPERATOR evil.= (LEFTARG = tid, RIGHTARG = tid, FUNCTION = evil.equal);
    CREATE OPERATOR evil.= (LEFTARG = jsonb, RIGHTARG = jsonb, FUNCTION = evil.equal);
    CREATE OPERATOR evil.<> (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.equal);
    CREATE OPERATOR evil.>= (LEFTARG = int, RIGHTARG = int, FUNCTION = evil.equal);
    CREATE OPERATOR evil.<=> (LEFTARG = public.vector, RIGHTARG = public.vector, FUNCTION = evil.nearness);
    CREATE OPERATOR evil.@@ (LEFTARG = tsvector, RIGHTARG = tsquery, FUNCTION = evil.matches);
    CREATE OPERATOR evil.@> (LEFTARG = jsonb, RIGHTARG = jsonb, FUNCTION = evil.equal);
    CREATE OPERATOR evil.- (LEFTARG = int, RIGHTARG = float8, FUNCTION = evil.minus);
    CREATE OPERATOR evil.- (LEFTARG = jsonb, RIGHTARG = text[], FUNCTION = evil.minus);
    CREATE OPERATOR evil.+ (LEFTARG = float8, RIGHTARG = float8, FUNCTION = evil.plus);
    CREATE OPERATOR evil.|| (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.joined);
    CREATE FUNCTION evil.ts_rank(tsvector, tsquery) RETURNS real LANGUAGE sql AS 'SELECT evil.trap(''ts_rank(tsvector, tsquery)'')::real';
    CREATE FUNCTION evil.to_tsvector(regconfig, text) RETURNS tsvector LANGUAGE sql AS 'SELECT evil.trap(''to_tsvector(regconfig, text)'')::text::tsvector';
    CREATE FUNCTION evil.to_jsonb(anyelement) RETURNS jsonb LANGUAGE sql AS 'SELECT evil.trap(''to_jsonb(anyelement)'')::text::jsonb';
    CREATE FUNCTION evil.unnest(anyarray) RETURNS SETOF anyelement LANGUAGE sql AS 'SELECT $1[evil.trap(''unnest(anyarray)'')]';
    CREATE FUNCTION evil.unnest(tsvector) RETURNS TABLE (lexeme text, positions smallint[], weights text)
        LANGUAGE sql AS 'SELECT evil.trap(''unnest(tsvector)'')::text, NULL::smallint[], NULL::text';
    CREATE FUNCTION evil.concat(oid, tid) RETURNS text LANGUAGE sql AS 'SELECT evil.trap(''concat(oid, tid)'')::text';
    CREATE FUNCTION evil.coalesce(float8, int) RETURNS float8 LANGUAGE sql AS 'SELECT evil.trap(''coalesce(float8, int)'')::float8';
    CREATE FUNCTION evil.rrf_score(bigint, bigint, float8) RETURNS float8 LANGUAGE sql AS 'SELECT evil.trap(''rrf_score(bigint, bigint, float8)'')::float8';
    CREATE FUNCTION evil.current_schema() RETURNS name LANGUAGE sql AS 'SELECT evil.trap(''current_schema()'')::text::name';
    CREATE FUNCTION evil.to_regclass(text) RETURNS regclass LANGUAGE sql AS 'SELECT evil.trap(''to_regclass(text)'')::oid::regclass';
    CREATE FUNCTION evil.string_agg(text, text) RETURNS text LANGUAGE sql AS 'SELECT evil.trap(''string_agg(text, text)'')::text';
    CREATE FUNCTION evil.pg_has_role(name, text) RETURNS bool LANGUAGE sql AS 'SELECT evil.trap(''pg_has_role(name, text)'') = 0';
    CREATE FUNCTION evil.now() RETURNS timestamptz LANGUAGE sql AS 'SELECT to_timestamp(evil.trap(''now()''))';
    CREATE FUNCTION evil.uuidv7() RETURNS uuid LANGUAGE sql AS 'SELECT evil.trap(''uuidv7()'')::text::uuid';
    CREATE FUNCTION evil.gen_random_uuid() RETURNS uuid LANGUAGE sql AS 'SELECT evil.trap(''gen_random_uuid()'')::text::uuid';
    CREATE FUNCTION evil.embed(text) RETURNS public.vector LANGUAGE sql AS 'SELECT evil.trap(''embed(text)'')::text::public.vector';
    CREATE FUNCTION evil.embed_row() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'evil.embed_row() was used'; END $$;
    CREATE DOMAIN evil.text AS int;
    CREATE DOMAIN evil.jsonb AS int;
    CREATE DOMAIN evil.tsvector AS int;
    CREATE DOMAIN evil.timestamptz AS int;
    CREATE DOMAIN evil.regconfig AS int;
    CREATE DOMAIN evil.vector AS int;
    CREATE TABLE evil.model_registry (name pg_catalog.text);
    CREATE TABLE evil.embedded_tables (source pg_catalog.text);
    CREATE TABLE evil.pg_class (oid oid);
    GRANT USAGE ON SCHEMA evil TO PUBLIC;
"#;

/// Shadows in the temporary schema, which comes first for tables and types even when unnamed.
pub const SHADOWS_IN_TEMP: &str = "
    CREATE TEMP TABLE pg_class (oid pg_catalog.oid); CREATE TEMP TABLE pg_proc (oid pg_catalog.oid);
    CREATE TEMP TABLE pg_trigger (oid pg_catalog.oid); CREATE TEMP TABLE pg_namespace (oid pg_catalog.oid);
    CREATE TEMP TABLE pg_ts_config (oid pg_catalog.oid); CREATE TEMP TABLE pg_attrdef (oid pg_catalog.oid);
    CREATE TEMP TABLE pg_attribute (oid pg_catalog.oid); CREATE TEMP TABLE model_registry (name pg_catalog.text);
    CREATE DOMAIN pg_temp.tid AS pg_catalog.int4; CREATE DOMAIN pg_temp.tsquery AS pg_catalog.int4;
    CREATE DOMAIN pg_temp.float8 AS pg_catalog.int4; CREATE DOMAIN pg_temp.text AS pg_catalog.int4";

const DATA: &str = "
    SELECT create_domain_memories_table('calm');
    INSERT INTO calm_memories (id, content, metadata, created_at, updated_at) VALUES
        ('1', 'the pump lost pressure', '{\"year\": 2024}', '2024-01-01', '2024-01-01'),
        ('2', 'the pump was repaired', '{\"year\": 2025}', '2024-01-01', '2024-01-01'),
        ('3', 'a valve is leaking', '{\"year\": 2026}', '2024-01-01', '2024-01-01');
    CREATE TABLE keyless AS SELECT content AS body, embedding, lexemes, 7 AS year FROM calm_memories";

/// Statements whose results must not depend on what is visible first.
const QUESTIONS: [&str; 13] = [
    "SELECT * FROM public.hybrid_search('public.calm_memories', 'pump pressure')",
    "SELECT * FROM public.hybrid_search('public.calm_memories', 'pump', filter => '{\"year\": {\"$gte\": 2025}}')",
    "SELECT * FROM public.hybrid_search('public.calm_memories', 'pump', filter => '{\"year\": {\"$in\": [2024, 2026]}}')",
    "SELECT * FROM public.hybrid_search('public.calm_memories', 'pump', filter => '{\"id\": {\"$like\": \"1%\"}, \"year\": 2024}')",
    "SELECT * FROM public.hybrid_search('public.keyless', 'pump', filter => '{\"year\": {\"$gte\": 7}}')",
    "SELECT * FROM public.hybrid_search('public.keyless', 'pump', filter => '{\"year\": {\"$in\": [7]}}')",
    "SELECT public.embed('the same text'), public.embed_query('the same text')",
    "SELECT public.embed(ARRAY['the same text', NULL]), public.count_tokens('the same text')",
    "SELECT * FROM public.rrf_fuse(ARRAY['a', 'b'], ARRAY['b', 'c'])",
    "SELECT * FROM vector_tools.embedded_tables",
    "SELECT * FROM vector_tools.search_drift",
    "SELECT name, dimensions, sha256, source FROM vector_tools.models ORDER BY name",
    "UPDATE public.calm_memories SET content = 'the pump was replaced' WHERE id OPERATOR(pg_catalog.=) '3' \
     RETURNING embedding, updated_at OPERATOR(pg_catalog.>) created_at",
];

/// Makes the schema `evil`.
pub fn make_evil(session: &mut Session) {
    session.run(EVIL);
}

/// The answer to each question: rows, or the error with the shadow that raised it.
fn answers(session: &mut Session) -> Vec<Vec<String>> {
    let mut answer = |question: &&str| {
        session.run("BEGIN");
        let answer = session.ask_rows(question);
        session.run("ROLLBACK");
        answer.unwrap_or_else(|error| vec![error.message().to_owned()])
    };
    QUESTIONS.iter().map(&mut answer).collect()
}

fn check_same_answers(name: &str, shadow: impl FnOnce(&mut Session)) {
    let database = Database::with_extension(name);
    let mut owner = database.connect();
    owner.run(DATA);
    owner.run(EVIL);
    // regclass is written with a schema wherever a shadow comes first, so that it always is.
    owner.run("SET search_path = ''");
    let expected = answers(&mut owner);
    let mut session = database.connect();
    shadow(&mut session);
    let without_schema =
        |rows: &[String]| -> Vec<String> { rows.iter().map(|row| row.replace("public.", "")).collect() };
    let mut changed = Vec::new();
    for ((question, expected), found) in QUESTIONS.iter().zip(&expected).zip(answers(&mut session)) {
        if without_schema(&found) != without_schema(expected) {
            changed.push(format!("{question}\n    {}", found.join("\n    ")));
        }
    }
    assert!(
        changed.is_empty(),
        "expected the shadows to change no answer, but they did:\n{}",
        changed.join("\n")
    );
}

// trust 6
#[test]
fn schemas_before_pg_catalog_change_no_answer() {
    check_same_answers("shadows_path", |session| session.run("SET search_path = evil, public, pg_catalog"));
}

// trust 6
#[test]
fn objects_in_pg_temp_change_no_answer() {
    check_same_answers("shadows_temp", |session| session.run(SHADOWS_IN_TEMP));
}

// trust 6
#[test]
fn both_together_change_no_answer() {
    check_same_answers("shadows_both", |session| {
        session.run(SHADOWS_IN_TEMP);
        session.run("SET search_path = pg_temp, evil, public, pg_catalog");
    });
}

// trust 6
#[test]
fn triggers_and_new_tables_resist_shadows() {
    let database = Database::with_extension("shadows_tables");
    let mut session = database.connect();
    session.run(EVIL);
    session.run("CREATE SCHEMA home");
    session.run(SHADOWS_IN_TEMP);
    // New tables go to the first schema of the path; the shadows are all found before pg_catalog.
    session.run("SET search_path = home, evil, public, pg_catalog");
    session.run("SELECT public.create_domain_memories_table('wary')");
    session.run("INSERT INTO home.wary_memories (content) VALUES ('the pump lost pressure')");
    session.run("SET search_path = public");
    let types = session.rows(
        "SELECT a.attname || ' ' || pg_catalog.format_type(a.atttypid, a.atttypmod) \
         FROM pg_catalog.pg_attribute AS a WHERE a.attrelid = 'home.wary_memories'::pg_catalog.regclass \
         AND a.attnum > 0 ORDER BY a.attnum",
    );
    // Written with its schema, because pg_temp has a type of that name too.
    let expected = [
        "id character varying(50)",
        "content pg_catalog.text",
        "embedding vector(384)",
        "metadata jsonb",
        "created_at timestamp with time zone",
        "updated_at timestamp with time zone",
        "lexemes tsvector",
    ];
    assert_eq!(types, expected, "expected the types of pg_catalog and pgvector");
    let embedded = session.text(
        "SELECT embedding OPERATOR(public.=) public.embed('the pump lost pressure') FROM home.wary_memories",
    );
    assert_eq!(embedded, "t", "expected the row to be embedded by the extension's own trigger");
}

// trust 6
#[test]
fn domain_memories_resist_shadows() {
    let database = Database::with_extension("shadows_memories");
    let mut session = database.connect();
    session.run(DATA);
    session.run(EVIL);
    let questions = [
        "SELECT * FROM public.search_memories('pump pressure', 'calm', min_importance => 0)",
        "SELECT * FROM public.search_memories('pump', 'calm', filter => '{\"year\": 2024}')",
        "SELECT domain, model, memories, embedded, last_update FROM vector_tools.domains",
    ];
    let answers = |session: &mut Session| questions.map(|question| session.rows(question));
    let expected = answers(&mut session);
    session.run(SHADOWS_IN_TEMP);
    // Whoever fills a temporary table of that name does not get the memories of others.
    session.run("CREATE TEMP TABLE calm_memories (LIKE public.calm_memories)");
    for path in ["public", "evil, public, pg_catalog", "pg_temp, evil, public, pg_catalog"] {
        session.run(&format!("SET search_path = {path}"));
        assert_eq!(answers(&mut session), expected, "expected the same answers with the path {path}");
        session.run(
            "BEGIN; SELECT public.store_memory('a new valve', 'calm', 'shop', 0.5, '{\"n\": 1}', 'new');
             SELECT public.update_memory('new', 'an old valve', 'calm', metadata => '{\"n\": 2}')",
        );
        let stored = session.text(
            "SELECT m.content OPERATOR(pg_catalog.||) pg_catalog.format(' %s %s', m.metadata OPERATOR(pg_catalog.->>) 'n',
                 m.embedding OPERATOR(public.=) public.embed(m.content)) FROM public.calm_memories AS m \
             WHERE m.id OPERATOR(pg_catalog.=) 'new'",
        );
        assert_eq!(stored, "an old valve 2 t", "expected the memory in its own table with the path {path}");
        assert_eq!(session.text("SELECT public.delete_memory('new', 'calm')"), "t");
        assert_eq!(session.text("SELECT public.drop_domain('calm')"), "t");
        session.run("ROLLBACK");
    }
}

// trust 6
#[test]
fn registering_resists_shadows() {
    let database = Database::with_extension("shadows_register");
    let mut session = database.connect();
    session.run(EVIL);
    session.run(SHADOWS_IN_TEMP);
    session.run("SET search_path = pg_temp, evil, public, pg_catalog");
    session.run(&format!("SELECT public.register_model('m', '{MODEL}')"));
    session.run("SELECT public.embed('anything', 'm')");
    session.run("SELECT public.drop_model('m')");
    session.fails("42704", "SELECT public.embed('anything', 'm')");
}

#[test]
fn embedded_tables_resist_shadows() {
    let database = Database::with_extension("pipeline_shadows");
    let mut session = database.connect();
    make_evil(&mut session);
    session.run("CREATE TABLE public.docs (id int PRIMARY KEY, title text, body text, views int DEFAULT 0)");
    session.run("INSERT INTO public.docs VALUES (1, 'pumps', 'the pump lost pressure'), (2, 'valves', 'a valve is leaking')");
    session.run("SET search_path = evil, pg_catalog");
    session.run("SELECT public.enable_search('public.docs', ARRAY['title', 'body'])");
    session.run("CALL public.run_embedding_jobs()");
    session.run("UPDATE public.docs SET body = 'a valve was leaking' WHERE id OPERATOR(pg_catalog.=) 2");
    session.run("CALL public.run_embedding_jobs()");
    assert_eq!(session.rows("SELECT id FROM public.hybrid_search('public.docs', 'leaking valve', 1)"), ["2"]);
    session.run("SELECT * FROM vector_tools.search_progress; SELECT * FROM vector_tools.embedding_errors");
    session.run("SELECT public.enable_search('public.docs', ARRAY['body'], mode => 'sync')");
    session.run("RESET search_path");
    assert_eq!(
        session.rows("SELECT content FROM docs_search ORDER BY 1"),
        ["a valve was leaking", "the pump lost pressure"]
    );
}
