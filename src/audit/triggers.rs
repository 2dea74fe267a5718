//! The audit triggers of a table, as the catalogue has them.

use pgrx::{PgRelation, pg_sys};

use crate::audit::writer::{check_opened, is_owned_for};
use crate::kit::regclass::Regclass;
use crate::kit::table_triggers::own_triggers;
use crate::kit::trigger_call::{Origin, origin_of};
use crate::kit::{catalog, rights, spi};
use vector_tools_core::audit::AuditOptions;
use vector_tools_core::error::{Error, Result};
use vector_tools_core::sql::identifier::{Identifier, QualifiedName};
use vector_tools_core::sql::{Parameter, Statement};

const GUARD: &str = "guard_audit_log";
const CHANGE: &str = "audit_change";

/// The audit of a table, by its trigger for rows.
pub struct Audit {
    /// What the trigger's arguments say.
    pub options: AuditOptions,
    /// The trigger's name.
    pub trigger: Identifier,
    /// Whether it fires in ordinary sessions.
    pub is_enabled: bool,
    /// Whether it fires in replicas too.
    pub is_always: bool,
    /// The table it was made for.
    pub origin: Origin,
    /// Whether it is a copy, in a partition of that table.
    pub is_copy: bool,
}

/// The audit of a table, if it is audited.
///
/// # Errors
/// Never in practice: names in the catalogue are valid.
pub fn audit_of(table: &PgRelation) -> Result<Option<Audit>> {
    for trigger in own_triggers(table, CHANGE) {
        let options = AuditOptions::from_arguments(&trigger.arguments);
        let Some(options) = options.filter(|_| trigger.is_for_rows) else {
            continue;
        };
        return Ok(Some(Audit {
            options,
            trigger: Identifier::new(trigger.name)?,
            is_enabled: matches!(trigger.enabled, b'O' | b'A'),
            is_always: trigger.enabled == b'A',
            origin: origin_of(trigger.oid)?.ok_or(Error::TableGone { table: table.oid().to_u32() })?,
            is_copy: trigger.is_copy,
        }));
    }
    Ok(None)
}

/// Whether a table is an audit log, which its guard says.
pub fn is_log(table: &PgRelation) -> bool {
    !own_triggers(table, GUARD).is_empty()
}

/// Checks that a role's triggers can write to a log; a log of the caller's own lets them.
///
/// # Errors
/// [`Error::NotAnAuditLog`] (42P07) and [`Error::UnusableAuditLog`] (42501).
pub fn open_log_for(log: pg_sys::Oid, table: &PgRelation) -> Result<()> {
    let relation = catalog::open_table(log)?;
    let name = catalog::qualified_name(&relation)?;
    if !catalog::is_table(&relation) || !is_log(&relation) {
        return Err(Error::NotAnAuditLog { relation: name.to_string() });
    }
    let unusable = |reason: &str| Error::UnusableAuditLog {
        table: catalog::display_name(table),
        log: name.to_string(),
        sqlstate: "42501",
        reason: reason.to_owned(),
    };
    let owner = rights::owner(table);
    if !is_owned_for(&relation, owner) {
        return Err(unusable(
            "it, or a partition of it, belongs to a role that has not the rights of the table's owner",
        ));
    }
    if rights::may_insert(&relation, owner) {
        return Ok(());
    }
    if !rights::is_owner(&relation) {
        return Err(unusable("the table's owner may not insert into it"));
    }
    let grantee = Identifier::new(rights::role_name(owner))?;
    drop(relation);
    spi::run_script(&format!("GRANT INSERT ON TABLE {name} TO {grantee}"));
    Ok(())
}

