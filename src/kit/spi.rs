//! Running statements inside the server, with plans kept for the session.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char};
use std::rc::Rc;

use pgrx::pg_sys::panic::CaughtError;
use pgrx::{IntoDatum, PgSqlErrorCode, PgTryBuilder, Spi, pg_sys};

use crate::kit::column_value::{ColumnValue, check_type};
use crate::kit::report::raise;
use crate::types::array::{text_array, text_lines};
use crate::types::vector::{Vector, vector_array};
use vector_tools_core::error::Error;
use vector_tools_core::sql::{Parameter, Statement};

/// Plans kept for a session; beyond it all are dropped that do not run, since ever new texts would fill memory.
const KEPT_PLANS: usize = 128;

/// SQL text, types of the parameters, cursor options.
type PlanKey = (String, Vec<pg_sys::Oid>, i32);

/// A plan, shared with the calls that run it: a statement can run functions of users (in policies, triggers,
/// defaults) that call this extension again, with ever new texts.
type KeptPlan = Rc<pg_sys::SPIPlanPtr>;

thread_local! {
    static PLANS: RefCell<HashMap<PlanKey, KeptPlan>> = RefCell::default();
}

/// One row of a result.
pub struct Row {
    tuple: pg_sys::HeapTuple,
    descriptor: pg_sys::TupleDesc,
}

impl Row {
    /// Calls `read` with the bytes of a column of a variable-length type after their header, detoasted; NULL is
    /// `None`. Raises an error (42804) where the column has another type.
    pub fn with_bytes<T>(
        &self,
        column: i32,
        type_oid: pg_sys::Oid,
        read: impl FnOnce(&[u8]) -> T,
    ) -> Option<T> {
        let mut is_null = false;
        // SAFETY: as in get; the column has the type, which is of variable length.
        unsafe {
            check_type(self.descriptor, column, |found| found == type_oid, || type_oid);
            let datum = pg_sys::SPI_getbinval(self.tuple, self.descriptor, column, &mut is_null);
            (!is_null).then(|| crate::types::text_vector::with_detoasted(datum, read))
        }
    }

    /// The value of a column, counted from 1; NULL is `None`. Raises an error (42804) where the column has a type
    /// that `T` is not read from: its owner may have altered it.
    pub fn get<T: ColumnValue>(&self, column: i32) -> Option<T> {
        let mut is_null = false;
        // SAFETY: tuple and descriptor belong to the same SPI result, which lives as long as the
        // row is handed out; T reads values of the column's type.
        unsafe {
            check_type(self.descriptor, column, T::reads, T::expected);
            let datum = pg_sys::SPI_getbinval(self.tuple, self.descriptor, column, &mut is_null);
            T::from_datum(datum, is_null)
        }
    }
}

/// Runs a reading statement under the snapshot of the calling query, with the rights of the
/// current user, and reads each row of its result with `read`.
///
/// One snapshot for all statements of a call: what one of them saw, the next one finds.
pub fn query<T>(statement: &Statement, read: impl FnMut(&Row) -> T) -> Vec<T> {
    run_reading(statement, true, read)
}

fn run_reading<T>(statement: &Statement, is_read_only: bool, mut read: impl FnMut(&Row) -> T) -> Vec<T> {
    Spi::connect(|_| {
        let (types, mut values) = bind(&statement.parameters);
        let nulls = vec![b' ' as c_char; values.len()];
        let custom = if statement.depends_on_values { pg_sys::CURSOR_OPT_CUSTOM_PLAN } else { 0 };
        let plan = prepared_plan(&statement.text, types, (pg_sys::CURSOR_OPT_PARALLEL_OK | custom) as i32);
        // SAFETY: the plan was prepared for exactly these types; SPI is connected, and the result
        // is read before it is disconnected.
        unsafe {
            let status =
                pg_sys::SPI_execute_plan(*plan, values.as_mut_ptr(), nulls.as_ptr(), is_read_only, 0);
            if status != pg_sys::SPI_OK_SELECT as i32 {
                pgrx::error!("statement gave status {status}: {}", statement.text);
            }
            let table = pg_sys::SPI_tuptable;
            let tuples = std::slice::from_raw_parts((*table).vals, pg_sys::SPI_processed as usize);
            let rows: Vec<T> = tuples
                .iter()
                .map(|tuple| {
                    pgrx::check_for_interrupts!();
                    read(&Row { tuple: *tuple, descriptor: (*table).tupdesc })
                })
                .collect();
            pg_sys::SPI_freetuptable(table);
            rows
        }
    })
}

