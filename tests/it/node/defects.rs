//! The defects of `@socket.io/sticky` 1.0.4 and 2.0.1 that a supervisor can have, each under the
//! number that our research gave it. D5, D6, D13 and D14 are in `bodies.rs`, D7, D8 and D11 in
//! `keepalive.rs`, D20 in `listen.rs`, D21 and D24 in `several.rs`, D25 and D26 in `slow.rs`. Only D23
//! is nowhere: it is about the types that the package comes with.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde::Deserialize;
use serde_json::json;

use super::packages::setup_worker;
use crate::support::node::{App, Running};
use crate::support::reply::{self, Kept, Session};
use crate::support::{client, event, eventually, full, one_of_three, proc, programs};

/// A request that any worker can answer.
const ANY: &str = "GET / HTTP/1.1\r\nHost: test\r\n\r\n";

fn plain() -> Option<App> {
    App::new("socketio.js")
}

/// What `tests/clients/handshakes.js` saw.
#[derive(Debug, Deserialize)]
struct Handshakes {
    done: u32,
    statuses: BTreeMap<u16, u32>,
    errors: Vec<String>,
}

/// Handshakes by so many clients at once, each followed by its next request 0 ms later. The packages
/// answer one in twenty wrongly.
fn d01(app: Option<App>, clients: u32) {
    let Some(app) = app else { return };
    let running = app.start(4);
    let count = if full() { 300 } else { 100 };
    let arguments = json!({ "url": running.url(), "handshakes": count, "clients": clients });
    let Some(client) = programs::node("handshakes.js", &arguments) else { return };
    let seen: Handshakes = client.next();
    assert_eq!(seen.errors, Vec::<String>::new());
    assert_eq!((seen.done, seen.statuses.keys().collect::<Vec<_>>()), (count, vec![&200]));
}

#[test]
fn d01_a_request_right_after_its_handshake_finds_its_worker_for_plain_servers() {
    d01(plain(), 1);
}

#[test]
fn d01_sixteen_at_once_find_their_workers_for_plain_servers() {
    d01(plain(), 16);
}

#[test]
fn d01_a_request_right_after_its_handshake_finds_its_worker_for_setup_worker_1() {
    d01(setup_worker(1), 1);
}

#[test]
fn d01_sixteen_at_once_find_their_workers_for_setup_worker_1() {
    d01(setup_worker(1), 16);
}

#[test]
fn d01_a_request_right_after_its_handshake_finds_its_worker_for_setup_worker_2() {
    d01(setup_worker(2), 1);
}

#[test]
fn d01_sixteen_at_once_find_their_workers_for_setup_worker_2() {
    d01(setup_worker(2), 16);
}

#[test]
fn d02_a_request_line_that_is_cut_inside_its_sid_reaches_the_sessions_worker() {
    for app in [plain(), setup_worker(1), setup_worker(2)] {
        let Some(app) = app else { return };
        let running = app.flags(&["-b", "round-robin"]).start(3);
        let session = Session::open(running.address());
        for cut in [1, 5, 9, 10, 12, 15, 18, 19, 20] {
            let path = session.path();
            let (start, rest) = path.split_at(path.len() - cut);
            let mut kept = Kept::open(running.address());
            kept.write(format!("POST {start}").as_bytes()).expect("it is open");
            proc::watch(Duration::from_millis(30));
            let rest = format!("{rest} HTTP/1.1\r\nHost: test\r\nContent-Length: 1\r\n\r\n6");
            kept.write(rest.as_bytes()).expect("it is open");
            assert_eq!(kept.reply().expect("an answer").status, 200, "cut {cut} before its end");
        }
    }
}

#[test]
fn d03_a_parameter_whose_name_ends_in_sid_hides_nothing() {
    for app in [plain(), setup_worker(1), setup_worker(2)] {
        let Some(app) = app else { return };
        let running = app.flags(&["-b", "round-robin"]).start(3);
        let session = Session::open(running.address());
        let other = "A".repeat(20);
        for _ in 0..9 {
            let path =
                format!("/socket.io/?appsid={other}&EIO=4&transport=polling&sid={}", session.sid);
            assert_eq!(reply::post(running.address(), &path, b"6").status, 200);
        }
    }
}

