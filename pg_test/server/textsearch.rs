//! Tables with a bm25 index of pg_textsearch, by a stand-in where that extension is not installed:
//! its type, function and operator under the same names, and an access method that is a B-tree.

#[pgrx::pg_schema]
mod tests {
    use crate::server_tests::{one, run};
    use pgrx::prelude::*;

    fn create_stand_in() {
        run("CREATE SCHEMA standin");
        run("CREATE TYPE standin.bm25query AS (query text, index text)");
        run("CREATE FUNCTION standin.to_bm25query(text, text) RETURNS standin.bm25query LANGUAGE sql IMMUTABLE
             AS $$ SELECT ROW($1, $2)::standin.bm25query $$");
        // The number of the query's words in the text, negative as there.
        run("CREATE FUNCTION standin.distance(text, standin.bm25query) RETURNS float8 LANGUAGE sql IMMUTABLE
             AS $$ SELECT -count(*)::float8 FROM unnest(string_to_array(($2).query, ' ')) AS w WHERE $1 ~ w $$");
        run(
            "CREATE OPERATOR standin.<@> (LEFTARG = text, RIGHTARG = standin.bm25query, FUNCTION = standin.distance)",
        );
        run("CREATE ACCESS METHOD bm25 TYPE INDEX HANDLER bthandler");
        run("CREATE OPERATOR CLASS standin.text_ops DEFAULT FOR TYPE text USING bm25 AS
                 OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 bttextcmp(text, text)");
        run("CREATE TABLE pages (id integer PRIMARY KEY, body text,
                 l tsvector GENERATED ALWAYS AS (to_tsvector('simple', body)) STORED)");
        run("INSERT INTO pages (id, body) SELECT i, concat_ws(' ', 'page', CASE WHEN i % 2 = 0 THEN 'even' END,
                 CASE WHEN i % 3 = 0 THEN 'third' END, CASE WHEN i = 7 THEN 'seven' END) FROM generate_series(1, 60) AS i");
        run("CREATE INDEX pages_bm25 ON pages USING bm25 (body standin.text_ops)");
    }

    fn method(arguments: &str) -> String {
        one(&format!(
            "SELECT explain_search('pages', {arguments}, vector_weight => 0)->'keyword_leg'->>'method'"
        ))
    }

    #[pg_test]
    fn the_index_answers_where_it_can() {
        create_stand_in();
        assert_eq!(method("'even third'"), "pg_textsearch");
        let found = one::<String>(
            "SELECT string_agg(id || ':' || score, ' ') FROM keyword_search('pages', 'even third', 3)",
        );
        assert_eq!(found, "6:2 12:2 18:2");
        assert_eq!(one::<i64>("SELECT count(*) FROM keyword_search('pages', 'seven', 10)"), 1);
    }

    #[pg_test]
    fn an_index_that_was_renamed_answers() {
        create_stand_in();
        // As there, where it must be the name of an index.
        run("CREATE OR REPLACE FUNCTION standin.to_bm25query(text, text) RETURNS standin.bm25query
             LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
                 PERFORM $2::regclass;
                 RETURN ROW($1, $2)::standin.bm25query;
             END $$");
        let count = || one::<i64>("SELECT count(*) FROM keyword_search('pages', 'seven', 10)");
        assert_eq!(count(), 1);
        run("ALTER INDEX pages_bm25 RENAME TO renamed");
        assert_eq!(count(), 1);
    }

    #[pg_test]
    fn the_tsvector_answers_where_it_cannot() {
        create_stand_in();
        assert_eq!(method("'even third', match => 'all'"), "gin");
        assert_eq!(method("'even third', k1 => 2"), "gin");
        assert_eq!(method("'even third', content_column => 'body'"), "pg_textsearch");
        run("SET LOCAL vector_tools.use_bm25_index = off");
        assert_eq!(method("'even third'"), "gin");
        run("RESET vector_tools.use_bm25_index");
        run("DROP INDEX pages_bm25");
        assert_eq!(method("'even third'"), "gin");
    }

    #[pg_test]
    fn hidden_rows_do_not_show_in_its_scores() {
        create_stand_in();
        run("CREATE ROLE pages_reader");
        run("GRANT SELECT ON pages TO pages_reader; GRANT USAGE ON SCHEMA standin TO pages_reader");
        run("ALTER TABLE pages ENABLE ROW LEVEL SECURITY");
        run("CREATE POLICY low ON pages FOR SELECT USING (id < 10)");
        run("SET LOCAL ROLE pages_reader");
        assert_eq!(method("'even third'"), "gin");
        assert_eq!(one::<i64>("SELECT count(*) FROM keyword_search('pages', 'page', 50)"), 9);
        run("RESET ROLE");
    }
}
