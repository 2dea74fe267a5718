//! The arguments of a function call, read by their place.

use pgrx::{FromDatum, pg_sys};

/// The arguments of a call that is under way, for functions with many of them.
#[derive(Clone, Copy)]
pub struct Arguments(pub pg_sys::FunctionCallInfo);

impl Arguments {
    /// An argument by its place, from 0; `None` for NULL. `T` is the type that SQL declares.
    pub fn get<T: FromDatum>(self, place: usize) -> Option<T> {
        // SAFETY: the call is under way; its arguments have the types that SQL declares.
        unsafe { pgrx::fcinfo::pg_getarg(self.0, place) }
    }
}
