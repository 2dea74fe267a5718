//! What goes wrong with a job, and whether it makes sense to try again.

use crate::error::Error;

/// Where the reason of a failure lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Category {
    /// In the row: its content, its keys, what the table demands of it.
    Row,
    /// In the model: its files, its registration, the library that runs it.
    Model,
    /// In what the server has to give: memory, space, locks.
    Resource,
}

/// Why a job was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Where the reason lies.
    pub category: Category,
    /// Whether it will fail in the same way until somebody changes something.
    pub is_permanent: bool,
    /// Five-character SQLSTATE.
    pub sqlstate: String,
    /// The message of the error.
    pub message: String,
}

impl Category {
    /// As it is stored.
    pub fn name(self) -> &'static str {
        match self {
            Category::Row => "row",
            Category::Model => "model",
            Category::Resource => "resource",
        }
    }

    /// The category of that name.
    pub fn from_name(name: &str) -> Option<Category> {
        [Category::Row, Category::Model, Category::Resource]
            .into_iter()
            .find(|category| category.name() == name)
    }
}

impl Failure {
    /// What an error of the server says. Errors of other classes are about the row: a value that does
    /// not fit, a function of the table that raises.
    pub fn from_sqlstate(sqlstate: &str, message: &str) -> Failure {
        let (category, is_permanent) = match (sqlstate.get(..2).unwrap_or(""), sqlstate) {
            // A function that raises without saying what kind of error it is, too.
            ("08" | "25" | "40" | "53" | "55" | "57" | "58", _) => (Category::Resource, false),
            // Deleted or changed by somebody while it was written.
            ("23", _) => (Category::Row, false),
            _ => (Category::Row, true),
        };
        Failure { category, is_permanent, sqlstate: sqlstate.to_owned(), message: message.to_owned() }
    }

    /// What an error of this crate says.
    pub fn from_error(error: &Error) -> Failure {
        use Error::*;
        let (category, is_permanent) = match error {
            // Another text may do, this one will not.
            InferenceFailed { .. } => (Category::Row, false),
            InvalidArgument { .. } | TooLong { .. } | InvalidVector { .. } | RoleNotFound { .. } => {
                (Category::Row, true)
            }
            // Files come back, libraries are installed, models are registered.
            _ => (Category::Model, false),
        };
        let sqlstate = error.facts().sqlstate.to_owned();
        Failure { category, is_permanent, sqlstate, message: error.to_string() }
    }

    /// Whether the rows of a batch may differ in it: a model that is gone is gone for all of them.
    pub fn is_of_a_row(&self) -> bool {
        self.category != Category::Model
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(sqlstate: &str) -> (Category, bool) {
        let failure = Failure::from_sqlstate(sqlstate, "x");
        (failure.category, failure.is_permanent)
    }

    #[test]
    fn a_sqlstate_says_where_the_reason_lies() {
        assert_eq!(kind("54000"), (Category::Row, true));
        assert_eq!(kind("P0001"), (Category::Row, true));
        assert_eq!(kind("23503"), (Category::Row, false));
        for temporary in ["40001", "40P01", "53200", "53100", "55P03", "57014"] {
            assert_eq!(kind(temporary), (Category::Resource, false), "{temporary}");
        }
    }

    #[test]
    fn a_model_fails_for_all_rows_and_may_come_back() {
        let gone = Failure::from_error(&Error::UnknownModel { name: "m".into(), nearest: None });
        assert_eq!((gone.category, gone.is_permanent), (Category::Model, false));
        assert!(!gone.is_of_a_row());
        assert_eq!(gone.sqlstate, "42704");
        assert!(Failure::from_error(&Error::InferenceFailed { reason: "r".into() }).is_of_a_row());
    }

    #[test]
    fn categories_are_read_as_they_are_written() {
        for category in [Category::Row, Category::Model, Category::Resource] {
            assert_eq!(Category::from_name(category.name()), Some(category));
        }
        assert_eq!(Category::from_name("Row"), None);
    }
}