/// Reads the result of a statement piece by piece, so that it need not fit into memory; a
/// statement can be cancelled between pieces. Like [`query`] otherwise.
pub fn for_each(statement: &Statement, mut read: impl FnMut(&Row)) {
    const PIECE: std::ffi::c_long = 1000;
    with_cursor(statement, 0, true, |portal| {
        loop {
            pgrx::check_for_interrupts!();
            // SAFETY: the portal is open; its rows are read before they are freed.
            unsafe {
                pg_sys::SPI_cursor_fetch(portal, true, PIECE);
                let table = pg_sys::SPI_tuptable;
                let tuples = std::slice::from_raw_parts((*table).vals, pg_sys::SPI_processed as usize);
                tuples.iter().for_each(|tuple| read(&Row { tuple: *tuple, descriptor: (*table).tupdesc }));
                let is_last = tuples.is_empty();
                pg_sys::SPI_freetuptable(table);
                if is_last {
                    return;
                }
            }
        }
    })
}

/// Reads rows one by one, under a snapshot of its own, until `read` says that these are enough: what a
/// statement that locks its rows has not handed out is not locked.
pub fn take_while(statement: &Statement, mut read: impl FnMut(&Row) -> bool) {
    with_cursor(statement, 0, false, |portal| {
        loop {
            // SAFETY: the portal is open; its row is read before it is freed.
            unsafe {
                pg_sys::SPI_cursor_fetch(portal, true, 1);
                let table = pg_sys::SPI_tuptable;
                let tuples = std::slice::from_raw_parts((*table).vals, pg_sys::SPI_processed as usize);
                let wants_more = tuples
                    .first()
                    .is_some_and(|tuple| read(&Row { tuple: *tuple, descriptor: (*table).tupdesc }));
                pg_sys::SPI_freetuptable(table);
                if !wants_more {
                    return;
                }
            }
        }
    })
}

/// What the planner expects of a statement with these very parameters: its rows, its total cost, and
/// the relations that it reads or names.
pub fn estimate(statement: &Statement) -> (f64, f64, Vec<pg_sys::Oid>) {
    with_cursor(statement, pg_sys::CURSOR_OPT_CUSTOM_PLAN as i32, true, |portal| {
        // SAFETY: an open portal of a SELECT has a query description with a plan.
        unsafe {
            let planned = (*(*portal).queryDesc).plannedstmt;
            let plan = (*planned).planTree;
            let relations = pgrx::PgList::<pg_sys::Oid>::from_pg((*planned).relationOids);
            ((*plan).plan_rows, (*plan).total_cost, relations.iter_oid().collect())
        }
    })
}

fn with_cursor<T>(
    statement: &Statement,
    options: i32,
    is_read_only: bool,
    work: impl FnOnce(pg_sys::Portal) -> T,
) -> T {
    Spi::connect(|_| {
        let (types, mut values) = bind(&statement.parameters);
        let nulls = vec![b' ' as c_char; values.len()];
        let plan = prepared_plan(&statement.text, types, options);
        // SAFETY: the plan was prepared for exactly these types; SPI is connected.
        unsafe {
            let portal = pg_sys::SPI_cursor_open(
                std::ptr::null(),
                *plan,
                values.as_mut_ptr(),
                nulls.as_ptr(),
                is_read_only,
            );
            let result = work(portal);
            pg_sys::SPI_cursor_close(portal);
            result
        }
    })
}

/// Runs a statement that changes something, under a snapshot of its own, and returns how many rows
/// it has changed.
pub fn execute(statement: &Statement) -> u64 {
    Spi::connect_mut(|_| {
        let (types, mut values) = bind(&statement.parameters);
        let nulls = vec![b' ' as c_char; values.len()];
        let custom = if statement.depends_on_values { pg_sys::CURSOR_OPT_CUSTOM_PLAN } else { 0 };
        let plan = prepared_plan(&statement.text, types, custom as i32);
        // SAFETY: the plan was prepared for exactly these types; SPI is connected.
        let status =
            unsafe { pg_sys::SPI_execute_plan(*plan, values.as_mut_ptr(), nulls.as_ptr(), false, 0) };
        if status < 0 {
            pgrx::error!("statement gave status {status}: {}", statement.text);
        }
        // SAFETY: a variable of this process that the statement has set.
        unsafe { pg_sys::SPI_processed }
    })
}