/// Checks that a log is what it seems to be before it is read: a view in its place could run its
/// owner's functions with the rights of the reader. Nobody can replace it afterwards.
///
/// # Errors
/// [`Error::UnusableAuditLog`], with the SQLSTATE that says why.
pub fn check_log(log: &QualifiedName, table: &QualifiedName, owner: pg_sys::Oid) -> Result<()> {
    let unusable = |sqlstate, reason: &str| Error::UnusableAuditLog {
        table: table.to_string(),
        log: log.to_string(),
        sqlstate,
        reason: reason.to_owned(),
    };
    let found = Regclass::find(log).ok_or_else(|| unusable("42P01", "there is no such relation"))?;
    check_opened(&catalog::open_table(found.0)?, owner, unusable)
}

/// The tables of a partition tree that lack the trigger for TRUNCATE of the root's audit, or have
/// another one.
///
/// # Errors
/// Never in practice: names in the catalogue are valid.
pub fn without_truncate_trigger(root: pg_sys::Oid) -> Result<Vec<QualifiedName>> {
    partition_tree(
        root,
        "NOT EXISTS (SELECT FROM pg_catalog.pg_trigger AS t \
             JOIN pg_catalog.pg_trigger AS r ON r.tgrelid OPERATOR(pg_catalog.=) root \
              AND r.tgfoid OPERATOR(pg_catalog.=) t.tgfoid AND r.tgargs OPERATOR(pg_catalog.=) t.tgargs \
              AND (r.tgtype::pg_catalog.int4 OPERATOR(pg_catalog.&) 1) OPERATOR(pg_catalog.=) 1 \
             WHERE t.tgrelid OPERATOR(pg_catalog.=) c.oid AND t.tgfoid OPERATOR(pg_catalog.=) f.oid \
             AND t.tgenabled OPERATOR(pg_catalog.<>) 'D' \
             AND (t.tgtype::pg_catalog.int4 OPERATOR(pg_catalog.&) 1) OPERATOR(pg_catalog.=) 0)",
    )
}

/// The tables of a partition tree that have a trigger for TRUNCATE.
///
/// # Errors
/// Never in practice: names in the catalogue are valid.
pub fn with_truncate_trigger(root: pg_sys::Oid) -> Result<Vec<QualifiedName>> {
    partition_tree(
        root,
        "EXISTS (SELECT FROM pg_catalog.pg_trigger AS t \
             WHERE t.tgrelid OPERATOR(pg_catalog.=) c.oid AND t.tgfoid OPERATOR(pg_catalog.=) f.oid \
             AND t.tgname OPERATOR(pg_catalog.=) 'vector_tools_audit_truncate')",
    )
}

/// `condition` is one of the fixed ones above, over the table `c`, the function `f` and `root`.
fn partition_tree(root: pg_sys::Oid, condition: &str) -> Result<Vec<QualifiedName>> {
    let mut statement = Statement::default();
    let root = statement.bind(Parameter::Oid(root.to_u32()));
    statement.push(format_args!(
        "SELECT n.nspname::pg_catalog.text, c.relname::pg_catalog.text \
         FROM (SELECT {root} AS root) AS given \
         CROSS JOIN LATERAL (SELECT root AS relid UNION \
              SELECT p.relid::pg_catalog.oid FROM pg_catalog.pg_partition_tree(root::pg_catalog.regclass) AS p) AS tree \
         JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) tree.relid \
         JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
         JOIN pg_catalog.pg_proc AS f ON f.proname OPERATOR(pg_catalog.=) '{CHANGE}' \
         JOIN pg_catalog.pg_namespace AS s ON s.oid OPERATOR(pg_catalog.=) f.pronamespace \
          AND s.nspname OPERATOR(pg_catalog.=) 'vector_tools' \
         WHERE c.relkind OPERATOR(pg_catalog.=) ANY ('{{r,p}}'::pg_catalog.\"char\"[]) AND {condition}"
    ));
    let names = spi::with_catalog_snapshot(|| {
        spi::query(&statement, |row| Some((row.get::<String>(1)?, row.get::<String>(2)?)))
    });
    let name = |(schema, name): (String, String)| {
        Ok(QualifiedName { schema: Identifier::new(schema)?, name: Identifier::new(name)? })
    };
    names.into_iter().flatten().map(name).collect()
}
