pub use vector_tools_core::tables::audit::*;

pub mod sql;
