//! The only types that may become part of SQL text: quoted identifiers and qualified names.

use std::fmt;

use crate::error::{Error, Result};
pub use crate::literal::Literal;

/// PostgreSQL's limit for a name, in bytes (NAMEDATALEN - 1).
pub const MAX_IDENTIFIER_BYTES: usize = 63;

/// One name of a schema, table, column, index or trigger. `Display` writes it quoted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identifier(String);

impl Identifier {
    /// Checks that PostgreSQL can hold `name` unchanged: 1 to 63 bytes, no zero byte.
    ///
    /// # Errors
    /// [`Error::InvalidName`] (42602) otherwise; a longer name is refused rather than cut, since
    /// two names could be cut to the same one.
    pub fn new(name: impl Into<String>) -> Result<Identifier> {
        let name = name.into();
        let reason = if name.is_empty() {
            Some("a name cannot be empty".to_owned())
        } else if name.contains('\0') {
            Some("a name cannot contain a zero byte".to_owned())
        } else if name.len() > MAX_IDENTIFIER_BYTES {
            Some(format!("it has {} bytes, and PostgreSQL keeps {MAX_IDENTIFIER_BYTES}", name.len()))
        } else {
            None
        };
        match reason {
            Some(reason) => Err(Error::InvalidName { name, reason }),
            None => Ok(Identifier(name)),
        }
    }

    /// The name as it is in the catalogue, unquoted.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A name made of this one and an ending, such as an index of a table.
    ///
    /// # Errors
    /// [`Error::InvalidName`] when the two together are too long.
    pub fn with_suffix(&self, suffix: &str) -> Result<Identifier> {
        Identifier::new(format!("{}{suffix}", self.0))
    }
}

impl fmt::Display for Identifier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "\"{}\"", self.0.replace('"', "\"\""))
    }
}

/// A name together with its schema. `Display` writes both quoted, joined by a dot.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct QualifiedName {
    /// The schema, never left to search_path.
    pub schema: Identifier,
    /// The name inside the schema.
    pub name: Identifier,
}

impl fmt::Display for QualifiedName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.schema, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_doubled() {
        let name = Identifier::new("a\"b; DROP").expect("valid");
        assert_eq!(name.to_string(), "\"a\"\"b; DROP\"");
    }

    #[test]
    fn empty_long_and_zero_bytes_are_refused() {
        for name in ["".to_owned(), "x".repeat(64), "a\0b".to_owned(), "ü".repeat(32)] {
            assert!(Identifier::new(name).is_err());
        }
        assert!(Identifier::new("x".repeat(63)).is_ok());
    }
}
