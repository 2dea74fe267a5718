//! One change of a row, and how its two halves become one when the row moves to another partition.

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// A new row.
    Insert,
    /// A changed row.
    Update,
    /// A row that is gone.
    Delete,
    /// A row that has left its partition for another one: a DELETE unless an INSERT follows.
    MoveAway,
    /// All rows are gone.
    Truncate,
}

impl Operation {
    /// As the log has it.
    pub fn name(self) -> &'static str {
        match self {
            Operation::Insert => "INSERT",
            Operation::Update => "UPDATE",
            Operation::Delete | Operation::MoveAway => "DELETE",
            Operation::Truncate => "TRUNCATE",
        }
    }
}

/// How many changes one INSERT writes, and how many bytes of them, at most: enough that its own cost
/// does not count, few enough that a statement over millions of rows does not fill the memory.
const MOST_CHANGES: usize = 1000;
const MOST_BYTES: usize = 256 * 1024;

/// Whether changes must be written now. One that may still become an UPDATE is waited for.
pub fn is_full(changes: usize, bytes: usize, last: Operation) -> bool {
    (changes >= MOST_CHANGES || bytes >= MOST_BYTES) && last != Operation::MoveAway
}

/// The primary key as text: the JSON of each value where there are several.
pub fn join_key(json: &[String]) -> String {
    format!("[{}]", json.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_on_its_way_is_waited_for() {
        assert!(is_full(MOST_CHANGES, 0, Operation::Insert));
        assert!(is_full(1, MOST_BYTES, Operation::Delete));
        assert!(!is_full(1, 0, Operation::Insert));
        assert!(!is_full(MOST_CHANGES, MOST_BYTES, Operation::MoveAway));
    }

    #[test]
    fn keys_of_several_columns_are_json() {
        assert_eq!(join_key(&["1".to_owned(), "\"a\"".to_owned()]), "[1, \"a\"]");
    }

    #[test]
    fn a_row_that_went_nowhere_was_deleted() {
        assert_eq!(Operation::MoveAway.name(), "DELETE");
    }
}
