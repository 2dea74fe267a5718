//! The SQL functions that change the model of a searched table. Their declarations are in
//! sql/pipeline.sql.

use crate::kit::cluster_lock::acquire_lock;
use std::rc::Rc;

use pgrx::prelude::*;

use crate::chunking::functions::chunks;
use crate::kit::regclass::Regclass;
use crate::kit::report::OrReport;
use crate::kit::{catalog, patient_lock, rights, session, spi};
use crate::model::registry;
use crate::pipeline::enable::{
    PIECE, create_companion, execute, is_unlogged, open_own, query_as_owner, read_keys,
};
use crate::pipeline::queue::{enqueue_with, with_rights_of_queue};
use crate::pipeline::searchable_tables;
use crate::pipeline::searchable_tables::{SearchableRelation, Shadow, find_companion, key_columns};
use crate::pipeline::{jobs, search_index, worker};
use vector_tools_core::chunking::{Options, Strategy};
use vector_tools_core::error::{Error, Result};
use vector_tools_core::pipeline::change::{Role, rename_sql, shadow_name};
use vector_tools_core::pipeline::companion::Creation;
use vector_tools_core::pipeline::options::Chunking;
use vector_tools_core::pipeline::queue::{Urgency, remove_waiting};
use vector_tools_core::pipeline::{Mode, SearchOptions, SearchableTable};
use vector_tools_core::sql::identifier::{Identifier, QualifiedName};
use vector_tools_core::sql::lock::definition_lock;
use vector_tools_core::sql::{Parameter, Statement};

#[pg_extern(sql = false)]
fn set_search_model(source: Option<pg_sys::Oid>, model: Option<&str>) -> Option<Regclass> {
    session::forbid_when_read_only(c"set_search_model");
    Some(set_model(source?, model?).or_report())
}

#[pg_extern(sql = false)]
fn finish_search_model(source: Option<pg_sys::Oid>, force: Option<bool>) -> Option<Regclass> {
    session::forbid_when_read_only(c"finish_search_model");
    Some(finish(source?, force.unwrap_or(false)).or_report())
}

#[pg_extern(sql = false)]
fn rollback_search_model(source: Option<pg_sys::Oid>) -> Option<Regclass> {
    session::forbid_when_read_only(c"rollback_search_model");
    Some(roll_back(source?).or_report())
}

/// Begins a change of the model, or takes up one that was begun.
fn set_model(source: pg_sys::Oid, model: &str) -> Result<Regclass> {
    let searched = open_searched(source)?;
    let table = &searched.table;
    let live = Regclass(searched.companion()?);
    let record = registry::find_model(model)?;
    match &searched.next {
        Some(next) if next.table.options.model == model => {
            let queued = fill_next(&searched, &next.table);
            pgrx::notice!(
                "the change of the model of table {} is under way: {queued} rows are queued",
                table.source
            );
            return Ok(Regclass(next.companion));
        }
        Some(next) => return Err(under_way(&searched, next)),
        None if table.options.model == model => {
            pgrx::notice!("table {} is embedded with \"{model}\" already", table.source);
            return Ok(live);
        }
        None => {}
    }
    check_chunking(&table.options, model)?;
    let kept = searched.previous.as_ref().filter(|kept| kept.table.options.model == model);
    let dropped = if kept.is_some() { &[Role::Next][..] } else { &[Role::Next, Role::Previous] };
    lock_source(&searched, dropped, kept.map(|kept| &kept.table.companion))?;
    drop_shadow(&searched, Role::Next)?;
    let next = match kept {
        Some(kept) => take_up(table, &kept.table)?,
        None => {
            drop_shadow(&searched, Role::Previous)?;
            create_next(&searched, model, record.dimensions)?
        }
    };
    write_options(
        table,
        SearchOptions { next: Some(model.to_owned()), previous: None, ..table.options.clone() },
    );
    let queued = fill_next(&searched, &next);
    pgrx::notice!(
        "table {}: {queued} rows are queued to be embedded with \"{model}\"; searches go on with \"{}\"",
        table.source,
        table.options.model
    );
    Regclass::find(&next.companion).ok_or_else(|| gone(&next.companion))
}

/// Has the new vectors searched, and keeps the old ones.
fn finish(source: pg_sys::Oid, force: bool) -> Result<Regclass> {
    let searched = open_searched(source)?;
    let table = &searched.table;
    searched.companion()?;
    let display = || table.source.to_string();
    let next = searched.next.as_ref().ok_or_else(|| Error::NoModelChange { table: display() })?;
    let model = &next.table.options.model;
    if !force {
        let counts =
            query_as_owner(&searched, &table.count_behind(&next.table), |row| (row.get(1), row.get(2)));
        let (rows, behind) = counts.into_iter().next().unwrap_or_default();
        let (rows, behind) = (rows.unwrap_or(0), behind.unwrap_or(0));
        if behind > 0 {
            return Err(Error::ModelChangeIncomplete {
                table: display(),
                model: model.clone(),
                behind,
                rows,
            });
        }
    }
    // Before the locks, since it takes its time.
    search_index::create(&next.table, searched.owner)?;
    execute(&format!("ANALYZE {}", next.table.companion));
    lock_both(table, &next.table);
    exchange(table, &next.table, Role::Next)?;
    let previous = Some(table.options.model.clone());
    write_options(table, SearchOptions { next: None, previous, ..table.options.with_model(model) });
    Ok(Regclass(next.companion))
}

