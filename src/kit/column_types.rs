//! What PostgreSQL says of the types of columns.

use std::ffi::{CStr, CString, c_char};

use pgrx::pg_sys;

use crate::kit::spi;
use vector_tools_core::search::filter::{ColumnTypes, Comparisons};
use vector_tools_core::search::source::Column;
use vector_tools_core::sql::{Parameter, Statement};

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
    let layers = layers_of(type_oid);
    let is_base_trusted = layers.last().is_some_and(|base| {
        // SAFETY: a syscache look-up, which gives zero for a type that is gone.
        let kind = unsafe { pg_sys::get_typtype(*base) };
        // Only superusers make base types, though they may give them away.
        is_builtin(*base)
            || kind == pg_sys::TYPTYPE_ENUM as c_char
            || kind == pg_sys::TYPTYPE_BASE as c_char && is_owned_by_superuser(*base)
    });
    is_base_trusted && !have_cast_functions(layers)
}

/// A type and all that it is made of: the types below its domains and the elements of its arrays, down to the one
/// that is neither.
fn layers_of(type_oid: pg_sys::Oid) -> Vec<pg_sys::Oid> {
    let mut layers = vec![type_oid];
    let mut current = type_oid;
    loop {
        // SAFETY: syscache look-ups. A domain gives its base type, which passes over the domains between: casts of
        // these are never used, but those of their arrays are, which have the domain for an element.
        let next = unsafe {
            let base = pg_sys::getBaseType(current);
            if base == current { pg_sys::get_element_type(current) } else { base }
        };
        if next == pg_sys::InvalidOid {
            return layers;
        }
        layers.push(next);
        current = next;
    }
}

fn is_builtin(type_oid: pg_sys::Oid) -> bool {
    type_oid.to_u32() < pg_sys::FirstNormalObjectId
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

/// Whether a cast from or to one of these types calls a function that somebody else than a superuser may have made.
fn have_cast_functions(mut types: Vec<pg_sys::Oid>) -> bool {
    // Casts between types of superusers are made by superusers; one to another role's type is never used for these.
    types.retain(|type_oid| !is_builtin(*type_oid) && !is_base_of_superuser(*type_oid));
    if types.is_empty() {
        return false;
    }
    let mut statement = Statement::default();
    let types = types.iter().map(|type_oid| i64::from(type_oid.to_u32())).collect();
    let numbers = statement.bind(Parameter::Integers(types));
    statement.push(format_args!(
        "SELECT FROM pg_catalog.pg_cast AS c \
         WHERE (c.castsource::pg_catalog.int8 OPERATOR(pg_catalog.=) ANY ({numbers}) \
             OR c.casttarget::pg_catalog.int8 OPERATOR(pg_catalog.=) ANY ({numbers})) \
         AND c.castfunc OPERATOR(pg_catalog.<>) 0::pg_catalog.oid LIMIT 1"
    ));
    !spi::query_new_snapshot(&statement, |_| ()).is_empty()
}

/// Arrays are base types, too, with the owner of their elements: these are asked for their casts.
fn is_base_of_superuser(type_oid: pg_sys::Oid) -> bool {
    // SAFETY: syscache look-ups.
    let is_plain_base = unsafe {
        pg_sys::get_typtype(type_oid) == pg_sys::TYPTYPE_BASE as c_char
            && pg_sys::get_element_type(type_oid) == pg_sys::InvalidOid
    };
    is_plain_base && is_owned_by_superuser(type_oid)
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