/// Like [`execute`]; where a unique key of the one column `key` refuses the row, `taken` is raised
/// instead of the server's error, which says the same without a hint.
pub fn execute_unless_taken(statement: &Statement, key: &str, taken: &Error) -> u64 {
    let names_key = format!("({key})=(");
    PgTryBuilder::new(|| execute(statement))
        .catch_when(PgSqlErrorCode::ERRCODE_UNIQUE_VIOLATION, |caught| {
            let detail = match &caught {
                CaughtError::PostgresError(report) => report.detail(),
                _ => None,
            };
            // The server tells the key only to who may read it.
            if detail.is_none_or(|detail| detail.contains(&names_key)) {
                raise(taken)
            } else {
                caught.rethrow()
            }
        })
        .execute()
}

/// Runs a statement that changes something with values of any types, which `values` makes in memory
/// that goes away with the call. One plan serves all values.
pub fn execute_with(text: &str, types: &[pg_sys::Oid], values: impl FnOnce() -> Vec<Option<pg_sys::Datum>>) {
    Spi::connect_mut(|_| {
        let plan = prepared_plan(text, types.to_vec(), pg_sys::CURSOR_OPT_GENERIC_PLAN as i32);
        let values = values();
        let nulls: Vec<c_char> =
            values.iter().map(|value| if value.is_some() { b' ' } else { b'n' } as c_char).collect();
        let mut values: Vec<pg_sys::Datum> =
            values.into_iter().map(|value| value.unwrap_or(pg_sys::Datum::from(0))).collect();
        // SAFETY: the plan was prepared for exactly these types; SPI is connected.
        let status =
            unsafe { pg_sys::SPI_execute_plan(*plan, values.as_mut_ptr(), nulls.as_ptr(), false, 0) };
        if status < 0 {
            pgrx::error!("statement gave status {status}: {text}");
        }
    })
}

/// Reads rows under a snapshot of its own, for what is about to be changed. Like [`query`] otherwise.
pub fn query_new_snapshot<T>(statement: &Statement, read: impl FnMut(&Row) -> T) -> Vec<T> {
    run_reading(statement, false, read)
}

/// Runs statements that change something, one after another.
pub fn run_script(text: &str) {
    let text = to_c_string(text);
    Spi::connect_mut(|_| {
        // SAFETY: SPI is connected and the text is a valid C string; errors are raised by the
        // statements themselves.
        let status = unsafe { pg_sys::SPI_execute(text.as_ptr(), false, 0) };
        if status < 0 {
            pgrx::error!("statement gave status {status}: {}", text.to_string_lossy());
        }
    })
}

/// Runs `work` with a snapshot as new as PostgreSQL's own look at its catalogue, which what a
/// session keeps must be read with: an older one could miss a change whose announcement has come.
pub fn with_catalog_snapshot<T>(work: impl FnOnce() -> T) -> T {
    // SAFETY: the snapshot is popped below; on an error the abort of the (sub)transaction pops it.
    unsafe { pg_sys::PushActiveSnapshot(pg_sys::GetCatalogSnapshot(pg_sys::RelationRelationId)) };
    let result = work();
    // SAFETY: pushed above.
    unsafe { pg_sys::PopActiveSnapshot() };
    result
}

/// `work_mem` of the session.
pub fn work_mem_kilobytes() -> i32 {
    // SAFETY: a variable of this process.
    unsafe { pg_sys::work_mem }
}

/// Closes a nest level of settings, on every way out.
struct SettingsLevel(i32);

impl Drop for SettingsLevel {
    fn drop(&mut self) {
        // SAFETY: closes a level that is open, with all that were opened in it; where an abort has closed it
        // already, nothing is left to put back.
        unsafe { pg_sys::AtEOXact_GUC(false, self.0) };
    }
}

