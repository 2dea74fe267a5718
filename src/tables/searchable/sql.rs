//! The SQL functions that make tables searchable. Their declarations are in sql/58_pipeline.sql.

use pgrx::prelude::*;
use pgrx::{Array, PgRelation, Spi};

use super::companion::{Creation, companion_name};
use super::options::{Changes, Chunking};
use super::{Configuration, IndexKind, Mode, SearchOptions, SearchedTable, Storage};
use crate::chunking::sql::{chunks, read_options};
use crate::error::{Error, Result};
use crate::identifier::{Identifier, QualifiedName};
use crate::jobs::statements::remove_source;
use crate::pg::arguments::Arguments;
use crate::pg::array::one_dimensional;
use crate::pg::audit::triggers::grantees_of;
use crate::pg::catalog::{self, find_text_configuration, open_table};
use crate::pg::lossless::with_lossless_output;
use crate::pg::queue::{enqueue_keys, with_rights_of_queue};
use crate::pg::regclass::Regclass;
use crate::pg::report::OrReport;
use crate::pg::searched_tables::{self, Searched, key_columns};
use crate::pg::settings::default_model;
use crate::pg::vector::pgvector_schema;
use crate::pg::{jobs, registry, rights, session, spi, worker};

/// So many keys are queued at once.
const PIECE: usize = 10_000;

/// (source, content, model, mode, chunking, max_tokens, overlap, text_configuration, storage,
/// index_kind)
#[pg_extern(sql = false)]
fn enable_search(fcinfo: pg_sys::FunctionCallInfo) -> Option<Regclass> {
    session::forbid_when_read_only(c"enable_search");
    let arguments = Arguments(fcinfo).checked(10).or_report();
    let source = arguments.get(0)?;
    Some(enable(source, arguments).or_report())
}

#[pg_extern(sql = false)]
fn disable_search(source: Option<pg_sys::Oid>) -> Option<bool> {
    session::forbid_when_read_only(c"disable_search");
    Some(disable(source?).or_report())
}

/// Rows, and rows with chunks, where the caller may read them all.
#[pg_extern(sql = false)]
fn count_search_rows(
    source: Option<pg_sys::Oid>,
) -> TableIterator<'static, (name!(total, Option<i64>), name!(embedded, Option<i64>))> {
    let counts = source.map_or(Ok(None), count).or_report();
    TableIterator::new(counts)
}

fn count(source: pg_sys::Oid) -> Result<Option<(Option<i64>, Option<i64>)>> {
    // Whoever only looks at the list must not stumble over a table that is being dropped.
    let Ok(relation) = open_table(source) else {
        return Ok(None);
    };
    let Some(searched) = searched_tables::find(&relation)? else {
        return Ok(None);
    };
    if searched.companion().is_err() || !searched_tables::may_read_all(&relation, &searched.table) {
        return Ok(None);
    }
    let statement = searched.table.count_rows();
    let counts =
        rights::with_rights_of(searched.owner, || spi::query(&statement, |row| (row.get(1), row.get(2))));
    Ok(counts.into_iter().next())
}

fn enable(source: pg_sys::Oid, arguments: Arguments) -> Result<Regclass> {
    let relation = open_own(source)?;
    let before = searched_tables::find(&relation)?;
    if before.as_ref().is_some_and(|before| before.is_copy) {
        return Err(Error::SearchedWithParent { table: catalog::display_name(&relation) });
    }
    let mut table = read_table(&relation, arguments)?;
    // SAFETY: the relation is open, so its pg_class row is there.
    let (owner, persistence) = unsafe { ((*relation.rd_rel).relowner, (*relation.rd_rel).relpersistence) };
    let creation = Creation { is_unlogged: persistence as u8 == pg_sys::RELPERSISTENCE_UNLOGGED };
    // A table that is open here cannot be altered.
    drop(relation);
    let all = match before.as_ref() {
        Some(before) if before.companion.is_some() => {
            before.companion()?;
            table.companion = before.table.companion.clone();
            change(&table, before)?
        }
        _ => {
            drop_triggers(&table.source, before.as_ref().map_or(&[], |before| &before.triggers));
            if !take_up_companion(source, &mut table, owner)? {
                create_companion(&table, creation, owner)?;
            }
            execute(&table.triggers_sql());
            true
        }
    };
    let relation = open_table(source)?;
    let searched = searched_tables::find(&relation)?;
    let searched = searched.ok_or_else(|| Error::NotSearched { table: catalog::display_name(&relation) })?;
    drop(relation);
    fill(&searched, all)?;
    searched.companion().map(Regclass)
}

