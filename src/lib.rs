//! vector_tools: ranked retrieval inside PostgreSQL.
//!
//! The rooms `model`, `embedding`, `search` and `tables` are pure and build without PostgreSQL;
//! `pg` and each room's `sql` connect them to the server.

pub mod embedding;
pub mod error;
pub mod identifier;
pub mod model;
pub mod search;
pub mod tables;
