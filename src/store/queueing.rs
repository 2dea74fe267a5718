//! Documents that are to be embedded in the background.

use pgrx::Uuid;

use crate::kit::catalog::has_column;
use crate::kit::regclass::Regclass;
use crate::kit::waiting::checkpoint;
use crate::kit::{rights, session, spi};
use crate::store::queued_documents::{queue, writer};
use crate::store::vector_store as catalog;
use crate::store::vector_store::OpenStore;
use crate::store::writing::{Content, Given};
use vector_tools_core::chunking::Options;
use vector_tools_core::error::{Error, Result};
use vector_tools_core::sql::Statement;
use vector_tools_core::store::hits::uuid_bytes;
use vector_tools_core::store::queued::{NewJob, read_documents};

/// One call of `queue_documents`.
pub struct DocumentsCall {
    pub schema: String,
    pub source_type: String,
    pub source_ids: Vec<Option<String>>,
    pub contents: Vec<Option<String>>,
    pub metadata: Option<Vec<Option<String>>>,
    pub given: Given,
    pub cut: Option<Options>,
}

impl DocumentsCall {
    /// The id of the job.
    pub fn run(self) -> Result<Option<Uuid>> {
        session::forbid_when_read_only(c"queue_documents");
        if let Some(options) = self.cut {
            Content::check_options(options)?;
        }
        let is_cut = self.cut.is_some();
        let documents =
            read_documents(self.source_ids, self.contents, self.metadata, is_cut, &mut checkpoint)?;
        let OpenStore { store, relation, facts } = catalog::open_to_write(&self.schema)?;
        // Not only when they are written, which is when everything else is checked.
        rights::require_insert(&relation);
        let (namespace, collection) = self.given.place(&store)?;
        let jobs = catalog::jobs(&store)?;
        let source = Regclass::find(&jobs).ok_or_else(|| Error::NotAStore {
            table: facts.display.clone(),
            reason: format!("there is no table {jobs} beside it"),
        })?;
        let id = new_id();
        let job = NewJob {
            jobs: &jobs,
            source: source.0.to_u32(),
            has_namespace: has_column(source.0, c"namespace"),
            id: &id,
            source_type: &self.source_type,
            namespace: &namespace,
            collection: collection.as_deref(),
            cut: self.cut,
            queued_by: &writer(),
        };
        spi::execute(&job.create(documents.len()));
        if !documents.is_empty() {
            queue(&job, &documents);
        }
        Ok(uuid_bytes(&id).map(Uuid::from_bytes))
    }
}

fn new_id() -> String {
    let statement = Statement {
        text: "SELECT pg_catalog.gen_random_uuid()::pg_catalog.text".to_owned(),
        ..Statement::default()
    };
    spi::query(&statement, |row| row.get::<String>(1)).into_iter().flatten().next().unwrap_or_default()
}
