pub use vector_tools_core::chunking::*;

pub mod sql;