/// Goes back to the vectors that are searched, or were searched before.
fn roll_back(source: pg_sys::Oid) -> Result<Regclass> {
    let searched = open_searched(source)?;
    let table = &searched.table;
    if searched.next.is_some() {
        lock_source(&searched, &[Role::Next], None)?;
        drop_shadow(&searched, Role::Next)?;
        write_options(table, SearchOptions { next: None, ..table.options.clone() });
        with_rights_of_queue(|| spi::execute(&remove_waiting(source.to_u32())));
        return searched.companion().map(Regclass);
    }
    let nothing = || Error::NoPreviousModel { table: table.source.to_string() };
    let kept = searched.previous.as_ref().ok_or_else(nothing)?;
    searched.companion()?;
    lock_both(table, &kept.table);
    exchange(table, &kept.table, Role::Previous)?;
    let previous = Some(table.options.model.clone());
    write_options(table, SearchOptions { previous, ..table.options.with_model(&kept.table.options.model) });
    let renewed = renew(source)?;
    pgrx::notice!(
        "table {} is searched with \"{}\" again; rows that changed meanwhile: {renewed}",
        table.source,
        kept.table.options.model
    );
    Ok(Regclass(kept.companion))
}

/// What is known of a table of the caller's, while nobody else changes what governs it.
fn open_searched(source: pg_sys::Oid) -> Result<Rc<SearchableRelation>> {
    // Whoever is not the owner is refused below, and has nobody wait.
    if rights::owns(source)? {
        acquire_lock(definition_lock(source.to_u32()));
    }
    let relation = open_own(source)?;
    let display = catalog::display_name(&relation);
    match searchable_tables::find(&relation)? {
        None => Err(Error::NotSearched { table: display }),
        Some(searched) if searched.is_copy => Err(Error::SearchedWithParent { table: display }),
        Some(searched) => Ok(searched),
    }
}

fn under_way(searched: &SearchableRelation, next: &Shadow) -> Error {
    Error::ModelChangeUnderWay {
        table: searched.table.source.to_string(),
        next: next.table.options.model.clone(),
    }
}

fn gone(table: &QualifiedName) -> Error {
    Error::CompanionGone { table: table.to_string() }
}

/// Cuts a text with another model, whose limit may be lower than what was asked for.
fn check_chunking(options: &SearchOptions, model: &str) -> Result<()> {
    let Some(Chunking { strategy, max_tokens, overlap }) = &options.chunking else {
        return Ok(());
    };
    let strategy = Strategy::from_name(strategy)?;
    chunks("a", &Options { strategy, max_tokens: *max_tokens, overlap: *overlap }, model).map(|_| ())
}

/// Drops a companion that is not searched, whatever the triggers say of it.
pub(super) fn drop_shadow(searched: &SearchableRelation, role: Role) -> Result<()> {
    if let Some((_, name)) = find_shadow(searched, role)? {
        if role == Role::Previous {
            let model = searched.table.options.previous.as_deref().unwrap_or_default();
            pgrx::notice!("the vectors of \"{model}\" that were kept, {name}, are dropped");
        }
        execute(&format!("DROP TABLE {name}"));
    }
    Ok(())
}

/// A companion that is not searched and belongs to the source's owner.
pub(super) fn find_shadow(
    searched: &SearchableRelation,
    role: Role,
) -> Result<Option<(pg_sys::Oid, QualifiedName)>> {
    let relation = catalog::open_table(searched.source)?;
    let found = find_companion(&relation, role, &mut [])?;
    let owned = found.filter(|(_, owner, ..)| *owner == searched.owner);
    Ok(owned.map(|(companion, _, name, _)| (companion, name)))
}

/// Has vectors that were kept renewed, instead of making all of them again.
fn take_up(live: &SearchableTable, kept: &SearchableTable) -> Result<SearchableTable> {
    let companion =
        rename(&kept.companion, Role::Previous, &free_name(&live.companion, Role::Next)?.name, Role::Next)?;
    Ok(SearchableTable { companion, ..kept.clone() })
}

fn is_taken(name: &QualifiedName) -> bool {
    Regclass::find(name).is_some()
}

fn free_name(live: &QualifiedName, role: Role) -> Result<QualifiedName> {
    shadow_name(live, role, is_taken)
}

