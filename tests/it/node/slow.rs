//! Workers that are slow: who waits for them, and who does not.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::load::{self, Verdict};
use super::packages::setup_worker;
use crate::support::node::App;
use crate::support::reply::{self, Kept};
use crate::support::{eventually, proc};

/// How many unacknowledged connections one worker may have. It may have more while connections come
/// fast and it has just taken one, so a worker has to be still for a moment before this is its limit.
const WINDOW: usize = 4;

/// How many requests waited while one of three workers stood still for three seconds.
fn wait_behind_a_blocked_worker(app: App) -> usize {
    let running = app.start(3);
    let address = running.address();
    let mut blocked = Kept::open(address);
    blocked.send("GET", "/block?ms=3500", b"").expect("it is open");
    assert_eq!(blocked.reply_without_body().expect("it begins to stand still").status, 200);
    proc::wait_for_rest(running.pid());
    let slow = thread::scope(|scope| {
        let clients = (0..10).map(|_| {
            scope.spawn(move || {
                let mut slow = 0;
                for _ in 0..60 {
                    let began = Instant::now();
                    reply::get(address, "/");
                    slow += usize::from(began.elapsed() > Duration::from_millis(1500));
                }
                slow
            })
        });
        let clients: Vec<_> = clients.collect();
        clients.into_iter().map(|client| client.join().expect("it is answered")).sum()
    });
    blocked.end().expect("the rest of the answer");
    slow
}

#[test]
fn d26_behind_a_blocked_worker_wait_no_more_than_a_window_of_plain_connections() {
    let Some(app) = App::new("http.js") else { return };
    let slow = wait_behind_a_blocked_worker(app.flags(&["--by", "none", "-b", "round-robin"]));
    assert!(slow <= WINDOW, "{slow} of 600 were slow");
}

#[test]
fn d26_by_sid_too_those_without_one_wait_in_a_window_at_most() {
    let Some(app) = App::new("http.js") else { return };
    let slow = wait_behind_a_blocked_worker(app);
    assert!(slow <= WINDOW, "{slow} of 600 were slow");
}

/// What is on its way to workers is kept until it has arrived: it takes room like what waits.
#[test]
fn connections_on_their_way_to_workers_that_stand_still_leave_the_supervisor_descriptors() {
    const WORKERS: u16 = 12;
    let Some(app) = App::new("http.js") else { return };
    let app = app.flags(&["--max-draining", "1"]).after("ulimit -n 90;");
    let running = app.start(WORKERS);
    for worker in running.worker_pids() {
        proc::signal(worker, Signal::SIGSTOP);
        eventually("it is stopped", || proc::is_stopped(worker).then_some(()));
    }
    let mut clients: Vec<_> = (0..120).map(|_| Kept::open(running.address())).collect();
    for client in &mut clients {
        client.send("GET", "/", b"").expect("it is open");
    }
    proc::wait_for_rest(running.pid());
    for worker in running.worker_pids() {
        proc::signal(worker, Signal::SIGCONT);
    }
    for mut client in clients {
        assert_eq!(client.reply().expect("an answer").status, 200);
    }
    assert_eq!(running.count_events("accept_paused"), 0);
}

/// Broadcasts go to every worker, also to one that does not read. What it missed it hears later.
#[test]
fn d25_a_worker_that_stands_still_stops_neither_broadcasts_nor_connections() {
    stands_still(0);
}

/// What is on its way to it, messages that its channel has not taken and connections that it has not
/// acknowledged, is so in the programs that the supervisor becomes.
#[test]
fn a_worker_that_stands_still_during_upgrades_gets_everything_from_the_last_program() {
    stands_still(3);
}

/// A worker stands still and goes on, with so many upgrades in between.
#[track_caller]
fn stands_still(upgrades: usize) {
    let Some(app) = setup_worker(2) else { return };
    let running = app.flags(&["--stall-timeout", "1h", "-b", "round-robin"]).start(3);
    let address = running.address();
    let stopped = running.pid_of(2);
    let options = json!({ "sessions": 20, "broadcasts": true });
    let Some(load) = load::begin(&running, &options) else { return };
    load.next::<Value>();
    proc::signal(stopped, Signal::SIGSTOP);
    eventually("the worker is stopped", || proc::is_stopped(stopped).then_some(()));
    proc::wait_for_rest(running.pid());
    let answered = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..30 {
            scope.spawn(|| {
                assert_eq!(reply::get(address, "/").status, 200);
                answered.fetch_add(1, Ordering::Relaxed);
            });
        }
        eventually("all but a window of them are answered by others", || {
            (answered.load(Ordering::Relaxed) >= 30 - WINDOW).then_some(())
        });
        for nth in 1..=upgrades {
            running.signal(Signal::SIGUSR2);
            running.wait_events("upgraded", nth);
        }
        proc::signal(stopped, Signal::SIGCONT);
    });
    let verdict: Verdict = load.next();
    verdict.assert_accounted_for();
    assert_eq!((verdict.lost, verdict.errors.len()), (0, 0), "{verdict:?}");
    verdict.assert_heard(20);
}
