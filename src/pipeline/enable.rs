//! The SQL functions that make tables searchable. Their declarations are in sql/pipeline.sql.

use crate::kit::cluster_lock::acquire_lock;
use std::rc::Rc;

use pgrx::prelude::*;
use pgrx::{Array, PgRelation, Spi};

use crate::chunking::functions::{chunks, read_options};
use crate::kit::arguments::arguments;
use crate::kit::catalog;
use crate::kit::catalog::pgvector_schema;
use crate::kit::catalog::{find_text_configuration, open_table};
use crate::kit::lists;
use crate::kit::lists::Read;
use crate::kit::lossless::with_lossless_output;
use crate::kit::regclass::Regclass;
use crate::kit::report::OrReport;
use crate::kit::{patient_lock, rights, session, spi};
use crate::model::registry;
use crate::pipeline::change_model;
use crate::pipeline::queue::{enqueue_keys, with_rights_of_queue};
use crate::pipeline::searchable_tables;
use crate::pipeline::searchable_tables::{SearchableRelation, key_columns};
use crate::pipeline::{jobs, search_index, worker};
use crate::settings::default_model;
use crate::types::array::one_dimensional;
use vector_tools_core::error::{Error, Result};
use vector_tools_core::pipeline::companion::{Creation, POLICY_NAME, companion_name};
use vector_tools_core::pipeline::drift::{COUNTED_ROWS, count_of};
use vector_tools_core::pipeline::options::{Changes, Chunking};
use vector_tools_core::pipeline::queue::remove_source;
use vector_tools_core::pipeline::{
    Configuration, IndexKind, Mode, Role, SearchOptions, SearchableTable, Storage,
};
use vector_tools_core::sql::identifier::{Identifier, QualifiedName};
use vector_tools_core::sql::lock::definition_lock;
use vector_tools_core::sql::{Parameter, Statement};

/// So many keys are queued at once.
pub(super) const PIECE: usize = 10_000;

arguments! {
    /// A table to be made searchable, and how.
    struct EnableSearch<'call> for enable_search {
        source: Option<pg_sys::Oid>,
        content: Option<Array<'call, &'call str>>,
        model: Option<String> = None,
        mode: String = "async",
        chunking: Option<String> = None,
        max_tokens: Option<i64> = None,
        overlap: Option<i64> = None,
        text_configuration: Option<String> = None,
        storage: String = "vector",
        index_kind: String = "hnsw",
    }
}

#[pg_extern(sql = false)]
fn enable_search(fcinfo: pg_sys::FunctionCallInfo) -> Option<Regclass> {
    session::forbid_when_read_only(c"enable_search");
    let arguments = EnableSearch::read(fcinfo).or_report();
    Some(enable(arguments.source?, arguments).or_report())
}

#[pg_extern(sql = false)]
fn disable_search(source: Option<pg_sys::Oid>) -> Option<bool> {
    session::forbid_when_read_only(c"disable_search");
    Some(disable(source?).or_report())
}

/// Rows, those with chunks, whether both are estimated, and rows with chunks of the next model; nothing
/// where the caller may not read them all.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity, reason = "the columns of the result")]
fn count_search_rows(
    source: Option<pg_sys::Oid>,
) -> TableIterator<
    'static,
    (name!(total, i64), name!(embedded, i64), name!(is_estimated, bool), name!(next_embedded, Option<i64>)),
> {
    let counts = source.map_or(Ok(None), count).or_report();
    TableIterator::new(counts.map(|counts| {
        let embedded = counts.embedded.min(if counts.is_estimated { counts.total } else { i64::MAX });
        (counts.total, embedded, counts.is_estimated, counts.next_embedded)
    }))
}

struct Counts {
    total: i64,
    embedded: i64,
    is_estimated: bool,
    next_embedded: Option<i64>,
}

