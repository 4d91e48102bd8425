//! Workers that stand still are replaced, and none besides.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::client::{Answer, get_from};
use crate::support::load::Load;
use crate::support::node::App;
use crate::support::{Supervisor, event, eventually, full, proc, sticky_run};

/// What workers have to answer within.
const TIME: Duration = Duration::from_secs(2);

/// A client of another worker than the one that clients from 127.0.0.1 have, and what it was answered.
#[track_caller]
fn elsewhere(address: SocketAddr) -> (IpAddr, Answer) {
    let here = get_from(Ipv4Addr::LOCALHOST.into(), address, "/");
    let clients = (1..=250).map(|last| IpAddr::from([127, 9, 0, last]));
    let mut answers = clients.map(|client| (client, get_from(client, address, "/")));
    answers.find(|(_, answer)| answer.slot != here.slot).expect("two workers have clients")
}

/// Has one of two workers stand still, and sees that it is replaced in time, while the other one serves.
#[track_caller]
fn is_replaced(supervisor: &Supervisor, address: SocketAddr, stop: impl FnOnce(IpAddr, i32)) {
    let load = Load::on(address);
    let (client, answer) = elsewhere(address);
    let others: Vec<_> =
        supervisor.worker_pids().into_iter().filter(|pid| *pid != answer.pid).collect();
    let ready = event("worker_ready").worker(answer.slot);
    let before = supervisor.count_events(&ready);
    stop(client, answer.pid);
    let since = Instant::now();
    load.goes_on();
    let hung = event("worker_unresponsive").worker(answer.slot);
    supervisor.wait_event(hung.with("timeout_ms", 2000));
    assert!(since.elapsed() < 2 * TIME, "{:?}", since.elapsed());
    supervisor.wait_events(ready, before + 1);
    eventually("the hung worker is gone", || (!proc::is_alive(answer.pid)).then_some(()));
    assert_eq!(supervisor.count_events("worker_unresponsive"), 1);
    assert!(others.iter().all(|pid| supervisor.worker_pids().contains(pid)));
    assert_ne!(get_from(client, address, "/").pid, answer.pid);
    load.assert_all_answered();
}

fn watched(traits: &str) -> Supervisor {
    let flags = ["--by", "ip", "--watchdog", "2s"];
    sticky_run(2, &flags).env("TEST_WORKER", traits).start()
}

#[test]
fn a_worker_that_reads_its_channel_no_more_is_replaced_within_twice_the_time() {
    let supervisor = watched("");
    let address = supervisor.address();
    is_replaced(&supervisor, address, |client, _| {
        get_from(client, address, "/block");
    });
}

#[test]
fn a_worker_that_ignores_abrt_is_killed() {
    let supervisor = watched("stubborn");
    let address = supervisor.address();
    is_replaced(&supervisor, address, |client, _| {
        get_from(client, address, "/block");
    });
}

#[test]
fn a_worker_that_is_stopped_is_replaced_within_twice_the_time() {
    let supervisor = watched("");
    let address = supervisor.address();
    is_replaced(&supervisor, address, |_, pid| proc::signal(pid, Signal::SIGSTOP));
}

#[test]
fn a_node_worker_that_computes_for_ever_is_replaced_within_twice_the_time() {
    let Some(app) = App::new("http.js") else { return };
    let running = app.flags(&["--by", "ip", "--watchdog", "2s"]).start(2);
    let address = running.address();
    is_replaced(&running, address, |client, _| {
        get_from(client, address, "/spin");
    });
}

#[test]
fn a_worker_that_never_answered_gets_abrt_first() {
    let command = "trap 'echo it got ABRT >&2' ABRT; echo READY >&$STICKY_CHANNEL; \
                   while :; do sleep 0.01; done";
    let flags = ["--watchdog", "1s"];
    let supervisor = sticky_run(1, &flags).command(&["sh", "-c", command]).start();
    let first = supervisor.pid_of(0);
    supervisor.wait_for_log("it got ABRT");
    eventually("KILL ends it", || (!proc::is_alive(first)).then_some(()));
}

#[test]
fn without_a_watchdog_nobody_is_asked_or_ended() {
    let mut supervisor = sticky_run(1, &["--by", "ip"]).start();
    let workers = supervisor.worker_pids();
    get_from(Ipv4Addr::LOCALHOST.into(), supervisor.address(), "/block");
    proc::watch(TIME);
    assert_eq!(supervisor.worker_pids(), workers);
    assert_eq!(supervisor.count_events("worker_unresponsive"), 0);
    assert_eq!(supervisor.stop().code(), Some(0));
}

/// Processes that do nothing but use the processors. They are ended when this is dropped.
struct Spinning(Vec<Child>);

impl Spinning {
    fn begin(count: usize) -> Self {
        let spin = || Command::new("sh").args(["-c", "while :; do :; done"]).spawn();
        Self((0..count).map(|_| spin().expect("there is a shell")).collect())
    }
}

impl Drop for Spinning {
    fn drop(&mut self) {
        for child in &mut self.0 {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// Keeps the processors busy, has everybody stand still, and sees that nobody is ended for it.
#[track_caller]
fn nobody_is_blamed(supervisor: &Supervisor, address: SocketAddr) {
    let workers = supervisor.worker_pids();
    let load = Load::on(address);
    let spinning = Spinning::begin(4);
    for _ in 0..if full() { 3 } else { 1 } {
        load.goes_on();
        workers.iter().for_each(|pid| proc::signal(*pid, Signal::SIGSTOP));
        // By now each was asked and has not answered, but its time is not over.
        proc::watch(TIME / 2 + TIME / 10);
        supervisor.signal(Signal::SIGSTOP);
        let (early, late) = workers.split_at(workers.len() / 2);
        early.iter().for_each(|pid| proc::signal(*pid, Signal::SIGCONT));
        proc::watch(Duration::from_secs(3));
        supervisor.signal(Signal::SIGCONT);
        // It has looked who is late before these can answer.
        proc::watch(TIME / 10);
        late.iter().for_each(|pid| proc::signal(*pid, Signal::SIGCONT));
        load.goes_on();
    }
    proc::watch(if full() { 3 * TIME } else { TIME / 2 });
    drop(spinning);
    load.assert_all_answered();
    assert_eq!(supervisor.worker_pids(), workers);
    assert_eq!(supervisor.count_events("worker_unresponsive"), 0);
}

#[test]
fn no_healthy_worker_is_ended_because_the_machine_or_the_supervisor_is_slow() {
    let supervisor = sticky_run(4, &["--watchdog", "2s"]).start();
    nobody_is_blamed(&supervisor, supervisor.address());
}

#[test]
fn no_healthy_node_worker_is_ended_because_the_machine_or_the_supervisor_is_slow() {
    let Some(app) = App::new("http.js") else { return };
    let running = app.flags(&["--watchdog", "2s"]).start(2);
    nobody_is_blamed(&running, running.address());
}
