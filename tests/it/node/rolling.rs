//! Rolling restarts and upgrades of Node servers under load: no request fails, and no session
//! notices them.

use std::cell::RefCell;
use std::io::{self, Read, Write};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::load::{Verdict, begin};
use crate::support::node::{App, Running};
use crate::support::programs::Client;
use crate::support::reply::{self, Kept, Session};
use crate::support::rolling::{Load, Served, mirror};
use crate::support::{client, connect, event, eventually, full, proc};

/// Workers of each supervisor here.
const WORKERS: u16 = 3;
/// Workers drain for as long as they have sessions, however many of them do.
const PATIENT: [&str; 4] = ["--drain-timeout", "none", "--max-draining", "64"];

/// So many restarts and as many upgrades.
fn rounds() -> u32 {
    if full() { 5 } else { 1 }
}

/// How many requests there are during all of it.
fn requests() -> u32 {
    if full() { 4_000 } else { 200 }
}

/// How many sessions last longer than all of it.
fn sessions() -> u32 {
    if full() { 40 } else { 4 }
}

/// The most important test has so many times as many requests and sessions.
const MANY: u32 = 5;

fn scene(flags: &[&str]) -> Option<Running> {
    Some(App::new("socketio.js")?.flags(&PATIENT).flags(flags).start(WORKERS))
}

/// Asks on a new connection; sometimes it is a session, from its handshake to its end.
fn visit(running: &Running, nth: u32) -> io::Result<Vec<Served>> {
    let address = running.address();
    if nth.is_multiple_of(50) {
        let session = Session::open(address);
        assert!(session.is_known(address));
        // The packet 1 ends it.
        assert_eq!(reply::post(address, &session.path(), b"1").status, 200);
    }
    let reply = Kept::over(connect(address)?).get("/")?;
    Ok(vec![reply.into()])
}

/// Ends the sessions, which lasted until now and kept the workers that they began on.
#[track_caller]
fn end(mut client: Client, workers: &[i32], sessions: u32, transport: &str) {
    let gone: Vec<_> = workers.iter().filter(|pid| !proc::is_alive(**pid)).collect();
    client.end_input();
    client.next::<Verdict>().assert_right(sessions, transport);
    assert!(gone.is_empty(), "{gone:?} have gone while they had sessions");
}

/// Restarts and upgrades, with requests in between.
fn restart_and_upgrade(running: &Running, load: &Load, requests: u32) {
    running.restart_and_upgrade(load, rounds(), requests / (2 * rounds()));
}

/// Whether requests go well during restarts and upgrades, and sessions by this transport that began
/// before and end after; and nothing is left.
#[track_caller]
fn goes_well(flags: &[&str], transport: &str, ends_on: &str, times: u32) {
    let Some(running) = scene(flags) else { return };
    let files = proc::open_files_at_rest(running.pid());
    let options = json!({ "transport": transport, "sessions": times * sessions(), "millis": null });
    let Some(client) = begin(&running, &options) else { return };
    client.next::<Value>();
    let first = running.worker_pids();
    let load = Load::during(
        |_, nth| visit(&running, nth),
        |load| restart_and_upgrade(&running, load, times * requests()),
    );
    load.assert_right(times * requests());
    end(client, &first, times * sessions(), ends_on);
    running.wait_for_workers(WORKERS.into(), files);
    running.expect_no_trouble();
}

#[test]
fn requests_and_sessions_by_polling_go_well() {
    goes_well(&[], "polling", "polling", MANY);
}

#[test]
fn requests_and_sessions_that_upgrade_go_well() {
    goes_well(&["--keep-alive", "handback"], "upgrade", "websocket", 1);
}

#[test]
fn requests_and_sessions_by_websocket_go_well() {
    goes_well(&["--balance", "round-robin"], "websocket", "websocket", 1);
}

#[test]
fn requests_go_well_by_address_in_slots() {
    let Some(running) = scene(&["--by", "ip", "--balance", "hash"]) else { return };
    let files = proc::open_files_at_rest(running.pid());
    let address = running.address();
    let visit = |client, nth: u32| {
        let [.., high, low] = nth.to_be_bytes();
        let source = std::net::Ipv4Addr::new(127, 30 + client, high, low);
        let ask = || Kept::over(client::connect_from(source.into(), address)?).get("/");
        let replies = [ask()?, ask()?];
        // No two live workers have one number, so a slot has several.
        assert_eq!(replies[0].slot() % WORKERS, replies[1].slot() % WORKERS);
        Ok(replies.map(Served::from).into())
    };
    let load = Load::during(visit, |load| restart_and_upgrade(&running, load, requests()));
    load.assert_right(requests());
    running.wait_for_workers(WORKERS.into(), files);
}

/// Each signal comes while the one before is still being carried out.
#[test]
fn requests_go_well_when_signals_come_in_the_middle_of_each_other() {
    let Some(running) = scene(&["--restart-parallel", "2"]) else { return };
    let files = proc::open_files_at_rest(running.pid());
    let load = Load::during(
        |_, nth| visit(&running, nth),
        |load| {
            running.restart_within_upgrades(load, rounds(), requests() / 10);
        },
    );
    load.assert_right(requests() / 10);
    running.wait_for_workers(WORKERS.into(), files);
}

