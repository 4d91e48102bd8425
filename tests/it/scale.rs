//! More workers and fewer under load: no request fails, and sessions on workers that go end first.

use nix::sys::signal::Signal;

use crate::rolling::{PATIENT, ask, requests, session};
use crate::support::rolling::{Load, Served};
use crate::support::{connect, event, eventually, get, proc, sticky_run};

#[test]
fn no_request_fails_and_no_session_leaves_its_worker_while_four_become_eight_and_then_three() {
    let supervisor = sticky_run(4, &PATIENT).start();
    let address = supervisor.address();
    let files = proc::open_files_at_rest(supervisor.pid());
    let load = Load::during(
        |client, nth| session(client, nth, || connect(address)),
        |load| {
            for workers in 5..=8 {
                load.go_on(requests() / 12);
                supervisor.resize(Signal::SIGTTIN, workers);
            }
            supervisor.wait_event(event("worker_ready").worker(7));
            load.reaches(8);
            load.go_on(requests() / 12);
            for workers in (3..=7).rev() {
                load.go_on(requests() / 12);
                supervisor.resize(Signal::SIGTTOU, workers);
            }
            load.go_on(requests() / 3);
        },
    );
    load.assert_right(requests());
    assert_eq!(load.workers(), 8);
    // Each has a channel with two ends.
    supervisor.wait_for_workers(3, files - 2);
    supervisor.expect_no_trouble();
}

#[test]
fn a_session_of_a_slot_that_is_taken_away_keeps_its_worker_until_it_ends() {
    let supervisor = sticky_run(2, &PATIENT).start();
    let address = supervisor.address();
    let owners: Vec<_> = (0..8).map(|nth| get(address, &format!("/announce/s{nth}"))).collect();
    let nth = owners.iter().position(|owner| owner.slot == 1).expect("both have sessions");
    let owner = &owners[nth];
    supervisor.resize(Signal::SIGTTOU, 1);
    for _ in 0..3 {
        assert_eq!(get(address, &format!("/?sid=s{nth}")).pid, owner.pid);
        assert_eq!(get(address, "/").slot, 0, "nobody new goes there");
        supervisor.upgrade();
    }
    for nth in 0..8 {
        get(address, &format!("/end/s{nth}?sid=s{nth}"));
    }
    eventually("it ends", || (!proc::is_alive(owner.pid)).then_some(()));
    assert_eq!(supervisor.worker_pids().len(), 1);
}

#[test]
fn the_number_of_workers_outlives_restarts_and_upgrades_and_the_last_one_stays() {
    let supervisor = sticky_run(2, &PATIENT).start();
    supervisor.resize(Signal::SIGTTIN, 3);
    supervisor.wait_event(event("worker_ready").worker(2));
    for _ in 0..2 {
        supervisor.restart();
        supervisor.upgrade();
    }
    assert_eq!(supervisor.count_events(event("restart_done").with("count", 3)), 2);
    eventually("there are three", || (supervisor.worker_pids().len() == 3).then_some(()));
    supervisor.resize(Signal::SIGTTOU, 2);
    supervisor.upgrade();
    supervisor.resize(Signal::SIGTTOU, 1);
    supervisor.signal(Signal::SIGTTOU);
    supervisor.wait_event(event("scale_refused").with("count", 1));
    eventually("there is one", || (supervisor.worker_pids().len() == 1).then_some(()));
    get(supervisor.address(), "/");
}

/// The number of workers is also what a worker is told; one that was started before cannot know.
#[test]
fn new_workers_are_told_how_many_there_are() {
    let supervisor = sticky_run(2, &PATIENT).start();
    let told = |slot| {
        let variables = proc::environment(supervisor.pid_of(slot));
        let found = variables.into_iter().find(|(name, _)| name == "STICKY_WORKERS");
        found.expect("it is told").1
    };
    assert_eq!(told(0), "2");
    supervisor.resize(Signal::SIGTTIN, 3);
    supervisor.wait_event(event("worker_ready").worker(2));
    assert_eq!((told(0), told(2)), ("2".into(), "3".into()));
    supervisor.restart();
    assert_eq!((told(0), told(1), told(2)), ("3".into(), "3".into(), "3".into()));
}

#[test]
fn clients_in_turns_use_all_workers_that_there_are() {
    let flags = [&PATIENT[..], &["--by", "none", "--balance", "round-robin"]].concat();
    let supervisor = sticky_run(2, &flags).start();
    let address = supervisor.address();
    let visit = |_, _| Ok(vec![Served::from(ask(connect(address)?, "/")?)]);
    let load = Load::during(visit, |load| {
        for workers in [3, 4, 5] {
            supervisor.resize(Signal::SIGTTIN, workers);
            supervisor.wait_event(event("worker_ready").worker(workers - 1));
            load.go_on(40);
        }
        for workers in [4, 3, 2, 1] {
            supervisor.resize(Signal::SIGTTOU, workers);
            load.go_on(40);
        }
    });
    load.assert_right(280);
    assert_eq!(load.workers(), 5);
}
