//! Who may use the tables: roles, grants by level, and namespaces kept apart.

pub mod grants;
pub mod isolation;
pub mod roles;