fn count(source: pg_sys::Oid) -> Result<Option<Counts>> {
    let Some(searched) = find_readable(source) else {
        return Ok(None);
    };
    let companion = searched.companion()?;
    let count = |relation, rows: &Statement| {
        let estimated = search_index::estimated_rows(relation, rows).filter(|rows| *rows >= COUNTED_ROWS);
        match estimated {
            Some(rows) => (rows as i64, true),
            None => (spi::query(&count_of(rows), |row| row.get::<i64>(1)).into_iter().flatten().sum(), false),
        }
    };
    let look = || {
        let (total, is_estimated) = count(source, &searched.table.all_rows());
        let (embedded, is_also) = count(companion, &searched.table.all_embedded_rows());
        let next = searched.next.as_ref();
        let next_embedded = next.map(|next| count(next.companion, &next.table.all_embedded_rows()).0);
        Counts { total, embedded, is_estimated: is_estimated || is_also, next_embedded }
    };
    let chunks = |table| Read { table, columns: &[c"chunk_index"] };
    let next = searched.next.iter().map(|next| chunks(next.companion));
    let read: Vec<Read> = [Read::rows(source), chunks(companion)].into_iter().chain(next).collect();
    Ok(lists::look_as_owner(&searched.table.source, searched.owner, &read, look))
}

/// What is known of a searched table whose rows the caller may all read. Whoever only looks at a list
/// must not stumble over a table that is being dropped, or is broken, nor wait for one that somebody has for himself.
pub(super) fn find_readable(source: pg_sys::Oid) -> Option<Rc<SearchableRelation>> {
    let relation = lists::open(source)?;
    let searched = searchable_tables::find(&relation).ok()??;
    let is_readable =
        searched.companion().is_ok() && searchable_tables::may_read_all(&relation, &searched.table);
    is_readable.then_some(searched)
}

fn enable(source: pg_sys::Oid, arguments: EnableSearch) -> Result<Regclass> {
    // Whoever is not the owner is refused below, and has nobody wait.
    if rights::owns(source)? {
        acquire_lock(definition_lock(source.to_u32()));
    }
    let relation = open_own(source)?;
    let found = searchable_tables::find(&relation);
    let triggers = searchable_tables::trigger_names(&relation)?;
    // What has lost a column is made again from what is left.
    let before = match found {
        Err(Error::SearchedColumnGone { .. }) => None,
        found => found?,
    };
    if before.as_ref().is_some_and(|before| before.is_copy) {
        return Err(Error::SearchedWithParent { table: catalog::display_name(&relation) });
    }
    let mut table = read_table(&relation, before.as_deref(), arguments)?;
    let owner = rights::owner(&relation);
    let creation = Creation { is_unlogged: is_unlogged(&relation), role: Role::Live };
    // A table that is open here cannot be altered.
    drop(relation);
    let all = match before.as_ref() {
        Some(before) if before.companion.is_some() => {
            before.companion()?;
            table.companion = before.table.companion.clone();
            change(&mut table, before)?
        }
        _ => {
            drop_triggers(&table.source, &triggers);
            if !take_up_companion(source, &mut table, owner)? {
                create_companion(&table, creation, owner)?;
            }
            execute(&table.triggers_sql());
            true
        }
    };
    let relation = open_table(source)?;
    let searched = searchable_tables::find(&relation)?;
    let searched = searched.ok_or_else(|| Error::NotSearched { table: catalog::display_name(&relation) })?;
    drop(relation);
    fill(&searched, all)?;
    search_index::create(&searched.table, searched.owner)?;
    searched.companion().map(Regclass)
}

/// Whether a table is not written to the log of the server.
pub(super) fn is_unlogged(relation: &PgRelation) -> bool {
    // SAFETY: the relation is open, so its pg_class row is there.
    unsafe { (*relation.rd_rel).relpersistence as u8 == pg_sys::RELPERSISTENCE_UNLOGGED }
}

