//! The companion that a search answers from, so that model and vectors belong together while another
//! session changes the model.
//!
//! A session keeps what it knows of a table until PostgreSQL says that it has changed, which it hears
//! when it takes a lock. So the companion is locked first and then looked at again: from there on no
//! change of the model can end before the transaction does, since that needs the companion for itself.

use std::rc::Rc;

use pgrx::{PgRelation, pg_sys};

use crate::kit::catalog::open_table;
use crate::kit::spi;
use crate::pipeline::searchable_tables::{SearchableRelation, find};
use vector_tools_core::error::Result;
use vector_tools_core::pipeline::{SearchOptions, SearchableTable};
use vector_tools_core::sql::{Parameter, Statement};

/// A companion that cannot change while this value is there.
pub struct OpenCompanion {
    /// What is known of the source.
    pub searched: Rc<SearchableRelation>,
    /// The companion, and which one it is.
    pub relation: PgRelation,
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Live,
    Next,
    Previous,
}

impl OpenCompanion {
    /// The source with this companion and its model.
    pub fn table(&self) -> &SearchableTable {
        let shadow = match self.place {
            Place::Live => None,
            Place::Next => self.searched.next.as_ref(),
            Place::Previous => self.searched.previous.as_ref(),
        };
        shadow.map_or(&self.searched.table, |shadow| &shadow.table)
    }
}

/// Opens the companion of a table, if it was made searchable: the one whose model the calling query's
/// snapshot has, so that a transaction that began before a change of the model sees all rows that it saw
/// then.
///
/// # Errors
/// Those of a companion that is gone or of a dropped column.
pub fn open(source: &PgRelation) -> Result<Option<OpenCompanion>> {
    loop {
        let Some(searched) = find(source)? else {
            return Ok(None);
        };
        let chosen = choose(&searched)?;
        let (companion, place) = chosen;
        let opened = open_table(companion);
        // It is compared by what it says: a session that hears of changes all the time keeps nothing.
        if let Some(again) = find(source)?
            && (Rc::ptr_eq(&again, &searched) || choose(&again)? == chosen)
        {
            return Ok(Some(OpenCompanion { searched: again, relation: opened?, place }));
        }
    }
}

fn choose(searched: &SearchableRelation) -> Result<(pg_sys::Oid, Place)> {
    let (live, next, previous) = (&searched.table, searched.next.as_ref(), searched.previous.as_ref());
    if next.is_some() || previous.is_some() {
        let model = model_of_snapshot(searched.content_trigger);
        let places = [(previous, Place::Previous), (next, Place::Next)];
        let is_other = model.as_ref().is_some_and(|model| *model != live.options.model);
        let other = places.into_iter().find_map(|(shadow, place)| {
            let shadow = shadow.filter(|shadow| Some(&shadow.table.options.model) == model.as_ref())?;
            Some((shadow.companion, place))
        });
        if let Some(other) = other.filter(|_| is_other) {
            return Ok(other);
        }
    }
    Ok((searched.companion()?, Place::Live))
}

/// The model that the trigger has for the calling query.
fn model_of_snapshot(trigger: pg_sys::Oid) -> Option<String> {
    let mut statement = Statement::default();
    let trigger = statement.bind(Parameter::Oid(trigger.to_u32()));
    // The first argument ends at the first zero byte.
    statement.push(format_args!(
        "SELECT pg_catalog.convert_from(pg_catalog.substring(t.tgargs, 1, \
             pg_catalog.position(t.tgargs, '\\x00'::pg_catalog.bytea) OPERATOR(pg_catalog.-) 1), \
             pg_catalog.getdatabaseencoding()) \
         FROM pg_catalog.pg_trigger AS t WHERE t.oid OPERATOR(pg_catalog.=) {trigger}"
    ));
    let options = spi::query(&statement, |row| row.get::<String>(1));
    options
        .into_iter()
        .flatten()
        .find_map(|json| SearchOptions::from_json(&json))
        .map(|options| options.model)
}
