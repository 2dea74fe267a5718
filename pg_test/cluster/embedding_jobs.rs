//! Documents of vector stores embedded in the background: what the jobs say, whose rights hold, and which
//! version of a document stays (9, 10, 15).

use std::thread;

use crate::database::{Database, MODEL, make_template};
use crate::dump::run;
use crate::models::Folder;
use crate::process::wait_until;
use crate::server::Server;
use crate::session::Session;

const ONE: &str = "'00000000-0000-0000-0000-000000000001'";
const JOBS: &str =
    "SELECT status, source_count, processed_count, failed_count FROM reg.embedding_jobs ORDER BY created_at";
const STORED: &str =
    "SELECT namespace, content FROM reg.vector_embeddings ORDER BY namespace, content COLLATE \"C\"";

fn with_store(name: &str) -> (Database<'static>, Session) {
    let database = Database::with_extension(name);
    let mut session = database.connect();
    session
        .run(&format!("SELECT create_vector_store('reg', '{MODEL}'); SELECT create_namespace('reg', 'eu')"));
    (database, session)
}

/// A role that writes into the store, and its session.
fn writer(database: &Database, owner: &mut Session, role: &str) -> Session {
    database.create_role(role);
    owner.run(&format!("SELECT grant_vector_access('{role}', 'writer', 'reg.vector_embeddings')"));
    database.connect_as(role)
}

/// SQL that queues one document in a namespace.
fn queue_one(content: &str, namespace: &str) -> String {
    format!("SELECT queue_documents('reg', 'law', ARRAY[{ONE}]::uuid[], ARRAY['{content}'], '{namespace}')")
}

fn drain(session: &mut Session) {
    session.run("CALL run_embedding_jobs()");
}

#[test]
fn a_job_says_how_far_its_documents_are() {
    let (_database, mut session) = with_store("jobs_far");
    session.run("SELECT create_collection('reg', 'laws', 'eu')");
    let queue = "SELECT queue_documents('reg', 'law',
        (SELECT array_agg(md5(i::text)::uuid ORDER BY i) FROM generate_series(1, 300) AS i),
        (SELECT array_agg('article ' || i ORDER BY i) FROM generate_series(1, 300) AS i),
        metadata => (SELECT array_agg(jsonb_build_object('n', i) ORDER BY i) FROM generate_series(1, 300) AS i),
        collection => 'laws')";
    let job = session.text(queue);
    assert_eq!(session.rows(JOBS), ["pending|300|0|0"]);
    let batch = "SELECT table_name, embedded, chunks FROM vector_tools.run_embedding_batch('reg.embedding_jobs', 100)";
    assert_eq!(session.text(batch), "reg.embedding_jobs|100|100");
    assert_eq!(session.rows(JOBS), ["running|300|100|0"]);
    let begun = "SELECT started_at IS NOT NULL, completed_at IS NULL FROM reg.embedding_jobs";
    assert_eq!(session.text(begun), "t|t");
    drain(&mut session);
    assert_eq!(session.rows(JOBS), ["completed|300|300|0"]);
    assert_eq!(
        session.text(&format!(
            "SELECT completed_at >= started_at, source_type, error_message IS NULL,
                 (SELECT name FROM reg.embedding_collections AS c WHERE c.id = collection_id)
             FROM reg.embedding_jobs WHERE id = '{job}'"
        )),
        "t|law|t|laws"
    );
    assert_eq!(
        session.text(
            "SELECT count(*), count(*) FILTER (WHERE content = 'article ' || (metadata->>'n') AND namespace = 'eu'
                 AND embedding <=> embed(content, embedding_model) < 1e-5) FROM reg.vector_embeddings"
        ),
        "300|300"
    );
    // The same again changes nothing, and a text that is cut has as many rows as chunks.
    session.run("CREATE TABLE before AS SELECT id, xmin::text AS version FROM reg.vector_embeddings");
    session.run(queue);
    session.run(&format!(
        "SELECT queue_documents('reg', 'long', ARRAY[{ONE}]::uuid[], ARRAY[repeat('A sentence about valves. ', 40)],
             strategy => 'semantic', max_tokens => 32)"
    ));
    drain(&mut session);
    assert_eq!(session.rows(JOBS), ["completed|300|300|0", "completed|300|300|0", "completed|1|1|0"]);
    let kept = "SELECT count(*) FROM before AS b JOIN reg.vector_embeddings AS e ON e.id = b.id AND e.xmin::text = b.version";
    assert_eq!(session.text(kept), "300");
    let chunks = "SELECT count(*) > 5 FROM reg.vector_embeddings WHERE source_type = 'long'";
    assert_eq!(session.text(chunks), "t");
    assert_eq!(session.text("SELECT count(*) FROM vector_tools.queued_documents"), "0");
    assert_eq!(session.text("SELECT count(*) FROM vector_tools.queue"), "0");
}

