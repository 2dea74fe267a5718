//! When the process ends, what it finishes first, and what a client notices of it.

use std::fs;
use std::io::{Read, Write};
use std::sync::mpsc;
use std::thread;

use vector_tools_core::embed::protocol::{BUILD, Request};
use vector_tools_core::embed::{Embedder, Purpose};
use vector_tools_core::error::Error;

use crate::models::{FP32, INT8, registered};
use crate::process::{EXECUTABLE, Process, wait_until};
use crate::vectors::texts;

#[test]
fn the_end_of_the_control_pipe_ends_it_at_once() {
    let Some(model) = registered("the_end_of_the_control_pipe", INT8) else { return };
    let mut process = Process::start(&model.library, &[]);
    // Also in the middle of work.
    let mut session = process.client();
    let long = texts(2000);
    let texts: Vec<&str> = long.iter().map(String::as_str).collect();
    session.embedder(&model.record, &model.source).expect("the model opens");
    let (begun, beginning) = mpsc::channel();
    let working = thread::spawn({
        let (record, source) = (model.record.clone(), model.source.clone());
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        move || {
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let mut shared = session.embedder(&record, &source).expect("the model is open");
            begun.send(()).expect("the test waits");
            shared.embed(&texts, Purpose::Passage, &mut || Ok(())).expect_err("the process has ended")
        }
    });
    beginning.recv().expect("the session works");
    wait_until("it works", || (process.statistics().models[0].batches > 0).then_some(()));
    process.close_control();
    process.ended();
    // The listener is still there, as a supervisor's is, so that only its end ends the second try.
    drop(process);
    let error = working.join().expect("an error is no panic");
    assert_eq!(error.facts().sqlstate, "57P03", "{error:?}");
}

#[test]
fn draining_finishes_what_has_arrived_and_closes_the_rest() {
    let Some(model) = registered("draining_finishes_what_has_arrived", INT8) else { return };
    let mut process = Process::start(&model.library, &["--threads", "2"]);
    let mut idle = process.client();
    idle.statistics().expect("it answers");
    // One request, so that all of it has arrived.
    let long = texts(400);
    let texts: Vec<&str> = long.iter().map(String::as_str).collect();
    let mut session = process.client();
    let (record, source) = (model.record.clone(), model.source.clone());
    session.embedder(&record, &source).expect("the model opens");
    thread::scope(|scope| {
        let working = scope.spawn(|| {
            let mut shared = session.embedder(&record, &source).expect("the model is open");
            shared.embed(&texts, Purpose::Passage, &mut || Ok(()))
        });
        wait_until("it works", || (process.statistics().models[0].batches > 0).then_some(()));
        process.say("drain");
        let vectors = working.join().expect("no panic").expect("what has arrived is finished");
        assert_eq!(vectors.iter().count(), texts.len());
    });
    assert_eq!(process.ended().code(), Some(0));
    // The next one on the same socket has the idle session, which notices nothing.
    process.restart(&model.library, &[]);
    let statistics = idle.statistics().expect("it connects again by itself");
    assert_eq!(statistics.process_id, process.id());
}

#[test]
fn a_long_call_survives_a_drain() {
    let Some(model) = registered("a_long_call_survives_a_drain", INT8) else { return };
    let mut process = Process::start(&model.library, &["--threads", "2"]);
    let long = vec!["some words that are embedded again and again"; 6000];
    let mut session = process.client();
    thread::scope(|scope| {
        let working = scope.spawn(|| {
            let mut shared = session.embedder(&model.record, &model.source).expect("the model opens");
            shared.embed(&long, Purpose::Passage, &mut || Ok(()))
        });
        wait_until("two requests are answered", || {
            let statistics = process.statistics();
            statistics.models.first().is_some_and(|model| model.requests >= 2).then_some(())
        });
        process.say("drain");
        assert_eq!(process.ended().code(), Some(0));
        process.restart(&model.library, &["--threads", "2"]);
        let vectors = working.join().expect("no panic").expect("it goes on with the next process");
        assert_eq!(vectors.iter().count(), long.len());
    });
    // Those that were answered before were not asked for again.
    assert!(process.statistics().models[0].texts < long.len() as u64);
}

// trust 10
#[test]
fn a_killed_process_is_asked_once_more_and_not_for_ever() {
    let Some(model) = registered("a_killed_process", INT8) else { return };
    let mut process = Process::start(&model.library, &[]);
    let mut session = process.client();
    let mut shared = session.embedder(&model.record, &model.source).expect("the model opens");
    process.kill();
    process.restart(&model.library, &[]);
    let vectors = shared.embed(&["once more"], Purpose::Query, &mut || Ok(())).expect("the next one answers");
    assert_eq!(vectors.iter().count(), 1);
    process.kill();
    drop(process);
    let error = shared.embed(&["again"], Purpose::Query, &mut || Ok(())).expect_err("there is none");
    // Not the error that lets a session load the model itself.
    assert!(matches!(error, Error::EmbedderLost { .. }), "{error:?}");
    let error = session.embedder(&model.record, &model.source).err().expect("there is none");
    assert!(matches!(error, Error::EmbedderUnavailable { .. }), "{error:?}");
}

