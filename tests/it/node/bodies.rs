//! Large bodies, which never pass through the supervisor.

use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde::Deserialize;
use serde_json::{Value, json};

use super::packages::setup_worker;
use crate::support::node::{self, App, Running};
use crate::support::reply::{self, Kept};
use crate::support::{client, eventually, full, proc, uninterrupted};

/// What the supervisor's memory may move by, in KiB, for a reason other than a body.
const BOUND_KIB: u64 = 4096;

/// How large a large body is.
fn large() -> u64 {
    if full() { 200_000_000 } else { 30_000_000 }
}

#[derive(Debug, Deserialize)]
struct Seen {
    status: u16,
    length: u64,
    right: bool,
}

/// Whether a body of this kind arrives, and the supervisor does not grow meanwhile.
#[track_caller]
fn arrives(running: &Running, bytes: u64, options: &Value) {
    let before = proc::private_kib(running.pid());
    let mut all = json!({ "url": running.url(), "bytes": bytes });
    let arguments = all.as_object_mut().expect("it was written as one");
    arguments.extend(options.as_object().expect("it was written as one").clone());
    let Some(client) = node::client("bodies.js", &all) else { return };
    let seen: Seen = client.next();
    assert_eq!((seen.status, seen.length, seen.right), (200, bytes, true), "{options}");
    let after = proc::private_kib(running.pid());
    assert!(after <= before + BOUND_KIB, "{before} KiB became {after} KiB: {options}");
}

#[test]
fn large_bodies_arrive_as_they_were_sent_in_both_directions() {
    let Some(app) = App::new("bodies.js") else { return };
    let running = app.start(2);
    for direction in ["upload", "download"] {
        for chunked in [false, true] {
            arrives(&running, large(), &json!({ "direction": direction, "chunked": chunked }));
        }
    }
}

#[test]
fn d05_binary_bodies_reach_workers_of_the_package_as_they_were_sent() {
    for version in [1, 2] {
        let Some(app) = setup_worker(version) else { return };
        let running = app.start(2);
        for bytes in [2000, 200_000] {
            arrives(&running, bytes, &json!({ "direction": "upload" }));
            arrives(&running, bytes, &json!({ "direction": "upload", "chunked": true }));
        }
    }
}

#[test]
fn d06_large_bodies_reach_workers_of_the_package_in_order() {
    for version in [1, 2] {
        let Some(app) = setup_worker(version) else { return };
        let running = app.start(2);
        arrives(&running, large(), &json!({ "direction": "upload" }));
        arrives(&running, large(), &json!({ "direction": "upload", "chunked": true }));
    }
}

/// Sends until nothing more is taken for a while: how many bytes were.
fn send_until_full(stream: &mut TcpStream, most: usize) -> usize {
    stream.set_write_timeout(Some(Duration::from_millis(400))).expect("it is open");
    let piece = vec![b'x'; 256 * 1024];
    let mut sent = 0;
    while sent < most {
        match uninterrupted(|| stream.write(&piece)) {
            Ok(count) => sent += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error} after {sent} bytes"),
        }
    }
    sent
}

#[test]
fn d13_a_slow_reader_of_a_large_answer_costs_the_supervisor_nothing() {
    for app in [App::new("bodies.js"), setup_worker(1), setup_worker(2)] {
        let Some(app) = app else { return };
        let running = app.start(2);
        let before = proc::private_kib(running.pid());
        let length = 400_000_000;
        let head =
            format!("POST /mirror HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n");
        let mut stream = client::send(running.address(), &head);
        // Nobody reads what comes back, so not much of it is taken.
        let sent = send_until_full(&mut stream, length);
        assert!(sent < length / 4, "{sent} bytes are somewhere");
        assert!(proc::private_kib(running.pid()) <= before + BOUND_KIB);
    }
}

#[test]
fn d13_an_upload_to_a_worker_that_stands_still_is_not_absorbed() {
    for app in [App::new("bodies.js"), setup_worker(1), setup_worker(2)] {
        let Some(app) = app else { return };
        let running = app.start(1);
        let before = proc::private_kib(running.pid());
        let worker = running.pid_of(0);
        let length = 400_000_000;
        let head = format!("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n");
        let mut stream = client::send(running.address(), &head);
        proc::signal(worker, Signal::SIGSTOP);
        eventually("the worker is stopped", || proc::is_stopped(worker).then_some(()));
        let sent = send_until_full(&mut stream, length);
        assert!(sent < length / 4, "{sent} bytes are somewhere");
        assert!(proc::private_kib(running.pid()) <= before + BOUND_KIB);
        proc::signal(worker, Signal::SIGCONT);
    }
}

#[test]
fn d14_an_upload_may_take_longer_than_a_head() {
    let Some(app) = App::new("bodies.js") else { return };
    let running = app.env("HEADERS_TIMEOUT", "300").start(2);
    arrives(&running, 1_000_000, &json!({ "direction": "upload", "pauses": 100 }));
}

/// A descriptor that blocks would stop the whole worker here.
#[test]
fn a_slow_reader_never_blocks_its_worker() {
    for app in [App::new("bodies.js"), setup_worker(2)] {
        let Some(app) = app else { return };
        let running = app.start(1);
        let head = "POST /mirror HTTP/1.1\r\nHost: test\r\nContent-Length: 50000000\r\n\r\n";
        let mut stream = client::send(running.address(), head);
        send_until_full(&mut stream, 50_000_000);
        for _ in 0..10 {
            assert_eq!(reply::get(running.address(), "/").status, 200);
        }
    }
}

#[test]
fn a_connection_is_closed_for_its_client_when_the_worker_closes_it() {
    let Some(app) = App::new("bodies.js") else { return };
    let running = app.start(2);
    let mut kept = Kept::open(running.address());
    kept.write(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").expect("it is open");
    assert!(kept.reply().expect("an answer").closes());
    assert_eq!(kept.end().expect("it ends in order"), b"");
}
