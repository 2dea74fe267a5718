pub use vector_tools_core::embedding::*;

pub mod sql;
