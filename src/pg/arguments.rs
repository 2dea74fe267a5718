//! The arguments of a function call, read by their place.

use pgrx::{FromDatum, pg_sys};

use crate::error::{Error, Result};

/// The arguments of a call that is under way, for functions with many of them.
#[derive(Clone, Copy)]
pub struct Arguments(pg_sys::FunctionCallInfo);

impl Arguments {
    /// The `count` arguments of a call.
    ///
    /// # Errors
    /// [`Error::OtherVersion`] (55000) when it has another number of them, since the function was
    /// declared by another version than that of the library.
    pub(crate) fn new(call: pg_sys::FunctionCallInfo, count: usize) -> Result<Arguments> {
        // SAFETY: the call is under way.
        let found = unsafe { (*call).nargs };
        if usize::try_from(found) == Ok(count) { Ok(Arguments(call)) } else { Err(Error::OtherVersion) }
    }

    /// An argument by its place, from 0; `None` for NULL. `T` is the type that SQL declares.
    pub fn get<T: FromDatum>(self, place: usize) -> Option<T> {
        // SAFETY: the call is under way; its arguments have the types that SQL declares.
        unsafe { pgrx::fcinfo::pg_getarg(self.0, place) }
    }
}