#[test]
fn a_document_that_fails_leaves_the_others_alone_and_can_be_tried_again() {
    let (_database, mut session) = with_store("jobs_failure");
    session.run("ALTER TABLE reg.vector_embeddings ADD CONSTRAINT clean CHECK (content NOT LIKE '%poison%')");
    session.run(
        "SELECT queue_documents('reg', 'law', (SELECT array_agg(md5(i::text)::uuid) FROM generate_series(1, 20) AS i),
             (SELECT array_agg(CASE WHEN i = 7 THEN 'poison' ELSE 'article ' || i END ORDER BY i) FROM generate_series(1, 20) AS i))",
    );
    drain(&mut session);
    // A constraint may be about a row that comes later, so it is tried again.
    assert_eq!(session.rows(JOBS), ["running|20|19|1"]);
    let again = "UPDATE vector_tools.queue SET next_try = now()";
    for _ in 0..20 {
        session.run(again);
        drain(&mut session);
    }
    assert_eq!(session.rows(JOBS), ["failed|20|19|1"]);
    let error = session.text("SELECT error_message FROM reg.embedding_jobs");
    assert!(error.contains("\"clean\""), "{error}");
    let listed = "SELECT source, id::jsonb->>1 = md5('7')::uuid::text, category, sqlstate, gave_up FROM vector_tools.embedding_errors";
    assert_eq!(session.rows(listed), ["reg.embedding_jobs|t|row|23514|t"]);
    session.run("ALTER TABLE reg.vector_embeddings DROP CONSTRAINT clean");
    assert_eq!(session.text("SELECT retry_embedding_errors('reg.embedding_jobs')"), "1");
    drain(&mut session);
    assert_eq!(session.rows(JOBS), ["completed|20|20|0"]);
    assert_eq!(session.text("SELECT error_message IS NULL FROM reg.embedding_jobs"), "t");
}

// trust 4, 5
#[test]
fn a_document_is_written_with_the_rights_of_who_queued_it() {
    let (database, mut owner) = with_store("jobs_rights");
    let mut session = writer(&database, &mut owner, "jobs_rights_role");
    session.run(&queue_one("mine", "eu"));
    session.run(&queue_one("not mine", "us"));
    owner.run("SELECT isolate_namespaces('reg.vector_embeddings', 'jobs_rights_role', '{eu}')");
    // From now on the job itself is refused.
    session.fails("42501", &queue_one("not mine either", "us"));
    session.fails(
        "42501",
        "INSERT INTO vector_tools.queued_documents (source, job, source_type, source_id, namespace, metadata, queued_by,
             session_namespace)
         VALUES (0, gen_random_uuid(), 'law', gen_random_uuid(), 'eu', '{}', 'postgres'::regrole, '')",
    );
    session.fails("42501", "SELECT * FROM vector_tools.queued_documents");
    session.fails("42501", "UPDATE vector_tools.queue SET attempts = 0");
    // Whoever drives the queue, here a superuser.
    drain(&mut owner);
    assert_eq!(owner.rows(STORED), ["eu|mine"]);
    assert_eq!(owner.rows(JOBS), ["completed|1|1|0", "failed|1|0|1"]);
    let error = owner.text("SELECT error_message FROM reg.embedding_jobs WHERE status = 'failed'");
    assert!(error.contains("row-level security policy"), "{error}");
    // What the role may not do any more when its turn comes is not done.
    session.run(&queue_one("changed", "eu"));
    owner.run("REVOKE UPDATE ON reg.vector_embeddings FROM jobs_rights_role");
    drain(&mut owner);
    assert_eq!(owner.rows(STORED), ["eu|mine"]);
    // A reader cannot even queue.
    owner.run("REVOKE INSERT ON reg.vector_embeddings FROM jobs_rights_role");
    session.fails("42501", &queue_one("more", "eu"));
}

