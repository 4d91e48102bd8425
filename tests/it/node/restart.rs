//! Rolling restarts of Node servers: no client notices them.

use std::collections::BTreeSet;
use std::os::unix::net::UnixStream;

use nix::sys::signal::Signal;
use serde_json::json;

use super::load::{Verdict, begin, count};
use crate::support::node::{self, App, Running};
use crate::support::reply::{self, Kept, Session};
use crate::support::{client, eventually, proc};

/// A restart whose workers are all new in the end, and those of before gone.
#[track_caller]
fn restart(running: &Running) {
    let before: BTreeSet<i32> = proc::children(running.pid()).into_iter().collect();
    proc::signal(running.pid(), Signal::SIGHUP);
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
        let options = json!({ "transport": transport, "millis": 4_000 });
        let Some(client) = begin(&running, &options) else { return };
        client.next::<serde_json::Value>();
        restart(&running);
        let verdict: Verdict = client.next();
        verdict.assert_right(count(), transport);
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
