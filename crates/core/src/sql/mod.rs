//! Text of SQL: names, values, statements with their parameters, templates, and the numbers of advisory locks.

pub mod identifier;
pub mod lock;
pub mod statement;
pub mod template;

pub use identifier::{Identifier, Literal, QualifiedName};
pub use statement::{Parameter, Statement};
