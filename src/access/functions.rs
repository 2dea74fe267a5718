//! The SQL functions that give access to tables. Their declarations are in sql/access.sql.

use pgrx::Array;
use pgrx::prelude::*;

use crate::kit::catalog::{has_column, name_of, open_table, qualified_name};
use crate::kit::regclass::Regclass;
use crate::kit::report::OrReport;
use crate::kit::{patient_lock, rights, session, spi};
use crate::types::array::one_dimensional;
use vector_tools_core::access::grants::{AUDIT_LOG, AccessLevel, COMPANIONS, EMBEDDINGS, Grants, revoke_sql};
use vector_tools_core::access::isolation::{
    COMMENT, Policy, add_namespace_sql, by_role_sql, by_setting_sql, drop_policies_sql, free_policy_name,
    share_sql,
};
use vector_tools_core::access::roles::{ROLES, creation_sql, membership_sql};
use vector_tools_core::error::{Error, Result};
use vector_tools_core::sql::identifier::{Identifier, QualifiedName};
use vector_tools_core::sql::{Parameter, Statement};

#[pg_extern(sql = false)]
fn create_vector_roles() -> i32 {
    session::forbid_when_read_only(c"create_vector_roles");
    create_roles().or_report()
}

fn create_roles() -> Result<i32> {
    let mut created = 0;
    for (role, comment) in ROLES {
        if rights::find_role(role).is_none() {
            spi::run_script(&creation_sql(role, comment)?);
            created += 1;
        }
    }
    for pair in ROLES.windows(2) {
        let (role, member) = (pair[0].0, pair[1].0);
        if !is_member(member, role) {
            spi::run_script(&membership_sql(role, member)?);
        }
    }
    Ok(created)
}

#[pg_extern(sql = false)]
fn grant_vector_access(grantee: &str, level: &str, target: pg_sys::Oid) {
    session::forbid_when_read_only(c"grant_vector_access");
    let grant = || -> Result<()> {
        let level = AccessLevel::named(level)?;
        let (_, grantee) = existing_role(grantee)?;
        let name = qualified_name(&open_table(target)?)?;
        let companions = companions(&name)?;
        let grants = Grants::new(&name, &companions, level);
        require_grantable(&grants)?;
        spi::run_script(&grants.sql(&grantee));
        Ok(())
    };
    grant().or_report()
}

#[pg_extern(sql = false)]
fn revoke_vector_access(grantee: &str, target: pg_sys::Oid) {
    session::forbid_when_read_only(c"revoke_vector_access");
    let revoke = || -> Result<()> {
        let (_, grantee) = existing_role(grantee)?;
        let name = qualified_name(&open_table(target)?)?;
        let companions = companions(&name)?;
        require_grantable(&Grants::to_revoke(&name, &companions))?;
        spi::run_script(&revoke_sql(&name, &companions, &grantee));
        Ok(())
    };
    revoke().or_report()
}

/// Refuses what PostgreSQL itself would pass over with a warning.
fn require_grantable(grants: &Grants) -> Result<()> {
    let missing = spi::query_new_snapshot(&grants.not_grantable(), |row| {
        let kind = if row.get::<bool>(1).unwrap_or(false) { "schema" } else { "table" };
        format!("{kind} {}", row.get::<String>(2).unwrap_or_default())
    });
    match missing.into_iter().next() {
        Some(object) => Err(Error::NotGrantable { object }),
        None => Ok(()),
    }
}

#[pg_extern(sql = false)]
fn isolate_namespaces(
    target: Option<pg_sys::Oid>,
    grantee: Option<&str>,
    namespaces: Option<Array<'_, &str>>,
) {
    session::forbid_when_read_only(c"isolate_namespaces");
    let Some(target) = target else { return };
    let isolate = || -> Result<()> {
        let family = own_family(target)?;
        match (grantee, namespaces) {
            (None, None) => {
                lock_family(&family)?;
                let of_roles = |policy: &Policy| policy.is_own && !policy.is_by_setting();
                if let Some(table) = family.iter().find(|table| policies(table.oid).iter().any(of_roles)) {
                    return Err(Error::IsolatedByRole { table: table.name.to_string() });
                }
                for table in &family {
                    let outdated = policies(table.oid);
                    let outdated = outdated.iter().filter(|policy| policy.is_by_setting());
                    spi::run_script(&drop_policies_sql(&table.name, outdated));
                    table.require_namespace();
                    spi::run_script(&by_setting_sql(&table.name)?);
                }
            }
            (Some(grantee), Some(namespaces)) => {
                let (role, grantee) = existing_role(grantee)?;
                let namespaces: Vec<String> = one_dimensional(namespaces)?.into_iter().flatten().collect();
                lock_family(&family)?;
                let mut was_by_setting = false;
                for table in &family {
                    // Rows that either policy shows are shown, so a session could choose more for itself.
                    let (outdated, kept): (Vec<Policy>, Vec<Policy>) = policies(table.oid)
                        .into_iter()
                        .partition(|policy| policy.is_by_setting() || policy.is_of_role(role));
                    was_by_setting |= outdated.iter().any(Policy::is_by_setting);
                    spi::run_script(&drop_policies_sql(&table.name, &outdated));
                    table.require_namespace();
                    let policy = free_policy_name(role, &kept)?;
                    spi::run_script(&by_role_sql(&table.name, &policy, &grantee, &namespaces));
                }
                if was_by_setting {
                    let name = family.first().map(|table| table.name.to_string()).unwrap_or_default();
                    pgrx::notice!("namespaces of {name} are now those of roles, not of a setting");
                }
            }
            _ => {
                return Err(Error::InvalidArgument {
                    argument: "namespaces",
                    expected: "an array where a grantee is named, and only there".to_owned(),
                    found: "one without the other".to_owned(),
                });
            }
        }
        Ok(())
    };
    isolate().or_report()
}

