//! A row as the log has it: jsonb of its columns, and its primary key as text.

use std::ffi::CStr;

use pgrx::{PgRelation, direct_function_call, pg_sys};

use crate::pg::lossless::with_lossless_output;
use crate::pg::vector;
use crate::tables::audit::change::join_key;

/// `to_jsonb(anyelement)`, which PostgreSQL keeps under this number.
const TO_JSONB: u32 = 3787;

/// Makes jsonb of the rows of one table.
pub struct RowEncoder {
    /// The columns that are written, by their place in the row.
    written: Vec<usize>,
    /// A row type of those columns only.
    row_type: pg_sys::TupleDesc,
    row_to_json: *mut pg_sys::FmgrInfo,
    key: Vec<KeyColumn>,
    /// Where everything above lies.
    context: pg_sys::MemoryContext,
}

struct KeyColumn {
    place: usize,
    output: pg_sys::Oid,
    to_json: *mut pg_sys::FmgrInfo,
}

/// A row's jsonb and its key, in the current memory context.
pub struct EncodedRow {
    /// A jsonb.
    pub data: pg_sys::Datum,
    /// The primary key, if there is one.
    pub key: Option<String>,
}

impl RowEncoder {
    /// Reads the columns and the primary key of a table.
    pub fn new(table: &PgRelation, include_embeddings: bool) -> RowEncoder {
        let columns = table.tuple_desc();
        let written: Vec<usize> = (0..columns.len())
            .filter(|place| columns.get(*place).is_some_and(|column| is_written(column, include_embeddings)))
            .collect();
        let key_columns = key_places(table);
        // SAFETY: everything is allocated in a context of its own, which is deleted with the
        // value; the descriptor is that of an open table.
        unsafe {
            let context = pg_sys::AllocSetContextCreateInternal(
                pg_sys::TopMemoryContext,
                c"vector_tools audited table".as_ptr(),
                0,
                1024,
                8192,
            );
            let outer = pg_sys::MemoryContextSwitchTo(context);
            let row_type = pg_sys::CreateTemplateTupleDesc(written.len() as i32);
            for (target, place) in written.iter().enumerate() {
                let source = (*table.as_ptr()).rd_att;
                pg_sys::TupleDescCopyEntry(row_type, target as i16 + 1, source, *place as i16 + 1);
            }
            let row_type = pg_sys::BlessTupleDesc(row_type);
            let row_to_json = json_function(pg_sys::RECORDOID);
            let key = key_columns
                .into_iter()
                .map(|(place, type_oid)| KeyColumn {
                    place,
                    output: output_function(type_oid),
                    to_json: json_function(type_oid),
                })
                .collect();
            pg_sys::MemoryContextSwitchTo(outer);
            RowEncoder { written, row_type, row_to_json, key, context }
        }
    }

    /// A row as the log has it.
    ///
    /// # Safety
    /// `row` must be a row of the table this was made for, with the descriptor of that table.
    pub unsafe fn encode(&self, row: pg_sys::HeapTuple, descriptor: pg_sys::TupleDesc) -> EncodedRow {
        // SAFETY: the caller's promise; all values are read before anything is freed.
        with_lossless_output(|| unsafe {
            let count = (*descriptor).natts as usize;
            let mut values = vec![pg_sys::Datum::from(0); count];
            let mut nulls = vec![true; count];
            pg_sys::heap_deform_tuple(row, descriptor, values.as_mut_ptr(), nulls.as_mut_ptr());
            let key = self.encode_key(&values);
            // The kept columns only move to the front.
            for (target, place) in self.written.iter().enumerate() {
                values[target] = values[*place];
                nulls[target] = nulls[*place];
            }
            let kept = pg_sys::heap_form_tuple(self.row_type, values.as_ptr(), nulls.as_ptr());
            let composite = pg_sys::Datum::from((*kept).t_data);
            let data = pg_sys::FunctionCall1Coll(self.row_to_json, pg_sys::InvalidOid, composite);
            EncodedRow { data, key }
        })
    }

