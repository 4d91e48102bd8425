//! What a worker inherits, and what not; and that an idle supervisor does nothing.

use std::time::Duration;

use nix::pty::openpty;
use nix::sys::signal::Signal;

use crate::support::{Supervisor, client, event, eventually, get, proc, sticky_run, worker};

/// A command that is only looked at from outside.
const SLEEP: [&str; 3] = ["bash", "-c", "printf 'READY\\n' >&$STICKY_CHANNEL; exec sleep 100"];

/// Starts workers that only sleep, after these words of a shell.
fn sleeping(before: &str) -> Supervisor {
    let supervisor = sticky_run(2, &[]).command(&SLEEP).after(before).listening();
    supervisor.wait_event(event("worker_started").worker(1));
    eventually("both workers run their command", || {
        let names = [0, 1].map(|slot| proc::name(supervisor.pid_of(slot)));
        (names == ["sleep", "sleep"]).then_some(())
    });
    supervisor
}

/// The value of a variable that a worker was started with.
fn variable(pid: i32, name: &str) -> Option<String> {
    proc::environment(pid).into_iter().find(|(found, _)| found == name).map(|(_, value)| value)
}

fn set(signals: &[Signal]) -> u64 {
    signals.iter().fold(0, |set, signal| set | 1 << (*signal as u64 - 1))
}

/// The signals that have a name; the C library uses two of the others for itself.
const NAMED: u64 = (1 << 31) - 1;

/// What whoever runs the tests ignores. PIPE is ignored by every Rust program, not passed on.
fn ignored_here() -> u64 {
    let here = i32::try_from(std::process::id()).unwrap();
    proc::signals(here, "SigIgn").unwrap() & NAMED & !set(&[Signal::SIGPIPE])
}

/// What a worker ignores.
fn ignored_by(worker: i32) -> u64 {
    proc::signals(worker, "SigIgn").unwrap() & NAMED
}

#[test]
fn a_worker_has_stdio_and_its_own_channel_and_no_other_descriptor() {
    // The supervisor has descriptors of somebody else that are not close-on-exec.
    let supervisor = sleeping("exec 7</dev/null 8</dev/null 9</dev/null;");
    let channels = [0, 1].map(|slot| {
        let pid = supervisor.pid_of(slot);
        let channel: i32 = variable(pid, "STICKY_CHANNEL").unwrap().parse().unwrap();
        // A program that has just started has its libraries open for a moment.
        let files = eventually("it has stdio and one descriptor more", || {
            let files = proc::descriptors(pid);
            let numbers = files.iter().map(|(number, _)| *number);
            numbers.eq([0, 1, 2, channel]).then_some(files)
        });
        let inode = variable(pid, "STICKY_CHANNEL_INODE").unwrap();
        assert_eq!(files[3].1, format!("socket:[{inode}]"));
        inode
    });
    assert_ne!(channels[0], channels[1]);
}

#[test]
fn a_worker_has_the_limits_on_files_that_the_supervisor_had() {
    let supervisor = sleeping("ulimit -S -n 100; ulimit -H -n 5000;");
    assert_eq!(proc::file_limit(supervisor.pid()), Some((5000, 5000)));
    for slot in [0, 1] {
        assert_eq!(proc::file_limit(supervisor.pid_of(slot)), Some((100, 5000)));
    }
}

#[test]
fn a_worker_has_the_signals_that_the_supervisor_had() {
    let signals = "--ignore-signal=INT,USR2,CHLD --block-signal=USR1,TERM,CHLD";
    let before = format!("exec env {signals} \"$0\" \"$@\";");
    // No shell, which would look after CHLD by itself.
    let builder = sticky_run(1, &[]).command(&["sleep", "100"]);
    let mut supervisor = builder.after(&before).listening();
    supervisor.wait_event(event("worker_started").worker(0));
    let worker = supervisor.pid_of(0);
    eventually("it runs its command", || (proc::name(worker) == "sleep").then_some(()));
    let ignored = set(&[Signal::SIGINT, Signal::SIGUSR2, Signal::SIGCHLD]);
    assert_eq!(ignored_by(worker), ignored_here() | ignored);
    let blocked = set(&[Signal::SIGUSR1, Signal::SIGTERM, Signal::SIGCHLD]);
    assert_eq!(proc::signals(worker, "SigBlk"), Some(blocked));
    assert_eq!(proc::signals(worker, "SigCgt"), Some(0));
    // The supervisor itself hears what it has to hear all the same.
    proc::signal(worker, Signal::SIGKILL);
    supervisor.wait_events(event("worker_started").worker(0), 2);
    supervisor.signal(Signal::SIGTERM);
    supervisor.wait_event("stop_begun");
    proc::watch(crate::stop::ONE_STOP);
    supervisor.signal(Signal::SIGINT);
    supervisor.wait_event("stop_hurried");
    assert_eq!(supervisor.wait().code(), Some(0));
}

