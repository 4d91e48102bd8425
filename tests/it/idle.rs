//! What a supervisor costs when nothing happens: no time, and little memory.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::support::node::App;
use crate::support::programs::{ROOT, target};
use crate::support::{Supervisor, event, eventually, full, get, proc, reply, sticky_run};

/// So many workers there are.
const WORKERS: u16 = 8;
/// The most memory, in KiB, that a supervisor may have for itself with these workers.
const MOST_KIB: u64 = 3 * 1024;

/// What is measured with the full numbers is what users run, but for what the linker would take minutes to
/// optimize: that makes the file smaller, and nothing of what is counted here.
fn release() -> PathBuf {
    let home = target().join("idle");
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--locked", "--release", "--bin", "sticky-run", "--target-dir"]);
    for (setting, value) in [("LTO", "off"), ("CODEGEN_UNITS", "16")] {
        build.env(format!("CARGO_PROFILE_RELEASE_{setting}"), value);
    }
    let built = build.arg(&home).current_dir(ROOT).status();
    assert!(built.expect("there is a cargo").success());
    home.join("release/sticky-run")
}

/// Waits until it has not woken up for a while.
#[track_caller]
fn wait_for_sleep(pid: i32) {
    eventually("it sleeps", || {
        let before = proc::wakeups(pid);
        proc::watch(Duration::from_millis(1_200));
        (proc::wakeups(pid) == before).then_some(())
    });
}

/// Sees that it does nothing for so many seconds when there is nothing to do, and how much it needs for
/// that.
#[track_caller]
fn costs_nothing(supervisor: &Supervisor, seconds: u64) {
    let pid = supervisor.pid();
    wait_for_sleep(pid);
    let most = seconds / 60;
    let (wakeups, files) = (proc::wakeups(pid), proc::open_files(pid));
    proc::watch(Duration::from_secs(seconds));
    let woken = proc::wakeups(pid) - wakeups;
    assert!(woken <= most, "woken up {woken} times in {seconds} s");
    assert_eq!(proc::open_files(pid), files);
    let kib = proc::private_kib(pid);
    assert!(kib <= MOST_KIB, "{kib} KiB");
}

/// Restarts and upgrades it so often.
#[track_caller]
fn renew(supervisor: &Supervisor, restarts: usize, upgrades: usize) {
    for nth in 1..=restarts {
        supervisor.signal(Signal::SIGHUP);
        supervisor.wait_events(event("restart_done").with("count", WORKERS), nth);
    }
    for nth in 1..=upgrades {
        supervisor.signal(Signal::SIGUSR2);
        supervisor.wait_events("upgraded", nth);
    }
    eventually("those of before are gone", || {
        (proc::children(supervisor.pid()).len() == usize::from(WORKERS)).then_some(())
    });
}

#[test]
fn a_supervisor_sleeps_and_is_small_before_and_after_restarts_and_upgrades() {
    // The key of a client that may come again keeps its worker for so long.
    let flags = ["--by", "sid,ip", "--drain-timeout", "1s"];
    let mut builder = sticky_run(WORKERS, &flags);
    if full() {
        builder = builder.program(&release());
    }
    let supervisor = builder.start();
    get(supervisor.address(), "/announce/one");
    get(supervisor.address(), "/end/one");
    costs_nothing(&supervisor, if full() { 60 } else { 2 });
    let files = proc::open_files(supervisor.pid());
    renew(&supervisor, 5, 3);
    get(supervisor.address(), "/");
    costs_nothing(&supervisor, 2);
    assert_eq!(proc::open_files(supervisor.pid()), files);
}

#[test]
fn a_supervisor_of_node_workers_sleeps_and_is_small_before_and_after_restarts_and_upgrades() {
    let Some(mut app) = App::new("http.js") else { return };
    if full() {
        app = app.program(&release());
    }
    let running = app.start(WORKERS);
    reply::get(running.address(), "/");
    let (restarts, upgrades) = if full() { (5, 3) } else { (1, 1) };
    costs_nothing(&running, 2);
    let files = proc::open_files(running.pid());
    renew(&running, restarts, upgrades);
    reply::get(running.address(), "/");
    costs_nothing(&running, 2);
    assert_eq!(proc::open_files(running.pid()), files);
}
