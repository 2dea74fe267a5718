//! The configuration files that a sentence-transformers folder keeps beside its weights.

use std::collections::HashMap;
use std::fs;
use std::io::{ErrorKind, Read};
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::model::Pooling;

/// The most bytes of a configuration file. Lists of added tokens make some of them megabytes long.
const MOST_FILE_BYTES: u64 = 64 << 20;

/// One entry of `modules.json`: a step of the pipeline from text to vector.
#[derive(Debug, Deserialize)]
struct Module {
    #[serde(default)]
    path: String,
    r#type: String,
}

/// `1_Pooling/config.json`, in both its flag form and its newer named form.
#[derive(Debug, Default, Deserialize)]
struct PoolingConfiguration {
    pooling_mode: Option<String>,
    #[serde(default)]
    pooling_mode_cls_token: bool,
    #[serde(default)]
    pooling_mode_mean_tokens: bool,
    #[serde(flatten)]
    others: HashMap<String, serde_json::Value>,
}

#[derive(Debug, Default, Deserialize)]
struct SentenceConfiguration {
    max_seq_length: Option<usize>,
}

#[derive(Debug, Default, Deserialize)]
struct TokenizerConfiguration {
    model_max_length: Option<f64>,
}

#[derive(Debug, Default, Deserialize)]
struct TransformerConfiguration {
    max_position_embeddings: Option<usize>,
}

#[derive(Debug, Default, Deserialize)]
struct PromptConfiguration {
    #[serde(default)]
    prompts: HashMap<String, String>,
    default_prompt_name: Option<String>,
}

/// What the files of a folder say; what they leave open is `None`.
#[derive(Debug, Default, PartialEq)]
pub struct Configuration {
    /// How token vectors become one vector.
    pub pooling: Option<Pooling>,
    /// Whether the pipeline ends with a Normalize step; `None` without `modules.json`.
    pub normalize: Option<bool>,
    /// A step that is not computed here and must be part of the ONNX graph.
    pub unsupported_module: Option<String>,
    /// The longest input in tokens.
    pub max_tokens: Option<usize>,
    /// The prompt for queries.
    pub query_prefix: Option<String>,
    /// The prompt for passages.
    pub passage_prefix: Option<String>,
}

impl Configuration {
    /// Reads the configuration files of `folder`; absent files leave their part open.
    ///
    /// # Errors
    /// [`Error::InvalidConfiguration`] (22032) for a file that is not the JSON it should be,
    /// [`Error::FileUnreadable`] (42501 or 58030).
    pub fn read(folder: &Path) -> Result<Configuration> {
        let modules: Option<Vec<Module>> = read_json(&folder.join("modules.json"))?;
        let mut configuration =
            Configuration { max_tokens: read_max_tokens(folder)?, ..Configuration::default() };
        let mut pooling_folder = "1_Pooling".to_owned();
        if let Some(modules) = modules {
            configuration.normalize = Some(false);
            for module in modules {
                // Both old and new class paths end in the class name.
                match module.r#type.rsplit('.').next().unwrap_or_default() {
                    "Transformer" => {}
                    "Pooling" => pooling_folder = module.path,
                    "Normalize" => configuration.normalize = Some(true),
                    other => configuration.unsupported_module = Some(other.to_owned()),
                }
            }
        }
        configuration.read_pooling(&folder.join(pooling_folder).join("config.json"))?;
        configuration.read_prompts(&folder.join("config_sentence_transformers.json"))?;
        Ok(configuration)
    }

    fn read_pooling(&mut self, path: &Path) -> Result<()> {
        let Some(pooling) = read_json::<PoolingConfiguration>(path)? else {
            return Ok(());
        };
        let flagged = pooling
            .others
            .iter()
            .find(|(name, value)| name.starts_with("pooling_mode_") && value.as_bool() == Some(true));
        let unsupported = |name: &str| Some(format!("Pooling ({name})"));
        match (pooling.pooling_mode.as_deref(), flagged) {
            (Some("mean"), _) => self.pooling = Some(Pooling::Mean),
            (Some("cls"), _) => self.pooling = Some(Pooling::Cls),
            (Some(name), _) => self.unsupported_module = unsupported(name),
            (None, Some((name, _))) => self.unsupported_module = unsupported(name),
            (None, None) if pooling.pooling_mode_cls_token && pooling.pooling_mode_mean_tokens => {
                self.unsupported_module = unsupported("cls and mean joined");
            }
            (None, None) if pooling.pooling_mode_cls_token => self.pooling = Some(Pooling::Cls),
            (None, None) if pooling.pooling_mode_mean_tokens => self.pooling = Some(Pooling::Mean),
            (None, None) => {}
        }
        Ok(())
    }

    /// Takes the prompts by the names that sentence-transformers' `encode_query` and
    /// `encode_document` look for, and the names nomic's models use.
    fn read_prompts(&mut self, path: &Path) -> Result<()> {
        let Some(configuration) = read_json::<PromptConfiguration>(path)? else {
            return Ok(());
        };
        let default =
            configuration.default_prompt_name.and_then(|name| configuration.prompts.get(&name).cloned());
        let first_of = |names: &[&str]| {
            names
                .iter()
                .find_map(|name| configuration.prompts.get(*name).cloned())
                .or_else(|| default.clone())
                .filter(|prompt| !prompt.is_empty())
        };
        self.query_prefix = first_of(&["query", "search_query"]);
        self.passage_prefix = first_of(&["document", "passage", "corpus", "search_document"]);
        Ok(())
    }
}

