//! What triggers say of searched tables, for the list of them. Declared in sql/pipeline.sql.

use pgrx::prelude::*;

use crate::kit::jsonb::JsonbText;
use vector_tools_core::pipeline::options::SearchOptions;

/// The options in the arguments of a trigger that watches the content, written anew: nothing but what was read.
#[pg_extern(sql = false)]
fn search_options(tgargs: &[u8]) -> Option<JsonbText> {
    SearchOptions::from_trigger(tgargs).map(|options| JsonbText(options.to_json()))
}
