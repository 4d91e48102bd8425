//! Rolling restarts of Node servers: no client notices them.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::sys::signal::Signal;
use serde_json::json;
use tempfile::TempDir;

use super::load::{Verdict, begin, count};
use crate::support::node::{self, App, Port, Running};
use crate::support::reply::{self, Kept, Session};
use crate::support::{client, event, eventually, proc};

/// A restart whose workers are all new in the end, and those of before gone.
#[track_caller]
fn restart(running: &Running) {
    restart_during(running, || ());
}

/// Likewise, while this goes on.
#[track_caller]
fn restart_during(running: &Running, meanwhile: impl FnOnce()) {
    let before: BTreeSet<i32> = proc::children(running.pid()).into_iter().collect();
    proc::signal(running.pid(), Signal::SIGHUP);
    meanwhile();
    eventually("all workers are new", || {
        let now: BTreeSet<i32> = proc::children(running.pid()).into_iter().collect();
        (now.is_disjoint(&before) && now.len() == before.len()).then_some(())
    });
}

#[test]
fn sessions_of_socket_io_outlive_a_rolling_restart_undisturbed() {
    for (transport, mode) in [("polling", "handback"), ("websocket", "close")] {
        let Some(app) = App::new("socketio.js") else { return };
        let running = app.flags(&["--keep-alive", mode, "--drain-timeout", "60s"]).start(3);
        let options = json!({ "transport": transport, "millis": null });
        let Some(mut client) = begin(&running, &options) else { return };
        client.next::<serde_json::Value>();
        restart_during(&running, || {
            running.wait_events("worker_ready", 6);
            client.end_input();
            client.next::<Verdict>().assert_right(count(), transport);
        });
    }
}

#[test]
fn a_worker_without_sessions_is_replaced_at_once_and_its_kept_connections_end_in_order() {
    let Some(app) = App::new("socketio.js") else { return };
    let running = app.flags(&["--drain-timeout", "60s"]).start(2);
    let mut kept = Kept::open(running.address());
    kept.get("/").expect("an answer");
    restart(&running);
    assert_eq!(kept.end().expect("it ends in order"), b"");
    assert_eq!(reply::get(running.address(), "/").status, 200);
}

#[test]
fn a_session_stays_with_its_worker_until_it_ends_and_no_two_live_workers_have_one_number() {
    let Some(app) = App::new("socketio.js") else { return };
    let running = app.flags(&["--drain-timeout", "60s"]).start(1);
    let session = Session::open(running.address());
    proc::signal(running.pid(), Signal::SIGHUP);
    let other = eventually("the successor serves", || {
        let answer = reply::get(running.address(), "/");
        (answer.pid() != session.pid).then_some(answer)
    });
    assert_eq!(other.slot(), 1, "{}", other.text());
    assert!(session.is_known(running.address()));
    // The packet 1 ends it.
    reply::post(running.address(), &session.path(), b"1");
    eventually("its worker ends", || (!proc::is_alive(session.pid)).then_some(()));
    assert_eq!(reply::get(running.address(), "/").pid(), other.pid());
}

#[test]
fn a_unix_socket_that_each_worker_makes_anew_is_there_after_a_restart() {
    let directory = node::scratch("restart");
    let path = directory.join("socket");
    let Some(app) = App::new("unix.js") else { return };
    let running = app.env("SOCKET", path.to_str().expect("it is text")).start(2);
    for _ in 0..3 {
        restart(&running);
        let mut stream = UnixStream::connect(&path).expect("it is listened on");
        std::io::Write::write_all(&mut stream, b"GET / HTTP/1.0\r\n\r\n").unwrap();
        client::read_answer(&mut stream).expect("an answer");
    }
}

/// One worker with a server at a port of its own and, later, one at another; where that is. There
/// is no such server while there is this file.
fn with_a_late_server(unless: &Path) -> Option<(Running, Port)> {
    let (app, other) = (App::new("late.js")?, Port::free());
    let app = app.env("OTHER_PORT", &other.number.to_string());
    let running = app.env("NOT", unless.to_str().expect("its path is text")).start(1);
    running.wait_events("listening", 2);
    Some((running, other))
}

#[test]
fn clients_of_a_server_that_opens_late_wait_for_it() {
    let Some((running, other)) = with_a_late_server(Path::new("/nowhere")) else { return };
    let address = other.address();
    let before = reply::get(address, "/").pid();
    proc::signal(running.pid(), Signal::SIGHUP);
    eventually("the successor serves", || (reply::get(address, "/").pid() != before).then_some(()));
    assert_eq!(running.count_events("listening"), 2, "{}", running.log());
}

/// Its worker had it, and the one after that has not.
#[track_caller]
fn a_port_is_closed_after(replace: impl Fn(&Running)) {
    let directory = TempDir::new().expect("a directory of our own");
    let unless = directory.path().join("not");
    let Some((running, other)) = with_a_late_server(&unless) else { return };
    fs::write(&unless, "").expect("it is ours");
    replace(&running);
    running.wait_event(
        event("listener_closed").with("address", format!("127.0.0.1:{}", other.number)),
    );
    assert_eq!(reply::get(running.address(), "/").status, 200);
}

#[test]
fn a_port_that_no_worker_asks_for_any_more_is_closed() {
    a_port_is_closed_after(|running| proc::signal(running.pid(), Signal::SIGHUP));
}

#[test]
fn a_port_that_no_worker_asks_for_after_a_crash_is_closed() {
    a_port_is_closed_after(|running| proc::signal(running.pid_of(0), Signal::SIGKILL));
}

#[test]
fn an_app_that_looks_whether_its_port_is_free_finds_it_free() {
    let Some(app) = App::new("moves.js") else { return };
    let running = app.start(1);
    restart(&running);
    running.resize(Signal::SIGTTIN, 2);
    running.wait_event(event("worker_ready").worker(1));
    assert_eq!(reply::get(running.address(), "/").status, 200);
    assert_eq!(running.count_events("listening"), 1, "{}", running.log());
}

#[test]
fn a_restart_fails_whose_workers_listen_elsewhere() {
    let directory = TempDir::new().expect("a directory of our own");
    let moved = directory.path().join("moved");
    let Some(app) = App::new("moves.js") else { return };
    let running = app.env("MOVED", moved.to_str().expect("its path is text")).start(1);
    let before = running.pid_of(0);
    fs::write(&moved, "").expect("it is ours");
    running.signal(Signal::SIGHUP);
    running.wait_event(event("restart_failed").worker(0));
    let moved = event("worker_elsewhere").worker(0);
    running.wait_event(moved.saying(&format!("no longer on {}", running.address())));
    assert_eq!(reply::get(running.address(), "/").pid(), before);
}
