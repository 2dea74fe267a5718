pub use vector_tools_core::jobs::*;

pub mod sql;
