//! The SQL functions that register and drop models.

use pgrx::prelude::*;
use pgrx::{Spi, pg_sys};

use crate::kit::jsonb::JsonbText;
use crate::kit::report::{OrReport, warn};
use crate::kit::trigger_call::TriggerCall;
use crate::kit::{paths, session};
use crate::model::{loading, registry};
use vector_tools_core::embed::Embedder;
use vector_tools_core::error::{Error, Result};
use vector_tools_core::model::name::check_model_name;
use vector_tools_core::model::record::ONNX_PROVIDER;
use vector_tools_core::model::{Manifest, ModelOptions};

/// The models that come with the extension and are registered by CREATE EXTENSION.
const BUNDLED: [&str; 2] = ["all-MiniLM-L6-v2", "all-MiniLM-L6-v2-int8"];

#[pg_extern(sql = false)]
fn register_model(
    name: Option<&str>,
    source: Option<&str>,
    provider: Option<&str>,
    options: Option<JsonbText>,
) -> i32 {
    let register = || {
        let missing = |argument| Error::MissingArgument { argument };
        let name = name.ok_or(missing("name"))?;
        let provider = provider.ok_or(missing("provider"))?;
        let options = options.ok_or(missing("options"))?;
        register(name, source.unwrap_or(name), provider, &options.0, false)
    };
    register().or_report()
}

#[pg_extern(sql = false)]
fn drop_model(name: &str) {
    drop_registered(name).or_report();
}

#[pg_extern(sql = false)]
fn register_bundled_models() -> i32 {
    let missing = BUNDLED.iter().filter(|name| registry::find_model(name).is_err());
    let registered = missing.filter(|name| {
        let result = register(name, name, ONNX_PROVIDER, "{}", true);
        result.as_ref().map_err(warn).is_ok()
    });
    registered.count() as i32
}

/// Loads and probes a model, and records what it is.
fn register(name: &str, source: &str, provider: &str, options: &str, bundled: bool) -> Result<i32> {
    session::forbid_when_read_only(c"register_model");
    check_model_name(name)?;
    if provider != ONNX_PROVIDER {
        return Err(Error::UnknownProvider { provider: provider.to_owned() });
    }
    if registry::find_model(name).is_ok() {
        return Err(Error::ModelExists { name: name.to_owned() });
    }
    let options = ModelOptions::from_json(options)?;
    let manifest = Manifest::read(&paths::resolve_source(source), &options)?;
    let model = loading::load_for_registration(&manifest)?;
    let (settings, fingerprints) = (&manifest.settings, model.fingerprints());
    let dimensions = model.dimensions() as i32;
    Spi::run_with_args(
        "INSERT INTO vector_tools.model_registry (name, provider, source, file, sha256, tokenizer_sha256, \
         dimensions, max_tokens, pooling, normalize, query_prefix, passage_prefix, output, size_bytes, bundled) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
        &[
            name.into(),
            provider.into(),
            source.into(),
            options.file.as_deref().into(),
            fingerprints.model.as_str().into(),
            fingerprints.tokenizer.as_str().into(),
            dimensions.into(),
            (settings.max_tokens as i32).into(),
            settings.pooling.name().into(),
            settings.normalize.into(),
            settings.query_prefix.as_str().into(),
            settings.passage_prefix.as_str().into(),
            settings.output.as_deref().into(),
            (fingerprints.bytes as i64).into(),
            bundled.into(),
        ],
    )
    .unwrap_or_else(|error| pgrx::error!("the model could not be recorded: {error}"));
    Ok(dimensions)
}

fn drop_registered(name: &str) -> Result<()> {
    session::forbid_when_read_only(c"drop_model");
    registry::find_model(name)?;
    let users = Spi::get_one_with_args::<String>(
        "SELECT pg_catalog.string_agg(t.source::pg_catalog.text, ', ') FROM (\
         SELECT source, model FROM vector_tools.embedded_tables UNION ALL \
         SELECT source, next_model FROM vector_tools.searchable_tables UNION ALL \
         SELECT source, previous_model FROM vector_tools.searchable_tables UNION ALL \
         SELECT store, model FROM vector_tools.vector_stores) AS t \
         WHERE t.model OPERATOR(pg_catalog.=) $1",
        &[name.into()],
    );
    if let Ok(Some(users)) = users {
        return Err(Error::ModelInUse { name: name.to_owned(), users });
    }
    Spi::run_with_args(
        "DELETE FROM vector_tools.model_registry WHERE name OPERATOR(pg_catalog.=) $1",
        &[name.into()],
    )
    .unwrap_or_else(|error| pgrx::error!("the model could not be dropped: {error}"));
    Ok(())
}

/// Statement-level trigger of the registry, so that every way of changing it (register_model, a
/// restore's COPY, an administrator's own SQL) reaches every session. What an AFTER trigger gives back
/// is ignored, but must not be NULL.
#[pg_extern(sql = false)]
fn announce_model_change(fcinfo: pg_sys::FunctionCallInfo) -> i64 {
    TriggerCall::new(fcinfo, "announce_model_change", "the registry's").or_report();
    registry::announce_change();
    0
}
