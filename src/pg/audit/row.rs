//! A row as the log has it: jsonb of its columns, and its primary key as text.
//!
//! `to_jsonb` looks at the catalogue for each column of each row, and builds a tree before it writes
//! bytes. What it would look up is looked up once here, and the common types are written as bytes at
//! once; all others go through `to_jsonb`, a value at a time.

use std::cell::Cell;
use std::ffi::CStr;
use std::fmt::Write;

use pgrx::{PgRelation, direct_function_call, pg_sys};

use crate::pg::lossless::{with_lossless_output, with_pinned_output};
use crate::pg::text_vector::with_detoasted;
use crate::pg::vector;
use crate::tables::audit::binary_json::{Layout, Object};
use crate::tables::audit::change::{join_key, push_text};

/// `to_jsonb(anyelement)`, which PostgreSQL keeps under this number.
const TO_JSONB: u32 = 3787;

/// Makes jsonb of the rows of one table.
pub struct RowEncoder {
    /// The columns that are written.
    written: Vec<Column>,
    layout: Layout,
    /// A row type of those columns only.
    row_type: pg_sys::TupleDesc,
    row_to_json: *mut pg_sys::FmgrInfo,
    key: Vec<KeyColumn>,
    /// Whether a function that is not the server's may be called, or one that asks for the session's currency.
    depends_on_session: bool,
    /// Where the functions and the row type lie.
    context: pg_sys::MemoryContext,
    /// The values of the row before, whose memory the next one uses.
    values: Cell<Vec<pg_sys::Datum>>,
    nulls: Cell<Vec<bool>>,
}

/// A column and how its values are written.
struct Column {
    place: usize,
    form: Form,
    to_json: *mut pg_sys::FmgrInfo,
}

struct KeyColumn {
    column: Column,
    output: *mut pg_sys::FmgrInfo,
}

/// The types that are written without a function of PostgreSQL's.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    Boolean,
    Int2,
    Int4,
    Int8,
    Text,
    Uuid,
    Json,
    Time(pg_sys::Oid),
    Other,
}

/// Where a row's jsonb and its key begin in the buffer they were written to.
pub struct EncodedRow {
    /// A jsonb.
    pub data: usize,
    /// The primary key, if there is one, a text.
    pub key: Option<usize>,
}

