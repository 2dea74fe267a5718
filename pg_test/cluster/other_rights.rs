//! No code of others runs with rights that are not its own (27): what a role hangs on its own tables, and what it puts
//! before pg_catalog in its own path, runs as that role or not at all.

use std::collections::BTreeSet;

use crate::database::{Database, MODEL};
use crate::process::wait_until;
use crate::session::{Schemas, Session};

/// Says who runs it, and takes what it can get.
fn trap(schema: &str, role: &str) -> String {
    telltale(schema, role, &format!("EXECUTE 'ALTER ROLE {role} SUPERUSER'"))
}

/// Says who runs it, where that is somebody else than `role`, and then does more. Volatile, since a plan would keep what
/// it gave once; what has to be immutable for its place calls it.
pub fn telltale(schema: &str, role: &str, more: &str) -> String {
    format!(
        "CREATE FUNCTION {schema}.take(what text) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
        BEGIN
            IF current_user OPERATOR(pg_catalog.<>) '{role}' THEN
                RAISE WARNING 'OTHER RIGHTS: % ran as %', what, current_user;
                {more};
            END IF;
        EXCEPTION WHEN OTHERS THEN NULL;
        END $$;
        CREATE FUNCTION {schema}.true_of(what text) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS $$
        BEGIN PERFORM {schema}.take(what); RETURN true; END $$"
    )
}

/// Operators that implicit comparisons would find first.
pub fn operators(schema: &str) -> String {
    let types =
        "oid, int2, int4, int8, float8, bool, text, name, uuid, timestamptz, tid, regclass, jsonb, \"char\"";
    format!(
        "DO $do$ DECLARE kind text; symbol text; number int := 0; BEGIN
            FOREACH kind IN ARRAY string_to_array('{types}', ', ') LOOP
                FOREACH symbol IN ARRAY ARRAY['=', '<>', '<', '<=', '>', '>='] LOOP
                    number := number + 1;
                    EXECUTE format('CREATE FUNCTION {schema}.compare_%s(a %s, b %s) RETURNS bool LANGUAGE plpgsql AS %L', number, kind, kind,
                        format('BEGIN PERFORM {schema}.take(%L); RETURN a OPERATOR(pg_catalog.%s) b; END', symbol || ' of ' || kind, symbol));
                    BEGIN
                        EXECUTE format('CREATE OPERATOR {schema}.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = {schema}.compare_%s)', symbol, kind, kind, number);
                    EXCEPTION WHEN OTHERS THEN NULL;
                    END;
                END LOOP;
            END LOOP;
        END $do$"
    )
}

/// A database with a role that owns a schema of its name and nothing else.
fn with_attacker(role: &str) -> (Database<'static>, Session, Session) {
    let database = Database::with_extension(role);
    database.create_role(role);
    let mut owner = database.connect();
    owner.run(&format!(
        "CREATE SCHEMA {role} AUTHORIZATION {role}; GRANT CREATE ON DATABASE {role} TO {role}"
    ));
    let mut attacker = database.connect_as(role);
    // What others cannot name, they do not run.
    attacker.run(&format!("GRANT USAGE ON SCHEMA {role} TO PUBLIC"));
    (database, owner, attacker)
}

fn is_superuser(session: &mut Session, role: &str) -> String {
    session.text(&format!(
        "SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname OPERATOR(pg_catalog.=) '{role}'"
    ))
}

/// What the traps have said in a session.
fn sprung(session: &mut Session) -> BTreeSet<String> {
    let said = session.take_notices().into_iter().map(|notice| notice.message().to_owned());
    said.filter(|said| said.starts_with("OTHER RIGHTS")).collect()
}

/// Runs statements one by one, and names those in which a trap was sprung.
#[track_caller]
fn check_each(session: &mut Session, statements: &[&str]) {
    session.take_notices();
    let mut bad = Vec::new();
    for statement in statements {
        session.run(statement);
        let sprung = sprung(session);
        if !sprung.is_empty() {
            bad.push(format!("{statement}: {sprung:?}"));
        }
    }
    assert!(bad.is_empty(), "expected nothing to run with other rights:\n{}", bad.join("\n"));
}

// trust 6, 27
#[test]
fn operators_in_the_callers_path_do_not_run_as_the_extensions_owner() {
    let (_database, mut owner, mut mallory) = with_attacker("rights_mallory");
    mallory.run(&trap("rights_mallory", "rights_mallory"));
    mallory.run(&operators("rights_mallory"));
    mallory.run(
        "CREATE TABLE rights_mallory.own (id int PRIMARY KEY, l tsvector);
         INSERT INTO rights_mallory.own VALUES (1, 'a:1'), (2, 'b:1');
         CREATE TABLE rights_mallory.docs (id int PRIMARY KEY, body text)",
    );
    mallory.run("SET search_path = rights_mallory, pg_catalog, public");
    check_each(
        &mut mallory,
        &[
            "SELECT refresh_search_stats('rights_mallory.own')",
            "SELECT keyword_search('rights_mallory.own', 'a')",
            "SELECT enable_search('rights_mallory.docs', '{body}', mode => 'manual', index_kind => 'none')",
            "INSERT INTO rights_mallory.docs VALUES (1, 'a pump'), (2, 'a valve')",
            "SELECT vector_tools.run_embedding_batch('rights_mallory.docs')",
        ],
    );
    // Lines of batches that are old enough to be forgotten.
    owner.run("UPDATE vector_tools.batches SET finished_at = finished_at - interval '1 hour'");
    check_each(
        &mut mallory,
        &[
            "UPDATE rights_mallory.docs SET body = 'a tap'",
            "CALL run_embedding_jobs(source => 'rights_mallory.docs')",
            "SELECT hybrid_search('rights_mallory.docs', 'tap')",
            "SELECT retry_embedding_errors('rights_mallory.docs')",
            "SELECT set_search_model('rights_mallory.docs', 'all-MiniLM-L6-v2')",
            "SELECT rollback_search_model('rights_mallory.docs')",
            "SELECT set_search_model('rights_mallory.docs', 'all-MiniLM-L6-v2')",
            "SELECT set_search_model('rights_mallory.docs', 'all-MiniLM-L6-v2')",
            "CALL run_embedding_jobs(source => 'rights_mallory.docs')",
            "SELECT finish_search_model('rights_mallory.docs', true)",
            "SELECT rollback_search_model('rights_mallory.docs')",
            "INSERT INTO rights_mallory.docs VALUES (3, 'a pipe')",
            "SELECT disable_search('rights_mallory.docs')",
            "SELECT create_vector_store('rights_store', index_kind => 'none')",
            "SELECT upsert_document('rights_store', 'd', '00000000-0000-0000-0000-000000000001', ARRAY['a pump'])",
            "SELECT queue_documents('rights_store', 'd', ARRAY['00000000-0000-0000-0000-000000000002']::uuid[], ARRAY['a valve'])",
            "SELECT upsert_document('rights_store', 'd', '00000000-0000-0000-0000-000000000002', ARRAY['a newer valve'])",
            "SELECT queue_documents('rights_store', 'd', ARRAY['00000000-0000-0000-0000-000000000002']::uuid[], ARRAY['a tap'])",
            "SELECT delete_document('rights_store', 'd', '00000000-0000-0000-0000-000000000002')",
            "SELECT queue_documents('rights_store', 'd', ARRAY['00000000-0000-0000-0000-000000000003']::uuid[], ARRAY['a pipe'])",
            "CALL run_embedding_jobs()",
            "SELECT search_embeddings('rights_store', 'pump')",
            "SELECT index_vector_store('rights_store', 'ivfflat')",
            "SELECT * FROM vector_tools.search_progress, vector_tools.embedding_errors",
        ],
    );
    assert_eq!(is_superuser(&mut owner, "rights_mallory"), "f");
}

