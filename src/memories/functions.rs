//! The SQL functions of domain memories. Their declarations are in sql/memories.sql.

use crate::kit::cluster_lock::acquire_lock;
use std::rc::Rc;
use std::str::FromStr;

use pgrx::prelude::*;
use pgrx::{PgRelation, Spi};

use crate::kit::arguments::arguments;
use crate::kit::catalog::pgvector_schema;
use crate::kit::catalog::{
    comment_of, extension_schema, find_text_configuration, has_hidden_rows, open_table, qualified_name,
    read_table,
};
use crate::kit::column_value::ColumnValue;
use crate::kit::jsonb::{FilterText, JsonbText};
use crate::kit::lists;
use crate::kit::lists::Read;
use crate::kit::regclass::Regclass;
use crate::kit::report::OrReport;
use crate::kit::{rights, session, spi};
use crate::model::registry;
use crate::search::call::SearchCall;
use crate::settings::{default_domain, default_model};
use vector_tools_core::error::{Error, Result};
use vector_tools_core::memories::create::{MemoriesTable, NEW_ID, NEW_ID_BEFORE_18, Standing, Surroundings};
use vector_tools_core::memories::domain::{check_shape, table_name, unknown_domain, visible_domains};
use vector_tools_core::memories::metadata::Described;
use vector_tools_core::memories::{count, delete, search, store, update};
use vector_tools_core::search::TableFacts;
use vector_tools_core::search::hybrid::SearchHit;
use vector_tools_core::search::source::ColumnKind;
use vector_tools_core::search::trace::Trace;
use vector_tools_core::sql::identifier::{Identifier, QualifiedName};
use vector_tools_core::sql::lock::lock;
use vector_tools_core::sql::{Parameter, Statement};

arguments! {
    /// A memory to store.
    struct StoreMemory for store_memory {
        content: Option<String>,
        domain: Option<String> = None,
        source: Option<String> = None,
        importance: Option<f64> = None,
        metadata: JsonbText = "{}",
        id: Option<String> = None,
    }
}

arguments! {
    /// What to change of a memory.
    struct UpdateMemory for update_memory {
        id: Option<String>,
        content: Option<String> = None,
        domain: Option<String> = None,
        source: Option<String> = None,
        importance: Option<f64> = None,
        metadata: Option<JsonbText> = None,
    }
}

arguments! {
    /// A question to a domain.
    struct SearchMemories for search_memories {
        query: Option<String>,
        domain: Option<String> = None,
        limit: i64 = 5,
        filter: Option<FilterText> = None,
        use_vector: bool = true,
        min_importance: Option<f64> = None,
    }
}

#[pg_extern(sql = false)]
fn create_domain_memories_table(
    domain: Option<&str>,
    model: Option<&str>,
    text_configuration: Option<&str>,
) -> Option<Regclass> {
    let model = model.map_or_else(default_model, str::to_owned);
    let configuration = text_configuration.unwrap_or("english");
    domain.map(|domain| create(domain, &model, configuration).or_report())
}

#[pg_extern(sql = false)]
fn store_memory(fcinfo: pg_sys::FunctionCallInfo) -> Option<String> {
    session::forbid_when_read_only(c"store_memory");
    let StoreMemory { content, domain, source, importance, metadata, id } =
        StoreMemory::read(fcinfo).or_report();
    let content = content.ok_or(Error::MissingArgument { argument: "content" }).or_report();
    let described = describe(source, importance, Some(metadata)).or_report();
    Domain::open(domain).or_report().store(&content, &described, id).or_report()
}

#[pg_extern(sql = false)]
fn update_memory(fcinfo: pg_sys::FunctionCallInfo) -> Option<bool> {
    session::forbid_when_read_only(c"update_memory");
    let UpdateMemory { id, content, domain, source, importance, metadata } =
        UpdateMemory::read(fcinfo).or_report();
    let id = id?;
    let described = describe(source, importance, metadata).or_report();
    let domain = Domain::open(domain).or_report();
    Some(domain.update(&id, content.as_deref(), &described).or_report())
}

#[pg_extern(sql = false)]
fn delete_memory(id: Option<String>, domain: Option<String>) -> Option<bool> {
    session::forbid_when_read_only(c"delete_memory");
    let id = id?;
    let domain = Domain::open(domain).or_report();
    Some(spi::execute(&delete::delete(&domain.facts.table, &id)) > 0)
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity, reason = "the columns of the result")]
fn search_memories(
    fcinfo: pg_sys::FunctionCallInfo,
) -> TableIterator<
    'static,
    (
        name!(id, String),
        name!(content, Option<String>),
        name!(metadata, Option<JsonbText>),
        name!(similarity_score, f64),
        name!(score, f64),
        name!(created_at, Option<TimestampWithTimeZone>),
        name!(updated_at, Option<TimestampWithTimeZone>),
    ),
