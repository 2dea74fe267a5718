//! The keyword leg: its scores equal those computed from the definition in SQL, over random
//! collections, queries and filters.

#[pgrx::pg_schema]
mod tests {
    use crate::server_tests::{assert_error, error_of, one, run};
    use pgrx::prelude::*;

    /// BM25 by its definition, from the lexemes that `unnest(tsvector)` shows, with exact statistics.
    const REFERENCE: &str = "
        CREATE FUNCTION brute_force(query text, wanted integer, condition text, filter text)
        RETURNS TABLE (id text, score double precision) LANGUAGE plpgsql AS $body$
        BEGIN
            RETURN QUERY EXECUTE format($sql$
                WITH collection AS MATERIALIZED (
                    SELECT count(*)::float8 AS documents, avg(d.length) AS average
                    FROM (SELECT (SELECT coalesce(sum(cardinality(w.positions)), 0)::float8 FROM unnest(c.l) AS w) AS length
                          FROM corpus AS c WHERE c.l IS NOT NULL) AS d
                ), words AS MATERIALIZED (
                    SELECT q.lexeme, cardinality(q.positions) AS times,
                           (SELECT count(*) FROM corpus AS c WHERE q.lexeme = ANY (tsvector_to_array(c.l)))::float8 AS n
                    FROM unnest(to_tsvector('simple', $1)) AS q
                ), matches AS (
                    SELECT c.id, w.times * ln(1 + (k.documents - w.n + 0.5) / (w.n + 0.5))
                           * t.f * 2.2 / (t.f + 1.2 * (0.25 + 0.75 * t.length / k.average)) AS part
                    FROM corpus AS c, collection AS k, words AS w,
                         LATERAL (SELECT cardinality(u.positions)::float8 AS f,
                                         (SELECT sum(cardinality(v.positions)) FROM unnest(c.l) AS v)::float8 AS length
                                  FROM unnest(c.l) AS u WHERE u.lexeme = w.lexeme) AS t
                    WHERE %1$s AND %2$s
                )
                SELECT m.id::text, sum(m.part ORDER BY m.part) FROM matches AS m
                GROUP BY m.id ORDER BY round(sum(m.part)::numeric, 9) DESC, m.id LIMIT $2
            $sql$, condition, filter) USING query, wanted;
        END $body$";

    /// Words from a to z, the first ones much more frequent, as in a language.
    fn create_corpus(rows: usize, seed: f64) {
        run(&format!("SELECT setseed({seed})"));
        run("CREATE TABLE corpus (id integer PRIMARY KEY, tag integer, l tsvector)");
        run(&format!(
            "INSERT INTO corpus SELECT i, i % 7, to_tsvector('simple', string_agg(chr(97 + floor(26 * power(random(), 3))::int), ' '))
             FROM generate_series(1, {rows}) AS i, generate_series(1, 2 + (i * 13) % 40) AS j GROUP BY i"
        ));
        run("INSERT INTO corpus VALUES (0, 0, NULL), (-1, 0, '')");
        run("CREATE INDEX ON corpus USING gin (l)");
        run(REFERENCE);
    }

    /// Both lists as text, to be compared and read. Ids are compared where scores differ clearly.
    fn assert_equal(query: &str, k: usize, condition: &str, filter: &str, arguments: &str) {
        assert_equal_words(query, query, k, condition, filter, arguments);
    }

    /// The same where the query has more than words.
    fn assert_equal_words(
        query: &str,
        words: &str,
        k: usize,
        condition: &str,
        filter: &str,
        arguments: &str,
    ) {
        let list = |from: &str| {
            one::<String>(&format!(
                "SELECT coalesce(string_agg(id || ' ' || round(score::numeric, 8), ', ' ORDER BY score DESC, id::int), '') FROM {from}"
            ))
        };
        let found = list(&format!(
            "keyword_search('corpus', '{query}', {k}, text_configuration => 'simple'{arguments})"
        ));
        let expected = list(&format!("brute_force('{words}', {k}, $c${condition}$c$, $c${filter}$c$)"));
        assert_eq!(found, expected, "{query} {k} {condition} {filter} {arguments}");
    }

