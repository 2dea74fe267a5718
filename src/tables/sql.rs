//! The SQL functions and triggers of the tables the extension makes.

use pgrx::datum::UnboxDatum;
use pgrx::datum::datetime_support::transaction_timestamp;
use pgrx::prelude::*;
use pgrx::trigger_support::PgTriggerError;
use pgrx::{AllocatedByRust, PgTrigger, Spi, WhoAllocated};

use super::memories::MemoriesTable;
use crate::embedding::Purpose;
use crate::embedding::sql::embed_one;
use crate::error::{Error, Result};
use crate::identifier::{Identifier, QualifiedName};
use crate::pg::regclass::Regclass;
use crate::pg::report::{OrReport, raise};
use crate::pg::settings::default_model;
use crate::pg::vector::{Vector, pgvector_schema};
use crate::pg::{registry, session, spi};

#[pg_extern(volatile, parallel_unsafe)]
fn create_domain_memories_table(
    domain: Option<&str>,
    model: default!(Option<&str>, "NULL"),
    text_configuration: default!(Option<&str>, "'english'"),
) -> Option<Regclass> {
    let model = model.map_or_else(default_model, str::to_owned);
    let configuration = text_configuration.unwrap_or("english");
    domain.map(|domain| create_memories(domain, &model, configuration).or_report())
}

fn create_memories(domain: &str, model: &str, text_configuration: &str) -> Result<Regclass> {
    session::forbid_when_read_only(c"create_domain_memories_table");
    let memories = MemoriesTable::new(current_schema()?, domain)?;
    let record = registry::find_model(model)?;
    let configuration = find_configuration(text_configuration)?;
    if let Some(existing) = Regclass::find(&memories.table) {
        check_memories(&memories.table, existing, model)?;
        pgrx::notice!("table {} already exists, skipping", memories.table);
        return Ok(existing);
    }
    // Ids grow with time where the server can make such, so that new rows lie together.
    let new_id = if cfg!(feature = "pg18") {
        "pg_catalog.uuidv7()::pg_catalog.text"
    } else {
        "pg_catalog.gen_random_uuid()::pg_catalog.text"
    };
    let sql =
        memories.creation_sql(&record.name, record.dimensions, &pgvector_schema(), &configuration, new_id)?;
    spi::execute(&sql);
    Regclass::find(&memories.table)
        .ok_or_else(|| Error::RelationExists { relation: memories.table.to_string() })
}

fn current_schema() -> Result<Identifier> {
    let schema: Option<String> =
        Spi::get_one("SELECT pg_catalog.current_schema()::pg_catalog.text").unwrap_or(None);
    schema.map_or(Err(Error::NoSchema), Identifier::new)
}

pub(super) fn find_configuration(name: &str) -> Result<QualifiedName> {
    let part = |column: &str| {
        let sql = format!(
            "SELECT {column}::pg_catalog.text FROM pg_catalog.pg_ts_config AS c \
             JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) c.cfgnamespace \
             WHERE c.oid OPERATOR(pg_catalog.=) $1::pg_catalog.regconfig"
        );
        let found = Spi::get_one_with_args::<String>(&sql, &[name.into()]);
        Identifier::new(found.ok().flatten().unwrap_or_default())
    };
    Ok(QualifiedName { schema: part("n.nspname")?, name: part("c.cfgname")? })
}

/// Checks that a relation in the place of a memories table is one, embedded with `model`.
fn check_memories(name: &QualifiedName, existing: Regclass, model: &str) -> Result<()> {
    let embedded_with = Spi::get_one_with_args::<String>(
        "SELECT t.model FROM vector_tools.searchable_tables AS t \
         WHERE t.source OPERATOR(pg_catalog.=) $1::pg_catalog.regclass",
        &[existing.0.into()],
    );
    match embedded_with {
        Ok(Some(found)) if found == model => Ok(()),
        Ok(Some(found)) => {
            Err(Error::RelationExists { relation: format!("{name}, which model \"{found}\" embeds,") })
        }
        _ => Err(Error::RelationExists { relation: name.to_string() }),
    }
}

type TriggerResult<'a> = Result<Option<PgHeapTuple<'a, AllocatedByRust>>, PgTriggerError>;

/// Row trigger (content column, embedding column, model): embeds new and changed content, unless
/// the statement gives an embedding of its own.
#[pg_trigger(sql = false)]
fn embed_row<'a>(trigger: &'a PgTrigger<'a>) -> TriggerResult<'a> {
    let arguments = trigger.extra_args()?;
    let ([content, embedding, model], Some(mut new)) = (arguments.as_slice(), row_to_store(trigger)) else {
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
        set_value(&mut new, embedding, vector);
    }
    Ok(Some(new))
}

/// Row trigger (column): sets the column to the time of the transaction, unless the statement
/// sets it itself.
#[pg_trigger(sql = false)]
fn touch_row<'a>(trigger: &'a PgTrigger<'a>) -> TriggerResult<'a> {
    let arguments = trigger.extra_args()?;
    let ([column], Some(mut new), Some(old)) = (arguments.as_slice(), row_to_store(trigger), trigger.old())
    else {
        raise(&wrong_trigger("touch_row"));
    };
    let time: Option<TimestampWithTimeZone> = value_of(&new, column);
    if time == value_of(&old, column) {
        set_value(&mut new, column, Some(transaction_timestamp()));
    }
    Ok(Some(new))
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
    Error::NotATrigger { function, expected: "BEFORE INSERT OR UPDATE … FOR EACH ROW" }
}
