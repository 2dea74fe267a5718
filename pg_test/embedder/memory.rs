//! The limit of memory, and models that make room for each other.

use std::io::Write;

use vector_tools_core::embed::{Embedder, Purpose};
use vector_tools_core::model::ModelRecord;

use crate::models::{FP32, INT8, Registered, registered};
use crate::process::Process;

fn embed(process: &Process, model: &Registered, record: &ModelRecord) {
    let mut session = process.client();
    let mut shared = session.embedder(record, &model.source).expect("the model opens");
    shared.embed(&["a text"], Purpose::Query, &mut || Ok(())).expect("embedded");
}

/// The names of the models that are loaded.
fn loaded(process: &Process) -> Vec<String> {
    let models = process.statistics().models.into_iter();
    models.filter(|model| model.loaded).map(|model| model.name).collect()
}

#[test]
fn the_least_recently_used_model_makes_room() {
    let (Some(large), Some(small)) = (
        registered("the_least_recently_used_model_makes_room", FP32),
        registered("the_least_recently_used_model_makes_room", INT8),
    ) else {
        return;
    };
    // Room for the large one and one of the two small ones.
    let process = Process::start(&large.library, &["--memory-limit-mb", "190", "--threads", "1"]);
    let settings = vector_tools_core::model::manifest::EncodingSettings {
        query_prefix: "question: ".to_owned(),
        ..small.record.settings.clone()
    };
    let other = ModelRecord { name: "other".to_owned(), settings, ..small.record.clone() };
    embed(&process, &large, &large.record);
    embed(&process, &small, &small.record);
    embed(&process, &small, &other);
    embed(&process, &large, &large.record);
    let names = loaded(&process);
    assert!(names.contains(&large.record.name), "{names:?}");
    let statistics = process.statistics();
    assert!(statistics.memory_bytes <= 190 << 20, "{} bytes", statistics.memory_bytes);
    assert_eq!(statistics.models.len(), 3);
    let loads: u64 = statistics.models.iter().map(|model| model.loads).sum();
    assert!(loads > 3 || names.len() == 3, "{names:?}");
    // The one that made room comes back when it is asked for.
    embed(&process, &small, &small.record);
    embed(&process, &small, &other);
    assert!(loaded(&process).contains(&"other".to_owned()));
}

#[test]
fn a_model_that_never_fits_is_refused_and_others_go_on() {
    let (Some(large), Some(small)) = (
        registered("a_model_that_never_fits_is_refused", FP32),
        registered("a_model_that_never_fits_is_refused", INT8),
    ) else {
        return;
    };
    let process = Process::start(&large.library, &["--memory-limit-mb", "80", "--threads", "1"]);
    embed(&process, &small, &small.record);
    let error = process.client().embedder(&large.record, &large.source).err().expect("too large");
    let facts = error.facts();
    assert_eq!(facts.sqlstate, "53200");
    assert!(facts.hint.expect("a hint").contains("vector_tools.embedder_memory_limit"));
    embed(&process, &small, &small.record);
}

// trust 14
// The first of the numbers asked for: sessions share one model.
#[test]
fn fifty_sessions_take_little_more_than_one_model() {
    let Some(model) = registered("fifty_sessions_take_little_more", FP32) else { return };
    let process = Process::start(&model.library, &[]);
    let mut sessions: Vec<_> = (0..50).map(|_| process.client()).collect();
    for session in &mut sessions {
        let mut shared = session.embedder(&model.record, &model.source).expect("the model opens");
        shared.embed(&["a text"], Purpose::Query, &mut || Ok(())).expect("embedded");
    }
    let statistics = process.statistics();
    assert_eq!(statistics.connections, 51);
    let one = statistics.models[0].memory_bytes;
    assert!(one > 0 && statistics.memory_bytes < one * 3 / 2, "{} for {one}", statistics.memory_bytes);
}

#[test]
fn working_memory_is_given_back_after_bulk_work() {
    let Some(model) = registered("working_memory_is_given_back", INT8) else { return };
    let process = Process::start(&model.library, &["--threads", "4"]);
    embed(&process, &model, &model.record);
    let before = process.statistics().memory_bytes;
    let mut session = process.client();
    let mut shared = session.embedder(&model.record, &model.source).expect("the model opens");
    let text = "many words ".repeat(200);
    let texts = vec![text.as_str(); 64];
    shared.embed(&texts, Purpose::Passage, &mut || Ok(())).expect("embedded");
    // Each thread keeps what the kernels of ONNX Runtime hold for it.
    crate::process::wait_until("memory is given back", || {
        (process.statistics().memory_bytes < before + (64 << 20)).then_some(())
    });
}

#[test]
fn bulk_work_stays_near_the_limit() {
    let Some(model) = registered("bulk_work_stays_near_the_limit", INT8) else { return };
    let process = Process::start(&model.library, &["--memory-limit-mb", "110", "--threads", "4"]);
    let mut session = process.client();
    let mut shared = session.embedder(&model.record, &model.source).expect("the model opens");
    let text = "many words ".repeat(200);
    let texts = vec![text.as_str(); 200];
    shared.embed(&texts, Purpose::Passage, &mut || Ok(())).expect("embedded by the same process");
    assert_eq!(session.statistics().expect("it still answers").process_id, process.id());
}

#[test]
fn a_process_that_stays_over_its_limit_ends_itself() {
    let Some(model) = registered("a_process_that_stays_over_its_limit", INT8) else { return };
    // The process needs some memory of its own, which no model can make room with.
    let mut process = Process::start(&model.library, &["--memory-limit-mb", "1"]);
    let claims = vec![0u8; 3 << 20];
    let mut socket = process.socket();
    let hello = vector_tools_core::embed::protocol::Request::Hello {
        build: vector_tools_core::embed::protocol::BUILD,
    };
    let mut frame = Vec::new();
    hello.write(&mut frame).expect("short");
    frame.extend(((claims.len() + 1) as u32).to_le_bytes());
    socket.write_all(&frame).expect("sent");
    socket.write_all(&claims).expect("sent");
    assert_eq!(process.ended().code(), Some(3));
}