/// The longest input as sentence-transformers takes it: its own setting, else the smaller of the
/// tokenizer's and the position embeddings' limit.
fn read_max_tokens(folder: &Path) -> Result<Option<usize>> {
    let sentence: SentenceConfiguration =
        read_json(&folder.join("sentence_bert_config.json"))?.unwrap_or_default();
    if sentence.max_seq_length.is_some() {
        return Ok(sentence.max_seq_length);
    }
    let tokenizer: TokenizerConfiguration =
        read_json(&folder.join("tokenizer_config.json"))?.unwrap_or_default();
    let transformer: TransformerConfiguration = read_json(&folder.join("config.json"))?.unwrap_or_default();
    // Tokenizers without a limit say 1e30.
    let tokenizer_limit =
        tokenizer.model_max_length.filter(|limit| (1.0..1e6).contains(limit)).map(|limit| limit as usize);
    Ok(match (tokenizer_limit, transformer.max_position_embeddings) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    })
}

/// Reads a JSON file, or `None` when there is no such file.
fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let mut bytes = Vec::new();
    let found = fs::File::open(path).and_then(|file| file.take(MOST_FILE_BYTES + 1).read_to_end(&mut bytes));
    match found {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::from_io(path, "configuration", &error)),
    }
    let invalid = |reason| Error::InvalidConfiguration { path: path.to_owned(), reason };
    if bytes.len() as u64 > MOST_FILE_BYTES {
        return Err(invalid(format!("it has more than {MOST_FILE_BYTES} bytes")));
    }
    serde_json::from_slice(&bytes).map(Some).map_err(|error| invalid(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder_with(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
            fs::write(path, text).expect("a file");
        }
        folder
    }

    #[test]
    fn an_empty_folder_leaves_everything_open() {
        let folder = folder_with(&[]);
        let read = Configuration::read(folder.path()).expect("readable");
        assert_eq!(read, Configuration::default());
    }

    #[test]
    fn a_sentence_transformers_folder_is_read() {
        let folder = folder_with(&[
            (
                "modules.json",
                r#"[{"path": "", "type": "sentence_transformers.models.Transformer"},
                    {"path": "p", "type": "sentence_transformers.models.Pooling"},
                    {"path": "n", "type": "sentence_transformers.models.Normalize"}]"#,
            ),
            (
                "p/config.json",
                r#"{"word_embedding_dimension": 8, "pooling_mode_cls_token": true, "pooling_mode_max_tokens": false}"#,
            ),
            ("sentence_bert_config.json", r#"{"max_seq_length": 256}"#),
            (
                "config_sentence_transformers.json",
                r#"{"prompts": {"query": "query: ", "passage": "passage: "}}"#,
            ),
        ]);
        let read = Configuration::read(folder.path()).expect("readable");
        let expected = Configuration {
            pooling: Some(Pooling::Cls),
            normalize: Some(true),
            unsupported_module: None,
            max_tokens: Some(256),
            query_prefix: Some("query: ".into()),
            passage_prefix: Some("passage: ".into()),
        };
        assert_eq!(read, expected);
    }

    #[test]
    fn the_smaller_limit_holds_without_a_sentence_configuration() {
        let folder = folder_with(&[
            ("tokenizer_config.json", r#"{"model_max_length": 512}"#),
            ("config.json", r#"{"max_position_embeddings": 514}"#),
        ]);
        let read = Configuration::read(folder.path()).expect("readable");
        assert_eq!(read.max_tokens, Some(512));
        let unlimited = folder_with(&[("tokenizer_config.json", r#"{"model_max_length": 1e30}"#)]);
        let read = Configuration::read(unlimited.path()).expect("readable");
        assert_eq!(read.max_tokens, None);
    }

    #[test]
    fn other_modules_and_poolings_are_named() {
        let dense = folder_with(&[("modules.json", r#"[{"path": "2", "type": "x.Dense"}]"#)]);
        let read = Configuration::read(dense.path()).expect("readable");
        assert_eq!(read.unsupported_module.as_deref(), Some("Dense"));
        let max = folder_with(&[("1_Pooling/config.json", r#"{"pooling_mode_max_tokens": true}"#)]);
        let read = Configuration::read(max.path()).expect("readable");
        assert!(read.unsupported_module.is_some());
    }

    #[test]
    fn broken_json_names_its_file() {
        let folder = folder_with(&[("modules.json", "[{")]);
        let error = Configuration::read(folder.path()).expect_err("broken");
        assert!(error.to_string().contains("modules.json"));
    }
}
