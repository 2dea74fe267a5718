//! How many of the truly nearest rows a store's search finds, for every storage and index, after rows have come and gone
//! (25).

use crate::database::{Database, MODEL};

const ROWS: usize = 4000;
/// The least mean of recall@10.
const LEAST: f64 = 0.95;

/// Vectors as embeddings lie: in clusters, some near, most far. The same in every run.
const VECTORS: &str = "
    CREATE TABLE made_up AS
    WITH seed AS (SELECT setseed(0.4)), centre AS MATERIALIZED (
        SELECT c, (SELECT array_agg(random() - 0.5) FROM generate_series(1, 384 + c * 0)) AS v FROM seed, generate_series(0, 79) AS c)
    SELECT i, (SELECT array_agg(x + (random() - 0.5) * 0.9) FROM unnest(v) AS x)::vector AS v
    FROM generate_series(1, {rows}) AS i JOIN centre ON c = i % 80;
    CREATE TABLE question AS SELECT i, v FROM made_up WHERE i > {rows} - 40";

// trust 25
#[test]
fn a_store_finds_the_nearest_whatever_its_storage_and_index() {
    let database = Database::with_extension("recall");
    let mut session = database.connect();
    session.run(&VECTORS.replace("{rows}", &(ROWS + 40).to_string()));
    for (storage, index, preset) in [
        ("vector", "hnsw", "dev"),
        ("halfvec", "hnsw", "dev"),
        ("halfvec", "hnsw", "production"),
        ("vector", "ivfflat", "dev"),
        ("halfvec", "ivfflat", "dev"),
    ] {
        let name = format!("{storage}_{index}_{preset}");
        let write = |condition: &str| {
            format!(
                "SELECT upsert_embeddings('{name}', array_agg('a'::text), array_agg(md5(i::text)::uuid), array_agg(0),
                     array_agg('text ' || i), array_agg(v), array_agg('eu'::text)) FROM made_up WHERE i <= {ROWS} AND {condition}"
            )
        };
        session.run(&format!(
            "SELECT create_vector_store('{name}', '{MODEL}', '{preset}', '{storage}', 'none'); SELECT create_namespace('{name}', 'eu')"
        ));
        session.run(&write("i % 2 = 0"));
        session.run(&format!("SELECT index_vector_store('{name}', '{index}', '{preset}')"));
        session.run(&write("i % 2 = 1"));
        session.run(&format!("DELETE FROM \"{name}\".vector_embeddings WHERE source_id IN (SELECT md5(i::text)::uuid FROM made_up WHERE i % 5 = 0)"));
        session.run(&format!("VACUUM (ANALYZE) \"{name}\".vector_embeddings"));
        let recall = session.text(&format!(
            "SELECT round(avg(share), 4) FROM question AS q, LATERAL (
                 SELECT count(*) / 10.0 AS share FROM search_embeddings('{name}', query_embedding => q.v, namespace => 'eu', top_k => 10) AS f
                 WHERE f.source_id IN (
                     SELECT md5(m.i::text)::uuid FROM made_up AS m WHERE m.i <= {ROWS} AND m.i % 5 <> 0 ORDER BY m.v <=> q.v LIMIT 10)) AS s"
        ));
        let found: f64 = recall.parse().expect("a number");
        println!("recall@10 of {name}: {found}");
        assert!(found >= LEAST, "expected recall@10 of {name} to be at least {LEAST}, not {found}");
    }
}
