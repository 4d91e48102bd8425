//! Workers that reach a limit are replaced one after the other, and no request fails by it.

use crate::rolling::{PATIENT, requests, session};
use crate::support::rolling::Load;
use crate::support::{Supervisor, connect, event, eventually, full, proc, sticky_run};

/// Workers of each supervisor here.
const WORKERS: u16 = 3;

/// So many workers are replaced in each test.
fn replaced() -> usize {
    if full() { 18 } else { 9 }
}

/// Has clients ask until so many workers were replaced for this reason.
#[track_caller]
fn wears(flags: &[&str], reason: &str, visits: u32) {
    let flags = [&PATIENT[..], flags].concat();
    let supervisor = sticky_run(WORKERS, &flags).env("TEST_WORKER", "slow=20").start();
    let address = supervisor.address();
    let load = Load::during(
        |client, nth| session(client, nth, || connect(address)),
        |load| {
            load.go_on(visits);
            eventually("so many are replaced", || {
                (recycled(&supervisor, reason) >= replaced()).then_some(())
            });
        },
    );
    load.assert_right(visits);
    assert!(load.workers() >= replaced(), "{} workers", load.workers());
    replaced_in_turns(&supervisor, reason);
}

/// How many workers were replaced for this reason.
fn recycled(supervisor: &Supervisor, reason: &str) -> usize {
    let names = ["worker_recycled", "worker_recycle_delayed"];
    names.map(|name| supervisor.count_events(event(name).with("reason", reason))).iter().sum()
}

/// Whether the log tells of one successor at a time, each for a worker that was worn, and warns of
/// nothing but a limit that is low.
#[track_caller]
fn replaced_in_turns(supervisor: &Supervisor, reason: &str) {
    let events = supervisor.all_events();
    let mut booting: u16 = 0;
    let mut started = 0;
    for logged in &events {
        match logged.name() {
            "worker_started" => (booting, started) = (booting + 1, started + 1),
            "worker_ready" => booting -= 1,
            _ => {}
        }
        assert!(started <= WORKERS || booting <= 1, "two at once: {events:?}");
    }
    let worn = u16::try_from(recycled(supervisor, reason)).expect("not so many");
    assert!(started <= WORKERS + worn, "{started} started, {worn} were worn");
    // The last one that came may have been ready just before.
    let came = usize::from(started - WORKERS - booting);
    let drained = supervisor.count_events("worker_draining");
    assert!(came.saturating_sub(1) <= drained && drained <= came, "{came} came, {drained} drain");
    supervisor.expect_no_trouble_but(&["worker_recycle_delayed"]);
}

#[test]
fn workers_are_replaced_when_they_are_old() {
    wears(&["--max-lifetime", "500ms"], "lifetime", 300);
}

#[test]
fn workers_are_replaced_when_they_have_had_their_connections() {
    let reason = "connections";
    wears(&["--max-lifetime-connections", "100"], reason, requests());
}

/// The memory is looked at every 5 s.
#[test]
fn workers_are_replaced_when_they_hold_too_much_memory() {
    let flags = [&PATIENT[..], &["--max-memory", "1MiB"]].concat();
    let supervisor = sticky_run(WORKERS, &flags).env("TEST_WORKER", "slow=20").start();
    let (address, first) = (supervisor.address(), supervisor.worker_pids());
    let load = Load::during(
        |client, nth| session(client, nth, || connect(address)),
        |_| {
            eventually("all of the first are gone", || {
                first.iter().all(|pid| !proc::is_alive(*pid)).then_some(())
            });
        },
    );
    load.assert_right(300);
    replaced_in_turns(&supervisor, "memory");
}

/// The negative control: the same load and no limit.
#[test]
fn nobody_is_replaced_without_a_limit() {
    let supervisor = sticky_run(WORKERS, &PATIENT).start();
    let address = supervisor.address();
    let visit = |client, nth| session(client, nth, || connect(address));
    let load = Load::during(visit, |load| load.go_on(600));
    load.assert_right(600);
    assert_eq!(load.workers(), usize::from(WORKERS));
}
