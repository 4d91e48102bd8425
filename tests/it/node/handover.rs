//! What becomes of connections when their worker is in trouble on the way, leaves, or does not tell
//! about them.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;

use super::load::talk;
use crate::support::node::{self, App, Running};
use crate::support::reply::{self, Kept};
use crate::support::{client, event, eventually, full, proc, programs};

const ANY: &str = "GET / HTTP/1.1\r\nHost: test\r\n\r\n";

/// Heads that are handed back and what adapters say to each other share the channels, in both
/// directions and in pieces larger than a worker may be sent unheard.
#[test]
fn requests_are_handed_back_beside_large_broadcasts() {
    let Some(app) = App::new("socketio.js") else { return };
    let app = app.env("ADAPTER", "@socket.io/cluster-adapter");
    let running = app.flags(&["--keep-alive", "handback"]).start(3);
    let (sessions, millis) = (60, 2000);
    let load = json!({
        "transport": "polling", "agent": "shared", "broadcasts": true,
        "sessions": sessions, "millis": millis,
    });
    let Some(verdict) = talk(&running, &load) else { return };
    verdict.assert_right(sessions, "polling");
    verdict.assert_heard(sessions);
    assert_eq!(running.count_events("worker_stalled"), 0, "{}", running.log());
}

/// A worker that waits for the answer to a descriptor says nothing else, not even that it has taken
/// those which it is sent; and the answer must not wait for that.
#[test]
fn a_worker_that_sends_a_descriptor_while_it_is_sent_some_goes_on() {
    let Some(app) = App::new("gives.js") else { return };
    let running = app.flags(&["--by", "none", "-b", "round-robin"]).start(2);
    let [mut giver, mut other] = one_of_each(&running);
    giver.send("GET", "/give?ms=1000", b"").expect("it is open");
    // The worker stands still from now on.
    assert_eq!(giver.reply_without_body().expect("a head").status, 200);
    let ask = |count| (0..count).map(|_| client::send(running.address(), ANY)).collect::<Vec<_>>();
    let mut clients = ask(3);
    assert_eq!(other.get("/shout?length=40000").expect("an answer").status, 200);
    clients.extend(ask(4));
    for client in clients {
        assert_eq!(Kept::over(client).reply().expect("an answer").status, 200);
    }
    let mut served = BTreeMap::new();
    for _ in 0..8 {
        *served.entry(reply::get(running.address(), "/").pid()).or_insert(0) += 1;
    }
    assert_eq!(served.len(), 2, "both are there for new clients");
}

/// A kept connection to each of two workers.
fn one_of_each(running: &Running) -> [Kept; 2] {
    let mut open = BTreeMap::new();
    let mut both = || {
        let mut kept = Kept::open(running.address());
        let pid = kept.get("/").expect("an answer").pid();
        open.insert(pid, kept);
        (open.len() == 2).then_some(())
    };
    eventually("both serve", &mut both);
    let mut kept = open.into_values();
    [kept.next().expect("the first"), kept.next().expect("the second")]
}

/// The client whose connections the app cannot stand.
const POISON: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 66);

/// Lets a client in that ends so many of three workers, and looks whether the others are served.
#[track_caller]
fn poison(kind: &str, flags: &[&str], deaths: usize) {
    let Some(app) = App::new("poison.js") else { return };
    let app = app.env("KIND", kind).env("POISON", &POISON.to_string());
    let running = app.flags(flags).start(3);
    let mut poison =
        client::connect_from(IpAddr::V4(POISON), running.address()).expect("a connection");
    poison.write_all(ANY.as_bytes()).expect("room for a request");
    let heard = Kept::over(poison).end().unwrap_or_default();
    assert_eq!(heard, b"", "{kind}: it is closed or reset");
    // It is gone, so no other worker meets it.
    running.wait_events("worker_ready", 3 + deaths);
    assert_eq!(running.count_events("worker_started"), 3 + deaths, "{kind}: {}", running.log());
    assert_eq!(running.count_log("Error: poisoned"), deaths, "{kind}: {}", running.log());
    let mut client = Kept::open(running.address());
    client.write(ANY.as_bytes()).expect("it is open");
    if kind == "tcp" {
        assert!(String::from_utf8_lossy(&client.end().expect("a greeting")).contains("pid="));
    } else {
        assert_eq!(client.reply().expect("an answer").status, 200);
    }
}

#[test]
fn a_connection_that_an_app_cannot_stand_ends_one_worker() {
    poison("tcp", &[], 1);
    poison("http", &["--by", "none"], 1);
}

#[test]
fn a_connection_that_ends_workers_before_they_say_that_they_have_it_is_closed() {
    poison("emit", &["--by", "none"], 3);
}

