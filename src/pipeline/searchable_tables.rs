//! The tables made searchable, as the catalogue has them: their triggers say what was asked for, and a
//! foreign key which table is the companion.

use std::collections::HashMap;
use std::rc::Rc;

use pgrx::{PgRelation, pg_sys};

use crate::kit::relation_cache::RelationCache;
use crate::kit::table_triggers::own_triggers;
use crate::kit::{catalog, rights, spi};
use vector_tools_core::error::{Error, Result};
use vector_tools_core::pipeline::companion::{Watched, key_names};
use vector_tools_core::pipeline::{Configuration, KeyColumn, Role, SearchOptions, SearchableTable};
use vector_tools_core::sql::identifier::{Identifier, QualifiedName};
use vector_tools_core::sql::{Parameter, Statement};

/// The function of the triggers.
const FUNCTION: &str = "queue_row";

/// A table made searchable.
pub struct SearchableRelation {
    /// Its number.
    pub source: pg_sys::Oid,
    /// Its owner, whose rights read it and write its companion.
    pub owner: pg_sys::Oid,
    /// The companion's number; `None` where it is gone.
    pub companion: Option<pg_sys::Oid>,
    /// Whether the companion belongs to the source's owner.
    pub is_owned_alike: bool,
    /// What the statements need to know.
    pub table: SearchableTable,
    /// The companion that a change of the model fills, if one is under way.
    pub next: Option<Shadow>,
    /// The companion that is kept for going back.
    pub previous: Option<Shadow>,
    /// Its triggers.
    pub triggers: Vec<Identifier>,
    /// The one of them that watches the content, and whose options count.
    pub content_trigger: pg_sys::Oid,
    /// Whether they are copies, in a partition of the table that was made searchable.
    pub is_copy: bool,
}

/// A companion of a searched table beside the one that is searched, which belongs to the same owner.
pub struct Shadow {
    /// Its number.
    pub companion: pg_sys::Oid,
    /// The source, as if this were its only companion.
    pub table: SearchableTable,
}

impl SearchableRelation {
    /// The companion, which must be there and belong to the source's owner.
    ///
    /// # Errors
    /// [`Error::CompanionGone`] (55000), [`Error::CompanionNotOwned`] (42501).
    pub fn companion(&self) -> Result<pg_sys::Oid> {
        let source = self.table.source.to_string();
        match self.companion {
            None => Err(Error::CompanionGone { table: source }),
            Some(_) if !self.is_owned_alike => {
                Err(Error::CompanionNotOwned { table: source, companion: self.table.companion.to_string() })
            }
            Some(companion) => Ok(companion),
        }
    }

    /// The companions that are not searched.
    pub fn shadows(&self) -> impl Iterator<Item = &Shadow> {
        self.previous.iter().chain(&self.next)
    }

    fn has_companion(&self, relation: pg_sys::Oid) -> bool {
        self.companion == Some(relation) || self.shadows().any(|shadow| shadow.companion == relation)
    }
}

thread_local! {
    /// By the source; dropped when PostgreSQL says that it may be outdated.
    static TABLES: RelationCache<Option<Rc<SearchableRelation>>> = RelationCache::default();
}

/// Forgets what is known of a relation, or of all.
pub fn forget(relation: pg_sys::Oid) {
    TABLES.with(|tables| {
        tables.forget(relation, |source, table| {
            source == relation || table.as_ref().is_some_and(|table| table.has_companion(relation))
        });
    });
}

/// What a table was made searchable with, if it was.
///
/// # Errors
/// [`Error::SearchedColumnGone`] (55000) where a column was dropped, with the trigger that watched it.
pub fn find(relation: &PgRelation) -> Result<Option<Rc<SearchableRelation>>> {
    let read = || Ok(spi::with_catalog_snapshot(|| read(relation))?.map(Rc::new));
    TABLES.with(|tables| tables.get_or_read(relation.oid(), read))
}

