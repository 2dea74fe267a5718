//! Raising this crate's errors as PostgreSQL errors, and saying things to the client.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgLogLevel, PgSqlErrorCode, function_name};

use vector_tools_core::error::{Error, Result};

/// Turns an error into an ERROR of the server: the statement ends, the session goes on.
pub trait OrReport<T> {
    /// The value, or the error raised with its SQLSTATE, detail and hint.
    fn or_report(self) -> T;
}

impl<T> OrReport<T> for Result<T> {
    fn or_report(self) -> T {
        match self {
            Ok(value) => value,
            Err(error) => raise(&error),
        }
    }
}

/// Raises `error`. The Rust stack unwinds to the function's boundary before PostgreSQL takes over.
pub fn raise(error: &Error) -> ! {
    report(error, PgLogLevel::ERROR);
    unreachable!("an ERROR does not return")
}

/// Says what went wrong as a WARNING, for work that can go on without it.
pub fn warn(error: &Error) {
    report(error, PgLogLevel::WARNING);
}

/// Says something that is no error as a NOTICE.
pub fn tell(notice: &Error) {
    report(notice, PgLogLevel::NOTICE);
}

fn report(error: &Error, level: PgLogLevel) {
    let facts = error.facts();
    let mut report = ErrorReport::new(error_code(facts.sqlstate), error.message(), function_name!());
    if let Some(detail) = facts.detail {
        report = report.set_detail(detail);
    }
    if let Some(hint) = facts.hint {
        report = report.set_hint(hint);
    }
    report.report(level);
}

/// The code of an SQLSTATE: PostgreSQL's MAKE_SQLSTATE, six bits for each of the five characters.
pub fn error_code(sqlstate: &str) -> PgSqlErrorCode {
    let bits = |place, byte: u8| (i32::from(byte.wrapping_sub(b'0')) & 0x3F) << (6 * place);
    let places = sqlstate.bytes().enumerate();
    PgSqlErrorCode::from(places.fold(0, |code, (place, byte)| code | bits(place, byte)))
}
