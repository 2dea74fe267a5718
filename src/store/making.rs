//! Making stores, namespaces and collections, and dropping them.

use crate::kit::cluster_lock::acquire_lock;
use pgrx::Uuid;

use crate::kit::catalog::find_text_configuration;
use crate::kit::catalog::pgvector_schema;
use crate::kit::regclass::Regclass;
use crate::kit::{rights, session, spi};
use crate::model::registry;
use crate::settings::default_model;
use crate::store::queued_documents;
use crate::store::queued_documents::{overtake, overtake_all};
use crate::store::vector_store as catalog;
use crate::store::vector_store::{OpenStore, TableLock};
use vector_tools_core::error::{Error, Result};
use vector_tools_core::sql::lock::lock;
use vector_tools_core::sql::{Parameter, Statement};
use vector_tools_core::store::creation::{NewStore, mending_sql, tables_without_triggers};
use vector_tools_core::store::hits::uuid_bytes;
use vector_tools_core::store::index::{IndexKind, Preset, Storage, VectorIndexSql};
use vector_tools_core::store::partition::NamespacePartition;
use vector_tools_core::store::question::check_metadata;
use vector_tools_core::store::queued::Overtaken;
use vector_tools_core::store::{
    Store, StoreTables, check_collection, check_namespace, creation_lock, statements,
};

pub fn create_store(
    schema: &str,
    model: Option<&str>,
    preset: Option<&str>,
    storage: Option<&str>,
    index_kind: Option<&str>,
    text_configuration: Option<&str>,
) -> Result<Regclass> {
    session::forbid_when_read_only(c"create_vector_store");
    let tables = StoreTables::new(schema)?;
    let preset = Preset::named(preset.unwrap_or("staging"))?;
    let storage = Storage::named(storage.unwrap_or("vector"))?;
    let kind = IndexKind::named(index_kind.unwrap_or("hnsw"))?;
    let embeddings = tables.embeddings()?;
    // Two calls at once make one store. What the other has made is seen from the next statement on. A stranger who asks for
    // a store that is there has nobody wait.
    if Regclass::find(&embeddings).is_none_or(|found| rights::owns(found.0).unwrap_or(false)) {
        acquire_lock(lock(creation_lock(&tables.schema), false));
    }
    let record = registry::find_model(&model.map_or_else(default_model, str::to_owned))?;
    let configuration = find_text_configuration(text_configuration.unwrap_or("english"))?;
    if Regclass::find(&embeddings).is_some() {
        let found = catalog::open(schema)?;
        check_same(&found, &record.name, storage)?;
        let table = Regclass(found.relation.oid());
        // A table is not altered while it is open; the lock stays.
        drop(found);
        let lost = spi::query_new_snapshot(&tables_without_triggers(&tables), |row| row.get::<String>(1));
        let lost: Vec<String> = lost.into_iter().flatten().collect();
        spi::run_script(&mending_sql(&tables, &lost)?);
        match lost.as_slice() {
            [] => pgrx::notice!("vector store {embeddings} already exists, skipping"),
            lost => pgrx::notice!("{} had lost triggers and has them again", lost.join(", ")),
        }
        return Ok(table);
    }
    if !catalog::schema_exists(&tables.schema) {
        spi::run_script(&format!("CREATE SCHEMA {}", tables.schema));
    }
    let new_id = if cfg!(feature = "pg18") { "pg_catalog.uuidv7()" } else { "pg_catalog.gen_random_uuid()" };
    let pgvector_schema = pgvector_schema();
    let new = NewStore {
        tables: &tables,
        model: &record.name,
        dimensions: record.dimensions,
        storage,
        pgvector_schema: &pgvector_schema,
        text_configuration: &configuration,
        new_id,
    };
    spi::run_script(&new.creation_sql()?);
    let index = VectorIndexSql { table: &embeddings, pgvector_schema: &pgvector_schema, storage };
    match kind {
        IndexKind::Hnsw => spi::run_script(&index.hnsw(preset)),
        IndexKind::IvfFlat => {
            spi::run_script(&index.ivfflat_partition(&tables.default_partition()?, 0.0));
            spi::run_script(&index.ivfflat());
        }
        IndexKind::None => {}
    }
    Regclass::find(&embeddings).ok_or_else(|| unknown(schema))
}

