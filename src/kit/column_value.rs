//! Which types of PostgreSQL a value of Rust is read from.
//!
//! The owner of a table may give its columns any type, and a statement over it gives what it finds. Read as another
//! type, a number would be the address of a text: so a column of a result is read only after a look at its type.

use pgrx::datum::Uuid;
use pgrx::prelude::TimestampWithTimeZone;
use pgrx::{FromDatum, pg_sys};

use crate::kit::catalog;
use crate::kit::jsonb::JsonbText;
use crate::kit::report::raise;
use crate::types::vector::Vector;
use vector_tools_core::error::Error;

/// What a column of a result can be read as.
///
/// # Safety
/// `from_datum` must read the datums of every type that `reads` names, for a domain those of the type below it.
pub unsafe trait ColumnValue: FromDatum {
    /// The type that an error names.
    fn expected() -> pg_sys::Oid;

    /// Whether columns of a type are read.
    fn reads(type_oid: pg_sys::Oid) -> bool {
        type_oid == Self::expected()
    }
}

/// An `xid8`, which is passed as a bigint is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransactionNumber(pub i64);

impl FromDatum for TransactionNumber {
    unsafe fn from_polymorphic_datum(
        datum: pg_sys::Datum,
        is_null: bool,
        _: pg_sys::Oid,
    ) -> Option<TransactionNumber> {
        (!is_null).then(|| TransactionNumber(datum.value() as i64))
    }
}

macro_rules! column_values {
    ($($value:ty => $expected:ident $(, $other:ident)*;)*) => {$(
        // SAFETY: these types share the form that PostgreSQL's own type of the value has.
        unsafe impl ColumnValue for $value {
            fn expected() -> pg_sys::Oid {
                pg_sys::$expected
            }

            fn reads(type_oid: pg_sys::Oid) -> bool {
                [pg_sys::$expected $(, pg_sys::$other)*].contains(&type_oid)
            }
        }
    )*};
}

column_values! {
    bool => BOOLOID;
    i32 => INT4OID;
    i64 => INT8OID;
    f64 => FLOAT8OID;
    String => TEXTOID, VARCHAROID;
    Vec<i64> => INT8ARRAYOID;
    Vec<String> => TEXTARRAYOID, VARCHARARRAYOID;
    JsonbText => JSONBOID;
    TimestampWithTimeZone => TIMESTAMPTZOID;
    TransactionNumber => XID8OID;
    Uuid => UUIDOID;
    pg_sys::Oid => OIDOID, REGCLASSOID, REGROLEOID, REGPROCOID, REGTYPEOID;
    pg_sys::ItemPointerData => TIDOID;
}

// SAFETY: the type is pgvector's own.
unsafe impl ColumnValue for Vector {
    fn expected() -> pg_sys::Oid {
        <Vector as pgrx::IntoDatum>::type_oid()
    }
}

/// Raises [`Error::UnexpectedColumnType`] (42804) unless a column of a result, counted from 1, has a type that
/// `reads` takes, or is a domain over one.
///
/// # Safety
/// The descriptor must be that of a result.
pub unsafe fn check_type(
    descriptor: pg_sys::TupleDesc,
    column: i32,
    reads: impl Fn(pg_sys::Oid) -> bool,
    expected: impl FnOnce() -> pg_sys::Oid,
) {
    // SAFETY: the caller's promise.
    let attribute = unsafe { attribute_of(descriptor, column) };
    let type_oid = attribute.atttypid;
    // SAFETY: a look-up of the type of an existing column.
    if reads(type_oid) || reads(unsafe { pg_sys::getBaseType(type_oid) }) {
        return;
    }
    // SAFETY: the names are fresh copies.
    let name = |type_oid| unsafe { catalog::owned_text(pg_sys::format_type_be(type_oid)) };
    raise(&Error::UnexpectedColumnType {
        column: pgrx::name_data_to_str(&attribute.attname).to_owned(),
        expected: name(expected()).unwrap_or_default(),
        found: name(type_oid).unwrap_or_default(),
    })
}

/// # Safety
/// The descriptor must be that of a result.
unsafe fn attribute_of<'a>(descriptor: pg_sys::TupleDesc, column: i32) -> &'a pg_sys::FormData_pg_attribute {
    // SAFETY: the caller's promise; the place is one of those that the descriptor has. Without a call of C, since
    // this is asked for each value that is read.
    unsafe {
        let count = (*descriptor).natts;
        if !(1..=count).contains(&column) {
            pgrx::error!("a result of {count} columns has no column {column}");
        }
        #[cfg(feature = "pg18")]
        let first: *const pg_sys::FormData_pg_attribute = (&raw const (*descriptor).compact_attrs)
            .cast::<pg_sys::CompactAttribute>()
            .add(count as usize)
            .cast();
        #[cfg(not(feature = "pg18"))]
        let first: *const pg_sys::FormData_pg_attribute = (&raw const (*descriptor).attrs).cast();
        &*first.add(column as usize - 1)
    }
}
