//! Stores and access under a hostile search_path and objects in pg_temp: the same answers, the same tables (6).

use crate::database::{Database, MODEL};
use crate::session::Session;
use crate::shadows::{EVIL, SHADOWS_IN_TEMP};

/// What the statements of stores and access use beside what searches use.
const MORE_EVIL: &str = "
    CREATE FUNCTION evil.pg_advisory_xact_lock(bigint) RETURNS void LANGUAGE sql AS 'SELECT evil.trap(''pg_advisory_xact_lock'')';
    CREATE FUNCTION evil.pg_advisory_xact_lock_shared(bigint) RETURNS void LANGUAGE sql AS 'SELECT evil.trap(''pg_advisory_xact_lock_shared'')';
    CREATE FUNCTION evil.current_setting(pg_catalog.text, bool) RETURNS pg_catalog.text LANGUAGE sql AS 'SELECT evil.trap(''current_setting'')::pg_catalog.text';
    CREATE FUNCTION evil.pg_get_expr(pg_node_tree, oid) RETURNS pg_catalog.text LANGUAGE sql AS 'SELECT evil.trap(''pg_get_expr'')::pg_catalog.text';
    CREATE FUNCTION evil.has_table_privilege(oid, pg_catalog.text) RETURNS bool LANGUAGE sql AS 'SELECT evil.trap(''has_table_privilege'') = 0';
    CREATE FUNCTION evil.touch_row() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'evil.touch_row() was used'; END $$;
    CREATE FUNCTION evil.guard_audit_log() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'evil.guard_audit_log() was used'; END $$;
    CREATE FUNCTION evil.equal(uuid, uuid) RETURNS bool LANGUAGE sql AS 'SELECT evil.trap(''equal(uuid, uuid)'') = 0';
    CREATE OPERATOR evil.= (LEFTARG = uuid, RIGHTARG = uuid, FUNCTION = evil.equal);
    CREATE FUNCTION evil.equal(bigint, bigint) RETURNS bool LANGUAGE sql AS 'SELECT evil.trap(''equal(bigint, bigint)'') = 0';
    CREATE OPERATOR evil.= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = evil.equal);
    CREATE FUNCTION evil.equal(pg_catalog.varchar, pg_catalog.text) RETURNS bool LANGUAGE sql AS 'SELECT evil.trap(''equal(varchar, text)'') = 0';
    CREATE OPERATOR evil.= (LEFTARG = varchar, RIGHTARG = pg_catalog.text, FUNCTION = evil.equal);
    CREATE DOMAIN evil.uuid AS int; CREATE DOMAIN evil.varchar AS int; CREATE DOMAIN evil.halfvec AS int; CREATE DOMAIN evil.int8 AS int;
    CREATE TABLE evil.vector_embeddings (id int); CREATE TABLE evil.embedding_collections (id int);
    CREATE TABLE evil.pg_inherits (id int); CREATE TABLE evil.pg_policy (id int); CREATE TABLE evil.pg_attribute (id int);
    CREATE TEMP TABLE vector_embeddings (id pg_catalog.int4); CREATE TEMP TABLE embedding_collections (id pg_catalog.int4);
    CREATE TEMP TABLE pg_inherits (id pg_catalog.int4); CREATE TEMP TABLE pg_policy (id pg_catalog.int4);
    CREATE TEMP TABLE pg_authid (id pg_catalog.int4); CREATE TEMP TABLE pg_roles (id pg_catalog.int4);
    CREATE DOMAIN pg_temp.uuid AS pg_catalog.int4; CREATE DOMAIN pg_temp.varchar AS pg_catalog.int4";

const ONE: &str = "'00000000-0000-0000-0000-000000000001'";

