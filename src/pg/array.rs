//! Arrays of texts as SQL hands them in.

use pgrx::Array;

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
