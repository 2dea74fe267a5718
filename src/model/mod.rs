pub use vector_tools_core::model::*;

pub mod sql;
