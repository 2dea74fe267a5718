//! Everything that talks to PostgreSQL. Unsafe code is allowed here only, each block with its
//! reason.

pub mod arguments;
pub mod array;
pub mod audit;
mod background;
pub mod catalog;
pub mod chance;
pub mod cluster_lock;
pub mod column_types;
pub mod column_value;
pub mod embedder;
pub mod embedders;
pub mod embedding_cache;
pub mod indexes;
pub mod invalidation;
pub mod jobs;
pub mod jsonb;
pub mod kept;
mod kept_expressions;
pub mod lists;
pub mod lossless;
pub mod paths;
pub mod patient_lock;
pub mod queue;
pub mod queued_documents;
pub mod regclass;
pub mod registry;
pub mod report;
pub mod rights;
pub mod search_companion;
pub mod search_database;
pub mod search_index;
pub mod searched_tables;
pub mod session;
pub mod settings;
pub mod signals;
pub mod spi;
pub mod statements;
pub mod statistics;
pub mod statistics_worker;
pub mod store_document;
pub mod subtransaction;
pub mod table_triggers;
pub mod text_vector;
pub mod trigger_call;
pub mod vector;
pub mod vector_store;
pub mod waiting;
pub mod worker;

#[cfg(feature = "pg_test")]
#[path = "../../pg_test/server/mod.rs"]
mod server_tests;