> {
    let hits = SearchMemories::read(fcinfo).and_then(find_memories).or_report();
    let time = |text: Option<String>| text.and_then(|text| TimestampWithTimeZone::from_str(&text).ok());
    TableIterator::new(hits.into_iter().map(move |hit| {
        let shown = search::Shown::of(&hit.fetched.document);
        (
            hit.ranked.key,
            hit.fetched.content,
            shown.metadata.map(JsonbText),
            hit.similarity.unwrap_or(0.0),
            hit.ranked.score,
            time(shown.created_at),
            time(shown.updated_at),
        )
    }))
}

#[pg_extern(sql = false)]
fn drop_domain(domain: Option<String>) -> Option<bool> {
    session::forbid_when_read_only(c"drop_domain");
    let domain = domain?;
    let found = Domain::find(&domain).or_report();
    if found.is_none() {
        pgrx::notice!("domain \"{domain}\" does not exist, skipping");
    }
    // The table must not be open any more when it is dropped; its lock stays.
    let table = found.map(|domain| domain.facts.table.clone());
    table.iter().for_each(|table| spi::run_script(&delete::drop_sql(table)));
    Some(table.is_some())
}

#[pg_extern(sql = false)]
fn count_memories(source: Option<pg_sys::Oid>, embedded: Option<bool>) -> Option<i64> {
    let embedded = embedded?;
    read_as_owner(source?, |table| count::count(table, embedded))
}

#[pg_extern(sql = false)]
fn size_of_memories(source: Option<pg_sys::Oid>) -> Option<i64> {
    let relation = lists::open(source?)?;
    let mut statement = Statement::default();
    let table = statement.bind(Parameter::Integer(i64::from(relation.oid().to_u32())));
    statement.push(format_args!(
        "SELECT pg_catalog.pg_total_relation_size({table}::pg_catalog.oid::pg_catalog.regclass)"
    ));
    let read = || spi::query(&statement, |row| row.get(1)).into_iter().flatten().next();
    lists::look_at_size(&qualified_name(&relation).ok()?, read)
}

/// (source)
#[pg_extern(sql = false)]
fn last_memory_update(source: Option<pg_sys::Oid>) -> Option<TimestampWithTimeZone> {
    read_as_owner(source?, count::last_update)
}

/// The one value of a statement over the table of a domain; NULL where the caller may not count its memories.
fn read_as_owner<T: ColumnValue>(
    source: pg_sys::Oid,
    statement: impl FnOnce(&QualifiedName) -> Statement,
) -> Option<T> {
    let domain = Domain::for_counting(source)?;
    let (table, owner) = (&domain.facts.table, rights::owner(&domain.relation));
    let look = || spi::query(&statement(table), |row| row.get(1));
    lists::look_as_owner(table, owner, &[Read::rows(source)], look)?.into_iter().flatten().next()
}

fn describe(
    source: Option<String>,
    importance: Option<f64>,
    metadata: Option<JsonbText>,
) -> Result<Described> {
    let described = Described { source, importance, metadata: metadata.map(|metadata| metadata.0) };
    described.check()?;
    Ok(described)
}

/// Nothing answers no question.
fn find_memories(arguments: SearchMemories) -> Result<Vec<SearchHit>> {
    let Some(query) = arguments.query else {
        return Ok(vec![]);
    };
    let request = search::request(arguments.limit, arguments.use_vector)?;
    let own_filter = arguments.filter.map(|filter| filter.0);
    let filters = search::filters(own_filter, arguments.min_importance)?;
    let domain = Domain::open(arguments.domain)?;
    domain.check_words()?;
    SearchCall::of(domain.relation, query, request).filtered(filters).run(&mut Trace::default())
}

/// A domain's table, open, so that nobody can drop or rename it until the transaction ends.
struct Domain {
    name: String,
    relation: PgRelation,
    facts: Rc<TableFacts>,
}

impl Domain {
    /// The domain of that name, or the default one.
    fn open(name: Option<String>) -> Result<Domain> {
        let name = name.unwrap_or_else(default_domain);
        match Domain::find(&name)? {
            Some(domain) => Ok(domain),
            None => {
                let known = spi::query(&visible_domains(), |row| row.get::<String>(1));
                Err(unknown_domain(&name, known.into_iter().flatten().collect()))
            }
        }
    }

    fn find(name: &str) -> Result<Option<Domain>> {
        let Some(found) = Regclass::find_in_path(&table_name(name)?) else {
            return Ok(None);
        };
        let relation = open_table(found.0)?;
        let facts = read_table(&relation)?;
        check_shape(&facts)?;
        Ok(Some(Domain { name: name.to_owned(), relation, facts }))
    }

    /// A table whose memories the caller may count. One from whom policies hide some is told nothing: counts
    /// are made with the owner's rights, and would tell of hidden rows.
    fn for_counting(table: pg_sys::Oid) -> Option<Domain> {
        let relation = lists::open(table)?;
        let facts = read_table(&relation).ok()?;
        check_shape(&facts).ok()?;
        let has_time =
            facts.find("updated_at").is_some_and(|column| column.type_oid == pg_sys::TIMESTAMPTZOID.to_u32());
        let is_readable = rights::may_use_schema(&relation)
            && [c"embedding", c"updated_at"].iter().all(|column| rights::may_read_named(&relation, column));
        let is_safe = rights::is_owner(&relation) || !has_hidden_rows(&relation);
        (has_time && is_readable && is_safe).then(|| Domain { name: String::new(), relation, facts })
    }