/// What was asked for, with a companion that does not exist yet.
fn read_table(relation: &PgRelation, arguments: Arguments) -> Result<SearchedTable> {
    let display = catalog::display_name(relation);
    let text = |place, default: &str| arguments.get::<String>(place).unwrap_or_else(|| default.to_owned());
    let record = registry::find_model(&arguments.get::<String>(2).unwrap_or_else(default_model))?;
    let chunking = read_chunking(&record.name, arguments)?;
    let keys = key_columns(relation)?;
    if keys.is_empty() {
        return Err(Error::NoPrimaryKey { table: display });
    }
    let (content, order) = read_content(relation, arguments.get::<Array<&str>>(1))?;
    let configuration = read_configuration(relation, arguments.get(7))?;
    let source = catalog::qualified_name(relation)?;
    let options = SearchOptions {
        model: record.name.clone(),
        mode: Mode::from_name(&text(3, "async"))?,
        chunking,
        text_configuration: match &configuration {
            Configuration::Constant(name) => Some(name.to_string()),
            Configuration::Column(_) => None,
        },
        storage: Storage::from_name(&text(8, "vector"))?,
        index_kind: IndexKind::from_name(&text(9, "hnsw"))?,
        order,
    };
    let companion = QualifiedName { schema: source.schema.clone(), name: companion_name(&source.name)? };
    Ok(SearchedTable {
        source,
        is_partitioned: catalog::is_partitioned(relation),
        companion,
        keys,
        content,
        configuration,
        options,
        pgvector_schema: pgvector_schema(),
        dimensions: record.dimensions,
    })
}

/// How rows become chunks, checked by cutting a text.
fn read_chunking(model: &str, arguments: Arguments) -> Result<Option<Chunking>> {
    let (max_tokens, overlap) = (arguments.get::<i32>(5), arguments.get::<i32>(6));
    let Some(strategy) = arguments.get::<String>(4) else {
        let given = [("max_tokens", max_tokens), ("overlap", overlap)];
        return match given.into_iter().find_map(|(argument, given)| Some((argument, given?))) {
            None => Ok(None),
            Some((argument, given)) => Err(Error::InvalidArgument {
                argument,
                expected: "NULL where chunking is NULL".to_owned(),
                found: given.to_string(),
            }),
        };
    };
    let options = read_options(Some(&strategy), max_tokens, overlap).map_err(|error| match error {
        Error::InvalidArgument { expected, found, .. } => {
            Error::InvalidArgument { argument: "chunking", expected: format!("NULL or {expected}"), found }
        }
        other => other,
    })?;
    chunks("a", &options, model)?;
    Ok(Some(Chunking { strategy, max_tokens, overlap }))
}

/// The content columns, and the place of each in the order of the table's columns.
fn read_content(
    relation: &PgRelation,
    names: Option<Array<'_, &str>>,
) -> Result<(Vec<Identifier>, Vec<usize>)> {
    let missing = Error::MissingArgument { argument: "content" };
    let names = one_dimensional(names.ok_or(missing.clone())?)?;
    if names.is_empty() {
        return Err(missing);
    }
    let display = || catalog::display_name(relation);
    let mut columns: Vec<(usize, Identifier)> = Vec::new();
    for (index, name) in names.into_iter().enumerate() {
        let name = name.ok_or(Error::NullElement { argument: "content", place: index + 1 })?;
        let unknown = || Error::UnknownColumn { table: display(), column: name.clone() };
        let attributes = relation.tuple_desc();
        let found = attributes.iter().position(|column| !column.attisdropped && column.name() == name);
        let place = found.ok_or_else(unknown)?;
        let attribute = attributes.get(place).ok_or_else(unknown)?;
        if !is_textual(attribute.atttypid) {
            return Err(Error::WrongColumnType {
                table: display(),
                column: name,
                expected: "a type of texts",
                found: type_name(attribute.atttypid),
            });
        }
        if columns.iter().any(|(known, _)| *known == place) {
            return Err(Error::InvalidArgument {
                argument: "content",
                expected: "columns that differ".to_owned(),
                found: format!("\"{name}\" twice"),
            });
        }
        columns.push((place, Identifier::new(name)?));
    }
    let mut sorted: Vec<usize> = columns.iter().map(|(place, _)| *place).collect();
    sorted.sort_unstable();
    let order = columns.iter().filter_map(|(place, _)| sorted.iter().position(|known| known == place));
    Ok((columns.iter().map(|(_, name)| name.clone()).collect(), order.collect()))
}

fn is_textual(type_oid: pg_sys::Oid) -> bool {
    let (mut category, mut is_preferred) = (0, false);
    // SAFETY: the type is that of an existing column.
    unsafe { pg_sys::get_type_category_preferred(type_oid, &mut category, &mut is_preferred) };
    category as u8 == pg_sys::TYPCATEGORY_STRING
}

