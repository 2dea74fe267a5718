//! Arrays as SQL hands them in, and as a statement takes them.

use pgrx::{Array, pg_sys};

use crate::error::{Error, Result};

/// The elements of a text array of one dimension.
///
/// # Errors
/// [`Error::WrongArrayShape`] (2202E) for an array of several dimensions.
pub fn one_dimensional(array: Array<'_, &str>) -> Result<Vec<Option<String>>> {
    let elements = array.iter().map(|text| text.map(str::to_owned)).collect();
    // SAFETY: into_array_type hands back the array that the elements were just read from.
    let dimensions = unsafe { (*array.into_array_type()).ndim };
    if dimensions > 1 { Err(Error::WrongArrayShape { found: dimensions }) } else { Ok(elements) }
}

/// An array of values of variable length, in the current memory context. Each is written by `write`
/// to the place that it gets, which has as many bytes as `bytes` says, its header included, and
/// begins at a multiple of four.
pub fn varlena_array<T>(
    element_type: pg_sys::Oid,
    values: &[T],
    bytes: impl Fn(&T) -> usize,
    write: impl Fn(&T, *mut u8),
) -> pg_sys::Datum {
    const ALIGNMENT: usize = 4;
    // An array without elements has no dimension.
    let dimensions = usize::from(!values.is_empty());
    // The header, then for each dimension its size and its first index.
    let begin = (size_of::<pg_sys::ArrayType>() + dimensions * 8).next_multiple_of(8);
    let begin = if dimensions == 0 { size_of::<pg_sys::ArrayType>() } else { begin };
    let length = begin + values.iter().map(|value| bytes(value).next_multiple_of(ALIGNMENT)).sum::<usize>();
    // SAFETY: palloc gives as many bytes, aligned for any type, or raises an error; all writes are
    // inside them.
    unsafe {
        let array = pg_sys::palloc0(length).cast::<pg_sys::ArrayType>();
        pgrx::varlena::set_varsize_4b(array.cast(), length as i32);
        (*array).ndim = dimensions as i32;
        (*array).dataoffset = 0;
        (*array).elemtype = element_type;
        if dimensions == 1 {
            let sizes = array.add(1).cast::<i32>();
            *sizes = values.len() as i32;
            *sizes.add(1) = 1;
        }
        let mut place = array.cast::<u8>().add(begin);
        for value in values {
            write(value, place);
            place = place.add(bytes(value).next_multiple_of(ALIGNMENT));
        }
        pg_sys::Datum::from(array)
    }
}

/// A `text[]`, in the current memory context.
pub fn text_array(texts: &[String]) -> pg_sys::Datum {
    const HEADER: usize = size_of::<u32>();
    varlena_array(
        pg_sys::TEXTOID,
        texts,
        |text| HEADER + text.len(),
        |text, place| {
            // SAFETY: varlena_array gives as many bytes as were asked for.
            unsafe {
                pgrx::varlena::set_varsize_4b(place.cast(), (HEADER + text.len()) as i32);
                std::ptr::copy_nonoverlapping(text.as_ptr(), place.add(HEADER), text.len());
            }
        },
    )
}
