//! Restarts with a command that does not work: the workers of before go on.

use nix::sys::signal::Signal;

use crate::support::client::hold;
use crate::support::files::{File, Mark};
use crate::support::load::Load;
use crate::support::node::{self, Port};
use crate::support::supervisor::configured;
use crate::support::{Supervisor, event, eventually, get, proc, worker};

/// A file that has two workers run this command.
fn configuration(command: &[&str]) -> String {
    format!("workers = 2\nlisten = '127.0.0.1:0'\nboot-timeout = '2s'\ncommand = {command:?}\n")
}

/// The command of the test worker, with these words before it.
fn worker_after<'a>(words: &[&'a str], command: &'a [String]) -> Vec<&'a str> {
    words.iter().copied().chain(command.iter().map(String::as_str)).collect()
}

fn count_trouble(supervisor: &Supervisor) -> usize {
    supervisor.trouble().len()
}

/// Has all workers replaced, and waits until they are.
#[track_caller]
fn restarts(supervisor: &Supervisor) {
    let before = supervisor.worker_pids();
    supervisor.signal(Signal::SIGHUP);
    eventually("all workers are new", || {
        let now = supervisor.worker_pids();
        (now.len() == before.len() && !now.iter().any(|pid| before.contains(pid))).then_some(())
    });
}

/// Ends the worker of a slot, and waits for the next one.
#[track_caller]
fn crashes(supervisor: &Supervisor, slot: u16, pid: i32) {
    let ready = event("worker_ready").worker(slot);
    let before = supervisor.count_events(&ready);
    proc::signal(pid, Signal::SIGKILL);
    supervisor.wait_events(ready, before + 1);
}

#[test]
fn with_a_command_that_cannot_be_run_the_old_one_goes_on() {
    let words = worker::command();
    let right = configuration(&worker_after(&[], &words));
    let file = File::new("reload-run.toml", &right);
    let data = File::new("reload-data", "no program");
    let mut supervisor = configured(2, file.path()).start();
    let load = Load::on(supervisor.address());
    let workers = supervisor.worker_pids();
    for (command, why) in [
        (&["/nowhere/server"][..], "not found"),
        (&[data.path()], "permission denied (it has to be an executable file: chmod +x)"),
        (&["/tmp"], "permission denied"),
    ] {
        let before = count_trouble(&supervisor);
        file.replace(configuration(command));
        supervisor.signal(Signal::SIGHUP);
        let cannot = format!("cannot run {}: {why}", command[0]);
        supervisor.wait_event(event("worker_spawn_failed").worker(0).saying(&cannot));
        load.goes_on();
        // One line says what is wrong, another one what comes of it.
        supervisor.wait_events("restart_failed", before / 2 + 1);
        assert_eq!(count_trouble(&supervisor), before + 2);
        assert_eq!(supervisor.worker_pids(), workers);
    }
    file.replace(&right);
    restarts(&supervisor);
    load.assert_all_answered();
    assert_eq!(supervisor.stop().code(), Some(0));
}