fn unknown(schema: &str) -> Error {
    Error::UnknownStore { schema: schema.to_owned(), nearest: None }
}

fn check_same(found: &OpenStore, model: &str, storage: Storage) -> Result<()> {
    let store = &found.store;
    if store.model == model && storage_of(store) == storage {
        return Ok(());
    }
    Err(Error::StoreDiffers {
        store: store.display(),
        found: format!(
            "its model is \"{}\" and its vectors are stored as {}",
            store.model, store.vector_type
        ),
    })
}

fn storage_of(store: &Store) -> Storage {
    if store.vector_type.ends_with("halfvec") { Storage::HalfVector } else { Storage::Vector }
}

pub fn index_store(schema: &str, index_kind: &str, preset: &str) -> Result<()> {
    session::forbid_when_read_only(c"index_vector_store");
    let (kind, preset) = (IndexKind::named(index_kind)?, Preset::named(preset)?);
    catalog::lock(schema, TableLock::Index)?;
    let store = catalog::open(schema)?.close();
    let index = index_sql(&store);
    let (rename, drop) = index.replacement(&catalog::vector_indexes(&store)?);
    spi::run_script(&rename);
    match kind {
        IndexKind::Hnsw => spi::run_script(&index.hnsw(preset)),
        IndexKind::IvfFlat => {
            for partition in catalog::partitions(&store)? {
                spi::run_script(&index.ivfflat_partition(&partition, catalog::count(&partition)));
            }
            spi::run_script(&index.ivfflat());
        }
        IndexKind::None => {}
    }
    spi::run_script(&drop);
    Ok(())
}

fn index_sql(store: &Store) -> VectorIndexSql<'_> {
    VectorIndexSql {
        table: &store.embeddings,
        pgvector_schema: &store.pgvector_schema,
        storage: storage_of(store),
    }
}

pub fn create_namespace(schema: &str, namespace: &str) -> Result<Regclass> {
    session::forbid_when_read_only(c"create_namespace");
    catalog::lock(schema, TableLock::AddPartition)?;
    let OpenStore { store, relation, facts } = catalog::open(schema)?;
    let new = NamespacePartition::new(&store.tables, namespace)?;
    let (columns, owner) = (catalog::stored_columns(&relation)?, catalog::other_owner(&relation)?);
    // A table is not altered while it is open; the lock stays.
    drop(relation);
    // Whoever writes into the namespace goes first, or waits.
    acquire_lock(lock(store.partitions_lock(), false));
    acquire_lock(lock(store.namespace_lock(namespace), false));
    if let Some(existing) = catalog::partition_of(&store, namespace)? {
        pgrx::notice!("namespace \"{namespace}\" already has the partition {existing}, skipping");
        return Regclass::find(&existing).ok_or_else(|| unknown(schema));
    }
    spi::run_script(&new.creation_sql());
    if let Some(default_partition) = catalog::default_partition(&store)? {
        spi::run_script(&new.move_sql(&default_partition, &columns));
    }
    if facts.vector_indexes.iter().any(|index| !index.is_hnsw && index.column.as_str() == "embedding") {
        spi::run_script(&index_sql(&store).ivfflat_partition(&new.partition, catalog::count(&new.partition)));
    }
    spi::run_script(&new.attach_sql());
    // A store has one owner, whoever made this partition for it.
    if let Some(owner) = owner {
        spi::run_script(&format!("ALTER TABLE {} OWNER TO {owner}", new.partition));
    }
    Regclass::find(&new.partition).ok_or_else(|| unknown(schema))
}

