//! The supervisor as process 1 of a container, and as a subreaper.

use std::env;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use nix::sys::signal::Signal;

use crate::support::supervisor::Builder;
use crate::support::{Supervisor, event, eventually, get, proc, sticky_run};

/// The words that make the next one process 1, if that is possible here.
fn namespace() -> Option<String> {
    let here = i32::try_from(std::process::id()).unwrap();
    let root = if proc::status(here, "Uid:") == Some(0) { "" } else { "--map-root-user " };
    let words = format!("unshare {root}--pid --fork --kill-child --mount-proc");
    let mut probe = Command::new("sh");
    let probe = probe.args(["-c", &format!("{words} true")]).stderr(Stdio::null());
    if probe.status().is_ok_and(|status| status.success()) {
        return Some(words);
    }
    assert!(env::var_os("CI").is_none(), "the right to make a namespace of processes is needed");
    eprintln!("not tested: no right to make a namespace of processes here");
    None
}

/// Has the supervisor be process 1; what is started and waited for is its parent.
fn as_process_1(builder: Builder) -> Option<Builder> {
    Some(builder.after(&format!("exec {} \"$0\" \"$@\";", namespace()?)))
}

/// The supervisor, whose parent ends with its exit code.
fn process_1(parent: &Supervisor) -> i32 {
    eventually("it was started", || proc::children(parent.pid()).first().copied())
}

/// Waits until the supervisor has no other children than its workers, and no zombie at all.
fn has_only_workers(supervisor: i32, workers: usize) {
    eventually("nobody is left but the workers", || {
        let children = proc::children(supervisor);
        let alive = children.iter().all(|pid| proc::is_alive(*pid));
        (alive && children.len() == workers).then_some(())
    });
}

#[test]
fn ten_thousand_orphans_are_reaped_while_clients_are_served() {
    let Some(builder) = as_process_1(sticky_run(2, &["--balance", "round-robin"])) else { return };
    let mut parent = builder.start();
    let (address, supervisor) = (parent.address(), process_1(&parent));
    let workers = proc::children(supervisor);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                get(address, "/");
            }
        });
        get(address, "/orphans/10000");
        has_only_workers(supervisor, 2);
        done.store(true, Ordering::Relaxed);
    });
    // However they ended, it was nobody's business.
    assert_eq!(proc::children(supervisor), workers);
    parent.expect_no_trouble();
    proc::signal(supervisor, Signal::SIGTERM);
    assert_eq!(parent.wait().code(), Some(0));
}

#[test]
fn every_signal_to_stop_stops_process_1_in_order() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGPWR] {
        let Some(builder) = as_process_1(sticky_run(2, &[])) else { return };
        let mut parent = builder.start();
        let supervisor = process_1(&parent);
        proc::signal(supervisor, signal);
        assert_eq!(parent.wait().code(), Some(0), "{signal}");
        parent.whole_log();
        parent.wait_event(event("signal_received").with("signal", signal.as_str()));
        parent.wait_event("stopped");
        assert_eq!(parent.kills(), 0);
    }
}

#[test]
fn exit_codes_of_process_1_are_those_of_any_other() {
    let directory = env::temp_dir();
    let directory = directory.to_str().expect("its path is text");
    let cases: [(&[&str], &[&str], i32); 4] = [
        (&["--by", "nothing"], &["true"], 2),
        (&[], &[directory], 126),
        (&[], &["no-such-command"], 127),
        (&[], &["false"], 1),
    ];
    for (flags, command, code) in cases {
        let builder = sticky_run(1, flags).command(command);
        let Some(builder) = as_process_1(builder) else { return };
        assert_eq!(builder.spawn().wait().code(), Some(code), "{flags:?} {command:?}");
    }
}

#[test]
fn a_worker_of_process_1_that_dies_of_a_signal_is_replaced() {
    let Some(builder) = as_process_1(sticky_run(2, &[])) else { return };
    let mut parent = builder.start();
    let supervisor = process_1(&parent);
    proc::signal(proc::children(supervisor)[0], Signal::SIGABRT);
    parent.wait_events("worker_ready", 3);
    proc::signal(supervisor, Signal::SIGTERM);
    assert_eq!(parent.wait().code(), Some(0));
}

#[test]
fn a_subreaper_adopts_and_reaps_what_workers_leave_behind() {
    let orphaned = |supervisor: &Supervisor| {
        let children = proc::children(supervisor.pid());
        children.into_iter().any(|pid| proc::name(pid) == "sleep")
    };
    let command = crate::support::worker::command();
    let mut words = vec!["sh", "-c", "(sleep 100 &); exec \"$0\" \"$@\""];
    words.extend(command.iter().map(String::as_str));
    let supervisor = sticky_run(1, &["--subreaper"]).command(&words).start();
    eventually("the orphan is a child of the supervisor", || orphaned(&supervisor).then_some(()));
    get(supervisor.address(), "/orphans/200");
    has_only_workers(supervisor.pid(), 2);
    supervisor.expect_no_trouble();
    // Without the flag it is adopted further up.
    let supervisor = sticky_run(1, &[]).command(&words).start();
    get(supervisor.address(), "/");
    assert!(!orphaned(&supervisor));
}