// trust 5
#[test]
fn a_session_that_is_set_to_a_namespace_queues_for_that_one() {
    let (database, mut owner) = with_store("jobs_setting");
    let mut session = writer(&database, &mut owner, "jobs_setting_role");
    let of_nobody = "SELECT queue_documents('reg', 'nobody', ARRAY[gen_random_uuid()], '{of nobody}', 'eu')";
    session.run("SET vector_tools.namespace = 'eu'");
    session.run(&queue_one("mine", "eu"));
    session.run(&queue_one("not mine", "us"));
    session.run("RESET vector_tools.namespace");
    session.run(of_nobody);
    owner.run("SELECT isolate_namespaces('reg.vector_embeddings')");
    session.fails("42501", of_nobody);
    // The setting of the session that drives the queue counts for nothing.
    owner.run("SET vector_tools.namespace = 'us'");
    drain(&mut owner);
    assert_eq!(owner.rows(STORED), ["eu|mine"]);
    assert_eq!(
        owner.text("SELECT string_agg(status, ' ' ORDER BY created_at) FROM reg.embedding_jobs"),
        "completed failed failed"
    );
}

// trust 4
#[test]
fn nobody_writes_with_more_rights_than_the_owner_of_the_store() {
    let database = Database::with_extension("jobs_owner");
    database.create_role("jobs_owner_role");
    let mut superuser = database.connect();
    superuser.run("GRANT CREATE ON DATABASE jobs_owner TO jobs_owner_role; CREATE TABLE seen (who text); GRANT INSERT ON seen TO PUBLIC");
    let mut owner = database.connect_as("jobs_owner_role");
    owner.run(&format!(
        "SELECT create_vector_store('reg', '{MODEL}');
         CREATE FUNCTION reg.look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             INSERT INTO public.seen VALUES (current_user); RETURN NEW; END $$;
         CREATE TRIGGER look BEFORE INSERT ON reg.vector_embeddings FOR EACH ROW EXECUTE FUNCTION reg.look()"
    ));
    superuser.run(&queue_one("text", "eu"));
    let mut other = writer(&database, &mut owner, "jobs_owner_writer");
    other.run("SELECT queue_documents('reg', 'other', ARRAY[gen_random_uuid()], ARRAY['text'])");
    // A stranger drives nothing, the owner everything.
    drain(&mut other);
    assert_eq!(superuser.rows("SELECT who FROM seen"), [""; 0]);
    drain(&mut owner);
    assert_eq!(superuser.rows("SELECT who FROM seen ORDER BY who"), ["jobs_owner_role", "jobs_owner_writer"]);
    assert_eq!(owner.rows(JOBS), ["completed|1|1|0", "completed|1|1|0"]);
    // A role that is gone writes nothing.
    other.run("SELECT queue_documents('reg', 'other', ARRAY[gen_random_uuid()], ARRAY['late'])");
    drop(other);
    superuser.run("DROP OWNED BY jobs_owner_writer; DROP ROLE jobs_owner_writer");
    // Nor does a new one of its name.
    database.create_role("jobs_owner_writer");
    superuser.run("GRANT ALL ON reg.vector_embeddings TO jobs_owner_writer");
    drain(&mut owner);
    let errors = "SELECT sqlstate, gave_up, message LIKE 'role with OID % does not exist' FROM vector_tools.embedding_errors";
    assert_eq!(owner.text(errors), "42704|t|t");
}

