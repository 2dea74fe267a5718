//! A row as the log has it: `to_jsonb` of its columns, and its primary key as text.

use std::ffi::CStr;

use pgrx::{IntoDatum, PgRelation, direct_function_call, pg_sys};

use crate::kit::lossless::{with_lossless_output, with_pinned_output};
use crate::types::vector;
use vector_tools_core::audit::change::join_key;

/// Makes jsonb of the rows of one table.
pub struct RowEncoder {
    /// The places of the columns that are kept.
    kept: Vec<usize>,
    /// A row type of those columns only.
    row_type: pg_sys::TupleDesc,
    row_to_json: *mut pg_sys::FmgrInfo,
    key: Key,
    /// Whether a function that is not the server's may be called, or one that asks for the session's currency.
    depends_on_session: bool,
    /// Where the functions and the row type lie.
    context: pg_sys::MemoryContext,
}

/// The columns of a primary key by their places, and what makes text of their values.
enum Key {
    /// The type's own output function.
    Column(usize, *mut pg_sys::FmgrInfo),
    /// `to_jsonb` of each; there are none where the table has no key.
    Columns(Vec<(usize, *mut pg_sys::FmgrInfo)>),
}

/// A row's values in the log.
pub struct EncodedRow {
    /// A jsonb.
    pub data: pg_sys::Datum,
    /// The primary key, if there is one, a text.
    pub key: Option<pg_sys::Datum>,
}

impl RowEncoder {
    /// Reads the columns and the primary key of a table.
    pub fn new(table: &PgRelation, include_embeddings: bool) -> RowEncoder {
        let columns = table.tuple_desc();
        let kept: Vec<&pg_sys::FormData_pg_attribute> =
            columns.iter().filter(|column| is_kept(column, include_embeddings)).collect();
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
            let row_type = pg_sys::CreateTemplateTupleDesc(kept.len() as i32);
            for (target, column) in kept.iter().enumerate() {
                let source = (*table.as_ptr()).rd_att;
                pg_sys::TupleDescCopyEntry(row_type, target as i16 + 1, source, column.attnum);
            }
            let key = match key_columns.as_slice() {
                [(place, type_oid)] => Key::Column(*place, output_function(*type_oid)),
                several => Key::Columns(
                    several.iter().map(|(place, type_oid)| (*place, json_function(*type_oid))).collect(),
                ),
            };
            let encoder = RowEncoder {
                kept: kept.iter().map(|column| column.attnum as usize - 1).collect(),
                row_type: pg_sys::BlessTupleDesc(row_type),
                row_to_json: json_function(pg_sys::RECORDOID),
                key,
                depends_on_session: kept.iter().any(|column| depends_on_session(column.atttypid)),
                context,
            };
            pg_sys::MemoryContextSwitchTo(outer);
            encoder
        }
    }

    /// A row as the log has it, in the current memory context.
    ///
    /// # Safety
    /// `row` must be a row of the table this was made for, with the descriptor of that table.
    pub unsafe fn encode(&self, row: pg_sys::HeapTuple, descriptor: pg_sys::TupleDesc) -> EncodedRow {
        // SAFETY: the caller's promise.
        let encode = || unsafe { self.encode_pinned(row, descriptor) };
        match self.depends_on_session {
            true => with_pinned_output(|| with_lossless_output(encode)),
            false => with_lossless_output(encode),
        }
    }

    unsafe fn encode_pinned(&self, row: pg_sys::HeapTuple, descriptor: pg_sys::TupleDesc) -> EncodedRow {
        // SAFETY: as in encode; there are as many values as columns, and those that are kept only move to
        // the front.
        unsafe {
            let count = (*descriptor).natts as usize;
            let (mut values, mut nulls) = (vec![pg_sys::Datum::from(0); count], vec![true; count]);
            pg_sys::heap_deform_tuple(row, descriptor, values.as_mut_ptr(), nulls.as_mut_ptr());
            let key = self.key.text_of(&values);
            for (target, place) in self.kept.iter().enumerate() {
                (values[target], nulls[target]) = (values[*place], nulls[*place]);
            }
            let kept = pg_sys::heap_form_tuple(self.row_type, values.as_mut_ptr(), nulls.as_mut_ptr());
            let composite = pg_sys::Datum::from((*kept).t_data);
            let data = pg_sys::FunctionCall1Coll(self.row_to_json, pg_sys::InvalidOid, composite);
            EncodedRow { data, key }
        }
    }
}

impl Drop for RowEncoder {
    fn drop(&mut self) {
        // SAFETY: made in new, and nothing else points into it.
        unsafe { pg_sys::MemoryContextDelete(self.context) };
    }
}

