//! Workers that were written for the packages: unmodified, and given their connections in the way
//! that they know.

use std::collections::BTreeSet;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::load::{self, Verdict, count, talk};
use crate::support::node::App;
use crate::support::{proc, reply};

/// A worker of this major version of `@socket.io/sticky`, with the adapter of its time.
pub(super) fn setup_worker(version: u8) -> Option<App> {
    let (package, adapter) = match version {
        1 => ("sticky-1", "cluster-adapter-0.2"),
        _ => ("@socket.io/sticky", "@socket.io/cluster-adapter"),
    };
    let app = App::new("setup-worker.js")?;
    Some(app.env("STICKY", package).env("ADAPTER", adapter).listening())
}

/// Sessions, broadcasts and the adapter's questions over workers of this version.
fn sessions_go_well(version: u8, transport: &str) {
    let Some(app) = setup_worker(version) else { return };
    let running = app.start(3);
    let options = json!({ "transport": transport, "broadcasts": true, "cluster": true });
    let Some(verdict) = talk(&running, &options) else { return };
    verdict.assert_right(count(), if transport == "upgrade" { "websocket" } else { transport });
    verdict.assert_heard(count());
    verdict.assert_one_cluster(count());
}

#[test]
fn setup_worker_1_serves_sessions_by_polling() {
    sessions_go_well(1, "polling");
}

#[test]
fn setup_worker_1_serves_sessions_that_upgrade() {
    sessions_go_well(1, "upgrade");
}

#[test]
fn setup_worker_2_serves_sessions_by_polling() {
    sessions_go_well(2, "polling");
}

#[test]
fn setup_worker_2_serves_sessions_that_upgrade() {
    sessions_go_well(2, "upgrade");
}

#[test]
fn setup_worker_2_serves_sessions_by_websocket() {
    sessions_go_well(2, "websocket");
}

#[test]
fn a_worker_of_a_package_can_be_named_when_it_cannot_be_noticed() {
    let flags = ["--no-node-preload", "--node-package", "sticky", "--by", "ip"];
    for version in [1, 2] {
        let Some(app) = setup_worker(version) else { return };
        let running = app.flags(&flags).start(3);
        let options = json!({ "addresses": true });
        let Some(verdict) = talk(&running, &options) else { return };
        verdict.assert_right(count(), "websocket");
    }
}

#[test]
fn a_killed_worker_of_the_package_takes_only_its_own_sessions_with_it() {
    let Some(app) = setup_worker(2) else { return };
    let running = app.flags(&["-b", "round-robin"]).start(3);
    let options = json!({ "cluster": true, "upgraded": true });
    let Some(load) = load::begin(&running, &options) else { return };
    load.next::<Value>();
    let killed = running.pid_of(0);
    proc::signal(killed, Signal::SIGKILL);
    let verdict: Verdict = load.next();
    verdict.assert_accounted_for();
    assert_eq!(verdict.errors, Vec::<String>::new(), "{verdict:?}");
    let killed = killed.to_string();
    assert_eq!(verdict.disconnects.keys().collect::<Vec<_>>(), [&killed], "{verdict:?}");
    assert_eq!(verdict.disconnects, verdict.reconnected, "{verdict:?}");
    // The adapters of the others were told that it is gone, so that none waits for its answer.
    verdict.assert_adapter_answers(count());
}

#[test]
fn a_worker_of_sticky_session_keeps_its_clients() {
    let Some(app) = App::new("sticky-session.js") else { return };
    let running = app.listening().flags(&["--by", "ip"]).start(4);
    let address = running.address();
    let mut workers = BTreeSet::new();
    for nth in 1..40 {
        let source = ([127, 0, 3, nth]).into();
        let first = reply::get_from(source, address, "/").pid();
        for _ in 0..3 {
            assert_eq!(reply::get_from(source, address, "/").pid(), first);
        }
        workers.insert(first);
    }
    assert_eq!(workers.len(), 4);
}

#[test]
fn an_app_that_listens_itself_may_use_the_listeners_address() {
    let Some(app) = App::new("socketio.js") else { return };
    let running = app.listening().start(3);
    assert_eq!(running.addresses(), [running.address()], "one listener, not two");
    let Some(verdict) = talk(&running, &json!({})) else { return };
    verdict.assert_right(count(), "websocket");
}