fn create_next(searched: &SearchableRelation, model: &str, dimensions: usize) -> Result<SearchableTable> {
    let table = &searched.table;
    let relation = catalog::open_table(searched.source)?;
    let creation = Creation { is_unlogged: is_unlogged(&relation), role: Role::Next };
    let keys = key_columns(&relation)?;
    // A table that is open here cannot be altered.
    drop(relation);
    let next = table.with_companion(model, free_name(&table.companion, Role::Next)?, keys, dimensions);
    create_companion(&next, creation, searched.owner)?;
    Ok(next)
}

/// Changes what the triggers say.
fn write_options(table: &SearchableTable, options: SearchOptions) {
    execute(&SearchableTable { options, ..table.clone() }.triggers_sql());
}

/// Queues the rows that the next companion lacks, in place of those that were queued before, and says
/// how many.
fn fill_next(searched: &SearchableRelation, next: &SearchableTable) -> usize {
    with_rights_of_queue(|| spi::execute(&remove_waiting(searched.source.to_u32())));
    let keys = read_keys(searched, &next.list_untrue_keys(), next.keys.len());
    for piece in keys.chunks(PIECE) {
        pgrx::check_for_interrupts!();
        enqueue_with(searched.source, piece, Urgency::WhenIdle);
    }
    if searched.table.options.mode != Mode::Manual {
        worker::note_queued();
    }
    keys.len()
}

/// Renews the rows whose chunks are not true, and says how many.
fn renew(source: pg_sys::Oid) -> Result<usize> {
    let relation = catalog::open_table(source)?;
    let found = searchable_tables::find(&relation)?;
    let searched = found.ok_or_else(|| Error::NotSearched { table: catalog::display_name(&relation) })?;
    let table = &searched.table;
    let keys = read_keys(&searched, &table.list_untrue_keys(), table.keys.len());
    if table.options.mode == Mode::Sync {
        for piece in keys.chunks(256) {
            pgrx::check_for_interrupts!();
            jobs::embed_now(source, piece)?;
        }
    } else {
        enqueue_with(source, &keys, Urgency::Usual);
        if table.options.mode == Mode::Async {
            worker::note_queued();
        }
    }
    Ok(keys.len())
}

/// Keeps writers of the source and users of both companions away until the transaction ends. In the
/// order in which a statement in sync mode locks them.
fn lock_both(live: &SearchableTable, other: &SearchableTable) {
    patient_lock::lock(&format!(
        "LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE; LOCK TABLE {}, {} IN ACCESS EXCLUSIVE MODE",
        live.source, live.companion, other.companion
    ));
}

/// Keeps writers of the source away, and everyone from companions that are dropped or altered. Dropping
/// one takes the source for itself, too.
pub(super) fn lock_source(
    searched: &SearchableRelation,
    drops: &[Role],
    altered: Option<&QualifiedName>,
) -> Result<()> {
    let source = &searched.table.source;
    let mut companions: Vec<String> = Vec::new();
    for role in drops {
        companions.extend(find_shadow(searched, *role)?.map(|(_, name)| name.to_string()));
    }
    let mode = if companions.is_empty() { "SHARE ROW EXCLUSIVE" } else { "ACCESS EXCLUSIVE" };
    companions.extend(altered.map(QualifiedName::to_string));
    let mut statements = format!("LOCK TABLE {source} IN {mode} MODE");
    if !companions.is_empty() {
        statements.push_str(&format!("; LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", companions.join(", ")));
    }
    patient_lock::lock(&statements);
    Ok(())
}

/// Gives the companion that is searched the place of the previous one, and its place to another one.
fn exchange(live: &SearchableTable, other: &SearchableTable, role: Role) -> Result<()> {
    let live = &live.companion;
    // The name of a companion that was kept is free only when that is the live one.
    let passing = rename(live, Role::Live, &free_name(live, Role::Next)?.name, Role::Previous)?;
    rename(&other.companion, role, &live.name, Role::Live)?;
    rename(&passing, Role::Previous, &free_name(live, Role::Previous)?.name, Role::Previous)?;
    Ok(())
}

fn rename(table: &QualifiedName, role: Role, name: &Identifier, new_role: Role) -> Result<QualifiedName> {
    execute(&rename_sql((table, role), (name, new_role), &index_names(table), is_taken)?);
    Ok(QualifiedName { schema: table.schema.clone(), name: name.clone() })
}

fn index_names(table: &QualifiedName) -> Vec<Identifier> {
    let Some(found) = Regclass::find(table) else {
        return vec![];
    };
    let mut statement = Statement::default();
    let table = statement.bind(Parameter::Oid(found.0.to_u32()));
    statement.push(format_args!(
        "SELECT c.relname::pg_catalog.text FROM pg_catalog.pg_index AS i \
         JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) i.indexrelid \
         WHERE i.indrelid OPERATOR(pg_catalog.=) {table}"
    ));
    let names = spi::query_new_snapshot(&statement, |row| row.get::<String>(1));
    names.into_iter().flatten().filter_map(|name| Identifier::new(name).ok()).collect()
}
