//! The server as a library: statements, rights, the catalogue, triggers, workers, errors.

pub mod arguments;
pub mod background;
pub mod catalog;
pub mod chance;
pub mod cluster_lock;
pub mod column_types;
pub mod column_value;
pub mod indexes;
pub mod invalidation;
pub mod jsonb;
pub mod kept_expressions;
pub mod lists;
pub mod lossless;
pub mod paths;
pub mod patient_lock;
pub mod regclass;
pub mod relation_cache;
pub mod report;
pub mod rights;
pub mod session;
pub mod signals;
pub mod spi;
pub mod subtransaction;
pub mod table_triggers;
pub mod trigger_call;
pub mod waiting;