/// Everything that PostgreSQL evaluates when it plans a query of a table, or reads its rows.
fn traps_on_a_table(table: &str, schema: &str) -> String {
    format!(
        "CREATE FUNCTION {schema}.number(what text) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM {schema}.take(what); RETURN 1; END $$;
         CREATE INDEX ON {table} (id) WHERE {schema}.true_of('condition of an index');
         CREATE INDEX ON {table} ((({schema}.number('expression of an index'))));
         ALTER TABLE {table} ADD CHECK ({schema}.true_of('check'));
         CREATE STATISTICS {schema}.of_table ON ({schema}.number('statistics')), id FROM {table};
         ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;
         CREATE POLICY of_table ON {table} USING ({schema}.true_of('policy'))"
    )
}

// trust 27
#[test]
fn looking_at_views_runs_nothing_of_others() {
    let (database, mut owner, mut mallory) = with_attacker("looking_mallory");
    mallory.run(&trap("looking_mallory", "looking_mallory"));
    let memories = "looking_mallory.x_memories";
    mallory.run(&format!(
        "CREATE TABLE {memories} (id text PRIMARY KEY, content text, embedding vector(384), metadata jsonb,
             created_at timestamptz, updated_at timestamptz);
         CREATE TRIGGER z BEFORE INSERT OR UPDATE ON {memories} FOR EACH ROW
             EXECUTE FUNCTION vector_tools.embed_row('content', 'embedding', '{MODEL}');
         INSERT INTO {memories} VALUES ('1', 'a pump');
         CREATE TABLE looking_mallory.child () INHERITS ({memories});
         ALTER TABLE looking_mallory.child ADD CHECK (looking_mallory.true_of('check of a child'));
         CREATE TABLE looking_mallory.docs (id int PRIMARY KEY, body text);
         INSERT INTO looking_mallory.docs VALUES (1, 'a pump');
         SELECT enable_search('looking_mallory.docs', '{{body}}', mode => 'sync', index_kind => 'none');
         CREATE TABLE looking_mallory.parted_memories (id text, content text, embedding vector(384), metadata jsonb,
             created_at timestamptz, updated_at timestamptz) PARTITION BY RANGE (length(id))"
    ));
    mallory.run(&traps_on_a_table(memories, "looking_mallory"));
    mallory.run(
        "CREATE FUNCTION looking_mallory.key(t text) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM looking_mallory.take('key of partitions'); RETURN 1; END $$;
         CREATE INDEX ON looking_mallory.docs_search (row_id) WHERE looking_mallory.true_of('condition of an index of chunks');
         CREATE INDEX ON looking_mallory.docs (id) WHERE looking_mallory.true_of('condition of an index of a searched table');
         SELECT create_vector_store('looking_store', index_kind => 'none');
         SELECT upsert_document('looking_store', 'd', '00000000-0000-0000-0000-000000000001', ARRAY['a pump']);
         CREATE INDEX ON looking_store.vector_embeddings (id) WHERE looking_mallory.true_of('condition of an index of a store');
         GRANT USAGE ON SCHEMA looking_mallory, looking_store TO PUBLIC;
         GRANT SELECT ON ALL TABLES IN SCHEMA looking_mallory, looking_store TO PUBLIC",
    );
    owner.run("CREATE ROLE looking_monitor LOGIN IN ROLE pg_read_all_data, pg_monitor");
    let views = owner.rows(
        "SELECT 'SELECT * FROM vector_tools.' || relname FROM pg_class
         WHERE relnamespace = 'vector_tools'::regnamespace AND relkind = 'v' ORDER BY 1",
    );
    let mut statements: Vec<&str> = views.iter().map(String::as_str).collect();
    // Neither names a table of others.
    statements.extend([
        "SELECT vector_tools.begin_embedding_batch()",
        "SELECT vector_tools.run_embedding_batch()",
        "SELECT vector_tools.wait_for_embedding()",
    ]);
    let mut bad = Vec::new();
    for role in ["postgres", "looking_monitor"] {
        for statement in &statements {
            // A session that knows nothing of the tables yet has to evaluate everything.
            let mut session = database.connect_as(role);
            session.run(statement);
            let sprung = sprung(&mut session);
            if !sprung.is_empty() {
                bad.push(format!("{role}: {statement}: {sprung:?}"));
            }
        }
    }
    assert!(bad.is_empty(), "expected nothing to run with other rights:\n{}", bad.join("\n"));
    owner.fails("2BP01", &format!("SELECT drop_model('{MODEL}')"));
    assert_eq!(sprung(&mut owner), BTreeSet::new());
    assert_eq!(is_superuser(&mut owner, "looking_mallory"), "f");
    let listed = "SELECT memories FROM vector_tools.domains WHERE domain = 'x'";
    assert_eq!(
        database.connect_as("looking_mallory").text(listed),
        "1",
        "expected its owner to see the count"
    );
}