    fn store(&self, content: &str, described: &Described, id: Option<String>) -> Result<Option<String>> {
        self.check_embedding()?;
        let table = &self.facts.table;
        let Some(id) = id.or_else(make_id) else {
            return Ok(None);
        };
        let statement = store::store(table, &id, content, described);
        let taken = Error::MemoryExists { id: id.clone(), table: self.facts.display.clone() };
        let stored = spi::execute_unless_taken(&statement, "id", &taken);
        // None where a trigger of somebody's own kept the row out.
        Ok((stored > 0).then_some(id))
    }

    fn update(&self, id: &str, content: Option<&str>, described: &Described) -> Result<bool> {
        if content.is_some() {
            self.check_embedding()?;
        }
        Ok(spi::execute(&update::update(&self.facts.table, id, content, described)) > 0)
    }

    fn check_words(&self) -> Result<()> {
        if self.facts.columns.iter().any(|column| column.kind == ColumnKind::Lexemes) {
            return Ok(());
        }
        Err(Error::WithoutWords { table: self.facts.display.clone(), domain: self.name.clone() })
    }

    fn check_embedding(&self) -> Result<()> {
        match self.facts.embedding_trigger {
            Some(_) => Ok(()),
            None => {
                let (table, domain) = (self.facts.display.clone(), self.name.clone());
                Err(Error::NotEmbedding { table, domain })
            }
        }
    }
}

const fn new_id() -> &'static str {
    if cfg!(feature = "pg18") { NEW_ID } else { NEW_ID_BEFORE_18 }
}

/// A new id, made before the row is stored: reading it back would need the right to read the table.
fn make_id() -> Option<String> {
    spi::query(&store::make_id(new_id()), |row| row.get(1)).into_iter().flatten().next()
}

fn create(domain: &str, model: &str, text_configuration: &str) -> Result<Regclass> {
    session::forbid_when_read_only(c"create_domain_memories_table");
    let memories = MemoriesTable::new(current_schema()?, domain)?;
    // Two calls at once make or mend one table. What the other has made is seen from the next statement on. A stranger who
    // asks for a table that is there has nobody wait.
    if Regclass::find(&memories.table).is_none_or(|found| rights::owns(found.0).unwrap_or(false)) {
        acquire_lock(lock(memories.creation_lock(), false));
    }
    let record = registry::find_model(model)?;
    let around = Surroundings {
        model: &record.name,
        dimensions: record.dimensions,
        pgvector_schema: pgvector_schema(),
        extension_schema: extension_schema(),
        text_configuration: find_text_configuration(text_configuration)?,
        new_id: new_id(),
    };
    let exists = |name: &QualifiedName| Error::RelationExists { relation: name.to_string() };
    if let Some(existing) = Regclass::find(&memories.table) {
        match judge(&memories, existing, &around)? {
            Standing::Whole => pgrx::notice!("table {} already exists, skipping", memories.table),
            Standing::Incomplete { lexemes, triggers } => {
                spi::run_script(&memories.mending_sql(&around, lexemes, triggers)?);
                tell_mended(&memories, model, lexemes);
            }
        }
        return Ok(existing);
    }
    // A table that was renamed keeps the names of its indexes.
    if let Some(taken) = memories.index_names()?.iter().find(|name| Regclass::find(name).is_some()) {
        return Err(exists(taken));
    }
    spi::run_script(&memories.creation_sql(&around)?);
    Regclass::find(&memories.table).ok_or_else(|| exists(&memories.table))
}

fn tell_mended(memories: &MemoriesTable, model: &str, was_adopted: bool) {
    let table = &memories.table;
    if was_adopted {
        let detail = format!(
            "Embeddings that were there stay; only those by \"{model}\" are comparable with a question's."
        );
        pgrx::ereport!(
            PgLogLevel::NOTICE,
            PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION,
            format!("table {table} is searched by words now, and embeds its rows"),
            detail
        );
    } else {
        pgrx::notice!("table {table} had lost its triggers and has them again");
    }
}

/// What a relation in the place of the table is; closed again, since what is open cannot be altered.
fn judge(memories: &MemoriesTable, existing: Regclass, around: &Surroundings) -> Result<Standing> {
    let relation = open_table(existing.0)?;
    let other = |_| Error::RelationExists { relation: memories.table.to_string() };
    let facts = read_table(&relation).map_err(other)?;
    let comment = comment_of(&relation);
    let standing = memories.judge(&facts, comment.as_deref(), around.model, around.dimensions)?;
    if standing != Standing::Whole && !rights::is_owner(&relation) {
        return Err(Error::NotEmbedding {
            table: facts.display.clone(),
            domain: memories.domain().to_owned(),
        });
    }
    Ok(standing)
}

fn current_schema() -> Result<Identifier> {
    let schema: Option<String> =
        Spi::get_one("SELECT pg_catalog.current_schema()::pg_catalog.text").unwrap_or(None);
    schema.map_or(Err(Error::NoSchema), Identifier::new)
}
