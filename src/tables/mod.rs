pub use vector_tools_core::tables::*;

pub mod access;
pub mod audit;
pub mod memories;
pub mod searchable;
pub mod store;
pub mod triggers;
