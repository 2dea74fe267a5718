//! What no client of ours sends does no harm.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use vector_tools_core::embed::Purpose;
use vector_tools_core::embed::protocol::{BUILD, LONGEST_REQUEST, Request, Response};

use crate::process::Process;

/// A process that loads no model.
fn process() -> Process {
    Process::start(Path::new("/nowhere"), &[])
}

/// What the process answers to `bytes`, after which the client sends no more.
fn answers(process: &Process, bytes: &[u8]) -> Vec<u8> {
    let mut socket = process.socket();
    // It may close before it has read everything.
    let _ = socket.write_all(bytes);
    let _ = socket.shutdown(std::net::Shutdown::Write);
    let mut answers = Vec::new();
    let _ = socket.read_to_end(&mut answers);
    answers
}

/// The SQLSTATE of the last of the answers.
fn last_state(mut answers: &[u8]) -> String {
    let mut state = String::new();
    while let Some((length, rest)) = answers.split_first_chunk::<4>() {
        let (frame, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
        state = match Response::read(frame).expect("an answer") {
            Response::Failed { sqlstate, .. } => sqlstate.to_owned(),
            _ => "00000".to_owned(),
        };
        answers = rest;
    }
    state
}

fn frame(request: &Request) -> Vec<u8> {
    let mut frame = Vec::new();
    request.write(&mut frame).expect("within bounds");
    frame
}

// trust 26
#[test]
fn bytes_of_any_kind_do_no_harm() {
    let process = process();
    let hello = frame(&Request::Hello { build: BUILD });
    let mut runner = TestRunner::new(ProptestConfig { cases: 400, ..ProptestConfig::default() });
    let strategy = (any::<bool>(), any::<bool>(), prop::collection::vec(any::<u8>(), 0..300));
    let result = runner.run(&strategy, |(greeted, framed, noise)| {
        let mut bytes = if greeted { hello.clone() } else { vec![] };
        if framed {
            bytes.extend((noise.len() as u32).to_le_bytes());
        }
        bytes.extend(&noise);
        answers(&process, &bytes);
        Ok(())
    });
    result.expect("the process stays");
    assert_eq!(process.statistics().connections, 1);
}

#[test]
fn requests_with_a_byte_changed_do_no_harm() {
    let process = process();
    let hello = frame(&Request::Hello { build: BUILD });
    let texts = vec!["one text", "another"];
    let requests = [
        hello.clone(),
        frame(&Request::Embed { model: 0, purpose: Purpose::Query, texts }),
        frame(&Request::CountTokens { model: 3, text: "a text" }),
        frame(&Request::Statistics),
    ];
    let mut runner = TestRunner::new(ProptestConfig { cases: 400, ..ProptestConfig::default() });
    let strategy = (0..requests.len(), any::<prop::sample::Index>(), any::<u8>());
    let result = runner.run(&strategy, |(number, place, byte)| {
        let mut changed = requests[number].clone();
        let place = place.index(changed.len());
        changed[place] = byte;
        answers(&process, &[&hello[..], &changed].concat());
        Ok(())
    });
    result.expect("the process stays");
    assert_eq!(process.statistics().connections, 1);
}

#[test]
fn the_rules_of_a_connection_are_kept() {
    let process = process();
    let hello = frame(&Request::Hello { build: BUILD });
    let statistics = frame(&Request::Statistics);
    let embed = frame(&Request::Embed { model: 7, purpose: Purpose::Query, texts: vec!["a"] });
    let too_long = ((LONGEST_REQUEST + 1) as u32).to_le_bytes().to_vec();
    let other_build = frame(&Request::Hello { build: "9.9.9-9" });
    let last = |parts: &[&[u8]]| last_state(&answers(&process, &parts.concat()));
    assert_eq!(last(&[&hello, &statistics]), "00000");
    assert_eq!(last(&[&statistics]), "08P01", "no greeting");
    assert_eq!(last(&[&other_build, &statistics]), "08P01", "another build");
    assert_eq!(last(&[&hello, &embed, &statistics]), "08P01", "a model that was not opened");
    assert_eq!(last(&[&hello, &too_long, &statistics]), "08P01", "a frame that is too long");
    // Half a frame is waited for, and its client's end ends the connection.
    assert_eq!(last(&[&hello, &statistics[..2]]), "00000");
}

#[test]
fn a_frame_that_claims_to_be_long_takes_no_memory() {
    let process = process();
    let before = process.statistics().memory_bytes;
    let hello = frame(&Request::Hello { build: BUILD });
    let claims: Vec<UnixStream> = (0..50)
        .map(|_| {
            let mut socket = process.socket();
            socket.write_all(&hello).expect("sent");
            socket.write_all(&(LONGEST_REQUEST as u32).to_le_bytes()).expect("sent");
            socket
        })
        .collect();
    crate::process::wait_until("all are served", || {
        (process.statistics().connections as usize > claims.len()).then_some(())
    });
    assert!(process.statistics().memory_bytes < before + (16 << 20));
}

/// Set for the part of the next test that another user runs.
const STRANGER: &str = "VECTOR_TOOLS_TEST_STRANGER";

#[test]
fn another_user_is_not_served() {
    if let Some(path) = std::env::var_os(STRANGER) {
        let mut socket = UnixStream::connect(path).expect("anyone may connect to this socket");
        let _ = socket.write_all(&frame(&Request::Hello { build: BUILD }));
        let mut answer = Vec::new();
        let _ = socket.read_to_end(&mut answer);
        assert!(answer.is_empty(), "it was answered");
        return;
    }
    let process = process();
    process.statistics();
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: another_user_is_not_served, because only root can become another user");
        return;
    }
    // Open to everyone, so that only the process itself refuses.
    let socket = process.socket_path();
    let folder = socket.parent().expect("a folder");
    std::fs::set_permissions(folder, PermissionsExt::from_mode(0o755)).expect("its own folder");
    std::fs::set_permissions(&socket, PermissionsExt::from_mode(0o777)).expect("its own socket");
    // A copy, because the folder of the tests may be closed to others.
    let program = folder.join("test");
    std::fs::copy(std::env::current_exe().expect("this program"), &program).expect("copied");
    let mut command = std::process::Command::new(&program);
    command.args(["--exact", "misuse::another_user_is_not_served"]).env(STRANGER, &socket);
    let output = command.current_dir("/").uid(65_534).gid(65_534).output().expect("it starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "the test has another name");
}
