//! Arrays as SQL hands them in, and as a statement takes them.

use pgrx::{Array, pg_sys};

use vector_tools_core::error::{Error, Result};

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
    shaped_array(element_type, &[values.len()], values, bytes, write)
}

/// Like [`varlena_array`], of as many dimensions as there are sizes, the last one's values together.
fn shaped_array<T>(
    element_type: pg_sys::Oid,
    sizes: &[usize],
    values: &[T],
    bytes: impl Fn(&T) -> usize,
    write: impl Fn(&T, *mut u8),
) -> pg_sys::Datum {
    const ALIGNMENT: usize = 4;
    // An array without elements has no dimension.
    let sizes = if values.is_empty() { &[] } else { sizes };
    // The header, then of all dimensions the sizes, and of all the first indices.
    let begin = size_of::<pg_sys::ArrayType>() + sizes.len() * 8;
    let begin = if sizes.is_empty() { begin } else { begin.next_multiple_of(8) };
    let length = begin + values.iter().map(|value| bytes(value).next_multiple_of(ALIGNMENT)).sum::<usize>();
    // SAFETY: palloc gives as many bytes, aligned for any type, or raises an error; all writes are
    // inside them.
    unsafe {
        let array = pg_sys::palloc0(length).cast::<pg_sys::ArrayType>();
        pgrx::varlena::set_varsize_4b(array.cast(), length as i32);
        (*array).ndim = sizes.len() as i32;
        (*array).dataoffset = 0;
        (*array).elemtype = element_type;
        let numbers = array.add(1).cast::<i32>();
        for (place, size) in sizes.iter().enumerate() {
            *numbers.add(place) = *size as i32;
            *numbers.add(sizes.len() + place) = 1;
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
    varlena_array(pg_sys::TEXTOID, texts, |text| text_bytes(text), |text, place| write_text(text, place))
}

/// A `text[]` of two dimensions, in the current memory context; all lines have the length of the first.
pub fn text_lines(lines: &[Vec<String>]) -> pg_sys::Datum {
    let sizes = [lines.len(), lines.first().map_or(0, Vec::len)];
    let texts: Vec<&String> = lines.iter().flatten().collect();
    assert_eq!(texts.len(), sizes[0] * sizes[1], "lines of one length");
    shaped_array(
        pg_sys::TEXTOID,
        &sizes,
        &texts,
        |text| text_bytes(text),
        |text, place| {
            write_text(text, place);
        },
    )
}

const TEXT_HEADER: usize = size_of::<u32>();

fn text_bytes(text: &str) -> usize {
    TEXT_HEADER + text.len()
}

/// Writes a text to a place of as many bytes as [`text_bytes`] says.
fn write_text(text: &str, place: *mut u8) {
    // SAFETY: the arrays above give as many bytes as were asked for.
    unsafe {
        pgrx::varlena::set_varsize_4b(place.cast(), text_bytes(text) as i32);
        std::ptr::copy_nonoverlapping(text.as_ptr(), place.add(TEXT_HEADER), text.len());
    }
}
