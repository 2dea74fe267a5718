//! create_domain_memories_table and the triggers that keep its rows true.

#[pgrx::pg_schema]
mod tests {
    use super::super::{assert_error, one, run};
    use pgrx::prelude::*;

    #[pg_test]
    fn the_columns_of_the_domain_memories_system_are_there() {
        run("SELECT create_domain_memories_table('startup')");
        let columns = one::<String>(
            "SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' ORDER BY attnum)
             FROM pg_attribute WHERE attrelid = 'startup_memories'::regclass AND attnum > 0",
        );
        assert_eq!(
            columns,
            "id character varying(50), content text, embedding vector(384), metadata jsonb, \
             created_at timestamp with time zone, updated_at timestamp with time zone, lexemes tsvector"
        );
        for index in ["embedding", "metadata", "updated", "content", "lexemes"] {
            assert!(
                one::<bool>(&format!("SELECT to_regclass('startup_memories_{index}_idx') IS NOT NULL")),
                "{index}"
            );
        }
    }

    #[pg_test]
    fn rows_embed_themselves() {
        run("SELECT create_domain_memories_table('startup')");
        run("INSERT INTO startup_memories (content) VALUES ('Series A closed')");
        assert!(one::<bool>("SELECT embedding = embed(content) FROM startup_memories"));
        run("UPDATE startup_memories SET content = 'Series B closed'");
        assert!(one::<bool>("SELECT embedding = embed('Series B closed') FROM startup_memories"));
    }

    #[pg_test]
    fn a_client_s_own_embedding_is_kept() {
        run("SELECT create_domain_memories_table('startup')");
        run("INSERT INTO startup_memories (id, content, embedding, metadata)
             VALUES ('m1', 'anything', embed('something else'), '{}')");
        assert!(one::<bool>("SELECT embedding = embed('something else') FROM startup_memories"));
        run(
            "UPDATE startup_memories SET content = 'new', embedding = embed('mine'), updated_at = now() WHERE id = 'm1'",
        );
        assert!(one::<bool>("SELECT embedding = embed('mine') FROM startup_memories"));
        // Another column leaves the embedding alone.
        run("UPDATE startup_memories SET metadata = '{\"source\": \"chat\"}'");
        assert!(one::<bool>("SELECT embedding = embed('mine') FROM startup_memories"));
        // An embedding taken away comes back.
        run("UPDATE startup_memories SET embedding = NULL");
        assert!(one::<bool>("SELECT embedding = embed('new') FROM startup_memories"));
    }

    #[pg_test]
    fn updated_at_follows_changes() {
        run("SELECT create_domain_memories_table('startup')");
        run("INSERT INTO startup_memories (content, updated_at) VALUES ('x', '2001-01-01')");
        run("UPDATE startup_memories SET content = 'y'");
        assert!(one::<bool>("SELECT updated_at = now() FROM startup_memories"));
        run("UPDATE startup_memories SET updated_at = '2002-02-02'");
        assert!(one::<bool>("SELECT updated_at = '2002-02-02' FROM startup_memories"));
    }

    #[pg_test]
    fn a_second_call_leaves_the_table_alone() {
        run("SELECT create_domain_memories_table('startup')");
        run("INSERT INTO startup_memories (content) VALUES ('kept')");
        run("SELECT create_domain_memories_table('startup')");
        assert_eq!(one::<i64>("SELECT count(*) FROM startup_memories"), 1);
        assert_error("SELECT create_domain_memories_table('startup', 'all-MiniLM-L6-v2-int8')", "42P07");
        run("CREATE TABLE other_memories (id integer)");
        assert_error("SELECT create_domain_memories_table('other')", "42P07");
    }

    #[pg_test]
    fn domains_that_are_no_names_are_refused() {
        assert_error("SELECT create_domain_memories_table('')", "42602");
        assert_error("SELECT create_domain_memories_table(repeat('x', 41))", "42602");
        assert_error("SELECT create_domain_memories_table('x', 'nope')", "42704");
        assert!(one::<bool>("SELECT create_domain_memories_table(NULL) IS NULL"));
    }

    #[pg_test]
    fn hostile_domains_are_only_names() {
        run("CREATE TABLE canary (id integer)");
        for domain in
            ["x\"; DROP TABLE canary; --", "Mixed Case", "select", "ünïcode", "{table}", "it''s", "%I", "$$"]
        {
            run(&format!("SELECT create_domain_memories_table('{domain}')"));
        }
        assert_eq!(
            one::<i64>("SELECT count(*) FROM pg_class WHERE relname LIKE '%\\_memories' AND relkind = 'r'"),
            8
        );
        run("INSERT INTO canary VALUES (1)");
    }

    #[pg_test]
    fn the_catalogue_lists_the_table() {
        run("SELECT create_domain_memories_table('startup', 'all-MiniLM-L6-v2-int8', 'simple')");
        let row = one::<String>(
            "SELECT concat_ws(' ', source, content_column, embedding_column, model) FROM vector_tools.searchable_tables",
        );
        assert_eq!(row, "startup_memories content embedding all-MiniLM-L6-v2-int8");
    }

    #[pg_test]
    fn the_triggers_serve_any_table() {
        run("CREATE TABLE articles (n integer PRIMARY KEY, \"Body\" varchar(200), v vector(384))");
        run("CREATE TRIGGER embed_body BEFORE INSERT OR UPDATE ON articles
             FOR EACH ROW EXECUTE FUNCTION vector_tools.embed_row('Body', 'v', 'all-MiniLM-L6-v2')");
        run("INSERT INTO articles VALUES (1, 'a text'), (2, NULL)");
        assert!(one::<bool>("SELECT v = embed('a text') FROM articles WHERE n = 1"));
        assert!(one::<bool>("SELECT v IS NULL FROM articles WHERE n = 2"));
        run("CREATE TABLE wrong (n integer)");
        run("CREATE TRIGGER embed_body BEFORE INSERT ON wrong
             FOR EACH ROW EXECUTE FUNCTION vector_tools.embed_row('n', 'v', 'all-MiniLM-L6-v2')");
        assert_error("INSERT INTO wrong VALUES (1)", "42804");
        run("CREATE TRIGGER embed_late AFTER INSERT ON articles
             FOR EACH ROW EXECUTE FUNCTION vector_tools.embed_row('Body', 'v', 'all-MiniLM-L6-v2')");
        assert_error("INSERT INTO articles VALUES (3, 'x')", "39P01");
    }
}