fn read(relation: &PgRelation) -> Result<Option<SearchableRelation>> {
    let mut options = None;
    let mut triggers = Vec::new();
    let mut watching = HashMap::new();
    let mut is_copy = false;
    for trigger in own_triggers(relation, FUNCTION) {
        let Some((found, watched)) = read_arguments(&trigger.arguments) else {
            continue;
        };
        triggers.push(Identifier::new(trigger.name)?);
        is_copy |= trigger.is_copy;
        watching.insert(watched.name(), trigger.oid);
        if watched == Watched::Content {
            options = Some(found);
        }
    }
    let gone = || Error::SearchedColumnGone { table: catalog::display_name(relation) };
    let (Some(options), Some(content_trigger)) = (options, watching.get(Watched::Content.name()).copied())
    else {
        return if triggers.is_empty() { Ok(None) } else { Err(gone()) };
    };
    let columns = watched_columns(relation, content_trigger)?;
    let content = options.order.iter().filter_map(|place| columns.get(*place).cloned()).collect();
    let configuration = match (&options.text_configuration, watching.get(Watched::Configuration.name())) {
        (Some(name), _) => Configuration::Constant(parse_qualified(name)?),
        (None, Some(trigger)) => match watched_columns(relation, *trigger)?.into_iter().next() {
            Some(column) => Configuration::Column(column),
            None => return Err(gone()),
        },
        (None, None) => return Err(gone()),
    };
    let mut keys = key_columns(relation)?;
    let source_keys = keys.clone();
    let companion = find_companion(relation, Role::Live, &mut keys)?;
    let owner = rights::owner(relation);
    let source = catalog::qualified_name(relation)?;
    let dimensions = companion.as_ref().map_or(0, |(.., dimensions)| *dimensions);
    let table = SearchableTable {
        companion: companion.as_ref().map_or_else(|| source.clone(), |(_, _, name, _)| name.clone()),
        source,
        is_partitioned: catalog::is_partitioned(relation),
        keys,
        content,
        configuration,
        options,
        pgvector_schema: catalog::pgvector_schema(),
        dimensions,
    };
    let shadow = |role: Role, model: Option<&String>| -> Result<Option<Shadow>> {
        let Some(model) = model else { return Ok(None) };
        let mut keys = source_keys.clone();
        let found = find_companion(relation, role, &mut keys)?.filter(|(_, found, ..)| *found == owner);
        Ok(found.map(|(companion, _, name, dimensions)| Shadow {
            companion,
            table: table.with_companion(model, name, keys, dimensions),
        }))
    };
    Ok(Some(SearchableRelation {
        source: relation.oid(),
        owner,
        companion: companion.as_ref().map(|(oid, ..)| *oid),
        is_owned_alike: companion.as_ref().is_some_and(|(_, found, ..)| *found == owner),
        next: shadow(Role::Next, table.options.next.as_ref())?,
        previous: shadow(Role::Previous, table.options.previous.as_ref())?,
        table,
        triggers,
        content_trigger,
        is_copy,
    }))
}

/// The triggers of a table that `enable_search` made, complete or not.
///
/// # Errors
/// Never in practice: names in the catalogue are valid.
pub fn trigger_names(relation: &PgRelation) -> Result<Vec<Identifier>> {
    own_triggers(relation, FUNCTION).into_iter().map(|trigger| Identifier::new(trigger.name)).collect()
}

/// Whether the caller may read key and content of all rows of a table.
pub fn may_read_all(relation: &PgRelation, table: &SearchableTable) -> bool {
    let mut needed = table.keys.iter().map(|key| &key.name).chain(&table.content);
    rights::may_use_schema(relation)
        && needed.all(|column| may_read(relation, column))
        && !catalog::has_hidden_rows(relation)
}

/// Whether the caller may read a column.
pub fn may_read(relation: &PgRelation, column: &Identifier) -> bool {
    let name = std::ffi::CString::new(column.as_str());
    name.is_ok_and(|name| rights::may_read_named(relation, &name))
}

/// What the arguments of a trigger say.
pub fn read_arguments(arguments: &[String]) -> Option<(SearchOptions, Watched)> {
    let [options, watched] = arguments else {
        return None;
    };
    Some((SearchOptions::from_json(options)?, Watched::from_name(watched)?))
}