fn type_name(type_oid: pg_sys::Oid) -> String {
    // SAFETY: the type is that of an existing column; the result is a fresh copy.
    catalog::owned_text(unsafe { pg_sys::format_type_be(type_oid) }).unwrap_or_default()
}

/// A column of the table that holds configurations, else a configuration.
fn read_configuration(relation: &PgRelation, name: Option<String>) -> Result<Configuration> {
    let Some(name) = name else {
        let own = Spi::get_one::<String>(
            "SELECT pg_catalog.get_current_ts_config()::pg_catalog.regconfig::pg_catalog.text",
        );
        return Ok(Configuration::Constant(find_text_configuration(
            &own.ok().flatten().unwrap_or_default(),
        )?));
    };
    let is_column = relation.tuple_desc().iter().any(|column| {
        let holds_names = [pg_sys::REGCONFIGOID, pg_sys::TEXTOID, pg_sys::VARCHAROID, pg_sys::NAMEOID];
        !column.attisdropped && column.name() == name && holds_names.contains(&column.atttypid)
    });
    match is_column {
        true => Ok(Configuration::Column(Identifier::new(name)?)),
        false => Ok(Configuration::Constant(find_text_configuration(&name)?)),
    }
}

/// Runs DDL whose conditions mean the operators of pg_catalog, whatever search_path says.
fn execute(sql: &str) {
    let settings = [(c"search_path", "pg_catalog, pg_temp".to_owned())];
    spi::with_settings(&settings, || spi::execute(sql));
}

fn create_companion(table: &SearchedTable, creation: Creation, owner: pg_sys::Oid) -> Result<()> {
    let companion = &table.companion;
    let taken =
        || Error::CompanionExists { relation: companion.to_string(), table: table.source.to_string() };
    if Regclass::find(companion).is_some() {
        return Err(taken());
    }
    execute(&table.creation_sql(creation)?);
    let created = Regclass::find(companion).ok_or_else(taken)?;
    // What default privileges give to others beside the right to read.
    for grantee in grantees_of(created.0)?.into_iter().flatten() {
        execute(&format!("REVOKE ALL ON TABLE {companion} FROM {grantee}"));
    }
    execute(&format!(
        "REVOKE ALL ON TABLE {companion} FROM PUBLIC; GRANT SELECT ON TABLE {companion} TO PUBLIC"
    ));
    if rights::owner_of(created.0) != owner {
        let owner = Identifier::new(rights::role_name(owner))?;
        execute(&format!("ALTER TABLE {companion} OWNER TO {owner}"));
    }
    Ok(())
}

/// Finds the companion of a table that has lost its triggers, as after DROP EXTENSION … CASCADE, and
/// makes it fit; the hashes in it tell which rows are still true.
fn take_up_companion(source: pg_sys::Oid, table: &mut SearchedTable, owner: pg_sys::Oid) -> Result<bool> {
    let relation = open_table(source)?;
    let Some((companion, found, name, dimensions)) =
        searched_tables::find_companion(&relation, &mut table.keys)?
    else {
        return Ok(false);
    };
    if found != owner {
        let (table, companion) = (table.source.to_string(), name.to_string());
        return Err(Error::CompanionNotOwned { table, companion });
    }
    let facts = catalog::read_table(&open_table(companion)?)?;
    let storage = facts.find("embedding").map_or("", |column| column.type_name.as_str());
    let is_for_type = dimensions != table.dimensions
        || !storage.ends_with(&format!(".{}", table.options.storage.type_name()));
    drop(relation);
    table.companion = name;
    apply(table, &Changes { is_for_type, is_for_index: true, ..Changes::default() })?;
    Ok(true)
}

fn drop_triggers(source: &QualifiedName, triggers: &[Identifier]) {
    for trigger in triggers {
        execute(&format!("DROP TRIGGER {trigger} ON {source}"));
    }
}

/// Brings triggers and companion to what is asked for, and says whether all rows must be looked at.
fn change(table: &SearchedTable, before: &Searched) -> Result<bool> {
    let mut changes = table.options.changes_from(&before.table.options);
    let other_content = table.content != before.table.content;
    if other_content {
        changes.words.push("all rows are embedded again, for other columns".to_owned());
    }
    // From one column to another.
    let other_words = table.configuration != before.table.configuration && !changes.is_for_rows;
    if other_words {
        changes.words.push("the words of all rows are read again".to_owned());
    }
    changes.is_for_rows |= other_content || other_words;
    if table.dimensions != before.table.dimensions {
        changes.is_for_type = true;
    }
    let source = &table.source;
    if changes.words.is_empty() {
        pgrx::notice!("table {source} is already searchable in this way");
        return Ok(false);
    }
    pgrx::notice!("table {source}: {}", changes.words.join("; "));
    if changes.is_for_rows {
        // Batches that are under way end first, and none begins with what was asked for before. In the
        // order in which a statement in sync mode locks them.
        execute(&format!("LOCK TABLE {source} IN SHARE ROW EXCLUSIVE MODE"));
        execute(&format!("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", table.companion));
    }
    apply(table, &changes)?;
    drop_triggers(source, &before.triggers);
    execute(&table.triggers_sql());
    Ok(changes.is_for_rows)
}