/// A connection that is used all the time ends with an answer that says so, and never otherwise.
#[test]
fn connections_that_are_kept_end_in_order() {
    let Some(running) = scene(&[]) else { return };
    let files = proc::open_files_at_rest(running.pid());
    thread_local!(static KEPT: RefCell<Option<Kept>> = const { RefCell::new(None) });
    let address = running.address();
    let visit = |_, _| {
        let kept = KEPT.take();
        let mut kept = match kept {
            Some(kept) => kept,
            None => Kept::over(connect(address)?),
        };
        let reply = kept.get("/")?;
        if !reply.closes() {
            KEPT.set(Some(kept));
        }
        Ok(vec![reply.into()])
    };
    let load = Load::during(visit, |load| restart_and_upgrade(&running, load, requests()));
    load.assert_right(requests());
    running.wait_for_workers(WORKERS.into(), files);
}

/// Sessions on workers that were there before all of it end after it, on workers that go.
#[test]
fn requests_and_sessions_go_well_while_three_workers_become_six_and_then_two() {
    let Some(running) = scene(&[]) else { return };
    let options = json!({ "transport": "polling", "sessions": sessions(), "millis": null });
    let Some(client) = begin(&running, &options) else { return };
    client.next::<Value>();
    let first = running.worker_pids();
    let visit = |_, nth| visit(&running, nth);
    let load = Load::during(visit, |load| {
        for workers in 4..=6 {
            running.resize(Signal::SIGTTIN, workers);
            running.wait_event(event("worker_ready").worker(workers - 1));
            load.reaches(usize::from(workers));
            load.go_on(requests() / 10);
        }
        for workers in (2..=5).rev() {
            running.resize(Signal::SIGTTOU, workers);
            load.go_on(requests() / 10);
        }
        load.go_on(requests() / 3);
    });
    load.assert_right(requests());
    assert_eq!(load.workers(), 6);
    end(client, &first, sessions(), "polling");
    eventually("two workers", || (proc::children(running.pid()).len() == 2).then_some(()));
}

/// Workers are worn all the time, also those of sessions.
#[test]
fn requests_and_sessions_go_well_while_workers_are_recycled() {
    let limits = ["--max-lifetime", "4s", "--max-lifetime-connections", "400"];
    let Some(running) = scene(&limits) else { return };
    let options = json!({ "transport": "polling", "sessions": sessions(), "millis": null });
    let Some(client) = begin(&running, &options) else { return };
    client.next::<Value>();
    let first = running.worker_pids();
    let load = Load::during(
        |_, nth| visit(&running, nth),
        |load| {
            load.go_on(requests());
            running.wait_events("worker_recycled", 3);
        },
    );
    load.assert_right(requests());
    end(client, &first, sessions(), "polling");
    eventually("the first are gone", || {
        first.iter().all(|pid| !proc::is_alive(*pid)).then_some(())
    });
}

/// An upload and a download that begin before all of it and end after.
#[test]
fn large_bodies_arrive_whole() {
    let Some(app) = App::new("bodies.js") else { return };
    let running = app.flags(&PATIENT).start(WORKERS);
    let first = running.worker_pids();
    let head = "POST /mirror HTTP/1.0\r\nHost: test\r\nContent-Length: 52428801\r\n\r\n!";
    let mut stream = client::send(running.address(), head);
    let mut answered = Vec::new();
    while !answered.ends_with(b"\r\n\r\n!") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("the beginning of an answer");
        answered.extend(byte);
    }
    mirror(stream, || {
        running.restart();
        running.upgrade();
        assert!(first.iter().any(|pid| proc::is_alive(*pid)), "its worker waits for it");
    });
    eventually("its worker ends", || first.iter().all(|pid| !proc::is_alive(*pid)).then_some(()));
}

#[test]
fn connections_that_the_supervisor_holds_go_over_with_an_upgrade() {
    let flags = ["--stall-timeout", "1h", "--head-timeout", "1h"];
    let Some(app) = App::new("socketio.js") else { return };
    let running = app.flags(&flags).start(2);
    let address = running.address();
    let session = Session::open(address);
    let files = proc::open_files_at_rest(running.pid());
    proc::signal(session.pid, Signal::SIGSTOP);
    eventually("the worker is stopped", || proc::is_stopped(session.pid).then_some(()));
    // The packet 6 means nothing and is answered by nothing.
    let path = session.path();
    let head = "HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: 1\r\n\r\n6";
    let post = format!("POST {path} {head}");
    let held: Vec<_> = (0..50).map(|_| client::send(address, &post)).collect();
    let begun: Vec<_> = (0..50).map(|_| client::send(address, "GET /?si")).collect();
    eventually("all are held", || (proc::open_files(running.pid()) >= files + 100).then_some(()));
    for _ in 0..3 {
        running.upgrade();
    }
    for mut stream in begun {
        stream.write_all(b"ze=1 HTTP/1.1\r\nHost: test\r\n\r\n").expect("it is open");
        let reply = Kept::over(stream).reply().expect("an answer");
        assert_ne!(reply.pid(), session.pid, "it is stopped");
    }
    proc::signal(session.pid, Signal::SIGCONT);
    for stream in held {
        let reply = Kept::over(stream).reply().expect("an answer");
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
    running.wait_for_workers(2, files);
}
