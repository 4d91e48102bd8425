//! Workers that end, or do not begin, in every way that Node has for it.

use nix::sys::signal::Signal;

use crate::support::node::{App, Running};
use crate::support::reply::{self, Session};
use crate::support::{event, eventually, proc};

/// Has one of two workers end in this way when it is asked to; the other serves on, and it has a
/// successor.
fn ends_and_is_replaced(way: &str) -> Option<Running> {
    let running = App::new("death.js")?.start(2);
    let ended = reply::get(running.address(), &format!("/{way}"));
    eventually("it is gone", || (!proc::is_alive(ended.pid())).then_some(()));
    assert_eq!(reply::get(running.address(), "/").status, 200);
    running.wait_events(event("worker_ready").worker(ended.slot()), 2);
    assert_ne!(running.pid_of(ended.slot()), ended.pid());
    for _ in 0..10 {
        assert_eq!(reply::get(running.address(), "/").status, 200);
    }
    Some(running)
}

#[test]
fn a_worker_that_exits_with_code_0_is_replaced() {
    ends_and_is_replaced("exit");
}

#[test]
fn a_worker_that_throws_is_replaced_and_its_error_is_in_the_log() {
    let Some(running) = ends_and_is_replaced("throw") else { return };
    running.wait_for_log("thrown on purpose");
}

#[test]
fn a_worker_that_leaves_a_promise_rejected_is_replaced() {
    ends_and_is_replaced("reject");
}

#[test]
fn a_worker_that_disconnects_its_process_is_replaced() {
    ends_and_is_replaced("disconnect");
}

#[test]
fn a_worker_that_disconnects_from_its_cluster_is_replaced() {
    ends_and_is_replaced("worker-disconnect");
}

#[test]
fn a_worker_that_kills_itself_by_the_cluster_is_replaced() {
    ends_and_is_replaced("worker-kill");
}

#[test]
fn a_worker_that_is_killed_is_replaced() {
    ends_and_is_replaced("kill");
}

#[test]
fn a_worker_that_closes_its_server_gets_no_more_connections() {
    let Some(app) = App::new("death.js") else { return };
    let running = app.flags(&["-b", "round-robin"]).start(2);
    let closed = reply::get(running.address(), "/close");
    eventually("only others answer", || {
        let answers = (0..10).map(|_| reply::get(running.address(), "/"));
        answers.map(|answer| answer.pid()).all(|pid| pid != closed.pid()).then_some(())
    });
}

#[test]
fn workers_that_throw_at_start_are_given_up_when_none_was_ever_ready() {
    for way in ["throw", "exit"] {
        let Some(app) = App::new("death.js") else { return };
        let mut running = app.env("WAY", way).spawn(2);
        assert_eq!(running.wait().code(), Some(1));
        running.whole_log();
        running.wait_event("gave_up");
    }
}

#[test]
fn a_worker_that_listens_late_is_ready_late() {
    let Some(app) = App::new("death.js") else { return };
    let running = app.env("WAY", "late").env("SLOT", "1").spawn(2);
    running.wait_event(event("worker_ready").worker(0));
    assert_eq!(running.count_events(event("worker_ready").worker(1)), 0, "{}", running.log());
    assert_eq!(reply::get(running.address(), "/").slot(), 0);
    running.wait_event(event("worker_ready").worker(1));
    assert_eq!(running.count_events("worker_started"), 2, "{}", running.log());
}

#[test]
fn a_worker_that_never_listens_is_ended_and_started_again() {
    let Some(app) = App::new("death.js") else { return };
    let app = app.env("WAY", "never").env("SLOT", "1").flags(&["--boot-timeout", "1s"]);
    let running = app.spawn(2);
    running.wait_events(event("worker_started").worker(1), 2);
    assert_eq!(reply::get(running.address(), "/").slot(), 0);
}

#[test]
fn the_listener_stays_open_while_no_worker_lives() {
    let Some(app) = App::new("http.js") else { return };
    let running = app.start(1);
    let first = running.pid_of(0);
    proc::signal(first, Signal::SIGKILL);
    eventually("it is gone", || (!proc::is_alive(first)).then_some(()));
    for _ in 0..10 {
        assert_ne!(reply::get(running.address(), "/").pid(), first);
    }
}

#[test]
fn the_listener_stays_open_when_the_last_former_worker_ends_while_no_other_lives() {
    let Some(app) = App::new("socketio.js") else { return };
    let running = app.flags(&["--drain-timeout", "1h"]).start(1);
    // A former worker lives as long as its session.
    let session = Session::open(running.address());
    proc::signal(running.pid(), Signal::SIGHUP);
    running.wait_event(event("restart_done").with("count", 1));
    proc::signal(running.pid_of(0), Signal::SIGKILL);
    running.wait_event(event("worker_exited").worker(0));
    proc::signal(session.pid, Signal::SIGKILL);
    running.wait_event(event("draining_worker_exited").worker(0));
    reply::get(running.address(), "/");
    assert_eq!(running.count_events("listening"), 1, "nothing was closed and opened again");
}

/// Node's own primary dies with its workers' connections; here the workers go with the supervisor.
#[test]
fn no_worker_outlives_a_supervisor_that_is_killed() {
    let Some(app) = App::new("socketio.js") else { return };
    let mut running = app.start(3);
    let session = Session::open(running.address());
    assert!(session.is_known(running.address()));
    let workers = running.worker_pids();
    running.signal(Signal::SIGKILL);
    running.wait();
    eventually("all workers are gone", || {
        workers.iter().all(|pid| !proc::is_alive(*pid)).then_some(())
    });
}

#[test]
fn a_stop_lets_requests_end_and_then_all_workers() {
    let Some(app) = App::new("http.js") else { return };
    let mut running = app.flags(&["--grace", "10s"]).start(2);
    let mut slow = reply::Kept::open(running.address());
    slow.send("GET", "/wait?ms=1000", b"").expect("it is open");
    // Kept and idle: it must not hold up the end.
    let mut idle = reply::Kept::open(running.address());
    assert_eq!(idle.get("/").expect("an answer").status, 200);
    running.signal(Signal::SIGTERM);
    assert_eq!(slow.reply().expect("an answer").status, 200);
    assert_eq!(running.wait().code(), Some(0));
    running.whole_log();
    assert_eq!(running.kills(), 0, "{}", running.log());
}