fn apply(table: &SearchedTable, changes: &Changes) -> Result<()> {
    let companion = &table.companion;
    if changes.is_for_type || changes.is_for_index {
        for index in distance_indexes(companion)? {
            execute(&format!("DROP INDEX {index}"));
        }
    }
    if changes.is_for_type {
        execute(&format!(
            "TRUNCATE {companion}; ALTER TABLE {companion} DROP COLUMN embedding, ADD COLUMN embedding {}",
            table.vector_type()
        ));
    }
    if changes.is_for_type || changes.is_for_index {
        execute(&table.index_sql()?);
    }
    Ok(())
}

/// The indexes of a companion by distance.
fn distance_indexes(companion: &QualifiedName) -> Result<Vec<QualifiedName>> {
    let Some(found) = Regclass::find(companion) else {
        return Ok(vec![]);
    };
    let mut statement = crate::search::Statement::default();
    let table = statement.bind(crate::search::Parameter::Integer(i64::from(found.0.to_u32())));
    statement.push(format_args!(
        "SELECT c.relname::pg_catalog.text FROM pg_catalog.pg_index AS i \
         JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) i.indexrelid \
         JOIN pg_catalog.pg_am AS m ON m.oid OPERATOR(pg_catalog.=) c.relam \
         WHERE i.indrelid OPERATOR(pg_catalog.=) {table}::pg_catalog.oid \
         AND m.amname OPERATOR(pg_catalog.=) ANY ('{{hnsw,ivfflat}}'::pg_catalog.name[])"
    ));
    let names = spi::query_latest(&statement, |row| row.get::<String>(1));
    let name =
        |name: String| Ok(QualifiedName { schema: companion.schema.clone(), name: Identifier::new(name)? });
    names.into_iter().flatten().map(name).collect()
}

/// Queues the rows that have no chunks, or all; in sync mode embeds them.
fn fill(searched: &Searched, all: bool) -> Result<()> {
    let statement = searched.table.list_keys(all);
    let width = searched.table.keys.len() as i32;
    let is_sync = searched.table.options.mode == Mode::Sync;
    let settings = [(c"search_path", "pg_catalog, pg_temp".to_owned())];
    let keys = with_lossless_output(|| {
        spi::with_settings(&settings, || {
            rights::with_rights_of(searched.owner, || {
                spi::query_latest(&statement, |row| {
                    (1..=width).map(|column| row.get::<String>(column)).collect::<Option<Vec<String>>>()
                })
            })
        })
    });
    let keys: Vec<Vec<String>> = keys.into_iter().flatten().collect();
    for piece in keys.chunks(if is_sync { 256 } else { PIECE }) {
        pgrx::check_for_interrupts!();
        if is_sync {
            jobs::embed_now(searched.source, piece)?;
        } else {
            enqueue_keys(searched.source, piece);
        }
    }
    if searched.table.options.mode == Mode::Async {
        // Also what waited before, in manual mode.
        worker::note_queued();
    }
    Ok(())
}

fn disable(source: pg_sys::Oid) -> Result<bool> {
    let relation = open_own(source)?;
    let display = catalog::display_name(&relation);
    let searched = searched_tables::find(&relation)?;
    drop(relation);
    let Some(searched) = searched else {
        return Ok(false);
    };
    if searched.is_copy {
        return Err(Error::SearchedWithParent { table: display });
    }
    drop_triggers(&searched.table.source, &searched.triggers);
    if searched.companion.is_some() {
        execute(&format!("DROP TABLE {}", searched.table.companion));
    }
    with_rights_of_queue(|| spi::change(&remove_source(source.to_u32())));
    Ok(true)
}

/// Opens a table that the caller may make searchable.
fn open_own(source: pg_sys::Oid) -> Result<PgRelation> {
    let table = open_table(source)?;
    let display = catalog::display_name(&table);
    // SAFETY: the relation is open, so its pg_class row is there.
    let is_temporary = unsafe { (*table.rd_rel).relpersistence as u8 == pg_sys::RELPERSISTENCE_TEMP };
    if !catalog::is_table(&table) || is_temporary {
        let kind = if is_temporary { "a temporary table" } else { catalog::kind_in_words(&table) };
        return Err(Error::NotEnableable { subject: display, kind });
    }
    if !rights::is_owner(&table) {
        return Err(Error::NotOwnerToSearch { table: display });
    }
    Ok(table)
}