#[test]
fn the_version_that_came_last_stays() {
    let (_database, mut session) = with_store("jobs_versions");
    let queue = |session: &mut Session, content: &str| session.run(&queue_one(content, "eu"));
    queue(&mut session, "first");
    queue(&mut session, "second");
    // The later one first, as by another worker.
    session.run("UPDATE vector_tools.queue SET next_try = next_try + interval '1 hour' WHERE id = (SELECT min(id) FROM vector_tools.queue)");
    drain(&mut session);
    session.run("UPDATE vector_tools.queue SET next_try = now()");
    drain(&mut session);
    assert_eq!(session.rows(STORED), ["eu|second"]);
    // Written, deleted, cleared and dropped by somebody since.
    let now = format!("SELECT upsert_document('reg', 'law', {ONE}, 'now', 'eu')");
    let delete = format!("SELECT delete_document('reg', 'law', {ONE})");
    let ends: [(&str, &[&str]); 6] = [
        (&now, &["eu|now"]),
        // Unchanged, but said once more.
        (&now, &["eu|now"]),
        (&delete, &[]),
        ("SELECT clear_namespace('reg', 'eu')", &[]),
        ("UPDATE reg.embedding_jobs SET status = 'cancelled' WHERE status = 'pending'", &[]),
        ("DELETE FROM reg.embedding_jobs WHERE status = 'pending'", &[]),
    ];
    for (call, stored) in ends {
        queue(&mut session, "queued");
        session.run(call);
        drain(&mut session);
        assert_eq!(session.rows(STORED), stored, "after {call}");
    }
    let others = "SELECT count(*) FROM reg.embedding_jobs WHERE status NOT IN ('completed', 'cancelled')";
    assert_eq!(session.text(others), "0");
    assert_eq!(session.text("SELECT count(*) FROM vector_tools.queued_documents"), "0");
    session.run("SELECT create_collection('reg', 'laws', 'eu')");
    session.run(&format!(
        "SELECT queue_documents('reg', 'law', ARRAY[{ONE}]::uuid[], '{{x}}', collection => 'laws')"
    ));
    session.fails("2BP01", "SELECT drop_collection('reg', 'laws')");
    session.run("SELECT drop_collection('reg', 'laws', true)");
    queue(&mut session, "queued");
    session.run("SELECT drop_namespace('reg', 'eu')");
    drain(&mut session);
    assert_eq!(session.rows(STORED), [""; 0]);
    // Taken back with the transaction that did it.
    queue(&mut session, "stays");
    session.run(&format!("BEGIN; {delete}; ROLLBACK"));
    drain(&mut session);
    assert_eq!(session.rows(STORED), ["eu|stays"]);
}

// trust 5
#[test]
fn nobody_overtakes_a_document_that_is_not_his() {
    let (database, mut owner) = with_store("jobs_others");
    let mut session = writer(&database, &mut owner, "jobs_others_role");
    owner.run("SELECT isolate_namespaces('reg.vector_embeddings', 'jobs_others_role', '{us}')");
    owner.run(&queue_one("owned", "eu"));
    session.run(&format!("SELECT upsert_document('reg', 'law', {ONE}, '{{}}'::text[], 'eu')"));
    session.run(&format!("SELECT delete_document('reg', 'law', {ONE})"));
    session.run("SELECT clear_namespace('reg', 'eu')");
    drain(&mut owner);
    assert_eq!(owner.rows(STORED), ["eu|owned"]);
    // Nor does he bring another version of it.
    session.fails("42501", &queue_one("another version of it", "eu"));
    owner.run(&queue_one("owned once more", "eu"));
    drain(&mut owner);
    assert_eq!(owner.rows(STORED), ["eu|owned once more"]);
    // A document of the same source in a namespace of his own is not that one.
    session.run(&format!("SELECT upsert_document('reg', 'law', {ONE}, 'his own', 'us')"));
    owner.run(&queue_one("owned still", "eu"));
    assert_eq!(session.text(&format!("SELECT delete_document('reg', 'law', {ONE})")), "1");
    drain(&mut owner);
    assert_eq!(owner.rows(STORED), ["eu|owned still"]);
    session.run(&queue_one("his", "us"));
    session.run(&format!("SELECT delete_document('reg', 'law', {ONE})"));
    drain(&mut owner);
    assert_eq!(owner.rows(STORED), ["eu|owned still"]);
}