/// Servers that speak first have clients who do not; the preload would say which ones they are.
#[test]
fn without_the_preload_a_silent_client_is_greeted_in_the_end() {
    let Some(app) = App::new("greets.js") else { return };
    let running = app.flags(&["--no-node-preload", "--head-timeout", "1s"]).start(1);
    let heard = Kept::open(running.address()).end().expect("a greeting");
    assert!(String::from_utf8_lossy(&heard).contains("pid="), "{heard:?}");
}

/// How many of some clients, each with an address of its own, the workers in each slot serve.
fn spread(running: &Running, clients: u8) -> BTreeMap<u16, u32> {
    let mut served = BTreeMap::new();
    for last in 1..=clients {
        let source = Ipv4Addr::new(127, 0, 77, last);
        let slot = reply::get_from(source.into(), running.address(), "/").slot();
        *served.entry(slot).or_insert(0) += 1;
    }
    served
}

/// Nobody tells that a connection is over without the preload, so one that has arrived counts no more.
#[test]
fn without_the_preload_a_worker_with_a_past_gets_its_share() {
    let Some(app) = App::new("death.js") else { return };
    let running = app.flags(&["--no-node-preload", "--by", "ip"]).start(3);
    let busy = reply::get(running.address(), "/").slot();
    for _ in 0..150 {
        assert_eq!(reply::get(running.address(), "/").slot(), busy, "it is one client");
    }
    let served = spread(&running, 60);
    assert!(served.get(&busy).is_some_and(|count| *count >= 10), "{served:?}, {busy} was busy");
}

#[test]
fn without_the_preload_a_worker_that_is_new_gets_its_share_and_not_everything() {
    if !full() {
        // It takes long, and the one before fails likewise.
        return;
    }
    let Some(app) = App::new("death.js") else { return };
    let running = app.flags(&["--no-node-preload", "--by", "none"]).start(3);
    for _ in 0..300 {
        assert_eq!(reply::get(running.address(), "/").status, 200);
    }
    proc::signal(running.pid_of(1), Signal::SIGKILL);
    running.wait_events(event("worker_ready").worker(1), 2);
    // What a new worker is spared at first is over.
    proc::watch(Duration::from_secs(11));
    let served = spread(&running, 60);
    assert!(served.get(&1).is_some_and(|count| (8..=32).contains(count)), "{served:?}");
}

/// A script that runs one Node and then another has both on one channel. The second one has booted
/// long before it listens.
#[test]
fn clients_that_come_between_two_nodes_of_one_worker_are_served_by_the_second() {
    let Some(app) = App::new("death.js") else { return };
    let Some(binary) = node::binary() else { return };
    let script = node::scratch("twice").join("server");
    let run = format!("{binary} {}/tests/node/apps/death.js\n", programs::ROOT);
    fs::write(&script, format!("#!/bin/sh\n{run}WAY=late {run}"))
        .expect("target can be written to");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("it is ours");
    let words = [script.to_str().expect("its path is text")];
    let running = app.command(&words).flags(&["--handoff", "node"]).start(1);
    let first = reply::get(running.address(), "/exit").pid();
    eventually("the first one is gone", || (!proc::is_alive(first)).then_some(()));
    let clients: Vec<_> = (0..20).map(|_| client::send(running.address(), ANY)).collect();
    for client in clients {
        let answer = Kept::over(client).reply().expect("an answer");
        assert_eq!(answer.status, 200);
        assert_ne!(answer.pid(), first);
    }
    assert_eq!(running.count_events("connection_dropped"), 0, "{}", running.log());
    assert_eq!(running.count_events("worker_started"), 1, "it is one worker");
}

/// An app that closes its server when it is asked to end hears that it is closed, whoever closed it,
/// and when its connections are over.
#[test]
fn an_app_that_closes_its_server_at_a_stop_is_told_no_error() {
    for way in ["callback", "promise", "inherited", "event"] {
        let Some(app) = App::new("shutdown.js") else { return };
        let mut running = app.env("WAY", way).start(2);
        let mut slow = Kept::open(running.address());
        slow.send("GET", "/?ms=400", b"").expect("it is open");
        // It is with its worker when a later one is answered.
        assert_eq!(reply::get(running.address(), "/").status, 200);
        running.signal(Signal::SIGTERM);
        assert_eq!(slow.reply().expect("an answer").status, 200, "{way}");
        assert_eq!(running.wait().code(), Some(0), "{way}");
        let log = running.whole_log();
        assert_eq!(log.matches("closed: well").count(), 2, "{way}: {log}");
        assert!(!log.contains("ERR_SERVER_NOT_RUNNING"), "{way}: {log}");
    }
}