pub fn drop_namespace(schema: &str, namespace: &str) -> Result<()> {
    session::forbid_when_read_only(c"drop_namespace");
    catalog::lock(schema, TableLock::DropPartition)?;
    let store = catalog::open(schema)?.close();
    let partition = catalog::partition_of(&store, namespace)?;
    let partition = partition.ok_or_else(|| Error::UnknownNamespace {
        namespace: namespace.to_owned(),
        schema: schema.to_owned(),
        store: store.display(),
    })?;
    spi::run_script(&format!("DROP TABLE {partition}"));
    let mut statement = Statement::default();
    let wanted = statement.bind(Parameter::Text(namespace.to_owned()));
    statement.push(format_args!(
        "DELETE FROM {} AS c WHERE c.namespace OPERATOR(pg_catalog.=) {wanted}",
        catalog::collections(&store)?
    ));
    spi::execute(&statement);
    overtake_all(&store, Overtaken::Namespace(namespace))
}

pub fn create_collection(
    schema: &str,
    name: &str,
    namespace: &str,
    description: Option<&str>,
    metadata: &str,
) -> Result<Option<Uuid>> {
    session::forbid_when_read_only(c"create_collection");
    check_collection(name)?;
    check_namespace(namespace)?;
    check_metadata(metadata)?;
    let OpenStore { store, .. } = catalog::open(schema)?;
    let mut statement = Statement::default();
    let values = [
        ("name", Some(name)),
        ("namespace", Some(namespace)),
        ("embedding_model", Some(store.model.as_str())),
        ("description", description),
    ];
    let given: Vec<(&str, String)> = values
        .into_iter()
        .filter_map(|(column, value)| Some((column, statement.bind(Parameter::Text(value?.to_owned())))))
        .collect();
    let (columns, places): (Vec<&str>, Vec<String>) = given.into_iter().unzip();
    let dimensions = statement.bind(Parameter::Integer(store.dimensions as i64));
    let metadata = statement.bind(Parameter::Text(metadata.to_owned()));
    statement.push(format_args!(
        "INSERT INTO {} ({}, dimensions, metadata) \
         VALUES ({}, {dimensions}::pg_catalog.int4, {metadata}::pg_catalog.jsonb) ON CONFLICT (name) DO NOTHING",
        catalog::collections(&store)?,
        columns.join(", "),
        places.join(", ")
    ));
    let is_new = spi::execute(&statement) == 1;
    // The row that kept this one out may be another tenant's.
    let found = catalog::collection(&store, name)?;
    let found = found.ok_or_else(|| Error::CollectionHidden { name: name.to_owned() })?;
    if found.namespace != namespace {
        return Err(Error::CollectionExists { name: name.to_owned(), namespace: found.namespace });
    }
    if !is_new {
        pgrx::notice!("collection \"{name}\" already exists, skipping");
    }
    Ok(uuid_bytes(&found.id).map(Uuid::from_bytes))
}

pub fn drop_collection(schema: &str, name: &str, delete_embeddings: bool) -> Result<i64> {
    session::forbid_when_read_only(c"drop_collection");
    let open = catalog::open_to_write(schema)?;
    let store = &open.store;
    let collection = catalog::find_collection(store, name)?;
    acquire_lock(lock(store.namespace_lock(&collection.namespace), false));
    let mut deleted = 0;
    if delete_embeddings {
        deleted = spi::execute(&statements::delete_collection_rows(store, &collection.id)) as i64;
        overtake(&open, Overtaken::Collection(&collection.id), deleted > 0)?;
    } else {
        let counts: Vec<Option<i64>> = spi::query_new_snapshot(
            &statements::count_rows(store, None, None, Some(&collection.id)),
            |row| row.get(1),
        );
        let waiting = queued_documents::count(store, &collection.id)?;
        let count = counts.into_iter().flatten().sum::<i64>() + waiting;
        if count > 0 {
            return Err(Error::CollectionInUse { name: name.to_owned(), schema: schema.to_owned(), count });
        }
    }
    let mut statement = Statement::default();
    let id = statement.bind(Parameter::Text(collection.id));
    statement.push(format_args!(
        "DELETE FROM {} AS c WHERE c.id OPERATOR(pg_catalog.=) {id}::pg_catalog.uuid",
        catalog::collections(store)?
    ));
    spi::execute(&statement);
    Ok(deleted)
}
