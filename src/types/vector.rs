//! pgvector's `vector` as a binary datum.
//!
//! Its layout (pgvector, src/vector.h): a varlena header, `int16 dim`, `int16 unused`, then `dim`
//! numbers of type `float4`.

use pgrx::callconv::{BoxRet, FcInfo};
use pgrx::datum::UnboxDatum;
use pgrx::pg_sys::{self, Oid};
use pgrx::pgrx_sql_entity_graph::metadata::{
    ArgumentError, ReturnsError, ReturnsRef, SqlMappingRef, SqlTranslatable, TypeOrigin,
};
use pgrx::{FromDatum, IntoDatum};

use crate::types::array::varlena_array;

/// A vector on its way into or out of PostgreSQL.
#[derive(Debug, Clone, PartialEq)]
pub struct Vector(pub Vec<f32>);

/// What stands before the numbers: the varlena header and two 16-bit fields.
#[repr(C)]
struct Header {
    varlena: u32,
    dimensions: i16,
    unused: i16,
}

const HEADER_BYTES: usize = std::mem::size_of::<Header>();

/// The bytes of a vector as PostgreSQL holds it.
fn bytes_of(numbers: &[f32]) -> usize {
    HEADER_BYTES + std::mem::size_of_val(numbers)
}

/// Writes a vector as PostgreSQL holds it.
///
/// # Safety
/// `place` must have as many bytes as [`bytes_of`] says, zeroed and aligned to four.
unsafe fn write_to(numbers: &[f32], place: *mut u8) {
    // SAFETY: the caller's promise.
    unsafe {
        pgrx::varlena::set_varsize_4b(place.cast(), bytes_of(numbers) as i32);
        (*place.cast::<Header>()).dimensions = numbers.len() as i16;
        std::ptr::copy_nonoverlapping(numbers.as_ptr(), place.add(HEADER_BYTES).cast(), numbers.len());
    }
}

/// An array of pgvector's `vector`, in the current memory context.
pub fn vector_array(vectors: &[Vec<f32>]) -> pg_sys::Datum {
    // SAFETY: the array's places have the bytes that were asked for, zeroed and aligned.
    varlena_array(
        vector_type(),
        vectors,
        |vector| bytes_of(vector),
        |vector, place| unsafe {
            write_to(vector, place);
        },
    )
}

impl IntoDatum for Vector {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        // SAFETY: palloc0 gives as many zeroed bytes, aligned for any type.
        unsafe {
            let pointer = pg_sys::palloc0(bytes_of(&self.0));
            write_to(&self.0, pointer.cast());
            Some(pg_sys::Datum::from(pointer))
        }
    }

    fn type_oid() -> Oid {
        vector_type()
    }
}

impl FromDatum for Vector {
    unsafe fn from_polymorphic_datum(datum: pg_sys::Datum, is_null: bool, _: Oid) -> Option<Vector> {
        if is_null {
            return None;
        }
        // SAFETY: the caller says that the datum is a vector, whose layout is the header and then
        // as many numbers as it says; detoasting makes it plain and aligned.
        unsafe {
            let given: *mut pg_sys::varlena = datum.cast_mut_ptr();
            let pointer = pg_sys::pg_detoast_datum(given);
            let dimensions = (*pointer.cast::<Header>()).dimensions as usize;
            let numbers = pointer.cast::<u8>().add(HEADER_BYTES).cast::<f32>();
            let vector = Vector(std::slice::from_raw_parts(numbers, dimensions).to_vec());
            // A statement may read many.
            if pointer != given {
                pg_sys::pfree(pointer.cast());
            }
            Some(vector)
        }
    }
}

// SAFETY: reads a datum that is not null, as from_polymorphic_datum does.
unsafe impl UnboxDatum for Vector {
    type As<'src> = Vector;

    unsafe fn unbox<'src>(datum: pgrx::datum::Datum<'src>) -> Vector
    where
        Vector: 'src,
    {
        // SAFETY: the caller says that the datum is a vector.
        let vector = unsafe { Vector::from_datum(datum.sans_lifetime(), false) };
        vector.unwrap_or(Vector(vec![]))
    }
}

// SAFETY: the value is boxed as the datum that into_datum makes.
unsafe impl BoxRet for Vector {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> pgrx::datum::Datum<'fcx> {
        match self.into_datum() {
            // SAFETY: the datum was made for this call in the current memory context.
            Some(datum) => unsafe { fcinfo.return_raw_datum(datum) },
            None => fcinfo.return_null(),
        }
    }
}

// SAFETY: `vector` is the name of pgvector's type, and CREATE EXTENSION puts the schema of a
// required extension on the search path of the script.
unsafe impl SqlTranslatable for Vector {
    const TYPE_IDENT: &'static str = pgrx::pgrx_resolved_type!(Vector);
    const TYPE_ORIGIN: TypeOrigin = TypeOrigin::External;
    const ARGUMENT_SQL: Result<SqlMappingRef, ArgumentError> = Ok(SqlMappingRef::literal("vector"));
    const RETURN_SQL: Result<ReturnsRef, ReturnsError> =
        Ok(ReturnsRef::One(SqlMappingRef::literal("vector")));
}

/// The type `vector` of pgvector, wherever that extension was created.
pub fn vector_type() -> Oid {
    pgvector_type(c"vector")
}

/// The type `halfvec` of pgvector.
pub fn half_vector_type() -> Oid {
    pgvector_type(c"halfvec")
}

/// All types of pgvector for embeddings.
pub fn embedding_types() -> [Oid; 3] {
    [vector_type(), half_vector_type(), pgvector_type(c"sparsevec")]
}

fn pgvector_type(name: &std::ffi::CStr) -> Oid {
    // SAFETY: syscache look-ups with a valid C string and a schema that exists.
    unsafe {
        pg_sys::GetSysCacheOid(
            pg_sys::SysCacheIdentifier::TYPENAMENSP as i32,
            pg_sys::Anum_pg_type_oid as i16,
            pg_sys::Datum::from(name.as_ptr()),
            pg_sys::Datum::from(pgvector_schema_oid()),
            pg_sys::Datum::from(0),
            pg_sys::Datum::from(0),
        )
    }
}

/// The number of pgvector's schema.
pub fn pgvector_schema_oid() -> Oid {
    // SAFETY: a valid C string; with missing_ok false PostgreSQL raises its own error.
    unsafe { pg_sys::get_extension_schema(pg_sys::get_extension_oid(c"vector".as_ptr(), false)) }
}
