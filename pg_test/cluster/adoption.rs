//! Tables of the domain-memories system that its own script has made, without the extension: the verbs say what to do, one
//! call adopts the table, and its clients' statements go on.

use crate::database::{Database, MODEL};
use crate::models::Folder;
use crate::session::Session;

/// The system's own script.
fn own_table(domain: &str, dimensions: usize) -> String {
    format!(
        "CREATE TABLE IF NOT EXISTS {domain}_memories (
            id VARCHAR(50) PRIMARY KEY,
            content TEXT NOT NULL,
            embedding VECTOR({dimensions}),
            metadata JSONB NOT NULL,
            created_at TIMESTAMP WITH TIME ZONE DEFAULT NOW(),
            updated_at TIMESTAMP WITH TIME ZONE DEFAULT NOW()
        );
        CREATE INDEX IF NOT EXISTS {domain}_memories_embedding_idx ON {domain}_memories USING ivfflat (embedding vector_cosine_ops);
        CREATE INDEX IF NOT EXISTS {domain}_memories_metadata_idx ON {domain}_memories USING gin (metadata);
        CREATE INDEX IF NOT EXISTS {domain}_memories_updated_idx ON {domain}_memories (updated_at DESC);
        CREATE INDEX IF NOT EXISTS {domain}_memories_content_idx
            ON {domain}_memories USING gin (to_tsvector('english', content))"
    )
}

const INDEXES: &str = "SELECT string_agg(indexname, ' ' ORDER BY indexname) FROM pg_indexes WHERE tablename = 'startup_memories'";

fn hint_of(session: &mut Session, sqlstate: &str, call: &str) -> String {
    session.fails(sqlstate, &format!("SELECT {call}")).hint().unwrap_or_default().to_owned()
}

// trust 21
#[test]
fn a_table_made_without_the_extension_is_adopted_by_its_owner() {
    let database = Database::with_extension("adoption");
    database.create_role("adoption_role");
    let mut session = database.connect();
    session.run(&own_table("startup", 384));
    session.run(
        "INSERT INTO startup_memories (id, content, embedding, metadata, updated_at) VALUES
             ('a', 'Series A funding round completed', embed('Series A funding round completed'), '{\"importance\": 0.9}', '2024-01-01'),
             ('b', 'The office lease ends in March', NULL, '{\"source\": \"mail\"}', '2024-01-01')",
    );
    // Whatever is asked of it, the answer is what to do.
    for (state, call) in [
        ("42703", "search_memories('money', 'startup')"),
        ("42703", "search_memories('money', 'startup', use_vector => false)"),
        ("55000", "store_memory('a new logo', 'startup')"),
        ("55000", "update_memory('a', 'a new logo', 'startup')"),
    ] {
        let hint = hint_of(&mut session, state, call);
        assert!(
            hint.contains("create_domain_memories_table('startup')"),
            "expected a way out of {call}: {hint}"
        );
    }
    session.run("GRANT ALL ON startup_memories TO adoption_role");
    database.connect_as("adoption_role").fails("55000", "SELECT create_domain_memories_table('startup')");
    let indexes = session.text(INDEXES);

    assert_eq!(session.text("SELECT create_domain_memories_table('startup')"), "startup_memories");
    assert_eq!(
        session.text(INDEXES).replace("startup_memories_lexemes_idx ", ""),
        indexes,
        "expected its own indexes"
    );
    assert_eq!(
        session.rows("SELECT id, embedding IS NOT NULL, updated_at::date FROM startup_memories ORDER BY id"),
        ["a|t|2024-01-01", "b|t|2024-01-01"],
        "expected the missing embedding, and the time as it was"
    );
    assert_eq!(session.text("SELECT domain, memories, embedded FROM vector_tools.domains"), "startup|2|2");
    assert_eq!(
        session.rows("SELECT id FROM search_memories('did investors give us money?', 'startup', 1)"),
        ["a"]
    );
    assert_eq!(
        session.rows("SELECT id FROM search_memories('leases', 'startup', use_vector => false)"),
        ["b"]
    );
    session.run("SELECT store_memory('payroll runs on the 25th', 'startup', id => 'c'), update_memory('a', 'Series B is signed', 'startup')");
    // The statements of its clients, whose tables know nothing of new columns.
    session.run(
        "INSERT INTO startup_memories (id, content, embedding, metadata) VALUES ('d', 'The logo is blue', NULL::vector, '{}'::jsonb);
         UPDATE startup_memories SET content = 'The logo is green', embedding = NULL::vector, metadata = '{}'::jsonb, updated_at = NOW() WHERE id = 'd'",
    );
    let wrong = format!(
        "SELECT count(*) FROM startup_memories WHERE embedding IS NULL OR embedding <=> embed(content, '{MODEL}') > 0.001"
    );
    assert_eq!(session.text(&wrong), "0", "expected every row to be embedded as it is now");
    session.run("SELECT create_domain_memories_table('startup')");
    assert_eq!(
        session.text("SELECT count(*) FROM pg_trigger WHERE tgrelid = 'startup_memories'::regclass"),
        "2"
    );
}