impl RowEncoder {
    /// Reads the columns and the primary key of a table.
    pub fn new(table: &PgRelation, include_embeddings: bool) -> RowEncoder {
        let columns = table.tuple_desc();
        let written: Vec<&pg_sys::FormData_pg_attribute> =
            columns.iter().filter(|column| is_written(column, include_embeddings)).collect();
        let names: Vec<&[u8]> = written.iter().map(|column| name_bytes(&column.attname)).collect();
        let layout = Layout::new(&names);
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
            for (target, column) in written.iter().enumerate() {
                let source = (*table.as_ptr()).rd_att;
                pg_sys::TupleDescCopyEntry(row_type, target as i16 + 1, source, column.attnum);
            }
            let row_type = pg_sys::BlessTupleDesc(row_type);
            let row_to_json = json_function(pg_sys::RECORDOID);
            let depends_on_session = written.iter().any(|column| depends_on_session(column.atttypid));
            let written = written
                .iter()
                .map(|column| Column::new(column.attnum as usize - 1, column.atttypid))
                .collect();
            let key = key_columns
                .into_iter()
                .map(|(place, type_oid)| KeyColumn {
                    column: Column::new(place, type_oid),
                    output: output_function(type_oid),
                })
                .collect();
            pg_sys::MemoryContextSwitchTo(outer);
            let (values, nulls) = (Cell::default(), Cell::default());
            RowEncoder {
                written,
                layout,
                row_type,
                row_to_json,
                key,
                depends_on_session,
                context,
                values,
                nulls,
            }
        }
    }

    /// Writes a row as the log has it to the end of a buffer.
    ///
    /// # Safety
    /// `row` must be a row of the table this was made for, with the descriptor of that table.
    pub unsafe fn encode(
        &self,
        row: pg_sys::HeapTuple,
        descriptor: pg_sys::TupleDesc,
        buffer: &mut Vec<u8>,
    ) -> EncodedRow {
        // SAFETY: the caller's promise.
        let encode = || unsafe { self.encode_pinned(row, descriptor, buffer) };
        match self.depends_on_session {
            true => with_pinned_output(|| with_lossless_output(encode)),
            false => with_lossless_output(encode),
        }
    }

    unsafe fn encode_pinned(
        &self,
        row: pg_sys::HeapTuple,
        descriptor: pg_sys::TupleDesc,
        buffer: &mut Vec<u8>,
    ) -> EncodedRow {
        // SAFETY: as in encode.
        unsafe {
            let count = (*descriptor).natts as usize;
            // A function of a user's may write rows of the same table; those find nothing here.
            let (mut values, mut nulls) = (self.values.take(), self.nulls.take());
            values.resize(count, pg_sys::Datum::from(0));
            nulls.resize(count, true);
            pg_sys::heap_deform_tuple(row, descriptor, values.as_mut_ptr(), nulls.as_mut_ptr());
            let key = self.encode_key(&values, buffer);
            buffer.resize(buffer.len().next_multiple_of(size_of::<u64>()), 0);
            let begin = buffer.len();
            let mut object = Object::new(&self.layout, buffer);
            for column in self.layout.order.iter().map(|number| &self.written[*number]) {
                match nulls[column.place] {
                    true => object.null(),
                    false => column.write(values[column.place], &mut object),
                }
            }
            if object.finish().is_none() {
                // It is too large, which PostgreSQL says with its own words.
                buffer.truncate(begin);
                self.encode_slowly(&mut values, &mut nulls, buffer);
            }
            self.values.set(values);
            self.nulls.set(nulls);
            EncodedRow { data: begin, key }
        }
    }

    unsafe fn encode_slowly(&self, values: &mut [pg_sys::Datum], nulls: &mut [bool], buffer: &mut Vec<u8>) {
        // SAFETY: as in encode; the kept columns only move to the front.
        unsafe {
            for (target, column) in self.written.iter().enumerate() {
                values[target] = values[column.place];
                nulls[target] = nulls[column.place];
            }
            let kept = pg_sys::heap_form_tuple(self.row_type, values.as_mut_ptr(), nulls.as_mut_ptr());
            let composite = pg_sys::Datum::from((*kept).t_data);
            let json = pg_sys::FunctionCall1Coll(self.row_to_json, pg_sys::InvalidOid, composite);
            let json: *const pg_sys::varlena = json.cast_mut_ptr();
            let bytes = pgrx::varlena::varsize_any(json);
            buffer.extend_from_slice(std::slice::from_raw_parts(json.cast(), bytes));
        }
    }

    /// The columns of a primary key are never NULL.
    unsafe fn encode_key(&self, values: &[pg_sys::Datum], buffer: &mut Vec<u8>) -> Option<usize> {
        // SAFETY: the values are of the columns' types.
        unsafe {
            match self.key.as_slice() {
                [] => None,
                [key] => Some(key.write(values[key.column.place], buffer)),
                keys => {
                    let json = keys.iter().map(|key| {
                        let json = key.column.as_json(values[key.column.place]);
                        let text: &CStr = direct_function_call(pg_sys::jsonb_out, &[Some(json)])?;
                        Some(text.to_string_lossy().into_owned())
                    });
                    let json: Option<Vec<String>> = json.collect();
                    json.map(|json| push_text(buffer, join_key(&json).as_bytes()))
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

impl Column {
    unsafe fn new(place: usize, type_oid: pg_sys::Oid) -> Column {
        // SAFETY: a syscache look-up of a column's type; json_function says what it needs.
        unsafe {
            Column { place, form: Form::of(pg_sys::getBaseType(type_oid)), to_json: json_function(type_oid) }
        }
    }

    unsafe fn as_json(&self, value: pg_sys::Datum) -> pg_sys::Datum {
        // SAFETY: the value is of the column's type, for which the function was made.
        unsafe { pg_sys::FunctionCall1Coll(self.to_json, pg_sys::InvalidOid, value) }
    }

    unsafe fn write(&self, value: pg_sys::Datum, object: &mut Object) {
        // SAFETY: the value is of the column's type, which the form says.
        unsafe {
            match self.form {
                Form::Boolean => object.boolean(value.value() != 0),
                Form::Int2 | Form::Int4 | Form::Int8 => object.integer(self.form.integer(value)),
                Form::Text => with_detoasted(value, |bytes| object.string(bytes)),
                Form::Uuid => object.string(&uuid_text(value)),
                Form::Json => with_detoasted(value, |bytes| object.json(bytes)),
                Form::Time(type_oid) => {
                    let mut text = [0; pg_sys::MAXDATELEN as usize + 1];
                    pg_sys::JsonEncodeDateTime(text.as_mut_ptr(), value, type_oid, std::ptr::null());
                    object.string(CStr::from_ptr(text.as_ptr()).to_bytes());
                }
                Form::Other => with_detoasted(self.as_json(value), |bytes| object.json(bytes)),
            }
        }
    }
}

impl KeyColumn {
    /// Writes a value as the type's own text.
    unsafe fn write(&self, value: pg_sys::Datum, buffer: &mut Vec<u8>) -> usize {
        // SAFETY: the value is of the column's type, which the form says; the output function is that
        // type's, and gives a fresh C string.
        unsafe {
            match self.column.form {
                form @ (Form::Int2 | Form::Int4 | Form::Int8) => {
                    let mut text = String::with_capacity(20);
                    let _ = write!(text, "{}", form.integer(value));
                    push_text(buffer, text.as_bytes())
                }
                Form::Text => with_detoasted(value, |bytes| push_text(buffer, bytes)),
                Form::Uuid => push_text(buffer, &uuid_text(value)),
                _ => {
                    let text = pg_sys::OutputFunctionCall(self.output, value);
                    push_text(buffer, CStr::from_ptr(text).to_bytes())
                }
            }
        }
    }
}

impl Form {
    fn of(base_type: pg_sys::Oid) -> Form {
        match base_type {
            pg_sys::BOOLOID => Form::Boolean,
            pg_sys::INT2OID => Form::Int2,
            pg_sys::INT4OID => Form::Int4,
            pg_sys::INT8OID => Form::Int8,
            pg_sys::TEXTOID | pg_sys::VARCHAROID | pg_sys::BPCHAROID => Form::Text,
            pg_sys::UUIDOID => Form::Uuid,
            pg_sys::JSONBOID => Form::Json,
            pg_sys::DATEOID | pg_sys::TIMESTAMPOID | pg_sys::TIMESTAMPTZOID => Form::Time(base_type),
            _ => Form::Other,
        }
    }

    /// The number that a datum of an integer's type holds.
    fn integer(self, value: pg_sys::Datum) -> i64 {
        match self {
            Form::Int2 => i64::from(value.value() as i16),
            Form::Int4 => i64::from(value.value() as i32),
            _ => value.value() as i64,
        }
    }
}

/// A UUID as PostgreSQL writes it.
unsafe fn uuid_text(value: pg_sys::Datum) -> [u8; 36] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    // SAFETY: a UUID is passed by reference and has 16 bytes.
    let bytes: [u8; 16] = unsafe { *value.cast_mut_ptr::<[u8; 16]>() };
    let (mut text, mut place) = ([b'-'; 36], 0);
    for (number, byte) in bytes.into_iter().enumerate() {
        if matches!(number, 4 | 6 | 8 | 10) {
            place += 1;
        }
        text[place] = DIGITS[usize::from(byte >> 4)];
        text[place + 1] = DIGITS[usize::from(byte & 15)];
        place += 2;
    }
    text
}

fn name_bytes(name: &pg_sys::NameData) -> &[u8] {
    // SAFETY: a name is zero-terminated within its array.
    unsafe { CStr::from_ptr(name.data.as_ptr()) }.to_bytes()
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
    let key = crate::pg::catalog::primary_key_numbers(table);
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
        pg_sys::fmgr_info_cxt(pg_sys::Oid::from(TO_JSONB), call, pg_sys::CurrentMemoryContext);
        let argument = pg_sys::makeConst(type_oid, -1, none, -1, pg_sys::Datum::from(0), true, false);
        let arguments = pg_sys::lappend(std::ptr::null_mut(), argument.cast());
        let form = pg_sys::CoercionForm::COERCE_EXPLICIT_CALL;
        let expression = pg_sys::makeFuncExpr((*call).fn_oid, pg_sys::JSONBOID, arguments, none, none, form);
        (*call).fn_expr = expression.cast();
        call
    }
}