/// Runs `work` with settings changed as a function's SET clause would change them: for this call
/// only, whatever way it ends. What a function of some table's owner sets meanwhile goes with it, so that
/// it does not stay for the tables of others.
pub fn with_settings<T>(settings: &[(&CStr, String)], work: impl FnOnce() -> T) -> T {
    // SAFETY: the level is closed when the value is dropped.
    let _level = SettingsLevel(unsafe { pg_sys::NewGUCNestLevel() });
    for (name, value) in settings {
        let value = to_c_string(value);
        // SAFETY: valid C strings, which PostgreSQL copies.
        unsafe {
            pg_sys::set_config_option(
                name.as_ptr(),
                value.as_ptr(),
                pg_sys::GucContext::PGC_USERSET,
                pg_sys::GucSource::PGC_S_SESSION,
                pg_sys::GucAction::GUC_ACTION_SAVE,
                true,
                0,
                false,
            );
        }
    }
    work()
}

fn bind(parameters: &[Parameter]) -> (Vec<pg_sys::Oid>, Vec<pg_sys::Datum>) {
    let bound = parameters.iter().map(|parameter| match parameter {
        Parameter::Text(text) => (pg_sys::TEXTOID, text.as_str().into_datum()),
        Parameter::Integer(number) => (pg_sys::INT8OID, number.into_datum()),
        Parameter::Oid(number) => (pg_sys::OIDOID, pg_sys::Oid::from(*number).into_datum()),
        Parameter::Vector(vector) => (Vector::type_oid(), Vector(vector.clone()).into_datum()),
        Parameter::Texts(texts) => (pg_sys::TEXTARRAYOID, Some(text_array(texts))),
        Parameter::TextLines(lines) => (pg_sys::TEXTARRAYOID, Some(text_lines(lines))),
        Parameter::Timestamp(time) => (pg_sys::TIMESTAMPTZOID, time.into_datum()),
        Parameter::Number(number) => (pg_sys::FLOAT8OID, number.into_datum()),
        Parameter::Numbers(numbers) => (pg_sys::FLOAT8ARRAYOID, numbers.clone().into_datum()),
        Parameter::Integers(numbers) => (pg_sys::INT8ARRAYOID, numbers.clone().into_datum()),
        Parameter::Vectors(vectors) => (Vec::<Vector>::type_oid(), Some(vector_array(vectors))),
    });
    bound.map(|(oid, datum)| (oid, datum.unwrap_or(pg_sys::Datum::from(0)))).unzip()
}

/// The session's plan for a statement, which stays as long as the caller has it. PostgreSQL itself plans it
/// again when a table, a role or search_path it depends on has changed.
fn prepared_plan(text: &str, types: Vec<pg_sys::Oid>, options: i32) -> KeptPlan {
    let key = (text.to_owned(), types, options);
    if let Some(plan) = PLANS.with_borrow(|plans| plans.get(&key).cloned()) {
        return plan;
    }
    let text = to_c_string(text);
    // SAFETY: SPI is connected (by the only caller), and the arrays live through the call.
    let plan = unsafe {
        let plan =
            pg_sys::SPI_prepare_cursor(text.as_ptr(), key.1.len() as i32, key.1.as_ptr().cast_mut(), options);
        if plan.is_null() {
            pgrx::error!("statement could not be prepared: {}", text.to_string_lossy());
        }
        pg_sys::SPI_keepplan(plan);
        Rc::new(plan)
    };
    PLANS.with_borrow_mut(|plans| {
        if plans.len() >= KEPT_PLANS {
            drop_idle(plans);
        }
        plans.insert(key, plan.clone());
    });
    plan
}

/// Whether the session keeps a plan for a statement.
#[cfg(feature = "pg_test")]
pub fn has_plan(text: &str) -> bool {
    PLANS.with_borrow(|plans| plans.keys().any(|(known, ..)| known == text))
}

fn drop_idle(plans: &mut HashMap<PlanKey, KeptPlan>) {
    plans.retain(|_, plan| {
        let runs = Rc::strong_count(plan) > 1;
        if !runs {
            // SAFETY: a kept plan that nobody else holds.
            unsafe { pg_sys::SPI_freeplan(**plan) };
        }
        runs
    });
}

fn to_c_string(text: &str) -> CString {
    CString::new(text).unwrap_or_else(|_| pgrx::error!("a statement contains a zero byte"))
}
