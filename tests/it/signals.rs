//! Signals that are for the workers, for nobody, or for an end of another kind than `TERM`.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::support::{
    SOON, Supervisor, event, eventually, get, proc, sticky_run, terminal, worker,
};

/// A worker that says which signals it gets, and its child, which must get none.
const LISTENING: [&str; 3] = [
    "bash",
    "-c",
    "printf 'READY\\n' >&$STICKY_CHANNEL; \
     for s in USR1 WINCH URG ALRM; do trap \"echo worker {id} got $s >&2\" $s; done; \
     sh -c 'for s in USR1 WINCH URG ALRM; do trap \"echo a child got $s >&2\" $s; done; \
     echo a child listens >&2; while :; do sleep 100 & wait; done' & \
     while :; do wait; done",
];

#[test]
fn usr1_and_what_was_asked_for_is_forwarded_to_the_first_process_of_each_worker() {
    let flags = ["--forward", "winch,ALRM", "--forward", "SIGURG"];
    let supervisor = sticky_run(2, &flags).command(&LISTENING).listening();
    supervisor.wait_for_log_times("a child listens", 2);
    for signal in [Signal::SIGUSR1, Signal::SIGWINCH, Signal::SIGURG, Signal::SIGALRM] {
        supervisor.signal(signal);
        let name = &signal.as_str()[3..];
        for slot in [0, 1] {
            supervisor.wait_for_log(&format!("worker {slot} got {name}"));
        }
    }
    assert_eq!(supervisor.count_log("a child got"), 0);
    assert!(proc::is_alive(supervisor.pid()));
}

#[test]
fn signals_that_mean_nothing_do_not_end_it() {
    let mut supervisor = sticky_run(2, &[]).start();
    let nothing = [
        Signal::SIGPIPE,
        Signal::SIGWINCH,
        Signal::SIGXFSZ,
        Signal::SIGIO,
        Signal::SIGSTKFLT,
        Signal::SIGURG,
    ];
    for signal in nothing {
        supervisor.signal(signal);
    }
    let mut shell = Command::new("sh");
    let pid = supervisor.pid();
    let real_time = format!("kill -34 {pid}; kill -40 {pid}; kill -64 {pid}");
    assert!(shell.args(["-c", &real_time]).status().unwrap().success());
    get(supervisor.address(), "/");
    assert_eq!(supervisor.count_events("signal_received"), 0);
    assert_eq!(supervisor.stop().code(), Some(0));
}

#[test]
fn timers_and_limits_of_whoever_started_it_and_a_power_failure_stop_it_in_order() {
    for signal in [Signal::SIGALRM, Signal::SIGPROF, Signal::SIGVTALRM, Signal::SIGXCPU] {
        let mut supervisor = sticky_run(1, &[]).start();
        supervisor.signal(signal);
        assert_eq!(supervisor.wait().code(), Some(0), "{signal}");
        supervisor.whole_log();
        supervisor.wait_event(event("signal_received").with("signal", signal.as_str()));
    }
}

#[test]
fn a_fault_ends_the_supervisor_and_every_worker_with_it() {
    let mut supervisor = sticky_run(2, &[]).start();
    let workers = supervisor.worker_pids();
    supervisor.signal(Signal::SIGABRT);
    assert_eq!(supervisor.wait().code(), None);
    eventually("no worker is left", || {
        (!workers.iter().any(|pid| proc::is_alive(*pid))).then_some(())
    });
}

#[test]
fn a_terminal_that_stops_those_in_the_background_stops_neither_the_log_nor_workers() {
    let (master, slave) = terminal::new();
    let log = slave.try_clone().expect("room for a descriptor");
    // A shell with job control leads the session, and puts the supervisor into the background.
    let shell =
        "exec setsid --ctty sh -c 'stty tostop; set -m; \"$0\" \"$@\" & wait' \"$0\" \"$@\";";
    let command = worker::command();
    // A worker may use the terminal as well: it writes to it, and has none to read.
    let uses = "echo a worker writes >&2; read word </dev/tty; exec \"$0\" \"$@\"";
    let words = ["sh", "-c", uses].into_iter().chain(command.iter().map(String::as_str));
    let words: Vec<_> = words.collect();
    let builder = sticky_run(1, &[]).command(&words).stdin(slave).log_to(log);
    let mut supervisor = builder.after(shell).spawn();
    let (lines, seen) = mpsc::channel();
    let reader = BufReader::new(File::from(master));
    thread::spawn(move || {
        // Reading fails when nobody has the terminal open any more, pty(7).
        for line in reader.lines().map_while(Result::ok) {
            lines.send(line).ok();
        }
    });
    while !seen.recv_timeout(SOON).expect("a line of the log").contains("worker 0 is ready") {}
    let sticky_run = proc::children(supervisor.pid())[0];
    proc::wait_for_rest(sticky_run);
    proc::signal(sticky_run, Signal::SIGTERM);
    assert_eq!(supervisor.wait().code(), Some(0));
}

