//! Roles, grants and namespaces.

pub mod functions;