#[test]
fn a_worker_without_anything_special_has_plain_signals() {
    let supervisor = sleeping("");
    for slot in [0, 1] {
        let worker = supervisor.pid_of(slot);
        let masks = ["SigBlk", "SigCgt"].map(|name| proc::signals(worker, name));
        assert_eq!(masks, [Some(0); 2]);
        assert_eq!(ignored_by(worker), ignored_here());
    }
}

#[test]
fn a_worker_leads_its_own_process_group() {
    let supervisor = sleeping("");
    for slot in [0, 1] {
        let worker = supervisor.pid_of(slot);
        assert_eq!(proc::group_of(worker), Some(worker));
    }
}

#[test]
fn a_worker_that_knows_no_channel_dies_with_its_supervisor() {
    let mut supervisor = sleeping("");
    let workers = supervisor.worker_pids();
    assert_eq!(workers.len(), 2);
    supervisor.signal(Signal::SIGKILL);
    supervisor.wait();
    eventually("no worker is left", || {
        (!workers.iter().any(|pid| proc::is_alive(*pid))).then_some(())
    });
}

#[test]
fn a_worker_that_reads_a_terminal_is_not_stopped_by_it() {
    // The supervisor leads a session on a terminal, as it does in a shell.
    let terminal = openpty(None, None).expect("a terminal, pty(7)");
    let command = worker::command();
    let mut words = vec!["sh", "-c", "read -r line; exec \"$0\" \"$@\""];
    words.extend(command.iter().map(String::as_str));
    let builder = sticky_run(2, &[]).command(&words).stdin(terminal.slave);
    let supervisor = builder.after("exec setsid --ctty \"$0\" \"$@\";").start();
    get(supervisor.address(), "/");
}

#[test]
fn a_worker_is_told_who_it_is_and_nothing_that_is_meant_for_the_supervisor() {
    let mut builder = sticky_run(2, &[]).command(&SLEEP).env("KEPT", "yes");
    let stripped = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];
    let stripped = stripped.into_iter().chain(["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"]);
    for name in stripped.clone() {
        builder = builder.env(name, "1");
    }
    let supervisor = builder.listening();
    supervisor.wait_event(event("worker_started").worker(1));
    for slot in [0, 1] {
        let worker = supervisor.pid_of(slot);
        eventually("the worker runs its command", || (proc::name(worker) == "sleep").then_some(()));
        assert_eq!(variable(worker, "STICKY_WORKER_ID"), Some(slot.to_string()));
        assert_eq!(variable(worker, "STICKY_WORKERS").as_deref(), Some("2"));
        assert_eq!(variable(worker, "STICKY_PROTOCOL").as_deref(), Some("1"));
        assert_eq!(variable(worker, "KEPT").as_deref(), Some("yes"));
        for name in stripped.clone() {
            assert_eq!(variable(worker, name), None, "{name}");
        }
    }
}

#[test]
fn an_idle_supervisor_does_not_wake_up() {
    let supervisor = sticky_run(2, &["--by", "sid,ip"]).start();
    let address = supervisor.address();
    get(address, "/announce/one");
    get(address, "/?sid=one");
    let (_held, _) = client::hold(address, "/hold");
    // The last thing due is a look whether the workers have picked up what they were sent.
    proc::watch(Duration::from_millis(1500));
    let wakeups = || proc::wakeups(supervisor.pid());
    let (before, cpu) = (wakeups(), proc::cpu_time(supervisor.pid()));
    proc::watch(Duration::from_secs(3));
    assert_eq!(wakeups(), before);
    assert_eq!(proc::cpu_time(supervisor.pid()), cpu);
}