/// Every verb, in the order of a store's life; the last of all drops what was made.
fn life() -> Vec<String> {
    let document = |arguments: &str| {
        format!("SELECT u.* FROM public.upsert_document('reg', 'd', {ONE}, {arguments}) AS u")
    };
    [
        format!("SELECT public.create_vector_store('reg', '{MODEL}', storage => 'halfvec')::pg_catalog.oid OPERATOR(pg_catalog.>) 0"),
        document("ARRAY['a pump', 'a valve']::pg_catalog.text[], 'eu'"),
        "SELECT public.create_namespace('reg', 'eu')::pg_catalog.oid OPERATOR(pg_catalog.>) 0".to_owned(),
        "SELECT public.create_collection('reg', 'laws', 'eu') IS NULL".to_owned(),
        document("ARRAY['a pump', 'a tap']::pg_catalog.text[], 'eu', collection => 'laws'"),
        format!(
            "SELECT public.upsert_embeddings('reg', ARRAY['d'], ARRAY[{ONE}]::pg_catalog.uuid[], ARRAY[7], ARRAY['ready'],
                 ARRAY[public.embed('ready')], ARRAY['eu'])"
        ),
        format!("SELECT public.queue_documents('reg', 'queued', ARRAY[{ONE}]::pg_catalog.uuid[], ARRAY['a queue'], 'eu') IS NULL"),
        "SELECT b.embedded FROM vector_tools.run_embedding_batch() AS b".to_owned(),
        "SELECT j.status, j.processed_count FROM reg.embedding_jobs AS j".to_owned(),
        "SELECT s.content, s.namespace, s.metadata FROM public.search_embeddings('reg', 'pump', 'eu', 2, collection => 'laws') AS s".to_owned(),
        "SELECT s.content FROM public.search_embeddings('reg', 'pump', metadata => '{\"n\": 1}') AS s".to_owned(),
        "SELECT public.count_embeddings('reg'), public.count_embeddings('reg', 'eu', 'd', 'laws')".to_owned(),
        "SELECT v.model, v.storage, v.partitions FROM vector_tools.vector_stores AS v".to_owned(),
        "SELECT d.role, d.model, d.is_current, d.rows, d.chunks FROM vector_tools.search_drift AS d".to_owned(),
        "SELECT public.index_vector_store('reg', 'ivfflat')".to_owned(),
        "SELECT public.create_vector_roles()".to_owned(),
        "SELECT public.grant_vector_access('vector_writer', 'writer', 'reg.vector_embeddings'), public.isolate_namespaces('reg.vector_embeddings', 'vector_writer', '{us}')".to_owned(),
        "SET LOCAL ROLE vector_writer".to_owned(),
        "SELECT pg_catalog.count(*) FROM public.search_embeddings('reg', 'pump', 'eu')".to_owned(),
        "RESET ROLE".to_owned(),
        "SELECT public.share_namespaces('reg.vector_embeddings')".to_owned(),
        "SELECT public.isolate_namespaces('reg.vector_embeddings'), public.revoke_vector_access('vector_writer', 'reg.vector_embeddings')".to_owned(),
        "SELECT public.share_namespaces('reg.vector_embeddings')".to_owned(),
        "SELECT public.enable_audit('reg.vector_embeddings')::pg_catalog.oid OPERATOR(pg_catalog.>) 0".to_owned(),
        "UPDATE reg.vector_embeddings SET metadata = '{\"n\": 1}' RETURNING content".to_owned(),
        "SELECT h.operation FROM public.audit_history('reg.vector_embeddings') AS h".to_owned(),
        format!("SELECT public.delete_document('reg', 'd', {ONE})"),
        "SELECT public.drop_collection('reg', 'laws'), public.clear_namespace('reg', 'eu')".to_owned(),
        "SELECT public.drop_namespace('reg', 'eu')".to_owned(),
    ]
    .to_vec()
}

/// The answers of a whole life, which is undone again; of an error, its message.
fn lived(session: &mut Session) -> Vec<Vec<String>> {
    session.run("BEGIN");
    let mut answers = Vec::new();
    for call in life() {
        let answer = session.ask_rows(&call);
        let failed = answer.is_err();
        answers.push(answer.unwrap_or_else(|error| vec![format!("{}: {call}", error.message())]));
        if failed {
            break;
        }
    }
    session.run("ROLLBACK");
    answers
}

// trust 6
#[test]
fn stores_and_access_resist_shadows() {
    let database = Database::with_extension("shadows_store");
    let mut session = database.connect();
    let expected = lived(&mut session);
    assert_eq!(expected.len(), life().len(), "expected each call to succeed: {expected:#?}");
    session.run(EVIL);
    session.run(MORE_EVIL);
    session.run(SHADOWS_IN_TEMP);
    session.run("GRANT USAGE ON SCHEMA evil TO PUBLIC");
    for path in ["public", "evil, public, pg_catalog", "pg_temp, evil, public, pg_catalog"] {
        session.run(&format!("SET search_path = {path}"));
        assert_eq!(lived(&mut session), expected, "expected the same answers with the path {path}");
    }
    // A session that begins with them.
    let mut fresh = database.connect();
    fresh.run("SET search_path = evil, public, pg_catalog");
    assert_eq!(lived(&mut fresh), expected);
}

// trust 6
#[test]
fn a_store_made_under_shadows_has_the_types_of_pg_catalog() {
    let database = Database::with_extension("shadows_store_types");
    let mut session = database.connect();
    let columns = "SELECT string_agg(c.relname || '.' || a.attname || ' ' || t.typname || ' ' || n.nspname || coalesce(' ' || pg_get_expr(d.adbin, d.adrelid), ''),
            ', ' ORDER BY c.relname, a.attnum)
        FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND c.relkind IN ('r', 'p')
        JOIN pg_type AS t ON t.oid = a.atttypid JOIN pg_namespace AS n ON n.oid = t.typnamespace
        LEFT JOIN pg_attrdef AS d ON d.adrelid = c.oid AND d.adnum = a.attnum WHERE c.relnamespace = 'reg'::regnamespace";
    let make = format!(
        "SELECT public.create_vector_store('reg', '{MODEL}'); SELECT public.create_namespace('reg', 'eu')"
    );
    session.run(&make);
    let expected = session.text(columns);
    session.run("DROP SCHEMA reg CASCADE");
    session.run(EVIL);
    session.run(MORE_EVIL);
    session.run(SHADOWS_IN_TEMP);
    session.run("SET search_path = pg_temp, evil, public, pg_catalog");
    session.run(&make);
    let found = database.connect().text(columns);
    assert_eq!(found, expected, "expected the columns as without shadows");
}
