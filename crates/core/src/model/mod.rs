//! What a model is: its files and settings, its tokenizer, its ONNX session, its pooling.

pub mod concurrent_run;
pub mod configuration;
pub mod fingerprint;
pub mod manifest;
pub mod name;
pub mod options;
pub mod pooling;
pub mod record;
pub mod runtime;
pub mod session;
pub mod tokenizer;

pub use manifest::Manifest;
pub use options::ModelOptions;
pub use pooling::Pooling;
pub use record::ModelRecord;
pub use session::EncoderSession;
pub use tokenizer::TextTokenizer;