// trust 10
#[test]
fn texts_over_which_two_processes_died_are_told_from_a_process_that_cannot_be_had() {
    let Some(model) = registered("texts_over_which_two_processes_died", INT8) else { return };
    let mut process = Process::start(&model.library, &["--threads", "1"]);
    let long = texts(2000);
    let texts: Vec<&str> = long.iter().map(String::as_str).collect();
    let mut session = process.client();
    thread::scope(|scope| {
        let working = scope.spawn(|| {
            let mut shared = session.embedder(&model.record, &model.source).expect("the model opens");
            shared.embed(&texts, Purpose::Passage, &mut || Ok(())).expect_err("it dies each time")
        });
        for _ in 0..2 {
            wait_until("it works", || {
                let statistics = process.statistics();
                statistics.models.first().is_some_and(|model| model.batches > 0).then_some(())
            });
            process.kill();
            process.restart(&model.library, &["--threads", "1"]);
        }
        let error = working.join().expect("an error is no panic");
        assert!(matches!(error, Error::EmbedderKilled { .. }), "{error:?}");
        assert_eq!(error.facts().sqlstate, "57P03");
    });
    let mut shared = session.embedder(&model.record, &model.source).expect("the model opens");
    let vectors = shared.embed(&["others go on"], Purpose::Query, &mut || Ok(())).expect("it answers");
    assert_eq!(vectors.iter().count(), 1);
}

#[test]
fn an_idle_process_ends_and_a_connection_does_not_keep_it() {
    let Some(model) = registered("an_idle_process_ends", INT8) else { return };
    let mut process = Process::start(&model.library, &["--idle-timeout-s", "1"]);
    let mut session = process.client();
    session.embedder(&model.record, &model.source).expect("the model opens");
    assert_eq!(process.ended().code(), Some(0));
}

#[test]
fn a_process_whose_executable_was_replaced_ends() {
    let Some(model) = registered("a_process_whose_executable_was_replaced", INT8) else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let (executable, new) = (folder.path().join("embedder"), folder.path().join("new"));
    for path in [&executable, &new] {
        fs::copy(EXECUTABLE, path).expect("copied");
    }
    let mut process = Process::start_file(&executable, &model.library, &[]);
    let mut session = process.client();
    session.embedder(&model.record, &model.source).expect("the model opens");
    fs::rename(&new, &executable).expect("replaced");
    assert_eq!(process.ended().code(), Some(0));
}

#[test]
fn work_of_a_client_that_is_gone_is_dropped() {
    let Some(model) = registered("work_of_a_client_that_is_gone", FP32) else { return };
    let process = Process::start(&model.library, &["--threads", "1"]);
    let mut session = process.client();
    session.embedder(&model.record, &model.source).expect("the model opens");
    let words = "a long text that takes its time ".repeat(40);
    let texts = vec![words.as_str(); 500];
    let mut socket = process.socket();
    let mut frames = Vec::new();
    Request::Hello { build: BUILD }.write(&mut frames).expect("short");
    let source = vector_tools_core::embed::protocol::bytes_of(&model.source);
    let open = Request::Open { model: 0, record: Box::new(model.record.clone()), source };
    open.write(&mut frames).expect("short");
    Request::Embed { model: 0, purpose: Purpose::Passage, texts }.write(&mut frames).expect("within bounds");
    socket.write_all(&frames).expect("sent");
    wait_until("it works", || (process.statistics().models[0].batches > 0).then_some(()));
    drop(socket);
    let dropped = wait_until("the work is dropped", || {
        let statistics = process.statistics();
        (statistics.models[0].queued == 0).then_some(statistics)
    });
    // 256 tokens each, so that 2 texts make a batch.
    assert!(dropped.models[0].batches < 200, "{} batches were run", dropped.models[0].batches);
    assert_eq!(dropped.models[0].failures, 1);
    // The next one is served at once.
    let mut shared = session.embedder(&model.record, &model.source).expect("the model is open");
    shared.embed(&["short"], Purpose::Query, &mut || Ok(())).expect("embedded");
}

#[test]
fn a_process_that_is_started_wrongly_says_so() {
    let output = std::process::Command::new(EXECUTABLE).arg("--listen").output().expect("it starts");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--listen"));
    let output = std::process::Command::new(EXECUTABLE).output().expect("it starts");
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn it_runs_with_the_limits_it_puts_on_itself() {
    let Some(model) = registered("it_runs_with_the_limits", INT8) else { return };
    let process = Process::start(&model.library, &[]);
    process.statistics();
    let status = fs::read_to_string(format!("/proc/{}/status", process.id())).expect("it runs");
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.map(|value| value.trim_start_matches(':').trim().to_owned()).expect("the kernel says it")
    };
    assert_eq!(field("NoNewPrivs"), "1");
    assert_eq!(field("Seccomp"), "2");
    let score = fs::read_to_string(format!("/proc/{}/oom_score_adj", process.id())).expect("readable");
    assert_eq!(score.trim(), "500");
    // Its sockets are the one it was given and those it has accepted: none of a network.
    let mut network = String::new();
    for table in ["tcp", "tcp6", "udp", "udp6"] {
        let path = format!("/proc/{}/net/{table}", process.id());
        fs::File::open(path).and_then(|mut file| file.read_to_string(&mut network)).unwrap_or(0);
    }
    let folder = format!("/proc/{}/fd", process.id());
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let target = fs::read_link(entry.path()).unwrap_or_default().display().to_string();
        if let Some(number) = target.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']')) {
            assert!(!network.contains(&format!(" {number} ")), "a network socket {number}");
        }
    }
}
