//! What of an app's own runs at the end of its worker, and how soon it ends.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde::Deserialize;
use serde_json::json;

use crate::support::node::{self, App, Running};
use crate::support::reply::Kept;
use crate::support::{eventually, proc};

/// Much less than the grace, in which a worker is waited for that does nothing.
const SOON: Duration = Duration::from_secs(8);

/// Why workers end.
#[derive(Clone, Copy, Debug)]
enum End {
    Stop,
    Restart,
    Fewer,
}

/// What an app with this `WAY` says when its worker ends.
fn last_words(way: &str) -> &'static [&'static str] {
    match way {
        "close" => &["TERM", "closed", "exit"],
        "exit" => &["TERM", "flushed", "exit"],
        _ => &["disconnect", "flushed", "exit"],
    }
}

/// Ends workers in this way and waits until they have.
fn end(running: &mut Running, end: End) -> Vec<i32> {
    let all = running.worker_pids();
    let signal = match end {
        End::Stop => Signal::SIGTERM,
        End::Restart => Signal::SIGHUP,
        End::Fewer => Signal::SIGTTOU,
    };
    running.signal(signal);
    let ended = match end {
        End::Stop => {
            assert_eq!(running.wait().code(), Some(0));
            all
        }
        End::Restart => all,
        End::Fewer => all[1..].to_vec(),
    };
    eventually("they have ended", || ended.iter().all(|pid| !proc::is_alive(*pid)).then_some(()));
    ended
}

/// Whether each worker that ended in this way has said what its app says, soon.
#[track_caller]
fn runs_everything(way: &str, how: End, flags: &[&str], open: fn(&Running) -> Option<Kept>) {
    let Some(app) = App::new("ends.js") else { return };
    let workers = if matches!(how, End::Fewer) { 2 } else { 1 };
    let mut running = app.env("WAY", way).flags(flags).start(workers);
    let mut idle = Kept::open(running.address());
    idle.get("/").expect("an answer");
    let open = open(&running);
    let begun = Instant::now();
    let ended = end(&mut running, how);
    let took = begun.elapsed();
    drop((idle, open));
    for pid in ended {
        for word in last_words(way) {
            let said = format!("said: {word} {pid}");
            running.wait_for_log(&said);
            assert_eq!(running.count_log(&said), 1, "{way} {how:?}");
        }
    }
    assert!(took < SOON, "{way} {how:?}: {took:?}");
    assert_eq!(running.kills(), 0, "{way} {how:?}");
}

#[test]
fn all_that_an_app_has_for_its_end_runs_and_idle_connections_do_not_delay_it() {
    for way in ["close", "exit", "none", "passed-on"] {
        runs_everything(way, End::Stop, &[], |_| None);
        runs_everything(way, End::Restart, &[], |_| None);
    }
    runs_everything("close", End::Fewer, &[], |_| None);
}

/// A stream that its server never ends.
fn stream(running: &Running) -> Option<Kept> {
    let mut kept = Kept::open(running.address());
    kept.send("GET", "/stream", b"").expect("it is open");
    assert_eq!(kept.reply_without_body().expect("its head").status, 200);
    Some(kept)
}

#[test]
fn all_of_it_runs_with_a_stream_open_too() {
    runs_everything("exit", End::Stop, &[], stream);
    for way in ["exit", "none"] {
        runs_everything(way, End::Restart, &["--drain-timeout", "200ms"], stream);
    }
    // Nobody but the grace ends this one.
    runs_everything("none", End::Stop, &["--grace", "2s"], stream);
}

#[test]
fn a_worker_with_something_else_in_its_loop_ends_soon_too() {
    let Some(app) = App::new("ends.js") else { return };
    let mut running = app.env("WAY", "quiet").env("POOL", "1").start(1);
    let ended = end(&mut running, End::Restart);
    ended.iter().for_each(|pid| running.wait_for_log(&format!("said: exit {pid}")));
    assert_eq!(running.kills(), 0);
}

/// How a session of HTTP/2 ended, see `tests/node/clients/http2.js`.
#[derive(Debug, Deserialize, Eq, PartialEq)]
struct Session {
    whole: bool,
    goaway: bool,
    errors: Vec<String>,
}

#[test]
fn a_session_of_http2_is_told_to_end_and_its_request_is_finished() {
    for signal in [Signal::SIGHUP, Signal::SIGTERM] {
        let Some(app) = App::new("http2.js") else { return };
        let running = app.start(1);
        let Some(client) = node::client("http2.js", &json!({ "url": running.url() })) else {
            return;
        };
        assert_eq!(client.next::<String>(), "begun");
        running.signal(signal);
        let expected = Session { whole: true, goaway: true, errors: Vec::new() };
        assert_eq!(client.next::<Session>(), expected, "{signal}");
    }
}