    /// The columns of a primary key are never NULL.
    unsafe fn encode_key(&self, values: &[pg_sys::Datum]) -> Option<String> {
        // SAFETY: the functions are those of the columns' types, and give fresh C strings.
        unsafe {
            match self.key.as_slice() {
                [] => None,
                [column] => {
                    let text = pg_sys::OidOutputFunctionCall(column.output, values[column.place]);
                    Some(CStr::from_ptr(text).to_string_lossy().into_owned())
                }
                columns => {
                    let json = columns.iter().map(|column| {
                        let value = values[column.place];
                        let json = pg_sys::FunctionCall1Coll(column.to_json, pg_sys::InvalidOid, value);
                        let text: &CStr = direct_function_call(pg_sys::jsonb_out, &[Some(json)])?;
                        Some(text.to_string_lossy().into_owned())
                    });
                    let json: Option<Vec<String>> = json.collect();
                    json.map(|json| join_key(&json))
                }
            }
        }
    }
}

impl Drop for RowEncoder {
    fn drop(&mut self) {
        // SAFETY: made in new, and nothing else points into it.
        unsafe { pg_sys::MemoryContextDelete(self.context) };
    }
}

/// Whether a column goes to the log. Columns that are computed when they are read have no value in
/// a trigger's row.
fn is_written(column: &pg_sys::FormData_pg_attribute, include_embeddings: bool) -> bool {
    const VIRTUAL: u8 = b'v';
    let is_there = !column.attisdropped && column.attgenerated as u8 != VIRTUAL;
    is_there && (include_embeddings || !is_embedding(column.atttypid))
}

/// Whether a type is one of embeddings and their like: also as a domain or an array.
fn is_embedding(type_oid: pg_sys::Oid) -> bool {
    let known = [pg_sys::TSVECTOROID, pg_sys::BITOID, pg_sys::VARBITOID];
    // SAFETY: syscache look-ups of a column's type.
    let plain = unsafe {
        let base = pg_sys::getBaseType(type_oid);
        let element = pg_sys::get_element_type(base);
        if element == pg_sys::InvalidOid { base } else { pg_sys::getBaseType(element) }
    };
    known.contains(&plain) || vector::embedding_types().contains(&plain)
}

/// The places and types of the primary key's columns, in the order of the table's, as searches
/// name rows.
fn key_places(table: &PgRelation) -> Vec<(usize, pg_sys::Oid)> {
    let columns = table.tuple_desc();
    let key = crate::pg::catalog::primary_key_numbers(table);
    key.into_iter()
        .filter_map(|number| {
            let place = number as usize - 1;
            Some((place, columns.get(place)?.atttypid))
        })
        .collect()
}

unsafe fn output_function(type_oid: pg_sys::Oid) -> pg_sys::Oid {
    let (mut output, mut is_variable) = (pg_sys::InvalidOid, false);
    // SAFETY: the type is that of an existing column.
    unsafe { pg_sys::getTypeOutputInfo(type_oid, &mut output, &mut is_variable) };
    output
}

/// `to_jsonb` for values of a type, in the current memory context. It asks the expression it is
/// called in for the type of its argument, so it gets one.
unsafe fn json_function(type_oid: pg_sys::Oid) -> *mut pg_sys::FmgrInfo {
    let none = pg_sys::InvalidOid;
    // SAFETY: everything is allocated in the current context, which outlives the result.
    unsafe {
        let call = pg_sys::palloc0(size_of::<pg_sys::FmgrInfo>()).cast::<pg_sys::FmgrInfo>();
        pg_sys::fmgr_info_cxt(pg_sys::Oid::from(TO_JSONB), call, pg_sys::CurrentMemoryContext);
        let argument = pg_sys::makeConst(type_oid, -1, none, -1, pg_sys::Datum::from(0), true, false);
        let arguments = pg_sys::lappend(std::ptr::null_mut(), argument.cast());
        let form = pg_sys::CoercionForm::COERCE_EXPLICIT_CALL;
        let expression = pg_sys::makeFuncExpr((*call).fn_oid, pg_sys::JSONBOID, arguments, none, none, form);
        (*call).fn_expr = expression.cast();
        call
    }
}
