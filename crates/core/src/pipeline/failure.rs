//! What goes wrong with a job, and whether it makes sense to try again.

use crate::error::{Error, MOST_MESSAGE_BYTES, shortened};

/// SQLSTATE of rows over which a process died: PostgreSQL's own for a session that has to end then.
pub const DIED: &str = "57P02";
/// SQLSTATE of rows of a batch over which the whole server went down, whoever ended it.
pub const SHUT_DOWN: &str = "57P01";
/// SQLSTATE of rows of a batch that took too long: that of a statement that does.
pub const OVERDUE: &str = "57014";

/// So many failures of a row are enough. A model or a server may be out of order for longer, and the
/// row is not to blame.
pub const MOST_ATTEMPTS: u32 = 10;

/// So many times may a process die of a row that is alone in the last of them.
const MOST_SUSPICIONS: u32 = 5;

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
    /// It is dead after so many attempts: at once where it will fail in the same way until somebody
    /// changes something, never where others than the row are to blame.
    pub most_attempts: Option<u32>,
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
        let (category, most_attempts) = match (sqlstate.get(..2).unwrap_or(""), sqlstate) {
            // A function that raises without saying what kind of error it is, too.
            ("08" | "25" | "40" | "53" | "55" | "57" | "58", _) => (Category::Resource, None),
            // Deleted or changed by somebody while it was written.
            ("23", _) => (Category::Row, Some(MOST_ATTEMPTS)),
            _ => (Category::Row, Some(1)),
        };
        let message = shortened(message.to_owned(), MOST_MESSAGE_BYTES);
        Failure { category, most_attempts, sqlstate: sqlstate.to_owned(), message }
    }

    /// What an error of this crate says.
    pub fn from_error(error: &Error) -> Failure {
        use Error::*;
        let (category, most_attempts) = match error {
            // It does not say how many rows the texts are of.
            EmbedderKilled { .. } => return Failure::of_death("embedding", false),
            // Another text may do, this one will not.
            InferenceFailed { .. } => (Category::Row, Some(MOST_ATTEMPTS)),
            InvalidArgument { .. }
            | TooLong { .. }
            | TooMany { .. }
            | InvalidVector { .. }
            | WriterGone { .. } => (Category::Row, Some(1)),
            // Files come back, libraries are installed, models are registered.
            _ => (Category::Model, None),
        };
        let sqlstate = error.facts().sqlstate.to_owned();
        Failure { category, most_attempts, sqlstate, message: error.message() }
    }

    /// What is said of rows over which a process has died, of one that was alone or of several. The one to
    /// blame is alone in the end, and no other is dead for it.
    pub fn of_death(process: &str, is_alone: bool) -> Failure {
        let others = if is_alone { "" } else { " and others" };
        let message = format!("the {process} process died while it embedded the row{others}");
        Failure::of_suspicion(DIED, message, is_alone)
    }

    /// What is said of rows over which the whole server went down.
    pub fn of_shutdown(is_alone: bool) -> Failure {
        let others = if is_alone { "" } else { " and others" };
        let message = format!("the server went down while it embedded the row{others}");
        Failure::of_suspicion(SHUT_DOWN, message, is_alone)
    }

    /// What is said of rows of a batch that took too long.
    pub fn of_delay(is_alone: bool) -> Failure {
        let others = if is_alone { "" } else { " or others with it" };
        let message = format!("the row{others} took longer than vector_tools.worker_batch_timeout allows");
        Failure::of_suspicion(OVERDUE, message, is_alone)
    }

    fn of_suspicion(sqlstate: &str, message: String, is_alone: bool) -> Failure {
        let most_attempts = is_alone.then_some(MOST_SUSPICIONS);
        Failure { category: Category::Resource, most_attempts, sqlstate: sqlstate.to_owned(), message }
    }

    /// What the failure of embedding so many rows at once says: only of a row that was alone is it certain that
    /// the process died of it.
    pub fn of_embedding(self, rows: usize) -> Failure {
        if self.sqlstate == DIED { Failure::of_death("embedding", rows == 1) } else { self }
    }

    /// Whether it says no more of its rows than that one of them may be to blame. They are tried in ever
    /// smaller batches (`agenda`).
    pub fn is_suspicion(&self) -> bool {
        [DIED, SHUT_DOWN, OVERDUE].contains(&self.sqlstate.as_str())
    }

    /// Whether the row that it is about is found by halving the batch at once: a model that is gone is gone
    /// for all of them, and what is under suspicion could cost a process each time.
    pub fn is_found_by_halving(&self) -> bool {
        self.category != Category::Model && !self.is_suspicion()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(sqlstate: &str) -> (Category, Option<u32>) {
        let failure = Failure::from_sqlstate(sqlstate, "x");
        (failure.category, failure.most_attempts)
    }

    #[test]
    fn a_sqlstate_says_where_the_reason_lies() {
        assert_eq!(kind("54000"), (Category::Row, Some(1)));
        assert_eq!(kind("P0001"), (Category::Row, Some(1)));
        assert_eq!(kind("23503"), (Category::Row, Some(MOST_ATTEMPTS)));
        for temporary in ["40001", "40P01", "53200", "53100", "55P03"] {
            assert_eq!(kind(temporary), (Category::Resource, None), "{temporary}");
        }
    }

    #[test]
    fn a_model_fails_for_all_rows_and_may_come_back() {
        let gone = Failure::from_error(&Error::UnknownModel { name: "m".into(), nearest: None });
        assert_eq!((gone.category, gone.most_attempts), (Category::Model, None));
        assert!(!gone.is_found_by_halving());
        assert_eq!(gone.sqlstate, "42704");
        assert!(Failure::from_error(&Error::InferenceFailed { reason: "r".into() }).is_found_by_halving());
    }

    #[test]
    fn an_embedding_process_that_dies_of_its_work_is_another_matter_than_one_that_cannot_be_had() {
        let reason = || "r".to_owned();
        for error in [
            Error::EmbedderLost { reason: reason() },
            Error::EmbedderUnavailable { reason: reason() },
            Error::EmbedderSilent { seconds: 5 },
        ] {
            let failure = Failure::from_error(&error).of_embedding(1);
            assert_eq!((failure.category, failure.most_attempts), (Category::Model, None), "{error}");
            assert_eq!(failure.sqlstate, "57P03");
            assert!(!failure.is_suspicion() && !failure.is_found_by_halving());
        }
        let killed = Error::EmbedderKilled { reason: reason() };
        let alone = Failure::from_error(&killed).of_embedding(1);
        assert_eq!((alone.category, alone.most_attempts), (Category::Resource, Some(MOST_SUSPICIONS)));
        assert_eq!(alone.message, "the embedding process died while it embedded the row");
        assert!(alone.is_suspicion() && !alone.is_found_by_halving());
        let together = Failure::from_error(&killed);
        assert_eq!(together, together.clone().of_embedding(2));
        assert_eq!((together.sqlstate.as_str(), together.most_attempts), (DIED, None));
        assert_eq!(together.message, "the embedding process died while it embedded the row and others");
    }

    #[test]
    fn categories_are_read_as_they_are_written() {
        for category in [Category::Row, Category::Model, Category::Resource] {
            assert_eq!(Category::from_name(category.name()), Some(category));
        }
        assert_eq!(Category::from_name("Row"), None);
    }
}
