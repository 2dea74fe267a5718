//! jsonb that passes through as text, so that its numbers keep every digit.

use std::ffi::{CStr, CString};

use crate::kit::report::OrReport;
use pgrx::callconv::{Arg, ArgAbi, BoxRet, FcInfo};
use pgrx::datum::UnboxDatum;
use pgrx::nullable::Nullable;
use pgrx::pgrx_sql_entity_graph::metadata::{
    ArgumentError, ReturnsError, ReturnsRef, SqlMappingRef, SqlTranslatable, TypeOrigin,
};
use pgrx::{FromDatum, IntoDatum, direct_function_call, direct_function_call_as_datum, pg_sys};
use vector_tools_core::search::filter::check_bytes;

/// The text of a jsonb value.
#[derive(Debug, Clone, PartialEq)]
pub struct JsonbText(pub String);

impl IntoDatum for JsonbText {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        let text = CString::new(self.0).ok()?;
        // SAFETY: jsonb_in takes one C string.
        unsafe { direct_function_call_as_datum(pg_sys::jsonb_in, &[Some(text.as_ptr().into())]) }
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::JSONBOID
    }
}

impl FromDatum for JsonbText {
    unsafe fn from_polymorphic_datum(
        datum: pg_sys::Datum,
        is_null: bool,
        _: pg_sys::Oid,
    ) -> Option<JsonbText> {
        if is_null {
            return None;
        }
        // SAFETY: the caller says that the datum is a jsonb; jsonb_out gives a fresh C string.
        unsafe {
            let text: &CStr = direct_function_call(pg_sys::jsonb_out, &[Some(datum)])?;
            Some(JsonbText(text.to_string_lossy().into_owned()))
        }
    }
}

/// The text of a filter.
#[derive(Debug, Clone, PartialEq)]
pub struct FilterText(pub String);

/// One that is too large is not even written out, which nothing interrupts: [`Error::InvalidFilter`] (22023).
///
/// [`Error::InvalidFilter`]: vector_tools_core::error::Error::InvalidFilter
impl FromDatum for FilterText {
    unsafe fn from_polymorphic_datum(
        datum: pg_sys::Datum,
        is_null: bool,
        type_oid: pg_sys::Oid,
    ) -> Option<FilterText> {
        if is_null {
            return None;
        }
        // SAFETY: the caller says that the datum is a jsonb, in whose header its size stands.
        unsafe {
            check_bytes(pg_sys::toast_raw_datum_size(datum)).or_report();
            JsonbText::from_polymorphic_datum(datum, is_null, type_oid).map(|filter| FilterText(filter.0))
        }
    }
}

// SAFETY: reads a datum that is not null, as from_polymorphic_datum does.
unsafe impl UnboxDatum for JsonbText {
    type As<'src> = JsonbText;

    unsafe fn unbox<'src>(datum: pgrx::datum::Datum<'src>) -> JsonbText
    where
        JsonbText: 'src,
    {
        // SAFETY: the caller says that the datum is a jsonb.
        let value = unsafe { JsonbText::from_datum(datum.sans_lifetime(), false) };
        value.unwrap_or(JsonbText(String::new()))
    }
}

// SAFETY: reads an argument that SQL declares as jsonb.
unsafe impl<'fcx> ArgAbi<'fcx> for JsonbText {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> JsonbText {
        // SAFETY: the caller says that the argument is a jsonb.
        unsafe { arg.unbox_arg_using_from_datum() }.unwrap_or(JsonbText(String::new()))
    }

    unsafe fn unbox_nullable_arg(arg: Arg<'_, 'fcx>) -> Nullable<JsonbText> {
        // SAFETY: as above.
        unsafe { arg.unbox_arg_using_from_datum().into() }
    }
}

// SAFETY: the value is boxed as the datum that into_datum makes.
unsafe impl BoxRet for JsonbText {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> pgrx::datum::Datum<'fcx> {
        match self.into_datum() {
            // SAFETY: the datum was made for this call in the current memory context.
            Some(datum) => unsafe { fcinfo.return_raw_datum(datum) },
            None => fcinfo.return_null(),
        }
    }
}

// SAFETY: jsonb is a built-in type.
unsafe impl SqlTranslatable for JsonbText {
    const TYPE_IDENT: &'static str = pgrx::pgrx_resolved_type!(JsonbText);
    const TYPE_ORIGIN: TypeOrigin = TypeOrigin::External;
    const ARGUMENT_SQL: Result<SqlMappingRef, ArgumentError> = Ok(SqlMappingRef::literal("jsonb"));
    const RETURN_SQL: Result<ReturnsRef, ReturnsError> = Ok(ReturnsRef::One(SqlMappingRef::literal("jsonb")));
}
