//! Workers that reach a limit are replaced one after the other, and no request fails by it.

use crate::rolling::{PATIENT, requests, session};
use crate::support::rolling::Load;
use crate::support::{Supervisor, connect, eventually, full, proc, sticky_run};

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
            supervisor.wait_for_log_times(reason, replaced());
        },
    );
    load.assert_right(visits);
    assert!(load.workers() >= replaced(), "{} workers", load.workers());
    replaced_in_turns(&supervisor, reason);
}

/// Whether the log tells of one successor at a time, each for a worker that was worn, and warns of
/// nothing but a limit that is low.
#[track_caller]
fn replaced_in_turns(supervisor: &Supervisor, reason: &str) {
    let log = supervisor.log();
    let mut booting: u16 = 0;
    let mut started = 0;
    for line in log.lines() {
        if line.contains(" started (pid ") {
            booting += 1;
            started += 1;
        } else if line.contains(" is ready (pid ") {
            booting -= 1;
        }
        assert!(started <= WORKERS || booting <= 1, "two at once: {log}");
    }
    let worn = u16::try_from(log.matches(reason).count()).expect("not so many");
    assert!(started <= WORKERS + worn, "{started} started, {worn} were worn");
    // The last one that came may have been ready just before.
    let came = usize::from(started - WORKERS - booting);
    let drained = log.matches(" drains").count();
    assert!(came.saturating_sub(1) <= drained && drained <= came, "{came} came, {drained} drain");
    assert_eq!(log.matches(" WARN ").count(), log.matches("; raise --").count());
}

#[test]
fn workers_are_replaced_when_they_are_old() {
    wears(&["--max-lifetime", "500ms"], "is replaced: it is as old as it may be", 300);
}

#[test]
fn workers_are_replaced_when_they_have_had_their_connections() {
    let reason = " ms: it had as many connections as it may have";
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
    replaced_in_turns(&supervisor, " ms: it holds more memory than it may");
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
