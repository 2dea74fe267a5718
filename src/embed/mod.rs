//! Embedding: where a model runs for a session, and the process that runs models for all of them.

pub mod embedder;
pub mod embedders;
pub mod embedding_cache;
pub mod functions;
pub mod triggers;
