//! register_model, drop_model and vector_tools.models.

#[pgrx::pg_schema]
mod tests {
    use crate::server_tests::{assert_error, error_of, one, run};
    use pgrx::prelude::*;

    /// The folder of a small model made for tests.
    fn fixture(name: &str) -> String {
        format!("{}/models/fixtures/{name}", env!("CARGO_MANIFEST_DIR"))
    }

    #[pg_test]
    fn the_bundled_models_are_there() {
        let names = one::<String>(
            "SELECT string_agg(name, ', ' ORDER BY name) FROM vector_tools.models WHERE bundled",
        );
        assert_eq!(names, "all-MiniLM-L6-v2, all-MiniLM-L6-v2-int8");
        let settings = one::<bool>(
            "SELECT dimensions = 384 AND max_tokens = 256 AND pooling = 'mean' AND normalize AND sha256 ~ '^[0-9a-f]{64}$'
             FROM vector_tools.models WHERE name = 'all-MiniLM-L6-v2'",
        );
        assert!(settings);
    }

    #[pg_test]
    fn bundled_models_that_were_dropped_come_back() {
        run("SELECT drop_model('all-MiniLM-L6-v2-int8')");
        assert_eq!(one::<i32>("SELECT vector_tools.register_bundled_models()"), 1);
        assert_eq!(one::<i32>("SELECT vector_tools.register_bundled_models()"), 0);
        assert!(one::<bool>("SELECT bool_and(bundled) FROM vector_tools.models"));
    }

    #[pg_test]
    fn a_hugging_face_folder_works_as_it_is() {
        let source = fixture("hf-last-hidden-state");
        assert_eq!(one::<i32>(&format!("SELECT register_model('tiny', '{source}')")), 8);
        assert_eq!(one::<i32>("SELECT vector_dims(embed('hello', 'tiny'))"), 8);
        assert!(one::<bool>("SELECT normalize FROM vector_tools.models WHERE name = 'tiny'"));
        run("SELECT drop_model('tiny')");
        assert_error("SELECT embed('hello', 'tiny')", "42704");
    }

    #[pg_test]
    fn prefixes_come_from_the_folder() {
        let source = fixture("no-token-type-cls");
        run(&format!("SELECT register_model('prefixed', '{source}')"));
        run(&format!(
            "SELECT register_model('bare', '{source}', options => '{{\"query_prefix\": \"\", \"passage_prefix\": \"\"}}')"
        ));
        assert!(one::<bool>("SELECT embed('hello', 'prefixed') = embed('passage: hello', 'bare')"));
        assert!(one::<bool>("SELECT embed_query('hello', 'prefixed') = embed_query('query: hello', 'bare')"));
        assert!(one::<bool>("SELECT embed_query('hello', 'prefixed') <> embed('hello', 'prefixed')"));
        assert!(one::<bool>(
            "SELECT pooling = 'cls' AND NOT normalize FROM vector_tools.models WHERE name = 'bare'"
        ));
    }

    #[pg_test]
    fn options_override_the_folder() {
        let source = fixture("hf-last-hidden-state");
        run(&format!(
            "SELECT register_model('cut', '{source}', options => '{{\"max_tokens\": 8, \"pooling\": \"cls\", \"normalize\": false}}')"
        ));
        assert!(one::<bool>(
            "SELECT max_tokens = 8 AND pooling = 'cls' AND NOT normalize FROM vector_tools.models WHERE name = 'cut'"
        ));
        assert!(one::<bool>("SELECT embed(repeat('hello ', 50), 'cut') = embed(repeat('hello ', 6), 'cut')"));
    }

    #[pg_test]
    fn an_onnx_file_beside_its_tokenizer_works() {
        let source = fixture("pooled");
        let file = if std::path::Path::new(&format!("{source}/model.onnx")).exists() {
            "model.onnx"
        } else {
            "onnx/model.onnx"
        };
        assert_eq!(one::<i32>(&format!("SELECT register_model('file', '{source}/{file}')")), 8);
    }

    #[pg_test]
    fn a_registered_name_never_changes() {
        assert_error("SELECT register_model('all-MiniLM-L6-v2')", "42710");
    }

    // trust 23
    #[pg_test]
    fn bad_models_get_their_own_errors() {
        let unknown = fixture("unknown-shape");
        assert_error(&format!("SELECT register_model('x', '{unknown}')"), "0A000");
        assert_error("SELECT register_model('x', '/nowhere')", "58P01");
        assert_error("SELECT register_model('x y', '/nowhere')", "42602");
        assert_error("SELECT register_model('x', '/nowhere', 'openai')", "0A000");
        assert_error("SELECT register_model('x', '/nowhere', options => '{\"poling\": \"mean\"}')", "22023");
        assert_error("SELECT drop_model('nope')", "42704");
    }

    // trust 23
    #[pg_test]
    fn damaged_files_are_named() {
        let folder = std::env::temp_dir().join(format!("vector_tools-{}", std::process::id()));
        let path = folder.display();
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join("model.onnx"), "no graph").expect("written");
        let tokenizer = format!("{}/tokenizer.json", fixture("pooled"));
        std::fs::copy(tokenizer, folder.join("tokenizer.json")).expect("copied");
        let (state, message, ..) = error_of(&format!("SELECT register_model('x', '{path}')"));
        assert_eq!(state, "22P03", "{message}");
        std::fs::write(folder.join("tokenizer.json"), "{}").expect("written");
        let (state, message, ..) = error_of(&format!("SELECT register_model('x', '{path}')"));
        assert_eq!(state, "22P02", "{message}");
        std::fs::write(folder.join("modules.json"), "[").expect("written");
        let (state, message, ..) = error_of(&format!("SELECT register_model('x', '{path}')"));
        assert_eq!(state, "22032", "{message}");
        std::fs::remove_dir_all(&folder).expect("removed");
    }

    #[pg_test]
    fn a_model_in_use_is_not_dropped() {
        run("SELECT create_domain_memories_table('busy')");
        assert_error("SELECT drop_model('all-MiniLM-L6-v2')", "2BP01");
    }
}
