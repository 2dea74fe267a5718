//! Which files make up a model and how its vectors are computed.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::model::configuration::Configuration;
use crate::model::{ModelOptions, Pooling};

/// The files of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelFiles {
    /// The ONNX graph.
    pub onnx: PathBuf,
    /// The weights, where the exporter kept them in a file of their own (graphs over 2 GB must).
    pub weights: Option<PathBuf>,
    /// `tokenizer.json`, in the format of Hugging Face tokenizers.
    pub tokenizer: PathBuf,
    /// Where the configuration files are.
    pub folder: PathBuf,
}

/// How a text becomes a vector, apart from the weights. Fixed at registration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EncodingSettings {
    /// How token vectors become one vector.
    pub pooling: Pooling,
    /// Whether vectors are scaled to unit length.
    pub normalize: bool,
    /// The longest input in tokens, special tokens included.
    pub max_tokens: usize,
    /// Put before every query.
    pub query_prefix: String,
    /// Put before every passage.
    pub passage_prefix: String,
    /// The output of the graph to read, when not found by its name.
    pub output: Option<String>,
}

/// A model's files and settings, as its folder and the options of `register_model` give them.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// The files.
    pub files: ModelFiles,
    /// The settings.
    pub settings: EncodingSettings,
    /// A step of the pipeline that only the ONNX graph can contain.
    pub unsupported_module: Option<String>,
}

/// Without any configuration file a text is read up to this many tokens, as BERT's are.
const DEFAULT_MAX_TOKENS: usize = 512;

impl ModelFiles {
    /// Finds the files of the model at `source`: a folder in the layout of sentence-transformers
    /// or Hugging Face, or an ONNX file with `tokenizer.json` beside it or one folder above.
    /// `file` names the ONNX file inside the folder where it is not `model.onnx` or
    /// `onnx/model.onnx`.
    ///
    /// # Errors
    /// [`Error::FileMissing`] (58P01), [`Error::FileUnreadable`] (42501 or 58030).
    pub fn locate(source: &Path, file: Option<&str>) -> Result<ModelFiles> {
        let metadata =
            fs::metadata(source).map_err(|error| Error::from_io(source, "folder of the model", &error))?;
        let onnx = if metadata.is_file() {
            source.to_owned()
        } else {
            // A folder that can be entered but not listed would otherwise look empty.
            fs::read_dir(source).map_err(|error| Error::from_io(source, "folder of the model", &error))?;
            let candidates: Vec<&str> = match file {
                Some(file) => vec![file],
                None => vec!["model.onnx", "onnx/model.onnx"],
            };
            first_file(candidates.iter().map(|name| source.join(name)), "ONNX graph")?
        };
        let weights = ["onnx_data", "onnx.data", "data"]
            .iter()
            .map(|extension| onnx.with_extension(extension))
            .find(|path| path.is_file());
        let beside = onnx.parent().unwrap_or(Path::new(".")).to_owned();
        let above = beside.parent().unwrap_or(Path::new(".")).to_owned();
        let folders = if metadata.is_dir() { [source, &beside] } else { [beside.as_path(), &above] };
        let tokenizer = first_file(folders.iter().map(|folder| folder.join("tokenizer.json")), "tokenizer")?;
        let folder = tokenizer.parent().unwrap_or(Path::new(".")).to_owned();
        Ok(ModelFiles { onnx, weights, tokenizer, folder })
    }
}

impl Manifest {
    /// Reads what the model at `source` is; `options` override its configuration files. Without
    /// either, token vectors are averaged and not normalized, as sentence-transformers does.
    ///
    /// # Errors
    /// Those of [`ModelFiles::locate`], and [`Error::InvalidConfiguration`] (22032).
    pub fn read(source: &Path, options: &ModelOptions) -> Result<Manifest> {
        let files = ModelFiles::locate(source, options.file.as_deref())?;
        let folder = Configuration::read(&files.folder)?;
        let settings = EncodingSettings {
            pooling: options.pooling.or(folder.pooling).unwrap_or(Pooling::Mean),
            normalize: options.normalize.or(folder.normalize).unwrap_or(false),
            max_tokens: options.max_tokens.or(folder.max_tokens).unwrap_or(DEFAULT_MAX_TOKENS),
            query_prefix: options.query_prefix.clone().or(folder.query_prefix).unwrap_or_default(),
            passage_prefix: options.passage_prefix.clone().or(folder.passage_prefix).unwrap_or_default(),
            output: options.output.clone(),
        };
        Ok(Manifest {
            files,
            settings,
            unsupported_module: folder.unsupported_module.filter(|_| options.pooling.is_none()),
        })
    }
}

/// The first of `paths` that is a file; the error names the first of all.
fn first_file(paths: impl Iterator<Item = PathBuf>, role: &'static str) -> Result<PathBuf> {
    let mut first_error = None;
    for path in paths {
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() => return Ok(path),
            Ok(_) => {}
            Err(error) => {
                first_error.get_or_insert(Error::from_io(&path, role, &error));
            }
        }
    }
    Err(first_error.unwrap_or(Error::FileMissing { path: PathBuf::new(), role }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder_with(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for name in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
            fs::write(path, "").expect("a file");
        }
        folder
    }

    #[test]
    fn both_layouts_and_a_bare_file_are_found() {
        let plain = folder_with(&["model.onnx", "tokenizer.json"]);
        let hub = folder_with(&["onnx/model.onnx", "onnx/model_int8.onnx", "tokenizer.json"]);
        let locate = |source: &Path, file| ModelFiles::locate(source, file).expect("found");
        assert_eq!(locate(plain.path(), None).onnx, plain.path().join("model.onnx"));
        assert_eq!(locate(hub.path(), None).onnx, hub.path().join("onnx/model.onnx"));
        let int8 = hub.path().join("onnx/model_int8.onnx");
        assert_eq!(locate(hub.path(), Some("onnx/model_int8.onnx")).onnx, int8);
        let bare = locate(&int8, None);
        assert_eq!((bare.onnx, bare.folder), (int8, hub.path().to_owned()));
    }

    #[test]
    fn a_missing_part_is_named() {
        let no_tokenizer = folder_with(&["model.onnx"]);
        let error = ModelFiles::locate(no_tokenizer.path(), None).expect_err("incomplete");
        assert!(error.to_string().contains("tokenizer.json"), "{error}");
        let error = ModelFiles::locate(Path::new("/nowhere"), None).expect_err("absent");
        assert_eq!(error.facts().sqlstate, "58P01");
    }

    #[test]
    fn options_override_the_folder() {
        let folder = folder_with(&["model.onnx", "tokenizer.json"]);
        let options =
            ModelOptions { pooling: Some(Pooling::Cls), max_tokens: Some(99), ..ModelOptions::default() };
        let manifest = Manifest::read(folder.path(), &options).expect("readable");
        assert_eq!(manifest.settings.pooling, Pooling::Cls);
        assert_eq!(manifest.settings.max_tokens, 99);
        assert!(!manifest.settings.normalize);
    }
}
