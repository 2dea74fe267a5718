//! The SQL functions and triggers of audits. Their declarations are in sql/audit.sql.

use pgrx::PgRelation;
use pgrx::prelude::*;

use crate::audit;
use crate::audit::triggers;
use crate::kit::column_value::TransactionNumber;
use crate::kit::jsonb::JsonbText;
use crate::kit::regclass::Regclass;
use crate::kit::report::{OrReport, raise};
use crate::kit::trigger_call::TriggerCall;
use crate::kit::{catalog, rights, session, spi};
use vector_tools_core::audit::{AuditOptions, drop_sql, history_statement, log_sql, revoke_sql};
use vector_tools_core::error::{Error, Result};
use vector_tools_core::sql::identifier::{Identifier, QualifiedName};

const DEFAULT_LOG: &str = "vector_audit_log";
const TRUNCATE_TRIGGER: &str = "vector_tools_audit_truncate";
const ROWS_TRIGGER: &str = "vector_tools_audit";

#[pg_extern(sql = false)]
fn enable_audit(
    source: Option<pg_sys::Oid>,
    log: Option<&str>,
    include_embeddings: Option<bool>,
) -> Option<Regclass> {
    session::forbid_when_read_only(c"enable_audit");
    let include_embeddings = include_embeddings.unwrap_or(false);
    Some(enable(source?, log.unwrap_or(DEFAULT_LOG), include_embeddings).or_report())
}

#[pg_extern(sql = false)]
fn disable_audit(source: Option<pg_sys::Oid>) -> Option<bool> {
    session::forbid_when_read_only(c"disable_audit");
    Some(disable(source?).or_report())
}

/// Gives the partitions of an audited table the trigger for TRUNCATE where they lack it.
#[pg_extern(sql = false)]
fn audit_partitions(source: Option<pg_sys::Oid>) -> Option<i32> {
    let source = source?;
    let options = || -> Result<Option<AuditOptions>> {
        let table = catalog::open_table(source)?;
        Ok(triggers::audit_of(&table)?.map(|audit| audit.options))
    };
    let complete = |options: AuditOptions| complete_truncate_triggers(source, &options).or_report();
    Some(options().or_report().map_or(0, complete))
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity, reason = "the columns of the result")]
fn audit_history(
    source: Option<pg_sys::Oid>,
    id: Option<&str>,
    limit: Option<i64>,
) -> TableIterator<
    'static,
    (
        name!(change_id, Option<i64>),
        name!(operation, Option<String>),
        name!(record_id, Option<String>),
        name!(partition_name, Option<String>),
        name!(old_data, Option<JsonbText>),
        name!(new_data, Option<JsonbText>),
        name!(changed_by, Option<String>),
        name!(session_user_name, Option<String>),
        name!(changed_at, Option<TimestampWithTimeZone>),
        // An xid8 is passed as a bigint is.
        name!(transaction_id, Option<i64>),
    ),
> {
    let read = |source| history(source, id, limit.unwrap_or(i64::MAX)).or_report();
    let statement = source.map(read);
    let changes = statement.map_or_else(Vec::new, |statement| {
        spi::query(&statement, |row| {
            let (texts, data) = (|place| row.get::<String>(place), |place| row.get::<JsonbText>(place));
            (
                row.get::<i64>(1),
                texts(2),
                texts(3),
                texts(4),
                data(5),
                data(6),
                texts(7),
                texts(8),
                row.get::<TimestampWithTimeZone>(9),
                row.get::<TransactionNumber>(10).map(|number| number.0),
            )
        })
    });
    TableIterator::new(changes)
}

/// Trigger (schema of the log, log, with or without embeddings). What an AFTER trigger gives back
/// is ignored, but must not be NULL.
#[pg_extern(sql = false)]
fn audit_change(fcinfo: pg_sys::FunctionCallInfo) -> i64 {
    let call = TriggerCall::new(fcinfo, "audit_change", "an audit's").or_report();
    audit::record(call).or_report();
    0
}

/// Statement trigger of every log.
#[pg_extern(sql = false)]
fn guard_audit_log(fcinfo: pg_sys::FunctionCallInfo) -> i64 {
    let call = TriggerCall::new(fcinfo, "guard_audit_log", "a statement").or_report();
    let log = catalog::open_table(call.relation()).or_report();
    if !audit::may_write(&log) {
        raise(&Error::ProtectedAuditLog { log: catalog::display_name(&log) });
    }
    0
}

