//! The filter language, with the types of a real server.

#[pgrx::pg_schema]
mod tests {
    use crate::server_tests::{error_of, one, run};
    use pgrx::prelude::*;

    fn create_items() {
        run("CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy')");
        run("CREATE DOMAIN stars AS integer CHECK (VALUE <= 5)");
        run("CREATE TABLE items (
                 id integer PRIMARY KEY, body text, year smallint, price numeric, made date, seen timestamptz, ok boolean,
                 mood mood, stars stars, code uuid, place point, raw json, metadata jsonb, l tsvector
             )");
        run("INSERT INTO items SELECT i, 'item ' || i, 2000 + i, i / 10.0, date '2026-01-01' + i, timestamptz '2026-01-01' + i * interval '1 hour',
                 i % 2 = 0, (enum_range(NULL::mood))[1 + i % 3], i % 5, md5(i::text)::uuid, point(i, i), '{}',
                 jsonb_build_object('n', i, 'name', 'n' || i, 'deep', jsonb_build_object('flag', i % 2 = 0)), to_tsvector('simple', 'item')
             FROM generate_series(1, 30) AS i");
        run("CREATE INDEX ON items USING gin (metadata)");
    }

    fn count(filter: &str) -> i64 {
        one(&format!(
            "SELECT count(*) FROM keyword_search('items', 'item', 100, filter => $f${filter}$f$, content_column => 'body')"
        ))
    }

    #[pg_test]
    fn every_type_is_compared_as_itself() {
        create_items();
        for (filter, expected) in [
            (r#"{"year": {"$gt": 2009}}"#, 21),
            (r#"{"year": "2009"}"#, 1),
            (r#"{"price": {"$lte": 1.05}}"#, 10),
            (r#"{"made": {"$gte": "2026-01-21"}}"#, 11),
            (r#"{"seen": {"$lt": "2026-01-01 05:30"}}"#, 5),
            (r#"{"ok": true}"#, 15),
            (r#"{"mood": {"$gte": "ok"}}"#, 20),
            (r#"{"stars": {"$in": [1, 2]}}"#, 12),
            (r#"{"code": {"$ne": "c4ca4238-a0b9-2382-0dcc-509a6f75849b"}}"#, 29),
            (r#"{"place": {"$exists": true}}"#, 30),
            (r#"{"n": {"$gt": 27}}"#, 3),
            (r#"{"name": {"$gt": 27}}"#, 0),
            (r#"{"name": {"$like": "n1%"}}"#, 11),
            (r#"{"deep.flag": true}"#, 15),
            (r#"{"nowhere": null}"#, 30),
            (r#"{"$and": [{"ok": true}, {"$not": {"year": {"$in": [2002, 2004]}}}]}"#, 13),
        ] {
            assert_eq!(count(filter), expected, "{filter}");
        }
    }

    #[pg_test]
    fn what_does_not_fit_is_named() {
        create_items();
        for (filter, state, part) in [
            (r#"{"year": "soon"}"#, "22P02", "year"),
            (r#"{"year": {"$gt": 99999}}"#, "22003", "year.$gt"),
            (r#"{"year": 1.5}"#, "22P02", "year"),
            (r#"{"$or": [{"made": {"$lt": "yesterdayish"}}]}"#, "22007", "made.$lt"),
            (r#"{"made": "2026-02-31"}"#, "22008", "made"),
            (r#"{"mood": {"$in": ["ok", "angry"]}}"#, "22P02", "mood.$in"),
            (r#"{"code": 7}"#, "22P02", "code"),
            (r#"{"place": {"$gt": 1}}"#, "42883", "place.$gt"),
            (r#"{"raw": {"$eq": 1}}"#, "42883", "raw.$eq"),
            (r#"{"year": {"$gt": [1]}}"#, "22023", "year.$gt"),
            (r#"{"year": {"$around": 1}}"#, "22023", "year.$around"),
            (r#"{"$xor": []}"#, "22023", "$xor"),
            (r#"{"year": {"$exists": "yes"}}"#, "22023", "year.$exists"),
        ] {
            let (found, message, detail, hint) =
                error_of(&format!("SELECT * FROM keyword_search('items', 'item', filter => '{filter}')"));
            assert_eq!(found, state, "{filter}: {message} ({detail})");
            assert!(message.contains(part) && !hint.is_empty(), "{filter}: {message}");
        }
        run("ALTER TABLE items DROP COLUMN metadata");
        let (found, message, ..) =
            error_of("SELECT * FROM keyword_search('items', 'item', filter => '{\"yaer\": 1}')");
        assert_eq!(found, "42703");
        assert!(message.contains("yaer"), "{message}");
    }

    #[pg_test]
    fn equality_of_metadata_uses_its_index() {
        create_items();
        run("SET LOCAL enable_seqscan = off; SET LOCAL enable_indexscan = off");
        let sql = one::<String>(
            "SELECT explain_search('items', 'item', filter => '{\"name\": \"n7\"}', vector_weight => 0)->'keyword_leg'->>'sql'",
        );
        assert!(sql.contains("t.\"metadata\" OPERATOR(pg_catalog.@>)"), "{sql}");
    }

    #[pg_test]
    fn deep_filters_end_in_an_error() {
        create_items();
        let deep = format!("{}{{\"ok\": true}}{}", "{\"$and\": [".repeat(200), "]}".repeat(200));
        let (state, ..) =
            error_of(&format!("SELECT * FROM keyword_search('items', 'item', filter => '{deep}')"));
        assert_eq!(state, "22023");
    }
}