/// Two everyday types whose functions name nothing with a schema, a searched table with them, and a reader who has a
/// schema of his own.
fn with_everyday_types(owner: &str, prefix: &str) -> (Database<'static>, Session) {
    let database = Database::with_extension(prefix);
    let reader = format!("{prefix}_bob");
    database.create_role(&reader);
    let mut superuser = database.connect();
    if owner != "postgres" {
        database.create_role(owner);
        superuser.run(&format!("GRANT CREATE ON SCHEMA public TO {owner}"));
    }
    superuser.run(&format!("CREATE SCHEMA bobs AUTHORIZATION {reader}"));
    let mut session = database.connect_as(owner);
    session.run(
        "CREATE FUNCTION valid_email(t text) RETURNS bool LANGUAGE sql IMMUTABLE AS $$ SELECT t ~ '^[^@]+@[^@]+$' $$;
         CREATE DOMAIN email AS text CHECK (valid_email(VALUE));
         CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
         CREATE FUNCTION mood_json(m mood) RETURNS json LANGUAGE sql STABLE AS $$ SELECT to_json(upper(m::text)) $$;
         CREATE CAST (mood AS json) WITH FUNCTION mood_json(mood);
         CREATE FUNCTION shout(t text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT upper(t) || '!' $$;
         CREATE TABLE people (id int PRIMARY KEY, bio text, mail email, mood mood,
             loud text GENERATED ALWAYS AS (shout(bio)) STORED);
         CREATE INDEX ON people (shout(bio));
         INSERT INTO people VALUES (1, 'gardener from Kent', 'a@b', 'happy'), (2, 'baker from Kent', 'c@d', 'sad');
         SELECT enable_search('people', '{bio}', mode => 'sync', index_kind => 'none')",
    );
    session.run(&format!("GRANT SELECT ON people TO {reader}"));
    let mut bob = database.connect_as(&reader);
    bob.run("GRANT USAGE ON SCHEMA bobs TO PUBLIC");
    bob.run(&trap("bobs", &reader));
    bob.run(&operators("bobs"));
    bob.run(
        "CREATE FUNCTION bobs.matches(a text, b text) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM bobs.take('~'); RETURN true; END $$;
         CREATE OPERATOR bobs.~ (LEFTARG = text, RIGHTARG = text, FUNCTION = bobs.matches);
         CREATE FUNCTION bobs.joined(a text, b text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM bobs.take('||'); RETURN a; END $$;
         CREATE OPERATOR bobs.|| (LEFTARG = text, RIGHTARG = text, FUNCTION = bobs.joined);
         CREATE FUNCTION bobs.upper(a text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM bobs.take('upper'); RETURN a; END $$;
         CREATE FUNCTION bobs.to_json(a text) RETURNS json LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM bobs.take('to_json'); RETURN '1'; END $$",
    );
    bob.run("SET search_path = bobs, pg_catalog, public");
    // PostgreSQL keeps the check of a domain and the expression of an index for the session, with the functions in
    // it put in place under the path of the first use: immutable ones of bob's, here.
    bob.run("SELECT 'x@y'::public.email; SELECT id FROM public.people WHERE public.shout(bio) OPERATOR(pg_catalog.=) 'X'");
    (database, bob)
}

fn check_searches_of_a_reader(owner: &str, prefix: &str) {
    let (database, mut bob) = with_everyday_types(owner, prefix);
    check_each(
        &mut bob,
        &[
            "SELECT id FROM hybrid_search('public.people', 'gardener', filter => '{\"mail\": \"x@y\"}')",
            "SELECT id FROM hybrid_search('public.people', 'gardener', filter => '{\"mail\": {\"$in\": [\"x@y\", \"a@b\"]}}')",
            "SELECT id FROM hybrid_search('public.people', 'gardener', filter => '{\"mail\": {\"$like\": \"%@y\"}}')",
            "SELECT id FROM hybrid_search('public.people', 'gardener', filter => '{\"mood\": {\"$like\": \"s%\"}}')",
            "SELECT id FROM hybrid_search('public.people', 'gardener', filter => '{\"mood\": {\"$gte\": \"ok\"}}')",
            "SELECT id FROM hybrid_search('public.people', 'gardener', filter => '{\"$not\": {\"mail\": \"x@y\"}}')",
            "SELECT id FROM semantic_search('public.people', 'gardener', filter => '{\"mail\": \"x@y\"}')",
            "SELECT id, doc FROM keyword_search('public.people', 'gardener', highlight => true)",
            "SELECT id, doc FROM hybrid_search('public.people', 'gardener', chunks => 'all')",
            "SELECT explain_search('public.people', 'gardener', filter => '{\"mail\": \"x@y\"}')",
        ],
    );
    let found = "SELECT id FROM keyword_search('public.people', 'gardener')";
    assert_eq!(bob.rows(found), ["1"], "expected the search to answer as without his schema");
    let reader = format!("{prefix}_bob");
    assert_eq!(is_superuser(&mut database.connect(), &reader), "f");
}

// trust 6, 27
#[test]
fn a_search_of_a_superusers_table_does_not_run_the_readers_code_as_the_owner() {
    check_searches_of_a_reader("postgres", "reading_super");
}

// trust 6, 27
#[test]
fn a_search_of_another_roles_table_does_not_run_the_readers_code_as_the_owner() {
    check_searches_of_a_reader("reading_alice", "reading_owned");
}

// trust 6, 22, 27
#[test]
fn the_writers_path_does_not_shape_an_audit_line() {
    let database = Database::with_extension("audited_path");
    for role in ["audited_alice", "audited_eve"] {
        database.create_role(role);
    }
    database
        .connect()
        .run("GRANT CREATE ON SCHEMA public TO audited_alice; CREATE SCHEMA eves AUTHORIZATION audited_eve");
    let mut alice = database.connect_as("audited_alice");
    alice.run(
        "CREATE TYPE aud_mood AS ENUM ('calm', 'angry');
         CREATE FUNCTION aud_json(m aud_mood) RETURNS json LANGUAGE sql STABLE AS $$ SELECT to_json(upper(m::text)) $$;
         CREATE CAST (aud_mood AS json) WITH FUNCTION aud_json(aud_mood);
         CREATE TABLE acc (id int PRIMARY KEY, mood aud_mood, at timestamptz, data bytea, price float8);
         SELECT enable_audit('acc');
         GRANT INSERT, UPDATE, DELETE, SELECT ON acc TO audited_eve",
    );
    let row = "'angry', '2024-01-01 12:00+00', '\\x0102', 0.1";
    let mut eve = database.connect_as("audited_eve");
    eve.run("GRANT USAGE ON SCHEMA eves TO PUBLIC");
    eve.run(&trap("eves", "audited_eve"));
    eve.run(&operators("eves"));
    eve.run("CREATE FUNCTION eves.upper(t text) RETURNS text LANGUAGE sql AS $$ SELECT 'NOTHING TO SEE' $$;
         CREATE FUNCTION eves.to_json(t text) RETURNS json LANGUAGE sql AS $$ SELECT '\"NOTHING TO SEE\"'::json $$");
    alice.run(&format!("INSERT INTO acc VALUES (1, {row})"));
    eve.run("SET search_path = eves, pg_catalog, public; SET TimeZone = 'Asia/Tokyo'; SET bytea_output = 'escape';
         SET extra_float_digits = -10; SET DateStyle = 'German'");
    check_each(
        &mut eve,
        &[
            &format!("INSERT INTO public.acc VALUES (2, {row})"),
            "UPDATE public.acc SET mood = mood WHERE id OPERATOR(pg_catalog.=) 2",
            "DELETE FROM public.acc WHERE id OPERATOR(pg_catalog.=) 2",
        ],
    );
    let moods = "SELECT operation, coalesce(old_data, new_data) ->> 'mood' FROM vector_audit_log ORDER BY id";
    assert_eq!(alice.rows(moods), ["INSERT|ANGRY", "INSERT|ANGRY", "UPDATE|ANGRY", "DELETE|ANGRY"]);
    let instants = "SELECT count(DISTINCT (coalesce(old_data, new_data) ->> 'at')::timestamptz),
         count(DISTINCT coalesce(old_data, new_data) -> 'price') FROM vector_audit_log";
    assert_eq!(alice.text(instants), "1|1");
}

// trust 6, 27
#[test]
fn a_writers_code_does_not_run_as_the_owner_of_a_searched_table() {
    let (database, mut bob) = with_everyday_types("writing_alice", "writing");
    let mut alice = database.connect_as("writing_alice");
    alice.run(
        "CREATE TABLE letters (id email PRIMARY KEY, mood mood, body email);
         SELECT enable_search('letters', '{body}', mode => 'sync', index_kind => 'none');
         SELECT enable_audit('letters');
         CREATE TABLE cards (id email PRIMARY KEY, mood mood, body email);
         SELECT enable_search('cards', '{body}', mode => 'async', index_kind => 'none');
         GRANT ALL ON letters, cards TO writing_bob",
    );
    for table in ["letters", "cards"] {
        check_each(
            &mut bob,
            &[
                &format!(
                    "INSERT INTO public.{table} VALUES ('a@b', 'ok', 'pumps@valves'), ('c@d', 'sad', 'taps@pipes')"
                ),
                &format!(
                    "UPDATE public.{table} SET body = 'valves@pumps' WHERE mood OPERATOR(pg_catalog.=) 'ok'"
                ),
                &format!("UPDATE public.{table} SET id = 'e@f' WHERE mood OPERATOR(pg_catalog.=) 'ok'"),
                &format!("DELETE FROM public.{table} WHERE mood OPERATOR(pg_catalog.=) 'sad'"),
                &format!(
                    "SELECT id FROM hybrid_search('public.{table}', 'valves', filter => '{{\"id\": \"e@f\"}}')"
                ),
                "CALL run_embedding_jobs()",
            ],
        );
    }
    assert_eq!(is_superuser(&mut database.connect(), "writing_bob"), "f");
    alice.run("CALL run_embedding_jobs()");
    let chunks = "SELECT (SELECT count(*) FROM letters_search), (SELECT count(*) FROM cards_search)";
    assert_eq!(alice.text(chunks), "1|1", "expected the rows to be embedded");
}

// trust 27
#[test]
fn an_index_of_a_companion_does_not_keep_the_writers_code() {
    let (database, mut bob) = with_everyday_types("keeping_alice", "keeping");
    let mut alice = database.connect_as("keeping_alice");
    alice.run(
        "CREATE TABLE notes (id int PRIMARY KEY, body text);
         SELECT enable_search('notes', '{body}', mode => 'sync', index_kind => 'none');
         CREATE INDEX ON notes_search (shout(content));
         CREATE INDEX ON notes_search (row_id) WHERE shout(content) <> 'X';
         GRANT ALL ON notes TO keeping_bob",
    );
    // Plans of his session put his functions in place of those that the owner's function names.
    bob.run("SELECT FROM public.notes_search WHERE public.shout(content) OPERATOR(pg_catalog.=) 'X'");
    check_each(
        &mut bob,
        &["INSERT INTO public.notes VALUES (1, 'a pump')", "UPDATE public.notes SET body = 'a valve'"],
    );
    assert_eq!(is_superuser(&mut database.connect(), "keeping_bob"), "f");
    let kept = "SELECT count(*) FROM notes_search WHERE shout(content) = 'A VALVE!'";
    assert_eq!(
        alice.text(&format!("SET enable_seqscan = off; {kept}")),
        "1",
        "expected the index to be the owner's"
    );
}

// trust 22, 27
#[test]
fn an_index_of_a_log_does_not_keep_the_writers_code() {
    let (database, mut bob) = with_everyday_types("logged_alice", "logged");
    let mut alice = database.connect_as("logged_alice");
    alice.run(
        "CREATE TABLE accounts (id int PRIMARY KEY, body text);
         SELECT enable_audit('accounts');
         CREATE INDEX ON vector_audit_log (shout(new_data ->> 'body'));
         CREATE FUNCTION is_long(t text, n int) RETURNS bool LANGUAGE sql IMMUTABLE AS $$ SELECT length(upper(t) || '!') > n $$;
         CREATE OPERATOR public.!> (LEFTARG = text, RIGHTARG = int, FUNCTION = is_long);
         CREATE INDEX ON vector_audit_log (id) WHERE operation !> 2;
         GRANT ALL ON accounts TO logged_bob",
    );
    // It is planned before it is refused.
    bob.fails("42501", "SELECT FROM public.vector_audit_log");
    check_each(
        &mut bob,
        &["INSERT INTO public.accounts VALUES (1, 'a'), (2, 'b')", "DELETE FROM public.accounts"],
    );
    assert_eq!(is_superuser(&mut database.connect(), "logged_bob"), "f");
    assert_eq!(alice.text("SELECT count(*) FROM vector_audit_log"), "4");
}

/// Hangs code on everything that a batch touches.
pub fn traps_on_the_pipeline(schema: &str) -> String {
    format!(
        "CREATE FUNCTION {schema}.fired() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM {schema}.take(TG_NAME || ' ' || TG_OP); RETURN coalesce(NEW, OLD); END $$;
         CREATE FUNCTION {schema}.default_text() RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM {schema}.take('default'); RETURN 'x'; END $$;
         CREATE FUNCTION {schema}.generated(t text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM {schema}.take('generated'); RETURN t; END $$;
         CREATE DOMAIN {schema}.key AS text CHECK ({schema}.true_of('domain of the key'));
         CREATE TYPE {schema}.feeling AS ENUM ('sad', 'happy');
         CREATE FUNCTION {schema}.feeling_json(f {schema}.feeling) RETURNS json LANGUAGE plpgsql AS $$ BEGIN PERFORM {schema}.take('cast'); RETURN '1'; END $$;
         CREATE CAST ({schema}.feeling AS json) WITH FUNCTION {schema}.feeling_json({schema}.feeling);
         CREATE TABLE {schema}.docs (id {schema}.key, n {schema}.feeling, body text, copy text GENERATED ALWAYS AS ({schema}.generated(body)) STORED, PRIMARY KEY (id, n));
         SELECT enable_search('{schema}.docs', '{{body,copy}}', mode => 'async', index_kind => 'none');
         ALTER TABLE {schema}.docs_search ADD more text DEFAULT {schema}.default_text(), ADD CHECK ({schema}.true_of('check'));
         CREATE INDEX ON {schema}.docs_search ({schema}.generated(content)) WHERE {schema}.true_of('condition of an index');
         CREATE TRIGGER before BEFORE INSERT OR UPDATE OR DELETE ON {schema}.docs_search FOR EACH ROW EXECUTE FUNCTION {schema}.fired();
         CREATE TRIGGER statement AFTER INSERT OR UPDATE OR DELETE ON {schema}.docs_search EXECUTE FUNCTION {schema}.fired();
         CREATE CONSTRAINT TRIGGER late AFTER UPDATE ON {schema}.docs INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION {schema}.fired();
         INSERT INTO {schema}.docs VALUES ('a', 'sad', 'a pump'), ('b', 'happy', 'a valve')"
    )
}

// trust 27
#[test]
fn a_batch_runs_what_hangs_on_a_table_as_its_owner() {
    let (_database, mut superuser, mut mallory) = with_attacker("batch_mallory");
    mallory.run(&trap("batch_mallory", "batch_mallory"));
    mallory.run(&traps_on_the_pipeline("batch_mallory"));
    mallory.run("UPDATE batch_mallory.docs SET body = 'a tap' WHERE id = 'a'");
    mallory.run(
        "SELECT create_vector_store('batch_store', index_kind => 'none');
         CREATE TRIGGER before BEFORE INSERT OR UPDATE OR DELETE ON batch_store.vector_embeddings FOR EACH ROW EXECUTE FUNCTION batch_mallory.fired();
         CREATE TRIGGER job BEFORE INSERT OR UPDATE OR DELETE ON batch_store.embedding_jobs FOR EACH ROW EXECUTE FUNCTION batch_mallory.fired();
         ALTER TABLE batch_store.vector_embeddings ADD CHECK (batch_mallory.true_of('check of a store'));
         SELECT queue_documents('batch_store', 'd', ARRAY['00000000-0000-0000-0000-000000000001']::uuid[], ARRAY['a valve'])",
    );
    // As a worker does it, which is a superuser's process.
    check_each(
        &mut superuser,
        &[
            "SELECT vector_tools.run_embedding_batch()",
            "CALL run_embedding_jobs()",
            "SELECT vector_tools.run_embedding_batch('batch_mallory.docs')",
        ],
    );
    assert_eq!(is_superuser(&mut superuser, "batch_mallory"), "f");
    let written = "SELECT (SELECT count(*) FROM batch_mallory.docs_search), (SELECT count(*) FROM batch_store.vector_embeddings)";
    assert_eq!(mallory.text(written), "2|1", "expected the batches to have written");
    // What would run when the superuser commits is refused, and waits as an error of the row.
    mallory.run(
        "CREATE CONSTRAINT TRIGGER late AFTER INSERT OR UPDATE OR DELETE ON batch_mallory.docs_search INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION batch_mallory.fired();
         CREATE CONSTRAINT TRIGGER late AFTER INSERT OR UPDATE OR DELETE ON batch_store.vector_embeddings INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION batch_mallory.fired();
         UPDATE batch_mallory.docs SET body = 'a pipe';
         SELECT queue_documents('batch_store', 'd', ARRAY['00000000-0000-0000-0000-000000000001']::uuid[], ARRAY['a pipe'])",
    );
    check_each(&mut superuser, &["CALL run_embedding_jobs()"]);
    assert_eq!(is_superuser(&mut superuser, "batch_mallory"), "f");
    let refused = "SELECT DISTINCT sqlstate FROM vector_tools.embedding_errors WHERE source = 'batch_mallory.docs'::regclass";
    assert_eq!(superuser.rows(refused), ["42501"]);
}

// trust 27
#[test]
fn what_hangs_on_a_log_runs_as_its_owner() {
    let (_database, mut superuser, mut mallory) = with_attacker("logging_mallory");
    mallory.run(&trap("logging_mallory", "logging_mallory"));
    mallory.run(
        "CREATE FUNCTION logging_mallory.fired() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM logging_mallory.take(TG_TABLE_NAME || ' ' || TG_WHEN); RETURN NEW; END $$;
         CREATE TABLE logging_mallory.acc (id int PRIMARY KEY, note text);
         SELECT enable_audit('logging_mallory.acc', 'acc_log');
         CREATE TRIGGER before BEFORE INSERT ON logging_mallory.acc_log FOR EACH ROW EXECUTE FUNCTION logging_mallory.fired();
         CREATE TRIGGER after AFTER INSERT ON logging_mallory.acc_log EXECUTE FUNCTION logging_mallory.fired();
         SELECT create_vector_store('logging_store', index_kind => 'none');
         SELECT upsert_document('logging_store', 'd', '00000000-0000-0000-0000-000000000001', ARRAY['a pump']);
         CREATE TRIGGER before BEFORE INSERT ON logging_store.vector_search_logs FOR EACH ROW EXECUTE FUNCTION logging_mallory.fired();
         CREATE INDEX ON logging_store.vector_search_logs (id) WHERE logging_mallory.true_of('condition of an index')",
    );
    check_each(
        &mut superuser,
        &[
            "INSERT INTO logging_mallory.acc VALUES (1, 'x'), (2, 'y')",
            "UPDATE logging_mallory.acc SET note = 'z'",
            "TRUNCATE logging_mallory.acc",
            "SET vector_tools.log_searches = on",
            "SELECT * FROM search_embeddings('logging_store', 'pump')",
        ],
    );
    assert_eq!(is_superuser(&mut superuser, "logging_mallory"), "f");
    let logged = "SELECT (SELECT count(*) FROM logging_mallory.acc_log), (SELECT count(*) FROM logging_store.vector_search_logs)";
    assert_eq!(mallory.text(logged), "5|1", "expected the lines to be written");
}

// trust 27
#[test]
fn statistics_are_counted_as_the_owner() {
    let (database, mut superuser, mut mallory) = with_attacker("counting_mallory");
    mallory.run(&trap("counting_mallory", "counting_mallory"));
    mallory.run(
        "CREATE TABLE counting_mallory.notes (id int PRIMARY KEY, l tsvector);
         INSERT INTO counting_mallory.notes SELECT i, to_tsvector('simple', 'pump ' || i) FROM generate_series(1, 1500) AS i;
         ANALYZE counting_mallory.notes;
         CREATE INDEX ON counting_mallory.notes (id) WHERE counting_mallory.true_of('condition of an index that is counted');
         CREATE INDEX ON counting_mallory.notes ((counting_mallory.true_of('expression of an index that is counted')))",
    );
    mallory.run("SELECT id FROM keyword_search('counting_mallory.notes', 'pump', 1)");
    // A background worker does it, which is a superuser's process.
    let counted = "SELECT count(*) FROM vector_tools.statistics_snapshots WHERE source = 'counting_mallory.notes'::regclass";
    wait_until("the table has been counted", || superuser.text(counted) == "1");
    let log = database.server.log();
    let sprung: Vec<&str> = log.lines().filter(|line| line.contains("that is counted ran as")).collect();
    assert_eq!(sprung, Vec::<&str>::new(), "expected the worker to act as the owner");
    assert_eq!(is_superuser(&mut superuser, "counting_mallory"), "f");
}

// trust 27
#[test]
fn a_domain_inside_of_a_type_does_not_keep_the_writers_code() {
    let (database, mut bob) = with_everyday_types("nested_alice", "nested");
    let mut alice = database.connect_as("nested_alice");
    alice.run(
        "CREATE FUNCTION lettered(t text) RETURNS bool LANGUAGE sql IMMUTABLE AS $$ SELECT public.shout(t) <> '' $$;
         CREATE DOMAIN code AS text CHECK (lettered(VALUE));
         CREATE TYPE place AS (code code);
         CREATE TABLE shelves (key place PRIMARY KEY, body text);
         SELECT enable_search('shelves', '{body}', mode => 'sync', index_kind => 'none');
         GRANT ALL ON shelves TO nested_bob",
    );
    bob.run("SELECT 'abc'::public.code");
    check_each(
        &mut bob,
        &[
            "INSERT INTO public.shelves VALUES ('(abc)', 'a pump')",
            "UPDATE public.shelves SET body = 'a valve'",
            "DELETE FROM public.shelves",
        ],
    );
    assert_eq!(is_superuser(&mut database.connect(), "nested_bob"), "f");
}

// trust 22, 27
#[test]
fn a_partition_key_of_a_log_does_not_keep_the_writers_code() {
    let (database, mut bob) = with_everyday_types("routed_alice", "routed");
    let mut alice = database.connect_as("routed_alice");
    alice.run(
        "CREATE TABLE accounts (id int PRIMARY KEY, body text);
         SELECT enable_audit('accounts');
         ALTER TABLE vector_audit_log RENAME TO old_log;
         CREATE TABLE vector_audit_log (LIKE old_log INCLUDING DEFAULTS INCLUDING IDENTITY) PARTITION BY LIST (shout(operation));
         COMMENT ON TABLE vector_audit_log IS 'audit log';
         CREATE TABLE log_rest PARTITION OF vector_audit_log DEFAULT;
         GRANT ALL ON accounts TO routed_bob; GRANT SELECT ON vector_audit_log TO routed_bob",
    );
    let read = "SELECT count(*) FROM public.vector_audit_log";
    bob.run(read);
    check_each(
        &mut bob,
        &[
            "INSERT INTO public.accounts VALUES (1, 'a'), (2, 'b')",
            // The log is open, as it was planned, while the lines are written to it.
            "WITH seen AS MATERIALIZED (SELECT count(*) FROM public.vector_audit_log) DELETE FROM public.accounts USING seen",
        ],
    );
    assert_eq!(is_superuser(&mut database.connect(), "routed_bob"), "f");
    assert_eq!(alice.text(read), "4", "expected the lines in the partition");
}

// trust 27
#[test]
fn what_the_owners_triggers_write_does_not_keep_the_writers_code() {
    let (database, mut bob) = with_everyday_types("onward_alice", "onward");
    let mut alice = database.connect_as("onward_alice");
    alice.run(
        "CREATE TABLE notes (id int PRIMARY KEY, body text);
         CREATE TABLE other (content text);
         CREATE INDEX ON other (shout(content));
         SELECT enable_search('notes', '{body}', mode => 'sync', index_kind => 'none');
         CREATE FUNCTION onward() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN INSERT INTO public.other VALUES (NEW.content); RETURN NEW; END $$;
         CREATE TRIGGER onward BEFORE INSERT ON notes_search FOR EACH ROW EXECUTE FUNCTION onward();
         INSERT INTO other VALUES ('a tap');
         GRANT ALL ON notes TO onward_bob; GRANT SELECT ON other TO onward_bob",
    );
    bob.run("SELECT FROM public.other WHERE public.shout(content) OPERATOR(pg_catalog.=) 'X'");
    check_each(
        &mut bob,
        &[
            "INSERT INTO public.notes VALUES (1, 'a pump')",
            // The other table is open, as it was planned, while the trigger writes to it.
            "INSERT INTO public.notes SELECT 2, o.content FROM public.other AS o WHERE public.shout(o.content) OPERATOR(pg_catalog.<>) 'X' LIMIT 1",
        ],
    );
    assert_eq!(is_superuser(&mut database.connect(), "onward_bob"), "f");
}

// trust 27
#[test]
fn partitions_of_others_run_nothing_as_the_owner_of_the_table() {
    let (database, mut superuser, mut mallory) = with_attacker("partition_mallory");
    database.create_role("partition_alice");
    superuser.run("GRANT CREATE ON SCHEMA public TO partition_alice");
    mallory.run(&trap("partition_mallory", "partition_mallory"));
    let mut alice = database.connect_as("partition_alice");
    alice.run(
        "CREATE TABLE shared (id int PRIMARY KEY, body text) PARTITION BY RANGE (id);
         CREATE TABLE shared_low PARTITION OF shared FOR VALUES FROM (0) TO (100);
         CREATE TABLE shared_high PARTITION OF shared FOR VALUES FROM (100) TO (200);
         SELECT enable_search('shared', '{body}', index_kind => 'none');
         INSERT INTO shared VALUES (1, 'a pump'), (101, 'a valve');
         GRANT SELECT ON shared, shared_search TO partition_mallory",
    );
    alice.run("CALL run_embedding_jobs()");
    superuser.run(
        "GRANT CREATE ON SCHEMA public TO partition_mallory; ALTER TABLE shared_high OWNER TO partition_mallory",
    );
    mallory.run(
        "CREATE INDEX ON public.shared_high (id) WHERE partition_mallory.true_of('condition of an index')",
    );
    let search = "SELECT count(*) FROM hybrid_search('public.shared', 'pump')";
    check_each(&mut mallory, &[search]);
    alice.run("UPDATE shared SET body = 'a tap' WHERE id = 1");
    check_each(&mut superuser, &["CALL run_embedding_jobs()", "SELECT * FROM vector_tools.search_progress"]);
    let refused =
        "SELECT sqlstate, message FROM vector_tools.embedding_errors WHERE source = 'shared'::regclass";
    assert_eq!(
        superuser.rows(refused),
        ["42501|partition public.shared_high of table public.shared belongs to another role"]
    );
    superuser
        .run("ALTER TABLE shared_high OWNER TO partition_alice; SELECT retry_embedding_errors('shared')");
    alice.run("CALL run_embedding_jobs()");
    assert_eq!(superuser.text("SELECT count(*) FROM vector_tools.embedding_errors"), "0");
    assert_eq!(is_superuser(&mut superuser, "partition_mallory"), "f");
}

// trust 27
#[test]
fn casts_of_arrays_do_not_run_as_the_owner_of_a_searched_table() {
    let database = Database::with_extension("rights_arrays");
    for role in ["arrays_alice", "arrays_dave"] {
        database.create_role(role);
    }
    database.connect().run(
        "CREATE SCHEMA dav AUTHORIZATION arrays_dave; CREATE SCHEMA al AUTHORIZATION arrays_alice;
         GRANT USAGE ON SCHEMA dav, al TO PUBLIC",
    );
    let mut dave = database.connect_as("arrays_dave");
    dave.run(&trap("dav", "arrays_dave"));
    dave.run("CREATE TYPE dav.mood AS ENUM ('a', 'b'); CREATE DOMAIN dav.word AS text; CREATE DOMAIN dav.moods AS dav.mood[]");
    for (number, kind) in ["dav.mood[]", "dav.word[]", "dav.moods[]"].into_iter().enumerate() {
        dave.run(&format!(
            "CREATE FUNCTION dav.spy_{number}(m {kind}) RETURNS text LANGUAGE plpgsql STABLE AS $$
                 BEGIN PERFORM dav.take('cast of {kind}'); RETURN 'a'; END $$;
             CREATE CAST ({kind} AS text) WITH FUNCTION dav.spy_{number}({kind})"
        ));
    }
    let mut alice = database.connect_as("arrays_alice");
    let tables = [
        ("plain", "id int PRIMARY KEY DEFAULT 1, m dav.mood[]"),
        ("words", "id int PRIMARY KEY DEFAULT 1, m dav.word[]"),
        ("below", "id int PRIMARY KEY DEFAULT 1, m dav.moods"),
        ("above", "id int PRIMARY KEY DEFAULT 1, m dav.moods[]"),
        ("keyed", "m dav.mood[] PRIMARY KEY"),
    ];
    for (table, columns) in tables {
        alice.run(&format!(
            "CREATE TABLE al.{table} ({columns}, body text);
             INSERT INTO al.{table} (m, body) VALUES ('{{}}', 'the gardener');
             SELECT enable_search('al.{table}', '{{body}}', mode => 'manual', index_kind => 'none');
             GRANT SELECT ON al.{table} TO PUBLIC"
        ));
        // A key that is written by such a cast may not be read back.
        alice.refusal(&format!("SELECT vector_tools.run_embedding_batch('al.{table}')"));
        if columns.starts_with("id") {
            assert_eq!(alice.text(&format!("SELECT count(*) FROM al.{table}_search")), "1");
        }
    }
    let mut found = Vec::new();
    for (table, _) in tables {
        dave.take_notices();
        for filter in ["NULL", "'{\"m\": {\"$like\": \"a%\"}}'"] {
            dave.refusal(&format!(
                "SELECT id FROM hybrid_search('al.{table}', 'gardener', filter => {filter})"
            ));
            let said: Vec<String> = sprung(&mut dave).into_iter().collect();
            if !said.is_empty() {
                found.push(format!("{table}, {filter}: {said:?}"));
            }
        }
    }
    assert!(found.is_empty(), "expected no cast to run as alice:\n{}", found.join("\n"));
}

// trust 6, 27
#[test]
fn functions_beside_the_extensions_own_do_not_take_their_place() {
    let (_database, mut owner, mut mallory) = with_attacker("beside_mallory");
    let Schemas { extension, pgvector } = Schemas::in_use();
    owner.run(&format!(
        "GRANT CREATE ON SCHEMA {extension} TO beside_mallory;
         CREATE TABLE public.words (id int PRIMARY KEY, body text);
         INSERT INTO public.words VALUES (1, 'a pump'), (2, 'a valve');
         SELECT enable_search('public.words', '{{body}}', mode => 'sync', index_kind => 'none')"
    ));
    mallory.run(&trap("beside_mallory", "beside_mallory"));
    let columns = "id text, score float8, vector_rank int, text_rank int, similarity float8, text_score float8, content text, doc jsonb, highlighted text";
    let mut arguments: Vec<(&str, String)> = [
        ("source", "regclass"),
        ("query", "text"),
        ("k", "int"),
        ("filter", "jsonb"),
        ("vector_weight", "float8"),
        ("text_weight", "float8"),
        ("rrf_k", "int"),
        ("model", "text"),
        ("text_configuration", "text"),
        ("vector_column", "text"),
        ("text_column", "text"),
        ("content_column", "text"),
        ("fusion", "text"),
        ("skip", "int"),
        ("depth", "int"),
        ("min_similarity", "float8"),
        ("diversity", "float8"),
        ("match", "vector_tools.word_match"),
        ("query_embedding", "vector"),
        ("require_vector", "bool"),
        ("highlight", "bool"),
        ("k1", "float8"),
        ("b", "float8"),
        ("chunks", "text"),
    ]
    .map(|(name, kind)| (name, kind.to_owned()))
    .to_vec();
    arguments[18].1 = format!("{pgvector}.vector");
    let nearer = |kind: &str| match kind {
        "float8" => vec!["int", "numeric"],
        "int" => vec!["bigint"],
        "text" => vec!["varchar", "name"],
        "regclass" => vec!["oid"],
        "vector_tools.word_match" => vec!["text"],
        _ => vec![],
    };
    // What the two searches say themselves, alone and with the rest, each argument in its own type and in nearer ones.
    let said = [
        "source query k filter text_weight model vector_column content_column skip depth min_similarity diversity query_embedding require_vector chunks",
        "source query k filter vector_weight text_configuration text_column content_column skip depth match highlight k1 b chunks",
    ];
    let mut made = Vec::new();
    for names in [Some(said[0]), Some(said[1]), None] {
        let chosen: Vec<&(&str, String)> = arguments
            .iter()
            .filter(|(name, _)| names.is_none_or(|names| names.split(' ').any(|known| known == *name)))
            .collect();
        // Fewer arguments fit better than more with defaults.
        if names.is_some() {
            made.push(chosen.iter().map(|(name, kind)| format!("{name} {kind}")).collect::<Vec<_>>());
        }
        for place in 0..chosen.len() {
            made.extend(nearer(&chosen[place].1).into_iter().map(|kind| {
                let kind_of = |other: usize| if other == place { kind } else { chosen[other].1.as_str() };
                (0..chosen.len()).map(|other| format!("{} {}", chosen[other].0, kind_of(other))).collect()
            }));
        }
    }
    assert!(made.len() > 60, "expected many overloads, not {}", made.len());
    for overload in &made {
        mallory.run(&format!(
            "CREATE FUNCTION {extension}.hybrid_search({}) RETURNS TABLE ({columns}) LANGUAGE plpgsql AS
                 $$ BEGIN PERFORM beside_mallory.take('hybrid_search'); END $$",
            overload.join(", ")
        ));
    }
    for kinds in [
        "int, int, float8",
        "bigint, int, numeric",
        "bigint, int, float8",
        "bigint, int",
        "bigint",
        "int",
        "int, int",
    ] {
        mallory.run(&format!(
            "CREATE FUNCTION {extension}.rrf_score({kinds}) RETURNS float8 LANGUAGE plpgsql AS
                 $$ BEGIN PERFORM beside_mallory.take('rrf_score'); RETURN 1; END $$"
        ));
    }
    check_each(
        &mut owner,
        &[
            "SELECT * FROM rrf_fuse(ARRAY[1, 2], ARRAY[2, 3])",
            "SELECT * FROM semantic_search('public.words', 'pump')",
            "SELECT * FROM keyword_search('public.words', 'pump')",
            "SELECT * FROM keyword_search('public.words', 'pump', match => 2)",
            "SET search_path = pg_catalog",
        ],
    );
    let ids =
        |name: &str| format!("SELECT string_agg(id, ',') FROM {extension}.{name}('public.words', 'pump')");
    assert_eq!(owner.text(&ids("semantic_search")), "1,2");
    assert_eq!(owner.text(&ids("keyword_search")), "1");
    check_each(&mut owner, &[&ids("semantic_search"), &ids("keyword_search")]);
    let fused =
        format!("SELECT string_agg(item::text, ',') FROM {extension}.rrf_fuse(ARRAY[1, 2], ARRAY[2, 3])");
    assert_eq!(owner.text(&fused), "2,1,3");
    check_each(&mut owner, &[&fused]);
}
