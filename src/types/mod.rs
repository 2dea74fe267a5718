//! Types of SQL: vectors, lexemes, jsonb, arrays, and what the columns of a table may be.

pub mod array;
pub mod column_types;
pub mod column_value;
pub mod jsonb;
pub mod text_vector;
pub mod vector;
