//! What the embedding process says of itself.

use super::connection::SessionConnector;
use crate::embedding::protocol::ProcessStatistics;
use crate::embedding::shared::Client;
use crate::error::{Error, Result};

/// The statistics of the process, or nothing when none runs; none is started for them.
///
/// # Errors
/// [`Error::EmbedderSilent`] and [`Error::EmbedderLost`] (57P03).
pub fn read() -> Result<Option<ProcessStatistics>> {
    match Client::new(SessionConnector::Looking).statistics() {
        Ok(statistics) => Ok(Some(statistics)),
        Err(Error::EmbedderUnavailable { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
