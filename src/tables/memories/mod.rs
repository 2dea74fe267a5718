pub use vector_tools_core::tables::memories::*;

pub mod sql;
