//! Texts inside of SQL and of hints.

use std::fmt;

/// A text as an SQL string literal, for the few places (trigger arguments) where PostgreSQL takes
/// no parameter. Safe whatever standard_conforming_strings says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Literal<'a>(pub &'a str);

impl fmt::Display for Literal<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = self.0.replace('\'', "''");
        if quoted.contains('\\') {
            write!(formatter, " E'{}'", quoted.replace('\\', "\\\\"))
        } else {
            write!(formatter, "'{quoted}'")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_survive_quotes_and_backslashes() {
        assert_eq!(Literal("it's").to_string(), "'it''s'");
        assert_eq!(Literal("a\\b").to_string(), " E'a\\\\b'");
    }
}