#[test]
fn with_a_command_that_does_not_become_ready_the_old_one_goes_on_and_comes_back() {
    let words = worker::command();
    let right = configuration(&worker_after(&[], &words));
    let file = File::new("reload-ready.toml", &right);
    let mut supervisor = configured(2, file.path()).start();
    let load = Load::on(supervisor.address());
    let (first, second) = (supervisor.pid_of(0), supervisor.pid_of(1));
    let failed =
        |reason: &str| event("restart_failed").worker(0).with("reason", reason).with("count", 2);
    for (nth, (command, why)) in [
        (vec!["false"], failed("exited").with("code", 1)),
        (worker_after(&["env", "TEST_WORKER=exit=0"], &words), failed("exited").with("code", 0)),
        (vec!["sh", "-c", "kill -SEGV $$"], failed("exited").with("signal", "SIGSEGV")),
        (worker_after(&["env", "TEST_WORKER=deaf"], &words), failed("timeout")),
    ]
    .into_iter()
    .enumerate()
    {
        let workers = supervisor.worker_pids();
        let before = count_trouble(&supervisor);
        file.replace(configuration(&command));
        supervisor.signal(Signal::SIGHUP);
        supervisor.wait_events("restart_failed", nth + 1);
        supervisor.wait_event(&why);
        // The boot timeout has a line of its own.
        let lines = 1 + supervisor.count_events("worker_boot_timeout");
        assert_eq!(count_trouble(&supervisor), before + lines);
        supervisor.wait_events("configuration_reverted", nth + 1);
        eventually("the successor is gone", || (supervisor.worker_pids() == workers).then_some(()));
        load.goes_on();
    }
    load.assert_all_answered();
    // What the file says does not work, so these are started as the old ones were.
    crashes(&supervisor, 0, first);
    crashes(&supervisor, 1, second);
    get(supervisor.address(), "/");
    let load = Load::on(supervisor.address());
    file.replace(&right);
    restarts(&supervisor);
    load.assert_all_answered();
    assert_eq!(supervisor.stop().code(), Some(0));
}

#[test]
fn with_fewer_workers_none_goes_before_the_new_command_has_worked() {
    let words = worker::command();
    let with = |workers: u16, command: &[&str]| {
        configuration(command).replace("workers = 2", &format!("workers = {workers}"))
    };
    let right = worker_after(&[], &words);
    let file = File::new("reload-fewer.toml", with(3, &right));
    let mut supervisor = configured(3, file.path()).start();
    let load = Load::on(supervisor.address());
    let workers = supervisor.worker_pids();
    file.replace(with(1, &["false"]));
    supervisor.signal(Signal::SIGHUP);
    supervisor.wait_event(event("scale_deferred").with("count", 1));
    supervisor.wait_event(event("restart_failed").with("count", 3));
    supervisor.wait_event("configuration_reverted");
    eventually("the successor is gone", || (supervisor.worker_pids() == workers).then_some(()));
    assert_eq!(supervisor.count_events("worker_draining"), 0);
    load.goes_on();
    file.replace(with(1, &right));
    supervisor.signal(Signal::SIGHUP);
    supervisor.wait_event(event("scaled").with("count", 1));
    eventually("one new worker is left", || {
        let now = supervisor.worker_pids();
        (now.len() == 1 && !workers.contains(&now[0])).then_some(())
    });
    load.assert_all_answered();
    assert_eq!(supervisor.stop().code(), Some(0));
}

#[test]
fn a_configuration_that_comes_while_everything_stops_does_not_hold() {
    let right = configuration(&worker_after(&[], &worker::command()));
    let file = File::new("reload-late.toml", &right);
    let mut supervisor = configured(2, file.path()).start();
    let (open, _) = hold(supervisor.address(), "/hold");
    supervisor.signal(Signal::SIGTERM);
    supervisor.wait_event("stop_waiting");
    file.replace(format!("{right}log-level = 'debug'\n"));
    supervisor.signal(Signal::SIGHUP);
    supervisor.wait_event("restart_refused");
    assert_eq!(supervisor.count_events("configuration_changed"), 0);
    drop(open);
    assert_eq!(supervisor.wait().code(), Some(0));
}

#[test]
fn a_restart_that_fails_half_way_leaves_what_is_new_and_what_is_old() {
    let words = worker::command();
    let right = configuration(&worker_after(&[], &words));
    let file = File::new("reload-half.toml", &right);
    let mut supervisor = configured(2, file.path()).start();
    let load = Load::on(supervisor.address());
    let old = [supervisor.pid_of(0), supervisor.pid_of(1)];
    let half = ["sh", "-c", "[ $STICKY_WORKER_ID = 0 ] || exit 7; exec \"$0\" \"$@\""];
    file.replace(configuration(&worker_after(&half, &words)));
    supervisor.signal(Signal::SIGHUP);
    let failed = event("restart_failed").worker(1).with("code", 7).with("count", 1);
    supervisor.wait_event(failed);
    eventually("the old worker 0 is gone", || (!proc::is_alive(old[0])).then_some(()));
    assert!(proc::is_alive(old[1]));
    load.assert_all_answered();
    // With the command of now it would never be ready.
    crashes(&supervisor, 1, old[1]);
    assert_eq!(supervisor.stop().code(), Some(0));
}

