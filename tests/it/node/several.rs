//! More than one server in each worker, and more than one supervisor on a machine: none gets what is
//! for another.

use std::collections::BTreeSet;

use serde_json::json;

use super::load::{Verdict, begin_at, count};
use super::packages::setup_worker;
use crate::support::node::{App, Port};
use crate::support::reply::{self, Session};

/// `setupWorker` for a second server has every connection given to both. Servers that listen, each
/// on an address of its own, have their own connections and sessions.
#[test]
fn d21_two_servers_of_one_worker_have_each_its_own_sessions() {
    let Some(app) = App::new("two.js") else { return };
    let other = Port::free();
    let app = app.env("OTHER_PORT", &other.number.to_string());
    let running = app.flags(&["-b", "round-robin"]).start(3);
    let other = format!("http://{}", other.address());
    let clients = [(running.url(), "/one/"), (other, "/two/")].map(|(url, path)| {
        // Polling alone, since each request could find the other server.
        begin_at(&url, &json!({ "transport": "polling", "path": path }))
    });
    let mut workers = BTreeSet::new();
    for client in clients.into_iter().flatten() {
        client.next::<serde_json::Value>();
        let verdict = client.next::<Verdict>();
        // What the others wait for may fill one worker meanwhile.
        verdict.assert_undisturbed(count(), "polling");
        workers.extend(verdict.greetings.into_keys());
    }
    assert_eq!(workers.len(), 3, "{workers:?}");
}

/// All workers of one cluster are one pool to the package, whichever app they are of.
#[test]
fn d24_two_supervisors_side_by_side_serve_each_its_own_clients_alone() {
    for app in [|| App::new("socketio.js"), || setup_worker(1), || setup_worker(2)] {
        let (Some(one), Some(two)) = (app(), app()) else { return };
        let (one, two) = (one.start(2), two.start(2));
        for (running, stranger) in [(&one, &two), (&two, &one)] {
            let own = running.worker_pids();
            for _ in 0..10 {
                assert!(own.contains(&reply::get(running.address(), "/").pid()));
                let session = Session::open(running.address());
                assert!(own.contains(&session.pid));
                assert!(session.is_known(running.address()));
                assert!(!session.is_known(stranger.address()), "nobody there has opened it");
            }
        }
    }
}