    #[pg_test]
    fn results_equal_brute_force() {
        create_corpus(3000, 0.1);
        run("ANALYZE corpus");
        run("SELECT refresh_search_stats('corpus')");
        for query in ["z", "a", "a b c", "z y x a b", "q r s t u v w", "a a a z", "m n b", "e f g h i j k l"]
        {
            for k in [1, 10, 150] {
                assert_equal(query, k, "true", "true", "");
                assert_equal(query, k, "true", "c.tag = 3", ", filter => '{\"tag\": 3}'");
                assert_equal(query, k, "true", "c.id < 40", ", filter => '{\"id\": {\"$lt\": 40}}'");
            }
        }
    }

    #[pg_test]
    fn results_equal_brute_force_without_a_snapshot() {
        create_corpus(400, 0.2);
        for query in ["z", "a b c", "z y x a b", "q r s t u v w"] {
            assert_equal(query, 20, "true", "true", "");
        }
    }

    #[pg_test]
    fn a_guessed_threshold_loses_nothing() {
        // Enough rows that the first pass guesses, few enough wanted that it prunes.
        create_corpus(12_000, 0.3);
        run("SELECT refresh_search_stats('corpus')");
        for query in ["a z", "b c d e f", "x y z a b c d", "p q r", "a b c d e f g h i j k l m n o p"] {
            for k in [1, 10, 30] {
                assert_equal(query, k, "true", "true", "");
            }
        }
        let passes = one::<i64>(
            "SELECT jsonb_array_length(explain_search('corpus', 'b c d e f', vector_weight => 0,
                 text_configuration => 'simple')->'keyword_leg'->'passes')::bigint",
        );
        assert!((1..=3).contains(&passes), "{passes}");
        assert!(one::<bool>(
            "SELECT (e->'keyword_leg'->'scored')::int < 11000 AND (e->'keyword_leg'->'exact')::bool
                 AND e->'statistics'->>'origin' = 'snapshot'
             FROM explain_search('corpus', 'b c d e f', vector_weight => 0, text_configuration => 'simple') AS e"
        ));
    }

    #[pg_test]
    fn conditions_are_hard() {
        create_corpus(500, 0.4);
        assert_equal_words("x y -a", "x y", 600, "c.l @@ '!a'", "true", "");
        assert_equal_words("\"b a\" x", "b a x", 600, "c.l @@ 'b <-> a'", "true", "");
        let ids = |query: &str, arguments: &str| {
            one::<i64>(&format!(
                "SELECT count(*) FROM keyword_search('corpus', '{query}', 600, text_configuration => 'simple'{arguments})"
            ))
        };
        let count =
            |condition: &str| one::<i64>(&format!("SELECT count(*) FROM corpus WHERE l @@ '{condition}'"));
        assert_eq!(ids("x y -a", ""), count("(x | y) & !a"));
        assert_eq!(ids("\"x y\"", ""), count("x <-> y"));
        assert_eq!(ids("b \"x y\"", ""), count("x <-> y"));
        assert_eq!(ids("w OR z b", ""), count("w | z"));
        assert_eq!(ids("w or z", ""), count("w | z | or"));
        assert_eq!(ids("x y z", ", match => ''all''".replace("''", "'").as_str()), count("x & y & z"));
        assert_eq!(ids("x y z", ", match => 2"), count("(x & y) | (x & z) | (y & z)"));
        assert_eq!(ids("x y z", ", match => '9'"), count("x & y & z"));
        assert_eq!(ids("-a", ""), 0);
        assert_error("SELECT * FROM keyword_search('corpus', 'x', match => 'some')", "22023");
        assert_error("SELECT * FROM keyword_search('corpus', 'x', match => 0)", "22023");
    }

    #[pg_test]
    fn the_score_stands_in_any_order_by() {
        create_corpus(300, 0.5);
        let by_hand = one::<String>(
            "SELECT string_agg(id::text, ' ' ORDER BY place) FROM (
                 SELECT id, row_number() OVER () AS place FROM (
                     SELECT id FROM corpus
                     ORDER BY bm25_rank(l, 'x b', 'corpus', text_configuration => 'simple') DESC NULLS LAST, id LIMIT 20
                 ) AS best) AS placed",
        );
        let searched = one::<String>(
            "SELECT string_agg(id, ' ' ORDER BY place)
             FROM keyword_search('corpus', 'x b', 20, text_configuration => 'simple') WITH ORDINALITY
                 AS h(id, score, a, c, d, e, f, g, h, place)",
        );
        assert_eq!(by_hand, searched);
        assert!(one::<bool>(
            "SELECT bm25_rank(NULL, 'x', 'corpus') IS NULL AND bm25_rank('x', NULL, 'corpus') IS NULL"
        ));
        assert_eq!(one::<f64>("SELECT bm25_rank('nothing:1', 'x', 'corpus')"), 0.0);
        assert_error("SELECT bm25_rank('x:1', 'x', 'corpus', k1 => -1)", "22023");
        assert_error("SELECT bm25_rank('x:1', 'x', 'corpus', b => 2)", "22023");
    }

    #[pg_test]
    fn scores_follow_the_variables_of_a_function() {
        create_corpus(100, 0.4);
        run("CREATE FUNCTION scores_of(words text[]) RETURNS float8[] LANGUAGE plpgsql AS $$
             DECLARE word text; score float8; scores float8[]; document tsvector := to_tsvector('simple', 'a b');
             BEGIN
                 FOREACH word IN ARRAY words LOOP
                     score := bm25_rank(document, word, 'corpus', text_configuration => 'simple');
                     scores := scores || score;
                     score := vector_tools.bm25_score(document, string_to_array(word, ' '), '{1}', 10, 1.2, 0.75, 0);
                     scores := scores || score;
                 END LOOP;
                 RETURN scores;
             END $$");
        let zeros = one::<String>(
            "SELECT string_agg((score = 0)::text, ' ' ORDER BY n) \
             FROM unnest(scores_of('{a,nowhere,b}')) WITH ORDINALITY AS s(score, n)",
        );
        assert_eq!(zeros, "false false true true false false");
    }

    #[pg_test]
    fn parameters_change_the_scores() {
        create_corpus(300, 0.6);
        let score = |arguments: &str| {
            one::<f64>(&format!(
                "SELECT score FROM keyword_search('corpus', 'x', 1, text_configuration => 'simple'{arguments})"
            ))
        };
        // Without saturation and length a score is the inverse document frequency.
        let flat = one::<f64>(
            "SELECT ln(1 + (n - f + 0.5) / (f + 0.5)) FROM (SELECT count(l)::float8 AS n, (count(*) FILTER (WHERE l @@ 'x'))::float8 AS f FROM corpus) AS c",
        );
        assert!((score(", k1 => 0") - flat).abs() < 1e-12);
        assert!(score(", b => 0") != score(", b => 1"));
    }

    #[pg_test]
    fn matched_words_are_marked() {
        run(
            "CREATE TABLE notes (id integer PRIMARY KEY, body text, l tsvector GENERATED ALWAYS AS (to_tsvector('english', body)) STORED)",
        );
        run("INSERT INTO notes (id, body) VALUES (1, 'The cats sleep'), (2, 'Dogs bark')");
        assert_eq!(
            one::<String>("SELECT highlighted FROM keyword_search('notes', 'a cat', highlight => true)"),
            "The <b>cats</b> sleep"
        );
        assert!(one::<bool>("SELECT highlighted IS NULL FROM keyword_search('notes', 'a cat')"));
    }

    #[pg_test]
    fn odd_queries_have_an_answer() {
        create_corpus(50, 0.7);
        for query in ["", "   ", "- -- \"", "OR OR", "\"\"", "!&|:*()<>", "''", "\\\\", "🙂", "-"] {
            let call = format!(
                "SELECT count(*) FROM keyword_search('corpus', $q${query}$q$, text_configuration => 'english')"
            );
            assert!(one::<i64>(&call) <= 10, "{query}");
        }
        let long =
            "(SELECT string_agg(chr(97 + i % 26) || i % 3000, ' ') FROM generate_series(1, 20000) AS i)";
        assert!(one::<i64>(&format!("SELECT count(*) FROM keyword_search('corpus', {long} || ' x')")) > 0);
        assert_eq!(one::<i64>("SELECT count(*) FROM keyword_search('corpus', repeat('x', 100000))"), 0);
        assert_eq!(
            one::<i64>(
                "SELECT count(*) FROM keyword_search('corpus', 'the of and', text_configuration => 'english')"
            ),
            0
        );
    }

    // trust 1
    #[pg_test]
    fn only_the_owner_counts() {
        create_corpus(50, 0.8);
        run("CREATE ROLE keyword_reader");
        run("GRANT SELECT ON corpus TO keyword_reader");
        run("SET LOCAL ROLE keyword_reader");
        let (state, ..) = error_of_as_reader("SELECT refresh_search_stats('corpus')");
        assert_eq!(state, "42501");
        assert_eq!(one::<i64>("SELECT count(*) FROM keyword_search('corpus', 'x', 3)"), 3);
        run("RESET ROLE");
    }

    /// The reader may not make the table that error_of writes to.
    fn error_of_as_reader(sql: &str) -> (String, String, String, String) {
        run("RESET ROLE");
        run("CREATE TEMP TABLE IF NOT EXISTS raised (state text, message text, detail text, hint text)");
        run("GRANT ALL ON raised TO keyword_reader");
        error_of(&format!("SET LOCAL ROLE keyword_reader; {sql}"))
    }

    // trust 5
    #[pg_test]
    fn hidden_rows_do_not_show_in_scores() {
        create_corpus(400, 0.9);
        run("SELECT refresh_search_stats('corpus')");
        run("CREATE ROLE keyword_tenant");
        run("GRANT SELECT ON corpus TO keyword_tenant");
        run("ALTER TABLE corpus ENABLE ROW LEVEL SECURITY");
        run("CREATE POLICY own ON corpus FOR SELECT USING (tag = 2)");
        run("SET LOCAL ROLE keyword_tenant");
        let list = "SELECT string_agg(id || ' ' || score, ', ') FROM keyword_search('corpus', 'z b', 20)";
        let before = one::<String>(list);
        run("RESET ROLE");
        // Rows that the tenant cannot see change every frequency.
        run("DELETE FROM corpus WHERE tag <> 2");
        run("SELECT refresh_search_stats('corpus')");
        run("SET LOCAL ROLE keyword_tenant");
        assert_eq!(before, one::<String>(list));
        assert_eq!(one::<i64>("SELECT count(*) FROM vector_tools.search_statistics"), 0);
        run("RESET ROLE");
        assert_eq!(
            one::<i64>(
                "SELECT count(*) FROM vector_tools.search_statistics WHERE source = 'corpus'::regclass"
            ),
            1
        );
    }

    /// A session keeps so many plans only, and drops those of other statements; but never one that runs.
    #[pg_test]
    fn a_policy_may_search_in_many_ways_while_its_table_is_searched() {
        create_corpus(40, 0.7);
        run("CREATE TABLE others (LIKE corpus INCLUDING ALL)");
        run("INSERT INTO others TABLE corpus");
        run(r#"CREATE FUNCTION searches(most integer) RETURNS boolean LANGUAGE plpgsql STABLE AS $body$
             DECLARE filter jsonb = '{"$or": [{"tag": 1}]}';
             BEGIN
                 FOR i IN 1..most LOOP
                     filter = jsonb_insert(filter, '{$or,0}', '{"tag": 1}');
                     PERFORM FROM keyword_search('others', 'a', 1, filter => filter, text_configuration => 'simple');
                 END LOOP;
                 RETURN true;
             END $body$"#);
        run("CREATE ROLE keyword_searcher");
        run("GRANT SELECT ON corpus, others TO keyword_searcher");
        run("ALTER TABLE corpus ENABLE ROW LEVEL SECURITY");
        run("CREATE POLICY all_of_them ON corpus FOR SELECT USING (id > 0 OR searches(150))");
        run("SET LOCAL ROLE keyword_searcher");
        let search = "SELECT count(*) FROM keyword_search('corpus', 'a', 40, text_configuration => 'simple')";
        assert_eq!(one::<i64>(search), one::<i64>("SELECT count(*) FROM corpus WHERE l @@ 'a'"));
        run("RESET ROLE");
    }

    #[pg_test]
    fn functions_of_another_version_are_an_error() {
        run("CREATE FUNCTION old_score(tsvector, text[]) RETURNS float8 LANGUAGE c
             AS '$libdir/vector_tools', 'bm25_score_wrapper'");
        assert_error("SELECT old_score('a:1', '{a}')", "55000");
    }
}
