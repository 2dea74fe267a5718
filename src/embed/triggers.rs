//! The row triggers that keep an embedding, and the time of the last change, true.

use pgrx::datum::UnboxDatum;
use pgrx::datum::datetime_support::transaction_timestamp;
use pgrx::prelude::*;
use pgrx::{AllocatedByRust, PgTrigger, WhoAllocated, direct_function_call, pg_sys};

use crate::embed::functions::embed_one;
use crate::kit::report::{OrReport, raise};
use crate::kit::trigger_call::{TriggerCall, arguments_of};
use crate::types::vector::Vector;
use vector_tools_core::embed::Purpose;
use vector_tools_core::error::{Error, Result};

const EXPECTED: &str = "BEFORE INSERT OR UPDATE … FOR EACH ROW";

/// Row trigger (content column, embedding column, model): embeds new and changed content, unless
/// the statement gives an embedding of its own.
#[pg_extern(sql = false)]
fn embed_row(fcinfo: pg_sys::FunctionCallInfo) -> i64 {
    let call = TriggerCall::new(fcinfo, "embed_row", EXPECTED).or_report();
    let (arguments, trigger) = (arguments_of(call.trigger()), call.row_trigger().or_report());
    let ([content, embedding, model], Some(mut new)) = (arguments.as_slice(), row_to_store(&trigger)) else {
        raise(&wrong_trigger("embed_row"));
    };
    let text: Option<String> = value_of(&new, content);
    let given: Option<Vector> = value_of(&new, embedding);
    let is_true = given.is_some()
        && trigger.old().is_none_or(|old| {
            value_of::<String, _>(&old, content) == text || value_of(&old, embedding) != given
        });
    if !is_true {
        let vector = text.map(|text| embed_one(&text, model, Purpose::Passage).or_report());
        if let Some(vector) = &vector {
            check_dimensions(&new, embedding, vector, model).or_report();
        }
        set_value(&mut new, embedding, vector);
    }
    stored(new)
}

/// Row trigger (column): sets the column to the time of the transaction, unless the statement
/// sets it itself.
#[pg_extern(sql = false)]
fn touch_row(fcinfo: pg_sys::FunctionCallInfo) -> i64 {
    let call = TriggerCall::new(fcinfo, "touch_row", EXPECTED).or_report();
    let (arguments, trigger) = (arguments_of(call.trigger()), call.row_trigger().or_report());
    let ([column], Some(mut new), Some(old)) = (arguments.as_slice(), row_to_store(&trigger), trigger.old())
    else {
        raise(&wrong_trigger("touch_row"));
    };
    let time: Option<TimestampWithTimeZone> = value_of(&new, column);
    if time == value_of(&old, column) {
        let now = rounded(transaction_timestamp(), modifier_of(&new, column));
        set_value(&mut new, column, Some(now));
    }
    stored(new)
}

/// A row as a trigger gives it back: its pointer.
fn stored(row: PgHeapTuple<'_, AllocatedByRust>) -> i64 {
    row.into_trigger_datum().map_or(0, |datum| datum.value() as i64)
}

/// Checks that a vector has the dimensions of its column, which PostgreSQL checks only of values that a statement
/// gives.
fn check_dimensions(
    row: &PgHeapTuple<'_, AllocatedByRust>,
    column: &str,
    vector: &Vector,
    model: &str,
) -> Result<()> {
    match usize::try_from(modifier_of(row, column)) {
        Ok(expected) if expected != vector.0.len() => Err(Error::WrongDimensions {
            expected,
            found: vector.0.len(),
            subject: format!("column {column} holds other vectors than model \"{model}\" gives"),
        }),
        _ => Ok(()),
    }
}

/// The modifier of a column's type; -1 where it has none.
fn modifier_of(row: &PgHeapTuple<'_, AllocatedByRust>, column: &str) -> i32 {
    row.get_attribute_by_name(column).map_or(-1, |(_, attribute)| attribute.atttypmod)
}

/// A time with as many digits as the modifier of a column's type says, which PostgreSQL sees to only for values that a
/// statement gives.
fn rounded(time: TimestampWithTimeZone, modifier: i32) -> TimestampWithTimeZone {
    let arguments = [time.into_datum(), modifier.into_datum()];
    // SAFETY: timestamptz_scale takes a time and the modifier of its type, neither of them NULL.
    unsafe { direct_function_call(pg_sys::timestamptz_scale, &arguments) }.unwrap_or(time)
}

/// The row that a BEFORE INSERT OR UPDATE trigger may still change.
fn row_to_store<'a>(trigger: &'a PgTrigger<'a>) -> Option<PgHeapTuple<'a, AllocatedByRust>> {
    let before_row = trigger.event().fired_before() && trigger.event().fired_for_row();
    trigger.new().filter(|_| before_row).map(PgHeapTuple::into_owned)
}

fn value_of<'row, T, A>(row: &'row PgHeapTuple<'_, A>, column: &str) -> Option<T>
where
    T: FromDatum + IntoDatum + UnboxDatum<As<'row> = T> + 'row,
    A: WhoAllocated,
{
    row.get_by_name(column).unwrap_or_else(|error| column_error(column, &error))
}

fn set_value<T: IntoDatum>(row: &mut PgHeapTuple<'_, AllocatedByRust>, column: &str, value: Option<T>) {
    row.set_by_name(column, value).unwrap_or_else(|error| column_error(column, &error));
}

fn column_error(column: &str, error: &dyn std::error::Error) -> ! {
    raise(&Error::UnusableTriggerColumn { column: column.to_owned(), reason: error.to_string() })
}

fn wrong_trigger(function: &'static str) -> Error {
    Error::NotATrigger { function, expected: EXPECTED }
}