// trust 21, 23
#[test]
fn a_table_that_looks_otherwise_is_not_adopted() {
    let database = Database::with_extension("adoption_refused");
    let mut session = database.connect();
    session.run(&own_table("narrow", 768));
    let error = session.fails("22000", "SELECT create_domain_memories_table('narrow')");
    assert_eq!(error.message(), "expected 768 dimensions, not 384");
    session.run(&own_table("typed", 384));
    session.run("ALTER TABLE typed_memories ADD lexemes text");
    session.fails("42P07", "SELECT create_domain_memories_table('typed')");
    session.run(&own_table("short", 384));
    session.run("ALTER TABLE short_memories DROP metadata");
    session.fails("42P07", "SELECT create_domain_memories_table('short')");
    let added =
        "SELECT count(*) FROM pg_attribute WHERE attname = 'lexemes' AND atttypid = 'tsvector'::regtype
                 AND attrelid::regclass::text LIKE '%memories'";
    assert_eq!(session.text(added), "0", "expected the refused tables as they were");
}

/// A real model that gives 768 dimensions, as nomic-embed-text and its like do.
pub fn doubled_model(folder: &Folder) -> String {
    folder.changed_model("doubled", MODEL, &[])
}

#[test]
fn a_model_of_768_dimensions_serves_domains_and_stores() {
    let folder = Folder::new();
    let model = doubled_model(&folder);
    let database = Database::with_extension("adoption_768");
    let mut session = database.connect();
    assert_eq!(session.text(&format!("SELECT register_model('doubled', '{model}')")), "768");
    session.run("SET vector_tools.default_model = 'doubled'");
    session.run(&own_table("narrow", 768));
    session.run("INSERT INTO narrow_memories (id, content, metadata) VALUES ('old', 'walked to work', '{}')");
    session.run(&format!(
        "SELECT create_domain_memories_table('narrow'); SELECT create_domain_memories_table('wide');
         SELECT create_domain_memories_table('plain', '{MODEL}');
         CREATE TABLE given AS SELECT * FROM (VALUES ('a', 'slept well after a long walk'), ('b', 'blood pressure was 120 over 80'),
             ('c', 'ran five miles'), ('d', 'allergic to penicillin')) AS v(id, content);
         SELECT store_memory(content, domain, id => id) FROM given, unnest('{{narrow,wide,plain}}'::text[]) AS domain"
    ));
    assert_eq!(session.text("SELECT vector_dims(embedding) FROM wide_memories WHERE id = 'a'"), "768");
    assert_eq!(session.rows("SELECT id FROM search_memories('going by foot', 'narrow', 1)"), ["old"]);
    // Cosines are those of the real model, so the answers are.
    for question in ["sleep", "which drugs must I avoid?", "jogging"] {
        let ask = |domain: &str| {
            format!(
                "SELECT id, round(similarity_score::numeric, 3) FROM search_memories('{question}', '{domain}', 4)"
            )
        };
        assert_eq!(
            session.rows(&ask("wide")),
            session.rows(&ask("plain")),
            "expected the answer of the real model"
        );
    }
    let plan = session.rows("SET enable_seqscan = off; EXPLAIN SELECT id FROM wide_memories ORDER BY embedding <=> embed_query('x') LIMIT 1");
    assert!(plan.concat().contains("wide_memories_embedding_idx"), "expected the index to be used: {plan:?}");
    session.run("SELECT create_vector_store('reg', storage => 'halfvec'); SELECT upsert_document('reg', 'd', gen_random_uuid(), 'a pump', 'eu')");
    assert_eq!(session.text("SELECT dimensions, storage FROM vector_tools.vector_stores"), "768|halfvec");
    assert_eq!(session.text("SELECT content FROM search_embeddings('reg', 'pump', 'eu')"), "a pump");
}
