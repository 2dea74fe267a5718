pub use vector_tools_core::tables::searchable::*;

mod drift_sql;
pub mod model_sql;
mod options_sql;
pub mod sql;
