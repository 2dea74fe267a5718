pub use vector_tools_core::tables::access::*;

pub mod sql;