#[test]
fn who_may_delete_documents_may_delete_those_that_wait() {
    let (database, mut owner) = with_store("jobs_deleters");
    let mut deleter = writer(&database, &mut owner, "jobs_deleters_role");
    owner.run("REVOKE INSERT ON reg.vector_embeddings FROM jobs_deleters_role");
    database.create_role("jobs_deleters_reader");
    owner.run("SELECT grant_vector_access('jobs_deleters_reader', 'reader', 'reg.vector_embeddings')");
    let mut reader = database.connect_as("jobs_deleters_reader");
    let delete = format!("SELECT delete_document('reg', 'law', {ONE})");
    owner.run(&queue_one("kept", "eu"));
    reader.fails("42501", &delete);
    drain(&mut owner);
    assert_eq!(owner.rows(STORED), ["eu|kept"]);
    deleter.run(&delete);
    owner.run(&queue_one("taken back", "eu"));
    deleter.run(&delete);
    drain(&mut owner);
    assert_eq!(owner.rows(STORED), [""; 0]);
}

#[test]
fn who_has_a_table_for_himself_keeps_nobody_elses_waiting() {
    let server = Server::start("test-jobs-locked", &[("vector_tools.max_workers", "0")]);
    make_template(&server);
    let database = Database::with_extension_on(&server, "jobs");
    let mut session = database.connect();
    session.run(&format!(
        "SELECT create_vector_store('reg', '{MODEL}');
         CREATE TABLE docs (id int PRIMARY KEY, body text); SELECT enable_search('docs', ARRAY['body']);
         CREATE TABLE others (id int PRIMARY KEY, body text); SELECT enable_search('others', ARRAY['body'])"
    ));
    session.run(&queue_one("text", "eu"));
    session.run("INSERT INTO docs VALUES (1, 'a'); INSERT INTO others VALUES (1, 'a')");
    let mut holder = database.connect();
    holder.run("BEGIN; LOCK TABLE docs, reg.vector_embeddings IN ACCESS EXCLUSIVE MODE");
    let others = "SELECT count(*) FROM others_search";
    drain(&mut session);
    assert_eq!(session.text(others), "1");
    session.run("ALTER SYSTEM SET vector_tools.max_workers = 2");
    session.run("SELECT pg_reload_conf()");
    wait_until("the limit is known", || session.text("SHOW vector_tools.max_workers") == "2");
    session.run("INSERT INTO others VALUES (2, 'b')");
    wait_until("the other table is done", || session.text(others) == "2");
    holder.run("COMMIT");
    wait_until("the queue is empty", || session.text("SELECT count(*) FROM vector_tools.queue") == "0");
    assert_eq!(session.text("SELECT count(*) FROM docs_search"), "1");
    assert_eq!(session.rows(JOBS), ["completed|1|1|0"]);
    let log = server.log();
    assert!(!log.contains("could not look at the queue"), "{log}");
}

