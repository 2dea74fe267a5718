//! The call of a trigger function, and where its trigger comes from.

use std::ffi::CStr;

use pgrx::{PgTrigger, pg_sys};

use crate::kit::spi;
use vector_tools_core::error::{Error, Result};
use vector_tools_core::sql::identifier::{Identifier, QualifiedName};
use vector_tools_core::sql::{Parameter, Statement};

/// The call of a trigger that is under way.
#[derive(Clone, Copy)]
pub struct TriggerCall<'a> {
    data: &'a pg_sys::TriggerData,
    call: &'a pg_sys::FunctionCallInfoBaseData,
    function: &'static str,
    expected: &'static str,
}

impl<'a> TriggerCall<'a> {
    /// Reads the call of a trigger function.
    ///
    /// # Errors
    /// [`Error::NotATrigger`] (39P01) when something else called it.
    pub(crate) fn new(
        call: pg_sys::FunctionCallInfo,
        function: &'static str,
        expected: &'static str,
    ) -> Result<TriggerCall<'a>> {
        // SAFETY: the call is under way, and its context is a node or NULL; that of a trigger is
        // its data, which lives as long as the call.
        unsafe {
            let context = (*call).context;
            if context.is_null() || (*context).type_ != pg_sys::NodeTag::T_TriggerData {
                return Err(Error::NotATrigger { function, expected });
            }
            Ok(TriggerCall {
                data: &*context.cast::<pg_sys::TriggerData>(),
                call: &*call,
                function,
                expected,
            })
        }
    }

    /// The rows that it is about, as pgrx reads them.
    ///
    /// # Errors
    /// [`Error::NotATrigger`] (39P01), never in practice.
    pub fn row_trigger(&self) -> Result<PgTrigger<'a>> {
        // SAFETY: PostgreSQL has called the function for a trigger, which new has seen; nothing has changed the call.
        let trigger = unsafe { PgTrigger::from_fcinfo(self.call) };
        trigger.map_err(|_| Error::NotATrigger { function: self.function, expected: self.expected })
    }

    /// The trigger.
    pub fn trigger(&self) -> &pg_sys::Trigger {
        // SAFETY: a trigger's data has its trigger.
        unsafe { &*self.data.tg_trigger }
    }

    /// What PostgreSQL says of the call.
    pub fn data(&self) -> &pg_sys::TriggerData {
        self.data
    }

    /// The table whose change fired it.
    pub fn relation(&self) -> pg_sys::Oid {
        // SAFETY: the table is open while its trigger runs.
        unsafe { (*self.data.tg_relation).rd_id }
    }

    /// Whether it fires at such a time, for rows or for statements.
    pub fn has_timing(&self, wanted: u32) -> bool {
        let mask = pg_sys::TRIGGER_EVENT_TIMINGMASK | pg_sys::TRIGGER_EVENT_ROW;
        self.data.tg_event & mask == wanted
    }
}

/// The arguments of a trigger.
pub fn arguments_of(trigger: &pg_sys::Trigger) -> Vec<String> {
    // SAFETY: a trigger has as many C strings as tgnargs says.
    let argument = |place| unsafe { CStr::from_ptr(*trigger.tgargs.add(place)) };
    (0..trigger.tgnargs as usize).map(|place| argument(place).to_string_lossy().into_owned()).collect()
}

/// The table that a trigger was made for.
pub struct Origin {
    /// The table.
    pub table: pg_sys::Oid,
    /// Its owner.
    pub owner: pg_sys::Oid,
    /// Schema and name.
    pub name: QualifiedName,
}

/// Where a trigger comes from: the trigger of a partition is a copy of its parent's; that for
/// TRUNCATE, of which there are no copies, belongs to the copy with the same arguments.
///
/// # Errors
/// Never in practice: names in the catalogue are valid.
pub fn origin_of(trigger: pg_sys::Oid) -> Result<Option<Origin>> {
    let mut statement = Statement::default();
    let trigger = statement.bind(Parameter::Oid(trigger.to_u32()));
    statement.push(format_args!(
        "WITH RECURSIVE ancestor AS ( \
             SELECT t.tgparentid, t.tgrelid FROM pg_catalog.pg_trigger AS f \
             JOIN pg_catalog.pg_trigger AS t ON t.tgrelid OPERATOR(pg_catalog.=) f.tgrelid \
              AND t.tgfoid OPERATOR(pg_catalog.=) f.tgfoid AND t.tgargs OPERATOR(pg_catalog.=) f.tgargs \
             WHERE f.oid OPERATOR(pg_catalog.=) {trigger} \
             AND (t.oid OPERATOR(pg_catalog.=) f.oid OR \
                  (f.tgtype::pg_catalog.int4 OPERATOR(pg_catalog.&) 1) OPERATOR(pg_catalog.=) 0) \
             UNION ALL \
             SELECT t.tgparentid, t.tgrelid FROM ancestor AS a \
             JOIN pg_catalog.pg_trigger AS t ON t.oid OPERATOR(pg_catalog.=) a.tgparentid) \
         SELECT c.oid, c.relowner, n.nspname::pg_catalog.text, c.relname::pg_catalog.text \
         FROM ancestor AS a \
         JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) a.tgrelid \
         JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
         JOIN pg_catalog.pg_trigger AS f ON f.oid OPERATOR(pg_catalog.=) {trigger} \
         WHERE a.tgparentid OPERATOR(pg_catalog.=) 0::pg_catalog.oid \
         ORDER BY (c.oid OPERATOR(pg_catalog.=) f.tgrelid)::pg_catalog.int4 LIMIT 1"
    ));
    let found = spi::with_catalog_snapshot(|| {
        spi::query(&statement, |row| {
            Some((row.get::<pg_sys::Oid>(1)?, row.get::<pg_sys::Oid>(2)?, row.get::<String>(3)?, row.get(4)?))
        })
    });
    let origin = |(table, owner, schema, name): (_, _, _, String)| -> Result<Origin> {
        let name = QualifiedName { schema: Identifier::new(schema)?, name: Identifier::new(name)? };
        Ok(Origin { table, owner, name })
    };
    found.into_iter().flatten().next().map(origin).transpose()
}
