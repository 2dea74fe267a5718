//! Models: the registry, and the functions that write it.

pub mod functions;
pub mod registry;
