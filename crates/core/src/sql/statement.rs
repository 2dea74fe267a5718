//! SQL text together with the values bound to it.

use std::fmt::Write;

/// A value bound to a statement. It never becomes part of the SQL text.
#[derive(Debug, Clone, PartialEq)]
pub enum Parameter {
    /// `text`
    Text(String),
    /// `bigint`
    Integer(i64),
    /// `oid`
    Oid(u32),
    /// pgvector's `vector`
    Vector(Vec<f32>),
    /// `text[]`
    Texts(Vec<String>),
    /// `text[]` of two dimensions, all lines of one length
    TextLines(Vec<Vec<String>>),
    /// `timestamptz`, in microseconds since the year 2000
    Timestamp(i64),
    /// `double precision`
    Number(f64),
    /// `double precision[]`
    Numbers(Vec<f64>),
    /// `bigint[]`
    Integers(Vec<i64>),
    /// an array of pgvector's `vector`
    Vectors(Vec<Vec<f32>>),
}

/// One SQL statement, `$1` standing for its first parameter.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Statement {
    /// The SQL text.
    pub text: String,
    /// The values of `$1`, `$2`, …
    pub parameters: Vec<Parameter>,
    /// Whether it must be planned for these very values, since one plan does not suit all.
    pub depends_on_values: bool,
}

impl Statement {
    /// Appends SQL text.
    pub fn push(&mut self, text: impl std::fmt::Display) -> &mut Statement {
        // Writing to a String cannot fail.
        let _ = write!(self.text, "{text}");
        self
    }

    /// Binds a value and returns its placeholder, such as `$3`.
    pub fn bind(&mut self, parameter: Parameter) -> String {
        self.parameters.push(parameter);
        format!("${}", self.parameters.len())
    }
}