#[pg_extern(sql = false)]
fn share_namespaces(target: pg_sys::Oid) -> bool {
    session::forbid_when_read_only(c"share_namespaces");
    let share = || -> Result<bool> {
        let family = own_family(target)?;
        lock_family(&family)?;
        let mut is_shared = false;
        for table in &family {
            let (own, others): (Vec<Policy>, Vec<Policy>) =
                policies(table.oid).into_iter().partition(|policy| policy.is_own);
            if own.is_empty() {
                continue;
            }
            is_shared = true;
            spi::run_script(&drop_policies_sql(&table.name, &own));
            // Policies of the owner's own go on.
            if others.is_empty() {
                spi::run_script(&share_sql(&table.name));
            }
        }
        Ok(is_shared)
    };
    share().or_report()
}

/// A table whose rows are kept apart.
struct IsolatedTable {
    oid: pg_sys::Oid,
    name: QualifiedName,
    is_companion: bool,
}

impl IsolatedTable {
    /// Adds the column to a table beside the embeddings of a store that was made without the extension, or
    /// before it had one. The log of changes has it in the rows that it is about.
    fn require_namespace(&self) {
        let is_needed = self.is_companion && self.name.name.as_str() != AUDIT_LOG;
        if is_needed && !has_column(self.oid, c"namespace") {
            spi::run_script(&add_namespace_sql(&self.name));
        }
    }
}

/// A table of the caller's, and the tables of the vector store around it. Nobody else is told anything, or has
/// a table locked.
fn own_family(target: pg_sys::Oid) -> Result<Vec<IsolatedTable>> {
    rights::require_owner(target)?;
    let name = name_of(target)?;
    let mut family = Vec::new();
    for name in companions(&name)? {
        let Some(Regclass(oid)) = Regclass::find(&name) else { continue };
        let is_log = || has_column(oid, c"old_data") && has_column(oid, c"new_data");
        if name.name.as_str() == AUDIT_LOG && !is_log() {
            continue;
        }
        rights::require_owner(oid)?;
        family.push(IsolatedTable { oid, name, is_companion: true });
    }
    family.insert(0, IsolatedTable { oid: target, name, is_companion: false });
    Ok(family)
}

/// Takes the tables for this transaction, all of them or none: others lock them in orders of their own.
fn lock_family(family: &[IsolatedTable]) -> Result<()> {
    let names: Vec<String> = family.iter().map(|table| format!("ONLY {}", table.name)).collect();
    patient_lock::lock(&format!("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", names.join(", ")));
    // Renamed or dropped before the lock was there.
    match family.iter().find(|table| Regclass::find(&table.name) != Some(Regclass(table.oid))) {
        Some(gone) => Err(Error::TableGone { table: gone.oid.to_u32() }),
        None => Ok(()),
    }
}

/// The tables of a vector store beside the one with its embeddings; none for any other table.
fn companions(table: &QualifiedName) -> Result<Vec<QualifiedName>> {
    if table.name.as_str() != EMBEDDINGS {
        return Ok(vec![]);
    }
    let mut found = Vec::new();
    for (name, _) in COMPANIONS {
        let name = QualifiedName { schema: table.schema.clone(), name: Identifier::new(name)? };
        if Regclass::find(&name).is_some() {
            found.push(name);
        }
    }
    Ok(found)
}

/// The policies of a table, those made by another session a moment ago too.
fn policies(table: pg_sys::Oid) -> Vec<Policy> {
    let mut statement = Statement::default();
    let table = statement.bind(Parameter::Oid(table.to_u32()));
    let comment = statement.bind(Parameter::Text(COMMENT.to_owned()));
    statement.push(format_args!(
        "SELECT p.polname::pg_catalog.text, p.polroles::pg_catalog.text[], \
             coalesce(pg_catalog.obj_description(p.oid, 'pg_policy') OPERATOR(pg_catalog.=) {comment}, false) \
         FROM pg_catalog.pg_policy AS p \
         WHERE p.polrelid OPERATOR(pg_catalog.=) {table} ORDER BY p.polname"
    ));
    let found = spi::query_new_snapshot(&statement, |row| {
        let roles: Vec<String> = row.get(2).unwrap_or_default();
        Some(Policy {
            name: Identifier::new(row.get::<String>(1)?).ok()?,
            roles: roles.iter().filter_map(|role| role.parse().ok()).collect(),
            is_own: row.get(3).unwrap_or(false),
        })
    });
    found.into_iter().flatten().collect()
}

/// A role by its name: its number, and the name for SQL text.
fn existing_role(name: &str) -> Result<(u32, Identifier)> {
    let identifier = Identifier::new(name)?;
    let role = rights::find_role(name).ok_or_else(|| Error::RoleNotFound { role: name.to_owned() })?;
    Ok((role.to_u32(), identifier))
}

fn is_member(member: &str, role: &str) -> bool {
    let statement = "SELECT pg_catalog.pg_has_role($1::pg_catalog.name, $2::pg_catalog.name, 'MEMBER')";
    Spi::get_one_with_args::<bool>(statement, &[member.into(), role.into()]).ok().flatten().unwrap_or(false)
}
