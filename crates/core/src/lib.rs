//! The pure part of vector_tools: what it decides and which SQL it runs, without PostgreSQL.
//!
//! It builds and is tested alone, and knows neither pgrx nor a server: the extension (the root package) connects it to
//! one, and the embedding process (`crates/embedder`) runs models with it.

pub mod chunking;
pub mod embedding;
pub mod error;
pub mod identifier;
pub mod jobs;
pub mod json_depth;
pub mod model;
pub mod search;
pub mod tables;
