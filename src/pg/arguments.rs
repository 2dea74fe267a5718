//! The arguments of a function call, read by their place.

use pgrx::{FromDatum, pg_sys};

use super::jsonb::JsonbText;
use crate::error::{Error, Result};
use crate::search::filter;

/// The arguments of a call that is under way, for functions with many of them.
#[derive(Clone, Copy)]
pub struct Arguments(pub pg_sys::FunctionCallInfo);

impl Arguments {
    /// The same, where there are `count` of them.
    ///
    /// # Errors
    /// [`Error::OtherVersion`] (55000) when there is another number, since the function was declared
    /// by another version than that of the library.
    pub fn checked(self, count: usize) -> Result<Arguments> {
        // SAFETY: the call is under way.
        let found = unsafe { (*self.0).nargs };
        if usize::try_from(found) == Ok(count) { Ok(self) } else { Err(Error::OtherVersion) }
    }

    /// A filter by its place. One that is too large is not even written out, which nothing interrupts.
    ///
    /// # Errors
    /// [`Error::InvalidFilter`] (22023).
    pub fn filter(self, place: usize) -> Result<Option<String>> {
        // SAFETY: as in get; the size is in the header of a value that is not NULL.
        let bytes = unsafe {
            pgrx::fcinfo::pg_getarg_datum(self.0, place)
                .map_or(0, |datum| pg_sys::toast_raw_datum_size(datum))
        };
        filter::check_bytes(bytes)?;
        Ok(self.get::<JsonbText>(place).map(|filter| filter.0))
    }

    /// An argument by its place, from 0; `None` for NULL. `T` is the type that SQL declares.
    pub fn get<T: FromDatum>(self, place: usize) -> Option<T> {
        // SAFETY: the call is under way; its arguments have the types that SQL declares.
        unsafe { pgrx::fcinfo::pg_getarg(self.0, place) }
    }
}
