//! Types of SQL as values of Rust: vectors, lexemes, arrays.

pub mod array;
pub mod text_vector;
pub mod vector;
