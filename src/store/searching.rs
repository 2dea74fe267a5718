//! Searching and counting.

use std::time::Instant;

use crate::kit::regclass::Regclass;
use crate::kit::rights::{acting_as, owner_of};
use crate::kit::{session, spi};
use crate::search::call::SearchCall;
use crate::settings;
use crate::store::functions::SearchEmbeddings;
use crate::store::vector_store as catalog;
use crate::store::vector_store::OpenStore;
use vector_tools_core::error::Result;
use vector_tools_core::search::SearchRequest;
use vector_tools_core::search::fusion::{DEFAULT_RRF_K, Weights};
use vector_tools_core::search::hybrid::SearchHit;
use vector_tools_core::search::ivfflat::ivfflat_probes;
use vector_tools_core::search::trace::Trace;
use vector_tools_core::store::Store;
use vector_tools_core::store::embeddings::check_vector;
use vector_tools_core::store::hits::{StoreHit, read_hit};
use vector_tools_core::store::index::Preset;
use vector_tools_core::store::question::Scope;
use vector_tools_core::store::statements;
use vector_tools_core::store::statements::LoggedSearch;

/// A call of `search_embeddings`, checked.
pub struct StoreSearch {
    store: Store,
    call: SearchCall,
    log: LoggedSearch,
}

impl StoreSearch {
    /// The search with those arguments. Without a store, or anything to search for, there is none.
    pub(crate) fn new(arguments: SearchEmbeddings) -> Result<Option<StoreSearch>> {
        let SearchEmbeddings { schema: Some(schema), query, top_k, threshold, .. } = arguments else {
            return Ok(None);
        };
        let embedding = arguments.query_embedding.map(|vector| vector.0);
        if query.is_none() && embedding.is_none() {
            return Ok(None);
        }
        let OpenStore { store, relation, facts } = catalog::open(&schema)?;
        if let Some(embedding) = &embedding {
            check_vector(embedding, &store, || "query_embedding".to_owned())?;
        }
        let collection =
            arguments.collection.map(|name| catalog::find_collection(&store, &name)).transpose()?;
        let own = collection.as_ref().map(|collection| collection.namespace.clone());
        let namespace = arguments.namespace.or(own);
        let scope = Scope {
            namespace: namespace.clone(),
            source_type: arguments.source_type,
            collection: collection.map(|collection| collection.id),
            metadata: arguments.metadata.map(|json| json.0),
            filter: arguments.filter.map(|json| json.0),
        };
        // Without a text there are no words to search for.
        let text_weight = if query.is_some() { arguments.text_weight } else { 0.0 };
        let weights = Weights { vector: arguments.vector_weight, text: text_weight };
        let request = SearchRequest::new(top_k, 0, None)?
            .fused(&arguments.fusion, DEFAULT_RRF_K, weights)?
            .limited(threshold, 0.0)?;
        let index = facts.vector_indexes.iter().find(|index| index.column.as_str() == "embedding");
        let preset = index.and_then(|index| Preset::of_options(&index.options));
        let probes = index.map_or(0, |index| if index.is_hnsw { 0 } else { ivfflat_probes(&index.options) });
        let call = SearchCall::of(relation, query.clone().unwrap_or_default(), request)
            .filtered(scope.filter()?.into_iter().collect())
            .with_embedding(embedding.clone())
            .with_effort(preset.map_or(0, |preset| preset.ef_search), probes);
        let log = LoggedSearch {
            query,
            embedding,
            namespace,
            top_k,
            threshold,
            user_id: arguments.user_id.map(|id| id.to_string()),
            ..LoggedSearch::default()
        };
        Ok(Some(StoreSearch { store, call, log }))
    }

    pub fn run(self) -> Result<Vec<(SearchHit, StoreHit)>> {
        let began = Instant::now();
        let hits = self.call.run(&mut Trace::default())?;
        let name = self.store.display();
        let found: Result<Vec<(SearchHit, StoreHit)>> = hits
            .into_iter()
            .map(|hit| {
                let row = read_hit(&hit.fetched.document, hit.fetched.content.as_deref(), &name)?;
                Ok((hit, row))
            })
            .collect();
        let found = found?;
        if settings::log_searches() && !session::is_read_only() {
            let milliseconds = began.elapsed().as_secs_f64() * 1e3;
            let caller = catalog::current_role();
            log(&self.store, LoggedSearch { results: found.len(), milliseconds, caller, ..self.log })?;
        }
        Ok(found)
    }
}

/// Writes a search into the store's log with the rights of the log's owner: who may search need not
/// be able to read or write what others have searched for. The search has read the store with the
/// caller's own rights before this, and a log that the store's owner does not own is none of it.
fn log(store: &Store, search: LoggedSearch) -> Result<()> {
    let Some(logs) = Regclass::find(&store.tables.search_logs()?) else { return Ok(()) };
    let owner = owner_of(logs.0);
    if owner != owner_of(store.table_oid.into()) {
        return Ok(());
    }
    let statement = statements::log_search(store, search)?;
    // It may have triggers and indexes of the owner's, whose functions the caller must not choose.
    acting_as(owner, || spi::execute(&statement));
    Ok(())
}

pub fn count(
    schema: &str,
    namespace: Option<&str>,
    source_type: Option<&str>,
    collection: Option<&str>,
) -> Result<i64> {
    let OpenStore { store, .. } = catalog::open(schema)?;
    let collection = collection.map(|name| catalog::find_collection(&store, name)).transpose()?;
    let collection = collection.as_ref().map(|collection| collection.id.as_str());
    let statement = statements::count_rows(&store, namespace, source_type, collection);
    let counts: Vec<Option<i64>> = spi::query(&statement, |row| row.get(1));
    Ok(counts.into_iter().flatten().sum())
}