#[test]
fn d04_ids_of_16_32_and_36_characters_are_as_good_as_those_of_20() {
    for (ids, length) in [("short", 16), ("hex", 32), ("uuid", 36), ("later", 36)] {
        let Some(app) = plain() else { return };
        let running = app.env("IDS", ids).flags(&["-b", "round-robin"]).start(3);
        let mut workers = BTreeSet::new();
        for _ in 0..20 {
            let session = Session::open(running.address());
            assert_eq!(session.sid.len(), length);
            assert!(session.is_known(running.address()));
            workers.insert(session.pid);
        }
        assert_eq!(workers.len(), 3, "{ids}");
    }
}

#[test]
fn d09_a_worker_that_dies_in_the_middle_of_a_body_takes_nobody_else_with_it() {
    for app in [plain(), setup_worker(1), setup_worker(2)] {
        let Some(app) = app else { return };
        let running = app.start(2);
        let session = Session::open(running.address());
        let mut upload = half_a_body(&running, &session);
        proc::signal(session.pid, Signal::SIGKILL);
        // The connection is the dead worker's: its next bytes go nowhere and hurt nobody.
        let _ = upload.write(&[b'x'; 500]);
        assert_eq!(reply::get(running.address(), "/").status, 200);
        running.wait_events("worker_ready", 3);
        assert_eq!(reply::get(running.address(), "/").status, 200);
    }
}

/// A request of this session whose body is half sent and half read.
fn half_a_body(running: &Running, session: &Session) -> Kept {
    let mut upload = Kept::open(running.address());
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: test\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n\r\n",
        session.path()
    );
    upload.write(head.as_bytes()).expect("it is open");
    // Its worker has the connection when it asks for the body.
    assert_eq!(upload.reply_without_body().expect("an answer").status, 100);
    upload.write(&[b'x'; 500]).expect("the worker reads");
    upload
}

#[test]
fn d12_a_client_whose_worker_dies_during_its_upload_hears_of_it() {
    for app in [plain(), setup_worker(1), setup_worker(2)] {
        let Some(app) = app else { return };
        let running = app.start(2);
        let session = Session::open(running.address());
        let upload = half_a_body(&running, &session);
        proc::signal(session.pid, Signal::SIGKILL);
        // The end of the connection, not an answer of another worker to what is left of the body.
        assert_eq!(upload.end().unwrap_or_default(), b"", "it is closed or reset");
    }
}

#[test]
fn d15_connections_of_a_worker_that_dies_before_it_picks_them_up_are_answered() {
    for app in [plain(), setup_worker(1), setup_worker(2)] {
        let Some(app) = app else { return };
        let running = app.flags(&["--stall-timeout", "1h"]).start(2);
        let session = Session::open(running.address());
        proc::signal(session.pid, Signal::SIGSTOP);
        eventually("the worker is stopped", || proc::is_stopped(session.pid).then_some(()));
        let own = format!("GET {} HTTP/1.1\r\nHost: test\r\n\r\n", session.path());
        let clients: Vec<_> = (0..20)
            .map(|nth| client::send(running.address(), if nth % 2 == 0 { &own } else { ANY }))
            .collect();
        proc::signal(session.pid, Signal::SIGKILL);
        for (nth, client) in clients.into_iter().enumerate() {
            let answer = Kept::over(client).reply().expect("an answer");
            // Nobody else knows the session, and Engine.IO says so at once.
            assert_eq!(answer.status, if nth % 2 == 0 { 400 } else { 200 });
        }
    }
}

#[test]
fn d16_plain_requests_are_spread_too() {
    for app in [plain(), setup_worker(1), setup_worker(2)] {
        let Some(app) = app else { return };
        let running = app.start(4);
        let mut served = BTreeMap::new();
        for _ in 0..100 {
            *served.entry(reply::get(running.address(), "/").pid()).or_insert(0) += 1;
        }
        assert_eq!(served.len(), 4, "{served:?}");
        assert!(served.values().all(|count| *count >= 10), "{served:?}");
    }
}

#[test]
fn d16_connections_that_stay_open_are_spread_evenly() {
    let Some(app) = App::new("http.js") else { return };
    let running = app.start(4);
    let mut served = BTreeMap::new();
    let mut open = Vec::new();
    for _ in 0..80 {
        let mut kept = Kept::open(running.address());
        *served.entry(kept.get("/").expect("an answer").slot()).or_insert(0) += 1;
        open.push(kept);
    }
    assert_eq!(served.len(), 4, "{served:?}");
    assert!(served.values().all(|count| (18..=22).contains(count)), "{served:?}");
}

#[test]
fn d17_two_hundred_connections_at_once_that_stay_open_are_spread_evenly() {
    for app in [|| App::new("http.js"), || setup_worker(1)] {
        if app().is_none() {
            return;
        }
        // A worker that is held up for too long is passed over.
        one_of_three(|| serve_stayers(&app().expect("there is Node").start(4)), is_even);
    }
}

