//! Tables as a list shows them that anybody may read.
//!
//! Who reads a list has asked for none of its tables. So nobody's lock makes him wait, and nobody's code runs: a function
//! that swallows the request to cancel cannot be stopped by PostgreSQL itself, whatever `statement_timeout` says.

use std::ffi::CStr;

use pgrx::{PgRelation, pg_sys};

use crate::kit::subtransaction::attempt;
use crate::kit::{catalog, rights, spi};
use vector_tools_core::sql::identifier::QualifiedName;
use vector_tools_core::sql::{Parameter, Statement};

/// The SQLSTATE of a lock that is not to be had.
const IS_LOCKED: &str = "55P03";

/// How long a list waits for a lock that cannot be asked for in another way: that of a partition or an index, milliseconds.
const LOCK_MILLISECONDS: u32 = 10;

/// A table that a look reads, with the columns that it compares or casts.
pub struct Read<'a> {
    /// The table.
    pub table: pg_sys::Oid,
    /// Its columns.
    pub columns: &'a [&'a CStr],
}

impl Read<'_> {
    /// A table whose rows are only counted.
    pub fn rows(table: pg_sys::Oid) -> Read<'static> {
        Read { table, columns: &[] }
    }
}

/// Opens a table of a list; `None` where it is gone, or where somebody has it for himself.
pub fn open(table: pg_sys::Oid) -> Option<PgRelation> {
    catalog::open_table_now(table).ok().flatten()
}

/// Looks at tables with the rights of their owner. `None` where that would wait, where it fails, with a warning, and where
/// reading or planning would run functions that users have made: those of a role run for that role alone.
pub fn look_as_owner<T>(
    table: &QualifiedName,
    owner: pg_sys::Oid,
    read: &[Read],
    look: impl FnOnce() -> T,
) -> Option<T> {
    // SAFETY: a variable of this process.
    let is_own = owner == unsafe { pg_sys::GetUserId() };
    if !is_own && !read.iter().all(runs_only_code_of_the_server) {
        return None;
    }
    look_at(table, || rights::acting_as(owner, || with_list_settings(look)))
}

/// Looks at a table with the caller's own rights, by something that reads no rows.
pub fn look_at_size(table: &QualifiedName, look: impl FnOnce() -> Option<i64>) -> Option<i64> {
    look_at(table, || with_list_settings(look)).flatten()
}

fn look_at<T>(table: &QualifiedName, look: impl FnOnce() -> T) -> Option<T> {
    let looked = attempt(look);
    looked
        .map_err(|failure| {
            if failure.sqlstate != IS_LOCKED {
                pgrx::warning!("table {table} was not counted: {}", failure.message);
            }
        })
        .ok()
}

fn with_list_settings<T>(look: impl FnOnce() -> T) -> T {
    let settings = [
        (c"lock_timeout", LOCK_MILLISECONDS.to_string()),
        // Checks of a table are not looked at, whose parts the planner would run.
        (c"constraint_exclusion", "off".to_owned()),
    ];
    spi::with_settings(&settings, look)
}

/// Whether counting the rows of a table and of those that inherit from it runs nothing that users have made. The planner
/// runs what it finds constant in the expressions and conditions of indexes, in those of extended statistics and in the
/// keys of partitions; what they call is recorded with them, but for what came with the server. Only superusers make
/// functions in C. A column of a type of the server is compared and cast by functions of the server.
fn runs_only_code_of_the_server(read: &Read) -> bool {
    let is_plain = |column: &&CStr| {
        // SAFETY: syscache look-ups with a valid C string, which give zero for what is gone.
        let type_oid =
            unsafe { pg_sys::get_atttype(read.table, pg_sys::get_attnum(read.table, column.as_ptr())) };
        type_oid.to_u32() < pg_sys::FirstNormalObjectId
    };
    if !read.columns.iter().all(is_plain) {
        return false;
    }
    let mut statement = Statement::default();
    let table = statement.bind(Parameter::Integer(i64::from(read.table.to_u32())));
    statement.push(format_args!(
        "WITH RECURSIVE tables(number) AS ( \
             SELECT {table}::pg_catalog.oid \
             UNION ALL SELECT i.inhrelid FROM tables AS t \
             JOIN pg_catalog.pg_inherits AS i ON i.inhparent OPERATOR(pg_catalog.=) t.number), \
         parts(class, number) AS ( \
             SELECT 'pg_catalog.pg_class'::pg_catalog.regclass, t.number FROM tables AS t \
             UNION ALL SELECT 'pg_catalog.pg_class'::pg_catalog.regclass, x.indexrelid FROM tables AS t \
             JOIN pg_catalog.pg_index AS x ON x.indrelid OPERATOR(pg_catalog.=) t.number \
             UNION ALL SELECT 'pg_catalog.pg_statistic_ext'::pg_catalog.regclass, e.oid FROM tables AS t \
             JOIN pg_catalog.pg_statistic_ext AS e ON e.stxrelid OPERATOR(pg_catalog.=) t.number), \
         called(number) AS ( \
             SELECT CASE WHEN d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass::pg_catalog.oid \
                         THEN d.refobjid ELSE o.oprcode::pg_catalog.oid END \
             FROM parts AS p \
             JOIN pg_catalog.pg_depend AS d ON d.classid OPERATOR(pg_catalog.=) p.class::pg_catalog.oid \
              AND d.objid OPERATOR(pg_catalog.=) p.number \
             LEFT JOIN pg_catalog.pg_operator AS o ON o.oid OPERATOR(pg_catalog.=) d.refobjid \
              AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_operator'::pg_catalog.regclass::pg_catalog.oid \
             WHERE d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass::pg_catalog.oid \
                OR o.oid IS NOT NULL) \
         SELECT NOT EXISTS (SELECT FROM called AS c \
                JOIN pg_catalog.pg_proc AS f ON f.oid OPERATOR(pg_catalog.=) c.number \
                JOIN pg_catalog.pg_language AS l ON l.oid OPERATOR(pg_catalog.=) f.prolang \
                WHERE l.lanname OPERATOR(pg_catalog.<>) ALL ('{{internal,c}}'::pg_catalog.name[])) \
            AND NOT EXISTS (SELECT FROM tables AS t \
                JOIN pg_catalog.pg_class AS r ON r.oid OPERATOR(pg_catalog.=) t.number \
                WHERE r.relkind OPERATOR(pg_catalog.=) 'f')"
    ));
    spi::query_new_snapshot(&statement, |row| row.get::<bool>(1))
        .into_iter()
        .flatten()
        .any(|is_plain| is_plain)
}
