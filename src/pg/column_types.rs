//! What PostgreSQL says of the types of columns.

use std::ffi::{CStr, CString, c_char};

use pgrx::pg_sys;

use super::spi;
use crate::search::filter::{ColumnTypes, Comparisons};
use crate::search::source::Column;
use crate::search::{Parameter, Statement};

/// The types of this server.
pub struct ServerTypes;

impl ColumnTypes for ServerTypes {
    fn check_value(&self, column: &Column, text: &str) -> Result<(), (&'static str, String)> {
        // A list may have many values.
        pgrx::check_for_interrupts!();
        let Ok(text) = CString::new(text) else {
            return Err(("22021", "a text cannot contain a zero byte".to_owned()));
        };
        let mut context = pg_sys::ErrorSaveContext {
            type_: pg_sys::NodeTag::T_ErrorSaveContext,
            error_occurred: false,
            details_wanted: true,
            error_data: std::ptr::null_mut(),
        };
        // SAFETY: the type is that of an existing column; its input function reads a C string, and
        // an error of the value is written to the context instead of being raised.
        unsafe {
            let (mut function, mut parameter) = (pg_sys::InvalidOid, pg_sys::InvalidOid);
            pg_sys::getTypeInputInfo(pg_sys::Oid::from(column.type_oid), &mut function, &mut parameter);
            let mut call = pg_sys::FmgrInfo::default();
            pg_sys::fmgr_info(function, &mut call);
            let mut value = pg_sys::Datum::from(0);
            let context: *mut pg_sys::ErrorSaveContext = &mut context;
            let text = text.as_ptr().cast_mut();
            if pg_sys::InputFunctionCallSafe(&mut call, text, parameter, -1, context.cast(), &mut value) {
                return Ok(());
            }
            let Some(error) = (*context).error_data.as_ref() else {
                return Err(("22P02", "the type does not read it".to_owned()));
            };
            let message = CStr::from_ptr(error.message).to_string_lossy().into_owned();
            Err((sqlstate_of(error.sqlerrcode), message))
        }
    }

    fn comparisons(&self, column: &Column) -> Comparisons {
        let wanted = pg_sys::TYPECACHE_EQ_OPR | pg_sys::TYPECACHE_LT_OPR;
        // SAFETY: the type is that of an existing column; the entry lives as long as the session.
        let entry = unsafe { &*pg_sys::lookup_type_cache(pg_sys::Oid::from(column.type_oid), wanted as i32) };
        Comparisons {
            equality: entry.eq_opr != pg_sys::InvalidOid,
            order: entry.lt_opr != pg_sys::InvalidOid,
        }
    }
}

/// Whether values of a type are read, compared and written by functions of the server or of a superuser alone. Others
/// run code of the type's author, as a cast of an enum does, which a search must run with the rights of the caller:
/// never as the owner of a table who happens to use the type.
///
/// Checks of a domain run when a value becomes one of the domain, which no search does with other rights.
pub fn is_trusted(type_oid: pg_sys::Oid) -> bool {
    // SAFETY: syscache look-ups, which give zero for a type that is gone.
    unsafe {
        let base = pg_sys::getBaseType(type_oid);
        let element = pg_sys::get_element_type(base);
        if element != pg_sys::InvalidOid {
            return is_trusted(element);
        }
        match pg_sys::get_typtype(base) {
            _ if base.to_u32() < pg_sys::FirstNormalObjectId => true,
            // Only superusers make such types, though they may give them away.
            kind if kind == pg_sys::TYPTYPE_BASE as c_char => is_owned_by_superuser(base),
            kind if kind == pg_sys::TYPTYPE_ENUM as c_char => !has_cast_functions(base),
            _ => false,
        }
    }
}

fn is_owned_by_superuser(type_oid: pg_sys::Oid) -> bool {
    // SAFETY: a syscache look-up; the tuple is read before it is released.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(pg_sys::SysCacheIdentifier::TYPEOID as i32, type_oid.into());
        if tuple.is_null() {
            return false;
        }
        let owner = (*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_type>()).typowner;
        pg_sys::ReleaseSysCache(tuple);
        pg_sys::superuser_arg(owner)
    }
}

/// Whether a cast of the type calls a function.
fn has_cast_functions(type_oid: pg_sys::Oid) -> bool {
    let mut statement = Statement::default();
    let number = statement.bind(Parameter::Integer(i64::from(type_oid.to_u32())));
    statement.push(format_args!(
        "SELECT FROM pg_catalog.pg_cast AS c \
         WHERE (c.castsource OPERATOR(pg_catalog.=) {number}::pg_catalog.oid \
             OR c.casttarget OPERATOR(pg_catalog.=) {number}::pg_catalog.oid) \
         AND c.castfunc OPERATOR(pg_catalog.<>) 0::pg_catalog.oid LIMIT 1"
    ));
    !spi::query_latest(&statement, |_| ()).is_empty()
}

/// The SQLSTATEs with which types refuse a text; anything else counts as bad syntax.
fn sqlstate_of(code: i32) -> &'static str {
    const KNOWN: [(pgrx::PgSqlErrorCode, &str); 3] = [
        (pgrx::PgSqlErrorCode::ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE, "22003"),
        (pgrx::PgSqlErrorCode::ERRCODE_INVALID_DATETIME_FORMAT, "22007"),
        (pgrx::PgSqlErrorCode::ERRCODE_DATETIME_FIELD_OVERFLOW, "22008"),
    ];
    KNOWN.iter().find(|(known, _)| *known as i32 == code).map_or("22P02", |(_, sqlstate)| sqlstate)
}
