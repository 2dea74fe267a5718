//! What the embedding process says of itself.

use crate::embed::embedder::connection::SessionConnector;
use crate::kit::rights;
use crate::model::registry;
use vector_tools_core::embed::protocol::{ModelStatistics, ProcessStatistics};
use vector_tools_core::embed::shared::Client;
use vector_tools_core::error::{Error, Result};

/// The statistics of the process, or nothing when none runs; none is started for them. Who is no member of
/// pg_monitor is told of the models of this database.
///
/// # Errors
/// [`Error::EmbedderSilent`] and [`Error::EmbedderLost`] (57P03).
pub fn read() -> Result<Option<ProcessStatistics>> {
    match Client::new(SessionConnector::Looking).statistics() {
        Ok(mut process) => {
            if !rights::is_monitor() {
                process.models = models_of_this_database(process.models);
            }
            Ok(Some(process))
        }
        Err(Error::EmbedderUnavailable { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Those that are registered here, by the names that they have here: the process serves all databases.
fn models_of_this_database(models: Vec<ModelStatistics>) -> Vec<ModelStatistics> {
    let registered = registry::fingerprints();
    let named = |mut model: ModelStatistics| {
        let mut names = registered.iter().filter(|(_, sha256)| *sha256 == model.sha256).map(|(name, _)| name);
        let name = names.clone().find(|name| **name == model.name).or_else(|| names.next())?;
        model.name.clone_from(name);
        Some(model)
    };
    models.into_iter().filter_map(named).collect()
}