/// What was asked for, with a companion that does not exist yet. A table that is searched keeps its model
/// unless another one is named.
fn read_table(
    relation: &PgRelation,
    before: Option<&SearchableRelation>,
    arguments: EnableSearch,
) -> Result<SearchableTable> {
    let display = catalog::display_name(relation);
    let model = arguments.model.or_else(|| before.map(|before| before.table.options.model.clone()));
    let record = registry::find_model(&model.unwrap_or_else(default_model))?;
    let chunking = read_chunking(&record.name, arguments.chunking, arguments.max_tokens, arguments.overlap)?;
    let keys = key_columns(relation)?;
    if keys.is_empty() {
        return Err(Error::NoPrimaryKey { table: display });
    }
    let (content, order) = read_content(relation, arguments.content)?;
    let configuration = read_configuration(relation, arguments.text_configuration)?;
    let source = catalog::qualified_name(relation)?;
    let options = SearchOptions {
        model: record.name.clone(),
        mode: Mode::from_name(&arguments.mode)?,
        chunking,
        text_configuration: match &configuration {
            Configuration::Constant(name) => Some(name.to_string()),
            Configuration::Column(_) => None,
        },
        storage: Storage::from_name(&arguments.storage)?,
        index_kind: IndexKind::from_name(&arguments.index_kind)?,
        order,
        next: before.and_then(|before| Some(before.next.as_ref()?.table.options.model.clone())),
        previous: before.and_then(|before| Some(before.previous.as_ref()?.table.options.model.clone())),
    };
    let companion = QualifiedName { schema: source.schema.clone(), name: companion_name(&source.name)? };
    Ok(SearchableTable {
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
fn read_chunking(
    model: &str,
    strategy: Option<String>,
    max_tokens: Option<i64>,
    overlap: Option<i64>,
) -> Result<Option<Chunking>> {
    let Some(strategy) = strategy else {
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
        Error::InvalidArgument { argument: "strategy", expected, found } => {
            Error::InvalidArgument { argument: "chunking", expected: format!("NULL or {expected}"), found }
        }
        other => other,
    })?;
    chunks("a", &options, model)?;
    Ok(Some(Chunking { strategy, max_tokens: options.max_tokens, overlap: options.overlap }))
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
pub(super) fn execute(sql: &str) {
    rights::with_pinned_path(|| spi::run_script(sql));
}

pub(super) fn create_companion(
    table: &SearchableTable,
    creation: Creation,
    owner: pg_sys::Oid,
) -> Result<()> {
    let companion = &table.companion;
    let taken =
        || Error::CompanionExists { relation: companion.to_string(), table: table.source.to_string() };
    if Regclass::find(companion).is_some() {
        return Err(taken());
    }
    execute(&table.creation_sql(creation)?);
    let created = Regclass::find(companion).ok_or_else(taken)?;
    // What default privileges give to others beside the right to read.
    for grantee in rights::grantees_of(created.0)?.into_iter().flatten() {
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
fn take_up_companion(source: pg_sys::Oid, table: &mut SearchableTable, owner: pg_sys::Oid) -> Result<bool> {
    let relation = open_table(source)?;
    let Some((companion, found, name, dimensions)) =
        searchable_tables::find_companion(&relation, Role::Live, &mut table.keys)?
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
    apply(table, owner, &Changes { is_for_type, is_for_index: true, ..Changes::default() })?;
    renew_policy(table);
    Ok(true)
}

fn drop_triggers(source: &QualifiedName, triggers: &[Identifier]) {
    for trigger in triggers {
        execute(&format!("DROP TRIGGER {trigger} ON {source}"));
    }
}

/// Brings triggers and companion to what is asked for, and says whether all rows must be looked at.
fn change(table: &mut SearchableTable, before: &SearchableRelation) -> Result<bool> {
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
    if let Some(next) = before.next.as_ref().filter(|_| changes.is_for_rows || changes.is_for_index) {
        let (table, next) = (source.to_string(), next.table.options.model.clone());
        return Err(Error::ModelChangeUnderWay { table, next });
    }
    if changes.words.is_empty() {
        pgrx::notice!("table {source} is already searchable in this way");
        return Ok(false);
    }
    pgrx::notice!("table {source}: {}", changes.words.join("; "));
    // Batches that are under way end first, and none begins with what was asked for before.
    let exclusive = format!("LOCK TABLE {source}, {} IN ACCESS EXCLUSIVE MODE", table.companion);
    patient_lock::lock(&exclusive);
    if changes.is_for_rows {
        // Its chunks would be of what the table was.
        change_model::drop_shadow(before, Role::Previous)?;
        table.options.previous = None;
    }
    apply(table, before.owner, &changes)?;
    if other_content {
        renew_policy(table);
    }
    drop_triggers(&table.source, &before.triggers);
    execute(&table.triggers_sql());
    Ok(changes.is_for_rows)
}

fn apply(table: &SearchableTable, owner: pg_sys::Oid, changes: &Changes) -> Result<()> {
    let companion = &table.companion;
    if changes.is_for_type || changes.is_for_index {
        for index in search_index::of(companion)? {
            execute(&format!("DROP INDEX {index}"));
        }
    }
    if changes.is_for_type {
        execute(&format!(
            "TRUNCATE {companion}; ALTER TABLE {companion} DROP COLUMN embedding, ADD COLUMN embedding {}",
            table.vector_type()
        ));
    }
    if changes.is_for_type || changes.is_for_index { search_index::create(table, owner) } else { Ok(()) }
}

/// Has the policy of a companion ask for the columns whose content is in it now.
fn renew_policy(table: &SearchableTable) {
    let mut statement = Statement::default();
    let name = statement.bind(Parameter::Text(table.companion.to_string()));
    let policy = statement.bind(Parameter::Text(POLICY_NAME.to_owned()));
    statement.push(format_args!(
        "SELECT p.polname::pg_catalog.text FROM pg_catalog.pg_policy AS p \
         WHERE p.polrelid OPERATOR(pg_catalog.=) {name}::pg_catalog.regclass::pg_catalog.oid \
         AND p.polname OPERATOR(pg_catalog.=) {policy}::pg_catalog.name"
    ));
    for _ in spi::query_new_snapshot(&statement, |_| ()) {
        execute(&format!("DROP POLICY {POLICY_NAME} ON {}", table.companion));
    }
    execute(&table.policy_sql());
}

/// Queues the rows that have no chunks, or all; in sync mode embeds them.
fn fill(searched: &SearchableRelation, all: bool) -> Result<()> {
    let is_sync = searched.table.options.mode == Mode::Sync;
    let keys = read_keys(searched, &searched.table.list_keys(all), searched.table.keys.len());
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

/// The keys that a statement reads, each column as text.
pub(super) fn read_keys(
    searched: &SearchableRelation,
    statement: &Statement,
    width: usize,
) -> Vec<Vec<String>> {
    let key = |row: &spi::Row| (1..=width as i32).map(|column| row.get::<String>(column)).collect();
    let keys: Vec<Option<Vec<String>>> = with_lossless_output(|| query_as_owner(searched, statement, key));
    keys.into_iter().flatten().collect()
}

/// Reads source and companion as their owner, with names that nobody can shadow.
pub(super) fn query_as_owner<T>(
    searched: &SearchableRelation,
    statement: &Statement,
    read: impl FnMut(&spi::Row) -> T,
) -> Vec<T> {
    rights::acting_as(searched.owner, || spi::query_new_snapshot(statement, read))
}

fn disable(source: pg_sys::Oid) -> Result<bool> {
    // Whoever is not the owner is refused below, and has nobody wait.
    if rights::owns(source)? {
        acquire_lock(definition_lock(source.to_u32()));
    }
    let relation = open_own(source)?;
    let display = catalog::display_name(&relation);
    let triggers = searchable_tables::trigger_names(&relation)?;
    if triggers.is_empty() {
        return Ok(false);
    }
    if searchable_tables::find(&relation).is_ok_and(|found| found.is_some_and(|searched| searched.is_copy)) {
        return Err(Error::SearchedWithParent { table: display });
    }
    let mut companions = Vec::new();
    for role in [Role::Next, Role::Previous, Role::Live] {
        let found = searchable_tables::find_companion(&relation, role, &mut [])?;
        // Whoever may refer to the table may call a foreign key anything.
        let is_own = |owner| role == Role::Live || owner == rights::owner_of(source);
        companions.extend(found.filter(|(_, owner, ..)| is_own(*owner)).map(|(_, _, name, _)| name));
    }
    let name = catalog::qualified_name(&relation)?;
    drop(relation);
    let locked: Vec<String> =
        std::iter::once(&name).chain(&companions).map(QualifiedName::to_string).collect();
    patient_lock::lock(&format!("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", locked.join(", ")));
    drop_triggers(&name, &triggers);
    for companion in companions {
        execute(&format!("DROP TABLE {companion}"));
    }
    with_rights_of_queue(|| spi::execute(&remove_source(source.to_u32())));
    Ok(true)
}

/// Opens a table that the caller may make searchable.
pub(super) fn open_own(source: pg_sys::Oid) -> Result<PgRelation> {
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