/// The columns in the condition of a trigger, in the order of the table's.
fn watched_columns(relation: &PgRelation, trigger: pg_sys::Oid) -> Result<Vec<Identifier>> {
    let mut statement = Statement::default();
    let trigger = statement.bind(Parameter::Oid(trigger.to_u32()));
    let table = statement.bind(Parameter::Oid(relation.oid().to_u32()));
    statement.push(format_args!(
        "SELECT a.attname::pg_catalog.text FROM pg_catalog.pg_attribute AS a \
         WHERE a.attrelid OPERATOR(pg_catalog.=) {table} AND a.attnum OPERATOR(pg_catalog.=) ANY ( \
             SELECT d.refobjsubid FROM pg_catalog.pg_depend AS d \
             WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_trigger'::pg_catalog.regclass \
             AND d.objid OPERATOR(pg_catalog.=) {trigger} \
             AND d.refobjid OPERATOR(pg_catalog.=) {table} \
             AND d.refobjsubid OPERATOR(pg_catalog.>) 0) ORDER BY a.attnum"
    ));
    let names = spi::query(&statement, |row| row.get::<String>(1));
    names.into_iter().flatten().map(Identifier::new).collect()
}

/// The primary key, with the names that a new companion gives its columns.
///
/// # Errors
/// Never in practice: names in the catalogue are valid.
pub fn key_columns(relation: &PgRelation) -> Result<Vec<KeyColumn>> {
    let mut statement = Statement::default();
    let table = statement.bind(Parameter::Oid(relation.oid().to_u32()));
    statement.push(format_args!(
        "SELECT a.attname::pg_catalog.text, pg_catalog.format_type(a.atttypid, -1), \
                pg_catalog.concat(pg_catalog.format_type(a.atttypid, a.atttypmod), \
                    CASE WHEN l.oid IS NOT NULL THEN pg_catalog.format(' COLLATE %I.%I', ln.nspname, l.collname) END), \
                pg_catalog.format('OPERATOR(%I.%s)', os.nspname, o.oprname) \
         FROM pg_catalog.pg_index AS i \
         CROSS JOIN LATERAL ROWS FROM (pg_catalog.unnest(i.indkey::pg_catalog.int2[]), \
              pg_catalog.unnest(i.indclass::pg_catalog.oid[])) AS k(number, class) \
         JOIN pg_catalog.pg_attribute AS a ON a.attrelid OPERATOR(pg_catalog.=) i.indrelid \
          AND a.attnum OPERATOR(pg_catalog.=) k.number \
         JOIN pg_catalog.pg_type AS t ON t.oid OPERATOR(pg_catalog.=) a.atttypid \
         JOIN pg_catalog.pg_opclass AS c ON c.oid OPERATOR(pg_catalog.=) k.class \
         JOIN pg_catalog.pg_amop AS m ON m.amopfamily OPERATOR(pg_catalog.=) c.opcfamily \
          AND m.amopstrategy OPERATOR(pg_catalog.=) 3 AND m.amoplefttype OPERATOR(pg_catalog.=) c.opcintype \
          AND m.amoprighttype OPERATOR(pg_catalog.=) c.opcintype \
         JOIN pg_catalog.pg_operator AS o ON o.oid OPERATOR(pg_catalog.=) m.amopopr \
         JOIN pg_catalog.pg_namespace AS os ON os.oid OPERATOR(pg_catalog.=) o.oprnamespace \
         LEFT JOIN pg_catalog.pg_collation AS l ON l.oid OPERATOR(pg_catalog.=) a.attcollation \
          AND a.attcollation OPERATOR(pg_catalog.<>) t.typcollation \
         LEFT JOIN pg_catalog.pg_namespace AS ln ON ln.oid OPERATOR(pg_catalog.=) l.collnamespace \
         WHERE i.indrelid OPERATOR(pg_catalog.=) {table} AND i.indisprimary ORDER BY a.attnum"
    ));
    // With this path types of pg_catalog alone have no schema, as in the statements they are for.
    let found = rights::with_pinned_path(|| {
        spi::query(&statement, |row| [1, 2, 3, 4].map(|column| row.get::<String>(column).unwrap_or_default()))
    });
    let names = found.iter().map(|[name, ..]| Identifier::new(name)).collect::<Result<Vec<_>>>()?;
    let companions = key_names(&names)?;
    let keys = found.into_iter().zip(names).zip(companions);
    Ok(keys
        .map(|(([_, type_name, definition, equality], name), companion)| KeyColumn {
            name,
            companion,
            type_name,
            definition,
            equality,
        })
        .collect())
}

