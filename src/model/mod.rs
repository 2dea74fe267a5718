//! Models: the registry, the functions that write it, and loading.

pub mod functions;
pub mod loading;
pub mod registry;
