//! A relation as an SQL result, shown by its name.

use pgrx::callconv::{BoxRet, FcInfo};
use pgrx::pg_sys;
use pgrx::pgrx_sql_entity_graph::metadata::{
    ArgumentError, ReturnsError, ReturnsRef, SqlMappingRef, SqlTranslatable, TypeOrigin,
};

use vector_tools_core::sql::identifier::{Identifier, QualifiedName};

/// A `regclass`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Regclass(pub pg_sys::Oid);

impl Regclass {
    /// The relation of that name, if there is one. No lock is taken.
    pub fn find(name: &QualifiedName) -> Option<Regclass> {
        let schema = std::ffi::CString::new(name.schema.as_str()).ok()?;
        let relation = std::ffi::CString::new(name.name.as_str()).ok()?;
        // SAFETY: syscache look-ups with valid C strings.
        let oid = unsafe {
            let schema = pg_sys::get_namespace_oid(schema.as_ptr(), true);
            pg_sys::get_relname_relid(relation.as_ptr(), schema)
        };
        (oid != pg_sys::InvalidOid).then_some(Regclass(oid))
    }

    /// The first relation of that name in the schemas of search_path, those left out that the
    /// caller may not use. Temporary tables are left out too: whoever writes a function with rights
    /// of its own names the schemas that it trusts, and pg_temp may come before them unnamed.
    pub fn find_in_path(name: &Identifier) -> Option<Regclass> {
        const MOST_SCHEMAS: usize = 256;
        let name = std::ffi::CString::new(name.as_str()).ok()?;
        let mut schemas = [pg_sys::InvalidOid; MOST_SCHEMAS];
        // SAFETY: the server writes at most as many schemas as there is room for, and says how many
        // there are.
        let count = unsafe { pg_sys::fetch_search_path_array(schemas.as_mut_ptr(), MOST_SCHEMAS as i32) };
        let count = usize::try_from(count).unwrap_or_default().min(MOST_SCHEMAS);
        schemas[..count]
            .iter()
            // SAFETY: a syscache look-up with a valid C string.
            .map(|schema| unsafe { pg_sys::get_relname_relid(name.as_ptr(), *schema) })
            .find(|found| *found != pg_sys::InvalidOid)
            .map(Regclass)
    }
}

// SAFETY: a regclass is passed by value, as the oid it is.
unsafe impl BoxRet for Regclass {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> pgrx::datum::Datum<'fcx> {
        // SAFETY: an oid is passed by value.
        unsafe { fcinfo.return_raw_datum(pg_sys::Datum::from(self.0)) }
    }
}

// SAFETY: regclass is a built-in type.
unsafe impl SqlTranslatable for Regclass {
    const TYPE_IDENT: &'static str = pgrx::pgrx_resolved_type!(Regclass);
    const TYPE_ORIGIN: TypeOrigin = TypeOrigin::External;
    const ARGUMENT_SQL: Result<SqlMappingRef, ArgumentError> = Ok(SqlMappingRef::literal("regclass"));
    const RETURN_SQL: Result<ReturnsRef, ReturnsError> =
        Ok(ReturnsRef::One(SqlMappingRef::literal("regclass")));
}