fn enable(source: pg_sys::Oid, log: &str, include_embeddings: bool) -> Result<Regclass> {
    catalog::lock_definition(source, pg_sys::ShareRowExclusiveLock)?;
    let table = open_own(source)?;
    if triggers::is_log(&table) {
        let subject = catalog::display_name(&table);
        return Err(Error::NotAuditable { subject, kind: "an audit log" });
    }
    let (name, display) = (catalog::qualified_name(&table)?, catalog::display_name(&table));
    let log = QualifiedName { schema: name.schema.clone(), name: Identifier::new(log)? };
    let options = AuditOptions { log, include_embeddings };
    let before = triggers::audit_of(&table)?;
    if let Some(copy) = before.as_ref().filter(|audit| audit.is_copy) {
        return Err(Error::AuditedWithParent { table: display, parent: copy.origin.name.to_string() });
    }
    let log = make_log(&options.log, &table)?;
    // A table that is open here cannot be altered.
    drop(table);
    match before {
        Some(before) if before.options == options && before.is_enabled => {
            pgrx::notice!("table {display} is already audited into {}", options.log);
        }
        Some(before) => {
            let change = options.difference_from(&before.options).unwrap_or_else(|| "again".to_owned());
            pgrx::notice!("table {display} is audited {change} from now on");
            if before.trigger.as_str() != ROWS_TRIGGER {
                spi::run_script(&drop_sql(&name, &before.trigger));
            }
            spi::run_script(&options.rows_trigger_sql(&name));
            if before.is_always {
                spi::run_script(&format!("ALTER TABLE {name} ENABLE ALWAYS TRIGGER {ROWS_TRIGGER}"));
            }
        }
        None => spi::run_script(&options.rows_trigger_sql(&name)),
    }
    complete_truncate_triggers(source, &options)?;
    Ok(log)
}

/// Finds the log or makes it, fit for the triggers of `table`.
fn make_log(name: &QualifiedName, table: &PgRelation) -> Result<Regclass> {
    let log = match Regclass::find(name) {
        Some(log) => log,
        None => {
            spi::run_script(&log_sql(name));
            let log =
                Regclass::find(name).ok_or_else(|| Error::NotAnAuditLog { relation: name.to_string() })?;
            for grantee in rights::grantees_of(log.0)? {
                spi::run_script(&revoke_sql(name, grantee.as_ref()));
            }
            log
        }
    };
    triggers::open_log_for(log.0, table)?;
    Ok(log)
}

fn complete_truncate_triggers(source: pg_sys::Oid, options: &AuditOptions) -> Result<i32> {
    let tables = triggers::without_truncate_trigger(source)?;
    for table in &tables {
        spi::run_script(&options.truncate_trigger_sql(table));
    }
    Ok(tables.len() as i32)
}

fn disable(source: pg_sys::Oid) -> Result<bool> {
    catalog::lock_definition(source, pg_sys::AccessExclusiveLock)?;
    let table = open_own(source)?;
    let (name, display) = (catalog::qualified_name(&table)?, catalog::display_name(&table));
    let audit = triggers::audit_of(&table)?;
    drop(table);
    let Some(audit) = audit else {
        return Ok(false);
    };
    if audit.is_copy {
        return Err(Error::AuditedWithParent { table: display, parent: audit.origin.name.to_string() });
    }
    spi::run_script(&drop_sql(&name, &audit.trigger));
    let trigger = Identifier::new(TRUNCATE_TRIGGER)?;
    for table in triggers::with_truncate_trigger(source)? {
        spi::run_script(&drop_sql(&table, &trigger));
    }
    Ok(true)
}

fn history(source: pg_sys::Oid, id: Option<&str>, limit: i64) -> Result<vector_tools_core::sql::Statement> {
    let table = catalog::open_table(source)?;
    let not_audited = || Error::NotAudited { table: catalog::display_name(&table) };
    let audit = triggers::audit_of(&table)?.ok_or_else(not_audited)?;
    let (log, name) = (&audit.options.log, &audit.origin.name);
    triggers::check_log(log, name, audit.origin.owner)?;
    history_statement(log, (name.schema.as_str(), name.name.as_str()), id, limit)
}

/// Opens a table that the caller may audit.
fn open_own(source: pg_sys::Oid) -> Result<PgRelation> {
    let table = catalog::open_table(source)?;
    let display = catalog::display_name(&table);
    if !catalog::is_table(&table) {
        return Err(Error::NotAuditable { subject: display, kind: catalog::kind_in_words(&table) });
    }
    if !rights::is_owner(&table) {
        return Err(Error::NotOwnerToAudit { table: display });
    }
    Ok(table)
}