/// The companion of a table, its owner, name and dimensions.
pub type Companion = (pg_sys::Oid, pg_sys::Oid, QualifiedName, usize);

/// The companion of a table that has this role, and in `keys` the columns of its key.
///
/// # Errors
/// Never in practice: names in the catalogue are valid.
pub fn find_companion(
    relation: &PgRelation,
    role: Role,
    keys: &mut [KeyColumn],
) -> Result<Option<Companion>> {
    let mut statement = Statement::default();
    let table = statement.bind(Parameter::Oid(relation.oid().to_u32()));
    let name = statement.bind(Parameter::Text(role.foreign_key()));
    // Whoever may reference a table may call a foreign key anything: the owner's comes first.
    statement.push(format_args!(
        "SELECT f.conrelid, c.relowner, n.nspname::pg_catalog.text, c.relname::pg_catalog.text, \
                s.attname::pg_catalog.text, a.attname::pg_catalog.text, \
                (SELECT e.atttypmod::pg_catalog.int8 FROM pg_catalog.pg_attribute AS e \
                 WHERE e.attrelid OPERATOR(pg_catalog.=) f.conrelid \
                 AND e.attname OPERATOR(pg_catalog.=) 'embedding') \
         FROM (SELECT f.* FROM pg_catalog.pg_constraint AS f \
               JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) f.conrelid \
               JOIN pg_catalog.pg_class AS s ON s.oid OPERATOR(pg_catalog.=) f.confrelid \
               WHERE f.confrelid OPERATOR(pg_catalog.=) {table} \
               AND f.contype OPERATOR(pg_catalog.=) 'f' AND f.conname OPERATOR(pg_catalog.=) {name}::pg_catalog.name \
               AND f.conparentid OPERATOR(pg_catalog.=) 0::pg_catalog.oid \
               ORDER BY c.relowner OPERATOR(pg_catalog.<>) s.relowner, f.oid LIMIT 1) AS f \
         JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) f.conrelid \
         JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
         CROSS JOIN LATERAL ROWS FROM (pg_catalog.unnest(f.confkey), pg_catalog.unnest(f.conkey)) AS k(source, own) \
         JOIN pg_catalog.pg_attribute AS s ON s.attrelid OPERATOR(pg_catalog.=) f.confrelid \
          AND s.attnum OPERATOR(pg_catalog.=) k.source \
         JOIN pg_catalog.pg_attribute AS a ON a.attrelid OPERATOR(pg_catalog.=) f.conrelid \
          AND a.attnum OPERATOR(pg_catalog.=) k.own"
    ));
    let found = spi::query(&statement, |row| {
        let text = |column| row.get::<String>(column).unwrap_or_default();
        let oid = |column| row.get::<pg_sys::Oid>(column).unwrap_or(pg_sys::InvalidOid);
        let dimensions = row.get::<i64>(7).and_then(|number| usize::try_from(number).ok());
        (oid(1), oid(2), [3, 4, 5, 6].map(text), dimensions.unwrap_or(0))
    });
    for (_, _, [_, _, source, own], _) in &found {
        if let Some(key) = keys.iter_mut().find(|key| key.name.as_str() == source) {
            key.companion = Identifier::new(own)?;
        }
    }
    let Some((oid, owner, [schema, name, ..], dimensions)) = found.into_iter().next() else {
        return Ok(None);
    };
    let name = QualifiedName { schema: Identifier::new(schema)?, name: Identifier::new(name)? };
    Ok(Some((oid, owner, name, dimensions)))
}

/// Reads back what `Display` of a qualified name wrote.
fn parse_qualified(text: &str) -> Result<QualifiedName> {
    let invalid = || Error::InvalidName { name: text.to_owned(), reason: "it has no schema".to_owned() };
    let inner = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).ok_or_else(invalid)?;
    let (schema, name) = inner.split_once("\".\"").ok_or_else(invalid)?;
    let unquoted = |part: &str| Identifier::new(part.replace("\"\"", "\""));
    Ok(QualifiedName { schema: unquoted(schema)?, name: unquoted(name)? })
}
