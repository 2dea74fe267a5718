//! What goes wrong in the process is the error that the session would have had itself.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use vector_tools_core::embed::{Embedder, LocalEmbedder, Purpose};
use vector_tools_core::error::{Error, Result};
use vector_tools_core::model::ModelRecord;
use vector_tools_core::model::runtime::open_runtime;

use crate::models::{INT8, Registered, registered};
use crate::process::Process;

/// A copy of a model, to be spoilt.
fn copy(model: &Registered) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["model.onnx", "tokenizer.json"] {
        fs::copy(model.source.join(name), folder.path().join(name)).expect("copied");
    }
    folder
}

/// Both errors of opening a model: in the process and here.
fn both(process: &Process, model: &Registered, record: &ModelRecord, source: &Path) -> (Error, Error) {
    let runtime = open_runtime(Some(&model.library), &[]).expect("ONNX Runtime opens");
    let here = LocalEmbedder::load_registered(runtime, record, source, 1).err().expect("it cannot load");
    let there = process.client().embedder(record, source).err().expect("it cannot load");
    (here, there)
}

fn assert_alike(here: &Error, there: &Error) {
    assert_eq!(here.to_string(), there.to_string());
    assert_eq!(here.facts(), there.facts());
}

// trust 23
#[test]
fn a_model_that_cannot_be_loaded_gives_the_error_of_a_session() {
    let Some(model) = registered("a_model_that_cannot_be_loaded", INT8) else { return };
    let process = Process::start(&model.library, &[]);
    let (here, there) = both(&process, &model, &model.record, Path::new("/nowhere"));
    assert_alike(&here, &there);
    assert_eq!(there.facts().sqlstate, "58P01");

    let changed = copy(&model);
    fs::write(changed.path().join("model.onnx"), "another file").expect("written");
    let (here, there) = both(&process, &model, &model.record, changed.path());
    assert_alike(&here, &there);
    assert_eq!(there.facts().sqlstate, "XX001");

    let corrupt = copy(&model);
    fs::write(corrupt.path().join("model.onnx"), "no graph").expect("written");
    let (_, sha256) =
        vector_tools_core::model::fingerprint::read_with_sha256(&corrupt.path().join("model.onnx"), "graph")
            .expect("readable");
    let record = ModelRecord { sha256, ..model.record.clone() };
    let (here, there) = both(&process, &model, &record, corrupt.path());
    assert_alike(&here, &there);
    assert_eq!(there.facts().sqlstate, "22P03");

    let record = ModelRecord { dimensions: 5, ..model.record.clone() };
    let (here, there) = both(&process, &model, &record, &model.source);
    assert_alike(&here, &there);
    assert_eq!(there.facts().sqlstate, "22000");

    // The connection of an error can be used further, and the process too.
    let mut session = process.client();
    assert!(session.embedder(&record, &model.source).is_err());
    session.embedder(&model.record, &model.source).expect("the right one opens");
    assert_eq!(process.statistics().connections, 2);
}

#[test]
fn a_model_changed_on_disk_after_it_was_loaded_is_still_the_loaded_one() {
    let Some(model) = registered("a_model_changed_on_disk", INT8) else { return };
    let process = Process::start(&model.library, &[]);
    let folder = copy(&model);
    let mut session = process.client();
    let record = ModelRecord { name: "of another database".to_owned(), ..model.record.clone() };
    session.embedder(&record, folder.path()).expect("it opens");
    fs::write(folder.path().join("model.onnx"), "another file").expect("written");
    let mut other = process.client();
    let mut shared = other.embedder(&record, folder.path()).expect("it is loaded");
    shared.embed(&["a"], Purpose::Query, &mut || Ok(())).expect("embedded");
}

#[test]
fn a_missing_library_is_reported() {
    let Some(model) = registered("a_missing_library_is_reported", INT8) else { return };
    let nowhere = PathBuf::from("/nowhere/libonnxruntime.so");
    let options = ["--configured-library", "/nowhere/libonnxruntime.so"];
    let process = Process::start(&nowhere, &options);
    let error = process.client().embedder(&model.record, &model.source).err().expect("no library");
    assert_eq!(error.facts().sqlstate, "55000");
    let hint = error.facts().hint.expect("it says what to do");
    assert!(hint.contains("vector_tools.onnxruntime_library"), "{hint}");
}

#[test]
fn a_checkpoint_ends_a_call_and_the_next_one_works() {
    let Some(model) = registered("a_checkpoint_ends_a_call", INT8) else { return };
    let process = Process::start(&model.library, &[]);
    let mut session = process.client();
    let mut shared = session.embedder(&model.record, &model.source).expect("it opens");
    let cancelled = Error::InvalidModelName { name: "cancelled".to_owned() };
    let mut calls = 0;
    let mut cancel = || -> Result<()> {
        calls += 1;
        if calls < 3 { Ok(()) } else { Err(cancelled.clone()) }
    };
    let texts = vec!["a text"; 5000];
    let error = shared.embed(&texts, Purpose::Passage, &mut cancel).expect_err("it was cancelled");
    assert_eq!(error, cancelled);
    shared.embed(&["a text"], Purpose::Passage, &mut || Ok(())).expect("embedded");
}
