pub use vector_tools_core::search::*;

pub mod sql;
