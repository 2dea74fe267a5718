//! The pure part of vector_tools: what it decides and which SQL it runs, without PostgreSQL.
//!
//! It builds and is tested alone, and knows neither pgrx nor a server: the extension (the root package) connects it to
//! one, and the embedding process (`crates/embedder`) runs models with it. CONTRIBUTING.md says which folder may import
//! which.

pub mod access;
pub mod audit;
pub mod chunking;
pub mod embed;
pub mod error;
pub mod hash;
pub mod literal;
pub mod memories;
pub mod model;
pub mod pipeline;
pub mod search;
pub mod sql;
pub mod store;
