//! The SQL functions that give access to tables. Their declarations are in sql/56_access.sql.

use pgrx::Array;
use pgrx::prelude::*;

use super::grants::{AccessLevel, COMPANIONS, EMBEDDINGS, grant_sql, revoke_sql};
use super::isolation::{COMMENT, SETTING_POLICY, by_role_sql, by_setting_sql, drop_policies_sql, share_sql};
use super::roles::{ROLES, creation_sql, membership_sql};
use crate::error::{Error, Result};
use crate::identifier::{Identifier, QualifiedName};
use crate::pg::array::one_dimensional;
use crate::pg::catalog::{lock_definition, open_table, qualified_name};
use crate::pg::regclass::Regclass;
use crate::pg::report::OrReport;
use crate::pg::{rights, session, spi};
use crate::search::{Parameter, Statement};

#[pg_extern(sql = false)]
fn create_vector_roles() -> i32 {
    session::forbid_when_read_only(c"create_vector_roles");
    create_roles().or_report()
}

fn create_roles() -> Result<i32> {
    let mut created = 0;
    for (role, comment) in ROLES {
        if find_role(role)?.is_none() {
            spi::execute(&creation_sql(role, comment)?);
            created += 1;
        }
    }
    for pair in ROLES.windows(2) {
        let (role, member) = (pair[0].0, pair[1].0);
        if !is_member(member, role) {
            spi::execute(&membership_sql(role, member)?);
        }
    }
    Ok(created)
}

#[pg_extern(sql = false)]
fn grant_vector_access(grantee: &str, level: &str, target: pg_sys::Oid) {
    session::forbid_when_read_only(c"grant_vector_access");
    let grant = || -> Result<()> {
        let level = AccessLevel::named(level)?;
        let grantee = existing_role(grantee)?;
        let name = name_of(target)?;
        spi::execute(&grant_sql(&name, &companions(&name)?, &grantee, level));
        Ok(())
    };
    grant().or_report()
}

#[pg_extern(sql = false)]
fn revoke_vector_access(grantee: &str, target: pg_sys::Oid) {
    session::forbid_when_read_only(c"revoke_vector_access");
    let revoke = || -> Result<()> {
        let grantee = existing_role(grantee)?;
        let name = name_of(target)?;
        spi::execute(&revoke_sql(&name, &companions(&name)?, &grantee));
        Ok(())
    };
    revoke().or_report()
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
        rights::require_owner(target)?;
        let name = lock_to_alter(target)?;
        let policies = policies(target)?;
        match (grantee, namespaces) {
            (None, None) => {
                if policies.iter().any(|policy| policy.as_str() != SETTING_POLICY) {
                    return Err(Error::IsolatedByRole { table: name.to_string() });
                }
                spi::execute(&drop_policies_sql(&name, &policies));
                spi::execute(&by_setting_sql(&name)?);
            }
            (Some(grantee), Some(namespaces)) => {
                let grantee = existing_role(grantee)?;
                let namespaces: Vec<String> = one_dimensional(namespaces)?.into_iter().flatten().collect();
                // Rows that either policy shows are shown, so a session could choose more for itself.
                let is_outdated =
                    |policy: &Identifier| policy.as_str() == SETTING_POLICY || *policy == grantee;
                let outdated: Vec<Identifier> = policies.into_iter().filter(is_outdated).collect();
                if outdated.iter().any(|policy| policy.as_str() == SETTING_POLICY) {
                    pgrx::notice!("namespaces of {name} are now those of roles, not of a setting");
                }
                spi::execute(&drop_policies_sql(&name, &outdated));
                spi::execute(&by_role_sql(&name, &grantee, &namespaces));
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
        // A stranger opens no table that its owner would have to wait for.
        if !rights::owns(target)? && policies(target)?.is_empty() {
            return Ok(false);
        }
        let name = lock_to_alter(target)?;
        let policies = policies(target)?;
        if policies.is_empty() {
            return Ok(false);
        }
        spi::execute(&drop_policies_sql(&name, &policies));
        // Policies of the owner's own go on.
        if !has_policies(target) {
            spi::execute(&share_sql(&name));
        }
        Ok(true)
    };
    share().or_report()
}

/// Lets one call of the owner's at a time alter a table, and gives its name.
fn lock_to_alter(table: pg_sys::Oid) -> Result<QualifiedName> {
    lock_definition(table, pg_sys::AccessExclusiveLock)?;
    name_of(table)
}

/// The name of a table, which is not open any more when it is altered but stays locked.
fn name_of(table: pg_sys::Oid) -> Result<QualifiedName> {
    qualified_name(&open_table(table)?)
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

/// The policies of a table that isolate_namespaces made, another session's a moment ago too.
fn policies(table: pg_sys::Oid) -> Result<Vec<Identifier>> {
    let mut statement = Statement::default();
    let table = statement.bind(Parameter::Integer(i64::from(table.to_u32())));
    let comment = statement.bind(Parameter::Text(COMMENT.to_owned()));
    statement.push(format_args!(
        "SELECT p.polname::pg_catalog.text FROM pg_catalog.pg_policy AS p \
         WHERE p.polrelid OPERATOR(pg_catalog.=) {table}::pg_catalog.oid \
         AND pg_catalog.obj_description(p.oid, 'pg_policy') OPERATOR(pg_catalog.=) {comment} ORDER BY p.polname"
    ));
    let names = spi::query_latest(&statement, |row| row.get::<String>(1));
    names.into_iter().flatten().map(Identifier::new).collect()
}

fn has_policies(table: pg_sys::Oid) -> bool {
    let mut statement = Statement::default();
    let table = statement.bind(Parameter::Integer(i64::from(table.to_u32())));
    statement.push(format_args!(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_policy AS p \
         WHERE p.polrelid OPERATOR(pg_catalog.=) {table}::pg_catalog.oid)"
    ));
    spi::query_latest(&statement, |row| row.get::<bool>(1)).into_iter().flatten().next().unwrap_or(true)
}

fn existing_role(name: &str) -> Result<Identifier> {
    find_role(name)?.ok_or_else(|| Error::RoleNotFound { role: name.to_owned() })
}

fn find_role(name: &str) -> Result<Option<Identifier>> {
    let statement = "SELECT EXISTS (SELECT FROM pg_catalog.pg_roles AS r \
                     WHERE r.rolname OPERATOR(pg_catalog.=) $1::pg_catalog.name)";
    let name = Identifier::new(name)?;
    let exists = Spi::get_one_with_args::<bool>(statement, &[name.as_str().into()]);
    Ok(exists.ok().flatten().unwrap_or(false).then_some(name))
}

fn is_member(member: &str, role: &str) -> bool {
    let statement = "SELECT pg_catalog.pg_has_role($1::pg_catalog.name, $2::pg_catalog.name, 'MEMBER')";
    Spi::get_one_with_args::<bool>(statement, &[member.into(), role.into()]).ok().flatten().unwrap_or(false)
}
