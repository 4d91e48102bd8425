//! More than one server in each worker, and more than one supervisor on a machine: none gets what is
//! for another.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use serde_json::json;

use super::load::{Verdict, begin_at, count};
use super::packages::setup_worker;
use crate::support::node::{self, App, Port};
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

/// A port does not tell servers apart that listen on several addresses or Unix sockets.
#[test]
fn a_connection_that_is_handed_back_stays_with_the_server_that_it_came_to() {
    let Some(app) = App::new("listeners.js") else { return };
    let scratch = node::scratch("several");
    let paths = [scratch.join("one.sock"), scratch.join("two.sock")];
    let hosts = [("127.0.0.1", app.port()), ("127.0.0.2", app.port())];
    let list = json!([
        { "name": "path-0", "path": paths[0], "keep": true },
        { "name": "path-1", "path": paths[1], "keep": true },
        { "name": "host-0", "host": hosts[0].0, "port": hosts[0].1, "keep": true },
        { "name": "host-1", "host": hosts[1].0, "port": hosts[1].1, "keep": true },
    ]);
    let app = app.env("LISTEN", &list.to_string());
    let running = app.flags(&["--by", "query:k", "-b", "round-robin"]).start(2);
    for i in 0..2 {
        running.wait_for_log_times(&format!("listener path-{i} "), 2);
        let stream = UnixStream::connect(&paths[i]).expect("it listens");
        let path = stays_with(stream, &format!("path-{i}"));
        running.wait_for_log_times(&format!("listener host-{i} "), 2);
        let stream = TcpStream::connect(hosts[i]).expect("it listens");
        assert_eq!((path, stays_with(stream, &format!("host-{i}"))), (2, 2), "all workers");
    }
}

/// Sends requests of many clients, and returns how many workers answer as this listener.
#[track_caller]
fn stays_with(mut stream: impl Read + Write, name: &str) -> usize {
    let requests = (0..8).map(|k| {
        let last = if k == 7 { "Connection: close\r\n" } else { "" };
        format!("GET /?k={name}{k} HTTP/1.1\r\nHost: test\r\n{last}\r\n")
    });
    stream.write_all(requests.collect::<String>().as_bytes()).expect("it is open");
    let mut answers = String::new();
    stream.read_to_string(&mut answers).expect("it ends in order");
    assert_eq!(answers.matches(&format!("listener={name}\n")).count(), 8, "{answers}");
    let slots = answers.lines().filter(|line| line.starts_with("slot="));
    slots.collect::<BTreeSet<_>>().len()
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