// trust 16
#[test]
fn documents_that_wait_are_dumped_and_embedded_elsewhere() {
    let (database, mut owner) = with_store("jobs_dump");
    let mut session = writer(&database, &mut owner, "jobs_dump_role");
    session.run(&queue_one("mine", "eu"));
    session.run(&queue_one("not mine", "us"));
    // A role that is gone, whose number could be anybody's elsewhere.
    let mut gone = writer(&database, &mut owner, "jobs_dump_gone");
    gone.run("SELECT queue_documents('reg', 'law', ARRAY[gen_random_uuid()], '{of nobody}', 'eu')");
    drop(gone);
    owner.run("DROP OWNED BY jobs_dump_gone; DROP ROLE jobs_dump_gone; DELETE FROM reg.embedding_jobs WHERE source_count = 1 AND id = (SELECT job FROM vector_tools.queued_documents WHERE content = 'of nobody')");
    owner.run("SELECT isolate_namespaces('reg.vector_embeddings', 'jobs_dump_role', '{eu}')");
    owner.run("SELECT create_vector_store('gone'); SELECT queue_documents('gone', 'law', ARRAY[gen_random_uuid()], '{x}')");
    owner.run("DROP SCHEMA gone CASCADE");
    let restored = Database::empty("jobs_dump_restored");
    let folder = Folder::new();
    let file = folder.path().join("dump").display().to_string();
    run("pg_dump", &["--format=custom", "--file", &file, "--dbname", &database.connection()]);
    run("pg_restore", &["--exit-on-error", "--dbname", &restored.connection(), &file]);
    // The store that is gone goes from the queue of the original; the copy does not have it.
    for mut session in [owner, restored.connect()] {
        drain(&mut session);
        assert_eq!(session.rows(STORED), ["eu|mine"]);
        assert_eq!(session.rows(JOBS), ["completed|1|1|0", "failed|1|0|1"]);
        let left = "SELECT count(*) FROM vector_tools.queue UNION ALL SELECT count(*) FROM vector_tools.queued_documents";
        assert_eq!(session.rows(left), ["1", "1"]);
    }
    let mut session = restored.connect();
    session.run(&queue_one("later", "eu"));
    drain(&mut session);
    assert_eq!(session.rows(STORED), ["eu|later"]);
}

// trust 10, 15
#[test]
fn workers_and_sessions_embed_each_document_once() {
    let server = Server::start("test-jobs", &[]);
    make_template(&server);
    let database = Database::with_extension_on(&server, "jobs");
    let mut session = database.connect();
    session.run(&format!("SELECT create_vector_store('reg', '{MODEL}')"));
    thread::scope(|scope| {
        for part in 0..4 {
            let database = &database;
            scope.spawn(move || {
                let mut session = database.connect();
                for round in 0..5 {
                    // Each part has documents of its own, and some that all have.
                    session.run(&format!(
                        "SELECT queue_documents('reg', 'law',
                             (SELECT array_agg(md5(CASE WHEN i <= 3 THEN '' ELSE '{part} ' END || i)::uuid) FROM generate_series(1, 20) AS i),
                             (SELECT array_agg('part {part} round {round} article ' || i) FROM generate_series(1, 20) AS i))"
                    ));
                    if part == 0 {
                        drain(&mut session);
                    }
                }
            });
        }
    });
    wait_until("the queue is empty", || session.text("SELECT count(*) FROM vector_tools.queue") == "0");
    assert_eq!(session.text("SELECT DISTINCT status FROM reg.embedding_jobs"), "completed");
    assert_eq!(
        session.text("SELECT count(*), sum(processed_count), sum(failed_count) FROM reg.embedding_jobs"),
        "20|400|0"
    );
    // What a part has alone is its last round; of what all have, one of the last versions.
    assert_eq!(
        session.text(
            "SELECT count(*), count(*) FILTER (WHERE content LIKE '%round 4%'),
                 count(*) FILTER (WHERE embedding <=> embed(content, embedding_model) < 1e-5) FROM reg.vector_embeddings"
        ),
        "71|71|71"
    );
    assert!(server.log().contains("vector_tools") && !server.log().contains("PANIC"), "{}", server.log());
}