/// How many of two hundred connections that come at once and stay open each slot serves.
fn serve_stayers(running: &Running) -> BTreeMap<u16, usize> {
    let address = running.address();
    let open = || {
        let mut kept = Kept::open(address);
        (kept.get("/").expect("an answer").slot(), kept)
    };
    let all: Vec<_> = thread::scope(|scope| {
        let clients: Vec<_> = (0..200).map(|_| scope.spawn(open)).collect();
        clients.into_iter().map(|client| client.join().expect("it is answered")).collect()
    });
    let mut served = BTreeMap::new();
    for (slot, _) in &all {
        *served.entry(*slot).or_insert(0) += 1;
    }
    served
}

/// Whether four workers have about the same.
fn is_even(served: &BTreeMap<u16, usize>) -> bool {
    served.len() == 4 && served.values().all(|count| (44..=56).contains(count))
}

/// A handshake is over at once, so most go to whoever has a processor just then; but a herd, which is
/// all of them, would be something else.
#[test]
fn d17_two_hundred_handshakes_at_once_are_no_herd() {
    for app in [plain(), setup_worker(1), setup_worker(2)] {
        let Some(app) = app else { return };
        let running = app.start(4);
        let address = running.address();
        let sids: Vec<String> = thread::scope(|scope| {
            let clients = (0..200).map(|_| scope.spawn(|| reply::handshake(address)));
            let clients: Vec<_> = clients.collect();
            clients.into_iter().map(|client| client.join().expect("a handshake")).collect()
        });
        let mut sessions = BTreeMap::new();
        for sid in sids {
            *sessions.entry(worker_of(&running, &sid)).or_insert(0) += 1;
        }
        assert_eq!(sessions.len(), 4, "{sessions:?}");
        assert!(sessions.values().all(|count| (2..=160).contains(count)), "{sessions:?}");
    }
}

/// The worker in which a session lives that has not said hello to Socket.IO yet.
#[track_caller]
fn worker_of(running: &Running, sid: &str) -> i32 {
    Session::greet(running.address(), sid.to_owned()).pid
}

#[test]
fn d17_a_respawned_worker_gets_its_share_and_not_everything() {
    let Some(app) = plain() else { return };
    let running = app.start(4);
    let sessions: Vec<_> = (0..40).map(|_| Session::open(running.address())).collect();
    proc::signal(running.pid_of(1), Signal::SIGKILL);
    running.wait_events(event("worker_ready").worker(1), 2);
    let newest = running.pid_of(1);
    let later: Vec<_> = (0..40).map(|_| Session::open(running.address()).pid).collect();
    let of_newest = later.iter().filter(|pid| **pid == newest).count();
    assert!((5..=35).contains(&of_newest), "{of_newest} of 40 went to the new worker");
    drop(sessions);
}

#[test]
fn d18_a_misspelt_balance_is_a_usage_error() {
    let Some(app) = App::new("http.js") else { return };
    let mut running = app.flags(&["--balance", "least-conection"]).spawn(2);
    assert_eq!(running.wait().code(), Some(2));
    let log = running.whole_log();
    assert!(log.contains("least-conection") && log.contains("least-connection"), "{log}");
}

#[test]
fn d19_clients_that_come_while_no_worker_is_ready_are_answered_by_the_first_that_is() {
    let Some(app) = setup_worker(2) else { return };
    let running = app.start(2);
    for slot in 0..2 {
        proc::signal(running.pid_of(slot), Signal::SIGKILL);
    }
    let clients: Vec<_> = (0..10).map(|_| client::send(running.address(), ANY)).collect();
    for client in clients {
        assert_eq!(Kept::over(client).reply().expect("an answer").status, 200);
    }
}

#[test]
fn d22_an_app_sees_a_real_socket_with_its_own_addresses() {
    for version in [1, 2] {
        let Some(app) = setup_worker(version) else { return };
        let port = app.port();
        let on_v6 = format!("[::1]:{port}");
        let running = app.flags(&["--listen", &on_v6]).start(2);
        let six = on_v6.parse().expect("an address");
        for (address, family) in [(running.address(), "IPv4"), (six, "IPv6")] {
            // Without a body, and with one, for which version 2 makes up a socket.
            for answer in [reply::get(address, "/socket"), reply::post(address, "/socket", b"x")] {
                assert_eq!(answer.value("real"), "true");
                assert_eq!(answer.value("family"), family);
            }
        }
    }
}
