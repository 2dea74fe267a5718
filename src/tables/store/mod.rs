pub use vector_tools_core::tables::store::*;

mod sql;