#[test]
fn a_worker_from_before_an_upgrade_does_not_prove_the_command_of_after() {
    let (mark, words) = (Mark::new("reload-before"), worker::command());
    let waits = format!("TEST_WORKER=waits={}", mark.path());
    let right = configuration(&worker_after(&["env", &waits], &words));
    let file = File::new("reload-before.toml", right.replace("'2s'", "'20s'"));
    let mut supervisor = configured(2, file.path()).start();
    mark.set();
    proc::signal(supervisor.pid_of(0), Signal::SIGKILL);
    supervisor.wait_events(event("worker_started").worker(0), 2);
    file.replace(configuration(&["false"]));
    supervisor.signal(Signal::SIGUSR2);
    supervisor.wait_event("upgraded");
    mark.clear();
    supervisor.wait_events(event("worker_ready").worker(0), 2);
    crashes(&supervisor, 0, supervisor.pid_of(0));
    assert_eq!(supervisor.count_events("configuration_reverted"), 1);
    assert_eq!(supervisor.stop().code(), Some(0));
}

/// The one that it was to replace would stay worn.
#[test]
fn a_worn_worker_gets_a_successor_of_before_if_the_command_of_an_upgrade_fails() {
    let words = worker::command();
    let right = configuration(&worker_after(&[], &words)).replace("workers = 2", "workers = 1");
    let with = |configuration: &str| format!("{configuration}max-lifetime = '2s'\n");
    let file = File::new("reload-worn.toml", with(&right));
    let mut supervisor = configured(1, file.path()).start();
    let first = supervisor.pid_of(0);
    let wrong = configuration(&["false"]).replace("workers = 2", "workers = 1");
    file.replace(with(&wrong));
    supervisor.signal(Signal::SIGUSR2);
    supervisor.wait_event("upgraded");
    supervisor.wait_event(event("worker_recycle_failed").worker(0).with("code", 1));
    supervisor.wait_event("configuration_reverted");
    supervisor.wait_events(event("worker_ready").worker(0), 2);
    eventually("the worn one is gone", || (!proc::is_alive(first)).then_some(()));
    assert_eq!(supervisor.stop().code(), Some(0));
}

#[test]
fn with_a_server_in_node_that_throws_at_its_start_the_old_one_goes_on() {
    let Some(node) = node::binary() else { return };
    let app = |name: &str| format!("{}/tests/node/apps/{name}", env!("CARGO_MANIFEST_DIR"));
    let (right, throws) = (app("http.js"), app("death.js"));
    let configuration = |command: &[&str]| format!("workers = 2\ncommand = {command:?}\n");
    let file = File::new("reload-node.toml", configuration(&[&node, &right]));
    let port = Port::free();
    let builder = configured(2, file.path()).env("HOST", "127.0.0.1");
    let mut supervisor = builder.env("PORT", &port.number.to_string()).env("WAY", "throw").start();
    let address = port.address();
    let load = Load::on(address);
    let workers = supervisor.worker_pids();
    file.replace(configuration(&[&node, &throws]));
    supervisor.signal(Signal::SIGHUP);
    supervisor.wait_event(event("restart_failed").worker(0).with("code", 1));
    load.goes_on();
    assert_eq!(supervisor.worker_pids(), workers);
    file.replace(configuration(&[&node, &right]));
    restarts(&supervisor);
    load.assert_all_answered();
    assert_eq!(supervisor.stop().code(), Some(0));
}