#[test]
fn what_comes_at_any_moment_of_an_upgrade_is_heard() {
    let mut supervisor = sticky_run(1, &[]).start();
    for round in 0..10 {
        let moment = Duration::from_millis(5 * round);
        let (signal, said) = match round % 2 {
            0 => (Signal::SIGTTIN, event("scaled").with("count", 2)),
            _ => (Signal::SIGTTOU, event("scaled").with("count", 1)),
        };
        let heard = [&said, &event("upgraded")].map(|kind| supervisor.count_events(kind));
        supervisor.signal(Signal::SIGUSR2);
        proc::watch(moment);
        supervisor.signal(signal);
        supervisor.wait_events(said, heard[0] + 1);
        supervisor.wait_events("upgraded", heard[1] + 1);
        get(supervisor.address(), "/");
    }
    assert_eq!(supervisor.stop().code(), Some(0));
}

#[test]
fn signals_interrupt_nobody_who_is_served() {
    let builder = sticky_run(2, &["--forward", "URG", "--by", "none"]);
    let mut supervisor = builder.start();
    let (address, pid) = (supervisor.address(), supervisor.pid());
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                // By default nothing comes of it in a worker.
                proc::signal(pid, Signal::SIGURG);
                proc::signal(pid, Signal::SIGCHLD);
            }
        });
        for round in 0..300 {
            get(address, "/");
            if round % 100 == 0 {
                // A fork(2) and what comes after it are interrupted as well.
                let before = supervisor.count_events("worker_ready");
                proc::signal(supervisor.pid_of(0), Signal::SIGKILL);
                supervisor.wait_events("worker_ready", before + 1);
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    supervisor.expect_no_trouble_but(&["worker_exited", "lines_suppressed"]);
    assert_eq!(supervisor.stop().code(), Some(0));
}

#[test]
fn a_worker_that_is_stopped_is_named_and_holds_up_no_stop() {
    let mut supervisor = sticky_run(2, &["--grace", "1h"]).start();
    let pid = supervisor.pid_of(1);
    proc::signal(pid, Signal::SIGSTOP);
    let paused = event("worker_paused").worker(1).with("pid", pid).with("signal", "SIGSTOP");
    supervisor.wait_event(paused.saying(&format!("kill -CONT {pid}")));
    assert_eq!(supervisor.count_events("worker_paused"), 1);
    assert_eq!(supervisor.stop().code(), Some(0));
    assert_eq!(supervisor.kills(), 0);
}

/// A supervisor on a terminal, that `after` starts.
fn on_terminal(after: &str) -> (Supervisor, OwnedFd) {
    let (master, slave) = terminal::new();
    let supervisor = sticky_run(2, &[]).stdin(slave).after(after).start();
    (supervisor, master)
}

#[test]
fn a_supervisor_whose_terminal_goes_stops_in_order() {
    // The kernel tells the leader of the session, and a shell passes it on to those in the background.
    let passes_on = "exec setsid --ctty sh -c 'trap \"kill -HUP \\$!; wait\" HUP; \"$0\" \"$@\" & \
                     wait; wait' \"$0\" \"$@\";";
    for after in ["exec setsid --ctty \"$0\" \"$@\";", passes_on] {
        let (mut supervisor, terminal) = on_terminal(after);
        drop(terminal);
        supervisor.wait_event("terminal_lost");
        supervisor.wait();
        eventually("it has stopped", || (supervisor.count_events("stopped") > 0).then_some(()));
        assert_eq!(supervisor.count_events("restart_begun"), 0);
    }
}

#[test]
fn a_users_hup_on_a_terminal_restarts_and_nohup_outlives_it() {
    let (supervisor, _terminal) = on_terminal("exec setsid --ctty \"$0\" \"$@\";");
    supervisor.signal(Signal::SIGHUP);
    supervisor.wait_event(event("restart_done").with("count", 2));
    drop(supervisor);

    let (mut supervisor, terminal) = on_terminal("trap '' HUP; exec setsid --ctty \"$0\" \"$@\";");
    drop(terminal);
    supervisor.wait_event("terminal_lost");
    get(supervisor.address(), "/");
    supervisor.signal(Signal::SIGHUP);
    supervisor.wait_event(event("restart_done").with("count", 2));
    assert_eq!(supervisor.stop().code(), Some(0));
}