impl Key {
    /// The key of a row with these values, which are never NULL in a key, in the current memory context.
    unsafe fn text_of(&self, values: &[pg_sys::Datum]) -> Option<pg_sys::Datum> {
        // SAFETY: the values are of the columns' types, for which the functions were made; those of output
        // give a fresh C string.
        unsafe {
            match self {
                Key::Column(place, output) => {
                    let text = pg_sys::OutputFunctionCall(*output, values[*place]);
                    Some(pg_sys::Datum::from(pg_sys::cstring_to_text(text)))
                }
                Key::Columns(columns) if columns.is_empty() => None,
                Key::Columns(columns) => {
                    let json = columns.iter().map(|(place, to_json)| {
                        let json = pg_sys::FunctionCall1Coll(*to_json, pg_sys::InvalidOid, values[*place]);
                        let text: &CStr = direct_function_call(pg_sys::jsonb_out, &[Some(json)])?;
                        Some(text.to_string_lossy().into_owned())
                    });
                    join_key(&json.collect::<Option<Vec<String>>>()?).into_datum()
                }
            }
        }
    }
}

/// Whether a column goes to the log. Columns that are computed when they are read have no value in
/// a trigger's row.
fn is_kept(column: &pg_sys::FormData_pg_attribute, include_embeddings: bool) -> bool {
    const VIRTUAL: u8 = b'v';
    let is_there = !column.attisdropped && column.attgenerated as u8 != VIRTUAL;
    is_there && (include_embeddings || !is_embedding(column.atttypid))
}

/// Whether a type is one of embeddings and their like: also as a domain or an array.
fn is_embedding(type_oid: pg_sys::Oid) -> bool {
    let known = [pg_sys::TSVECTOROID, pg_sys::BITOID, pg_sys::VARBITOID];
    let plain = plain_type(type_oid);
    known.contains(&plain) || vector::embedding_types().contains(&plain)
}

/// What a type is made of: the type below its domains, or that of its elements where it is an array.
fn plain_type(type_oid: pg_sys::Oid) -> pg_sys::Oid {
    // SAFETY: syscache look-ups of a column's type.
    unsafe {
        let base = pg_sys::getBaseType(type_oid);
        let element = pg_sys::get_element_type(base);
        if element == pg_sys::InvalidOid { base } else { pg_sys::getBaseType(element) }
    }
}

/// Whether the text of a type's values may depend on more of the session than how it writes numbers and times: on
/// functions found through search_path, which casts of types of users call, or on the currency.
fn depends_on_session(type_oid: pg_sys::Oid) -> bool {
    let plain = plain_type(type_oid);
    plain == pg_sys::MONEYOID || plain.to_u32() >= pg_sys::FirstNormalObjectId
}

/// The places and types of the primary key's columns, in the order of the table's, as searches
/// name rows.
fn key_places(table: &PgRelation) -> Vec<(usize, pg_sys::Oid)> {
    let columns = table.tuple_desc();
    let key = crate::kit::catalog::primary_key_numbers(table);
    key.into_iter()
        .filter_map(|number| {
            let place = number as usize - 1;
            Some((place, columns.get(place)?.atttypid))
        })
        .collect()
}

/// The output function of a type, in the current memory context.
unsafe fn output_function(type_oid: pg_sys::Oid) -> *mut pg_sys::FmgrInfo {
    let (mut output, mut is_variable) = (pg_sys::InvalidOid, false);
    // SAFETY: the type is that of an existing column; the call is allocated in the current context.
    unsafe {
        pg_sys::getTypeOutputInfo(type_oid, &mut output, &mut is_variable);
        let call = pg_sys::palloc0(size_of::<pg_sys::FmgrInfo>()).cast::<pg_sys::FmgrInfo>();
        pg_sys::fmgr_info_cxt(output, call, pg_sys::CurrentMemoryContext);
        call
    }
}

/// `to_jsonb` for values of a type, in the current memory context. It asks the expression it is
/// called in for the type of its argument, so it gets one.
unsafe fn json_function(type_oid: pg_sys::Oid) -> *mut pg_sys::FmgrInfo {
    let none = pg_sys::InvalidOid;
    // SAFETY: everything is allocated in the current context, which outlives the result.
    unsafe {
        let call = pg_sys::palloc0(size_of::<pg_sys::FmgrInfo>()).cast::<pg_sys::FmgrInfo>();
        pg_sys::fmgr_info_cxt(pg_sys::Oid::from(pg_sys::F_TO_JSONB), call, pg_sys::CurrentMemoryContext);
        let argument = pg_sys::makeConst(type_oid, -1, none, -1, pg_sys::Datum::from(0), true, false);
        let arguments = pg_sys::lappend(std::ptr::null_mut(), argument.cast());
        let form = pg_sys::CoercionForm::COERCE_EXPLICIT_CALL;
        let expression = pg_sys::makeFuncExpr((*call).fn_oid, pg_sys::JSONBOID, arguments, none, none, form);
        (*call).fn_expr = expression.cast();
        call
    }
}
