//! The arguments of functions that have many of them, each named once.
//!
//! ```ignore
//! arguments! {
//!     /// What is asked of `greet`.
//!     struct Greet for greet {
//!         name: Option<String>,
//!         greeting: String = "Hello",
//!         language: Option<String> = None,
//!     }
//! }
//!
//! #[pg_extern(sql = false)]
//! fn greet(fcinfo: pg_sys::FunctionCallInfo) -> Option<String> {
//!     let Greet { name, greeting, language } = Greet::read(fcinfo).or_report();
//! ```
//!
//! A declaration says what `CREATE FUNCTION` in `sql/` says: names, order, types and defaults. `pg_test/arguments`
//! compares the two, so values cannot be read from each other's places.

use pgrx::{FromDatum, pg_sys};

use crate::kit::jsonb::JsonbText;
use vector_tools_core::error::{Error, Result};

/// Declares a struct of the arguments that SQL functions have, in their order, and gives it `read(fcinfo)`.
///
/// `name: Option<T>` is NULL where SQL says NULL, with or without a default in SQL (`= None`, `= Some(…)`).
/// `name: T = default` is never NULL: NULL stands for the default.
macro_rules! arguments {
    (@value $reader:ident) => {
        $reader.value()
    };
    (@value $reader:ident $default:expr) => {
        $crate::kit::arguments::Argument::read(&mut $reader, $default)
    };
    (
        $(#[$about:meta])*
        $visibility:vis struct $name:ident $(<$life:lifetime>)? for $($function:ident),+ {
            $($(#[$note:meta])* $argument:ident: $type:ty $(= $default:expr)?),+ $(,)?
        }
    ) => {
        $(#[$about])*
        $visibility struct $name $(<$life>)? {
            $($(#[$note])* $visibility $argument: $type),+
        }

        impl $(<$life>)? $name $(<$life>)? {
            /// Reads the arguments of a call that is under way.
            ///
            /// # Errors
            /// [`Error::OtherVersion`](vector_tools_core::error::Error::OtherVersion) (55000) when the function was declared with
            /// another number of arguments, by another version than that of the library.
            $visibility fn read(call: ::pgrx::pg_sys::FunctionCallInfo) -> ::vector_tools_core::error::Result<Self> {
                let count = [$(stringify!($argument)),+].len();
                let mut reader = $crate::kit::arguments::Reader::of(call, count)?;
                Ok($name { $($argument: arguments!(@value reader $($default)?)),+ })
            }
        }

        // The functions are there.
        const _: () = { $(let _ = $function;)+ };
    };
}
pub(crate) use arguments;

/// Reads the arguments of a call one after the other.
pub(crate) struct Reader {
    call: pg_sys::FunctionCallInfo,
    next: usize,
}

impl Reader {
    /// Begins with the first of `count` arguments of a call that is under way.
    ///
    /// # Errors
    /// [`Error::OtherVersion`] (55000) when the call has another number of them.
    pub(crate) fn of(call: pg_sys::FunctionCallInfo, count: usize) -> Result<Reader> {
        // SAFETY: the call is under way.
        let found = unsafe { (*call).nargs };
        if usize::try_from(found) == Ok(count) {
            Ok(Reader { call, next: 0 })
        } else {
            Err(Error::OtherVersion)
        }
    }

    /// The next argument; `None` for NULL.
    pub(crate) fn value<T: FromDatum>(&mut self) -> Option<T> {
        let place = self.next;
        self.next += 1;
        // SAFETY: the call is under way and has as many arguments as are read, of the types that are declared.
        unsafe { pgrx::fcinfo::pg_getarg(self.call, place) }
    }
}

/// What an argument with a default can be read as.
pub(crate) trait Argument: Sized {
    /// What a default is written as.
    type Default;

    /// The next argument.
    fn read(reader: &mut Reader, default: Self::Default) -> Self;
}

/// The default is SQL's alone: who says NULL means NULL.
impl<T: FromDatum> Argument for Option<T> {
    type Default = Option<T>;

    fn read(reader: &mut Reader, _: Option<T>) -> Option<T> {
        reader.value()
    }
}

macro_rules! plain_arguments {
    ($($type:ty),+) => {
        $(impl Argument for $type {
            type Default = $type;

            fn read(reader: &mut Reader, default: $type) -> $type {
                reader.value().unwrap_or(default)
            }
        })+
    };
}

plain_arguments!(bool, f64, i64);

impl Argument for String {
    type Default = &'static str;

    fn read(reader: &mut Reader, default: &'static str) -> String {
        reader.value().unwrap_or_else(|| default.to_owned())
    }
}

impl Argument for JsonbText {
    type Default = &'static str;

    fn read(reader: &mut Reader, default: &'static str) -> JsonbText {
        reader.value().unwrap_or_else(|| JsonbText(default.to_owned()))
    }
}
