//! Upgrades in place that cannot be, and those that change something.

use std::fs;
use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::stop::until_refused;
use crate::support::files::{File, Installed};
use crate::support::load::Load;
use crate::support::node::Port;
use crate::support::supervisor::configured;
use crate::support::{Supervisor, client, event, eventually, full, get, proc, sticky_run, worker};

/// What is at the path of the program, and what the log says of it.
type Wrong = (fn(&Installed), &'static str);

const SAYS_YES: &str = "echo 'sticky-run can go on from this state'";

/// The real program, with a state that `sed` or another filter has changed.
fn with_state(filter: &str) -> String {
    let state = "\"/proc/self/fd/${STICKY_UPGRADE#check:}\"";
    let changed = format!("LC_ALL=C {filter} <{state} >\"$0.state\"; exec 9<\"$0.state\"");
    format!("#!/bin/sh\n{changed}; STICKY_UPGRADE=check:9 exec $REAL \"$@\"\n")
}

/// Asks for an upgrade, and sees one line that says why not.
#[track_caller]
fn refuses(supervisor: &Supervisor, why: &str) {
    let trouble = || supervisor.trouble().len();
    let (before, failed) = (trouble(), supervisor.count_events("upgrade_failed"));
    supervisor.signal(Signal::SIGUSR2);
    supervisor.wait_events("upgrade_failed", failed + 1);
    let last = supervisor.last_of(&["upgrade_failed"]).unwrap();
    assert!(last.message().contains(why), "{why:?} in {last:?}");
    assert_eq!(trouble(), before + 1, "{:?}", supervisor.trouble());
}

/// One after the other, each with the same supervisor; in the end the right program.
#[track_caller]
fn goes_on_in_spite_of(name: &str, all: &[Wrong]) {
    let program = Installed::new(name);
    let mut supervisor = sticky_run(2, &[]).program(&program.path()).start();
    let load = Load::on(supervisor.address());
    let (pid, workers) = (supervisor.pid(), supervisor.worker_pids());
    for (put, why) in all {
        put(&program);
        refuses(&supervisor, why);
        load.goes_on();
        eventually("nobody else is left", || (proc::children(pid) == workers).then_some(()));
    }
    program.renew();
    supervisor.upgrade();
    load.goes_on();
    load.assert_all_answered();
    assert_eq!(supervisor.worker_pids(), workers);
    assert_eq!(supervisor.count_events("upgraded"), 1);
    assert_eq!(supervisor.stop().code(), Some(0));
}

#[test]
fn what_cannot_be_executed_is_one_line_and_all_goes_on() {
    let denied = "it does not start: permission denied";
    goes_on_in_spite_of(
        "upgrade-execute",
        &[
            (|program| program.data("#!/bin/sh\n"), denied),
            (Installed::directory, denied),
            (Installed::remove, "it does not start: no such file or directory"),
            (|program| program.script("#!/nowhere/sh\n"), "it does not start: no such file"),
        ],
    );
}

#[test]
fn another_program_is_one_line_and_all_goes_on() {
    goes_on_in_spite_of(
        "upgrade-another",
        &[
            (|program| program.script(""), "it is not sticky-run: it said nothing"),
            (|program| program.script("#!/bin/true\n"), "it is not sticky-run: it said nothing"),
            (
                |program| program.script("#!/bin/sh\necho one; echo two >&2"),
                "it is not sticky-run: it said \"two\"",
            ),
            (
                |program| program.script(&format!("#!/bin/sh\n{SAYS_YES}; echo and more")),
                "it is not sticky-run: it said \"and more\"",
            ),
            (
                |program| program.script(&format!("#!/bin/sh\n{SAYS_YES}; exit 3")),
                "it ended with exit code 3: sticky-run can go on",
            ),
            (|program| program.script("#!/bin/sh\nexit 4"), "exit code 4 and said nothing"),
            (
                |program| program.script("#!/bin/sh\nkill -SEGV $$"),
                "it ended with signal 11 and said nothing",
            ),
            (
                |program| program.script("#!/bin/sh\necho broken; kill -ABRT $$"),
                "it ended with signal 6: broken",
            ),
            (
                |program| program.script("#!/bin/sh\nexec $REAL --no-such-flag \"$@\""),
                "it ended with exit code 2: sticky-run: unexpected argument",
            ),
        ],
    );
}

#[test]
fn a_program_that_cannot_be_become_after_all_is_one_line_and_all_goes_on() {
    goes_on_in_spite_of(
        "upgrade-become",
        &[
            // A shell runs a file without a first line, the kernel does not.
            (|program| program.script(SAYS_YES), "it does not start: exec format error"),
            (
                |program| program.script(&format!("#!/bin/sh\nrm \"$0\"; {SAYS_YES}")),
                "no such file or directory",
            ),
            (
                |program| program.script(&format!("#!/bin/sh\nchmod -x \"$0\"; {SAYS_YES}")),
                "permission denied",
            ),
        ],
    );
}

#[test]
fn a_program_that_cannot_read_the_state_is_one_line_and_all_goes_on() {
    goes_on_in_spite_of(
        "upgrade-state",
        &[
            (
                |program| program.script(&with_state("sed '1s/state 2$/state 3/'")),
                "its state has format 3, and ",
            ),
            (
                |program| program.script(&with_state("sed '1s/state 2$/state 1/'")),
                "its state has format 1, and ",
            ),
            (
                |program| program.script(&with_state("sed '1s/2$/x/'")),
                "it is no state of sticky-run",
            ),
            (|program| program.script(&with_state("tr s S")), "it is no state of sticky-run"),
            (|program| program.script(&with_state("head -c 300")), "its state cannot be read: "),
            (|program| program.script(&with_state("head -c 0")), "it is no state of sticky-run"),
        ],
    );
}

#[test]
fn a_program_that_never_answers_is_ended_and_all_goes_on() {
    if !full() {
        return;
    }
    let program = Installed::new("upgrade-hangs");
    let mut supervisor = sticky_run(2, &[]).program(&program.path()).start();
    let load = Load::on(supervisor.address());
    let workers = supervisor.worker_pids();
    for (nth, text) in ["sleep 1000 & wait", "exec yes"].into_iter().enumerate() {
        program.script(&format!("#!/bin/sh\n{text}"));
        supervisor.signal(Signal::SIGUSR2);
        // It has 20 s, which is as long as any other condition may take.
        proc::watch(Duration::from_secs(10));
        supervisor
            .wait_events(event("upgrade_failed").saying("does not answer within 20s"), nth + 1);
        eventually("nobody else is left", || {
            (proc::children(supervisor.pid()) == workers).then_some(())
        });
    }
    program.renew();
    supervisor.upgrade();
    load.assert_all_answered();
    assert_eq!(supervisor.stop().code(), Some(0));
}

/// A configuration with this many workers on these addresses.
fn configuration(workers: u16, listen: &[&str]) -> String {
    format!("workers = {workers}\nlisten = {listen:?}\ncommand = {:?}\n", worker::command())
}

#[test]
fn with_a_configuration_that_became_wrong_it_is_one_line_and_all_goes_on() {
    let right = configuration(2, &["127.0.0.1:0"]);
    let file = File::new("upgrade-wrong.toml", &right);
    let mut supervisor = configured(2, file.path()).start();
    let load = Load::on(supervisor.address());
    let workers = supervisor.worker_pids();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let free = Port::free();
    let [any, one] = ["0.0.0.0", "127.0.0.1"].map(|address| format!("{address}:{}", free.number));
    for (text, why) in [
        ("worker = 3".to_owned(), "unknown name \"worker\""),
        ("workers = ".to_owned(), "exit code 2: sticky-run: "),
        (configuration(2, &["127.0.0.1:0", &taken]), &format!("cannot listen on {taken}: ")),
        (configuration(2, &["127.0.0.1:0", &any, &one]), &format!("cannot listen on {one}: ")),
        (format!("handoff = 'node'\n{right}"), "--handoff cannot change in an upgrade"),
    ] {
        file.replace(text);
        refuses(&supervisor, why);
        load.goes_on();
    }
    fs::remove_file(file.path()).unwrap();
    refuses(&supervisor, "cannot read the configuration file");
    file.replace(&right);
    supervisor.upgrade();
    load.assert_all_answered();
    assert_eq!(supervisor.worker_pids(), workers);
    assert_eq!(supervisor.stop().code(), Some(0));
}

#[test]
fn an_upgrade_changes_what_is_listened_on_and_how_many_workers_there_are() {
    let ports = [Port::free(), Port::free(), Port::free()];
    let addresses = ports.each_ref().map(|port| port.address().to_string());
    let [old, both, new] = addresses.each_ref().map(String::as_str);
    let file = File::new("upgrade-listen.toml", configuration(2, &[old, both]));
    let mut supervisor = configured(2, file.path()).start();
    get(old.parse().unwrap(), "/");
    let before = proc::open_files_at_rest(supervisor.pid());
    let load = Load::on(both.parse().unwrap());
    file.replace(configuration(3, &[both, new]));
    supervisor.upgrade();
    supervisor.wait_event(event("scaled").with("count", 3));
    supervisor.wait_event(event("worker_ready").worker(2));
    get(new.parse().unwrap(), "/");
    assert!(is_refused(old.parse().unwrap()));
    file.replace(configuration(1, &[both, old]));
    supervisor.upgrade();
    supervisor.wait_event(event("scaled").with("count", 1));
    eventually("one worker is left", || (supervisor.worker_pids().len() == 1).then_some(()));
    get(old.parse().unwrap(), "/");
    assert!(is_refused(new.parse().unwrap()));
    load.assert_all_answered();
    // Two channels less, with both ends of each.
    assert_eq!(proc::open_files_at_rest(supervisor.pid()), before - 2);
    assert_eq!(supervisor.stop().code(), Some(0));
}

#[test]
fn half_a_head_that_no_key_of_the_new_configuration_needs_is_not_awaited() {
    let by = |by: &str| format!("by = '{by}'\n{}", configuration(1, &["127.0.0.1:0"]));
    let file = File::new("upgrade-key.toml", by("cookie:a"));
    let supervisor = configured(1, file.path()).env("TEST_WORKER", "greet").start();
    let before = proc::open_files_at_rest(supervisor.pid());
    let mut client = client::send(supervisor.address(), "GET /");
    eventually("it is pending", || {
        (proc::open_files(supervisor.pid()) == before + 1).then_some(())
    });
    file.replace(by("ip"));
    supervisor.upgrade();
    client::read_reply(&mut client).expect("the worker speaks to whoever it gets");
}

#[test]
fn whoever_came_to_an_address_that_an_upgrade_removes_is_served() {
    let ports = [Port::free(), Port::free()];
    let addresses = ports.each_ref().map(|port| port.address().to_string());
    let [stays, goes] = addresses.each_ref().map(String::as_str);
    let file = File::new("upgrade-removed.toml", configuration(1, &[stays, goes]));
    // However slow the machine is, nothing is taken back from the stopped worker.
    let builder = configured(1, file.path()).env("STICKY_STALL_TIMEOUT", "1h");
    let mut supervisor = builder.start();
    let (gone, worker) = (goes.parse().unwrap(), supervisor.pid_of(0));
    let before = proc::open_files_at_rest(supervisor.pid());
    // The worker takes what fits into its channel; the last one is pending.
    proc::signal(worker, Signal::SIGSTOP);
    eventually("the worker is stopped", || proc::is_stopped(worker).then_some(()));
    let clients = (0..50).map(|_| client::send(gone, "GET / HTTP/1.1\r\n\r\n"));
    let mut clients: Vec<_> = clients.collect();
    let mut pending = client::send(gone, "GET /?si");
    eventually("18 wait, and one is pending", || {
        (proc::open_files(supervisor.pid()) == before + 19).then_some(())
    });
    file.replace(configuration(1, &[stays]));
    supervisor.upgrade();
    supervisor.wait_event(event("listener_closed").with("address", goes.to_string()));
    assert!(is_refused(gone));
    proc::signal(worker, Signal::SIGCONT);
    pending.write_all(b"d=late HTTP/1.1\r\n\r\n").unwrap();
    clients.push(pending);
    for mut client in clients {
        client::read_answer(&mut client).expect("an answer");
    }
    get(stays.parse().unwrap(), "/");
    assert_eq!(supervisor.stop().code(), Some(0));
    // The one is about the worker that was stopped.
    supervisor.whole_log();
    supervisor.expect_no_trouble_but(&["worker_paused"]);
}

#[test]
fn no_client_of_an_address_that_an_upgrade_removes_under_load_is_reset() {
    let ports = [Port::free(), Port::free()];
    let addresses = ports.each_ref().map(|port| port.address().to_string());
    let [stays, goes] = addresses.each_ref().map(String::as_str);
    let (with, without) = (configuration(2, &[stays, goes]), configuration(2, &[stays]));
    let file = File::new("upgrade-under-load.toml", &with);
    let mut supervisor = configured(2, file.path()).start();
    let load = Load::on(stays.parse().unwrap());
    for round in 0..if full() { 30 } else { 4 } {
        let answered = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| until_refused(goes.parse().unwrap(), &answered));
            }
            eventually("there is load", || (answered.load(Ordering::Relaxed) >= 100).then_some(()));
            file.replace(&without);
            supervisor.upgrade();
        });
        supervisor.wait_events("listener_closed", round + 1);
        file.replace(&with);
        supervisor.upgrade();
        supervisor.wait_events(event("listening").with("address", goes.to_string()), round + 2);
        get(goes.parse().unwrap(), "/");
    }
    load.assert_all_answered();
    supervisor.expect_no_trouble();
    assert_eq!(supervisor.stop().code(), Some(0));
}

#[test]
fn an_address_that_the_supervisor_itself_is_in_the_way_of_is_refused_with_what_to_do() {
    let port = Port::free();
    let narrow = port.address().to_string();
    let file = File::new("upgrade-wider.toml", configuration(1, &[&narrow]));
    let mut supervisor = configured(1, file.path()).start();
    let wide = format!("0.0.0.0:{}", port.number);
    let why = "address already in use (this supervisor itself listens there: upgrade once without";
    for listen in [&[wide.as_str()][..], &[&format!(":{}", port.number)]] {
        file.replace(configuration(1, listen));
        refuses(&supervisor, &format!("cannot listen on {wide}: {why}"));
    }
    get(narrow.parse().unwrap(), "/");
    // What it says works.
    file.replace(configuration(1, &["127.0.0.1:0"]));
    supervisor.upgrade();
    supervisor.wait_event("listener_closed");
    file.replace(configuration(1, &["127.0.0.1:0", &wide]));
    supervisor.upgrade();
    supervisor.wait_event(event("listening").with("address", wide.to_string()));
    get(narrow.parse().unwrap(), "/");
    assert_eq!(supervisor.stop().code(), Some(0));
}

fn is_refused(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

#[test]
fn whoever_sets_its_variable_by_hand_is_told_to_unset_it() {
    for told in
        ["", "resume:3", "check:3", "resume:0", "check:99999999999", "resume:-1", "x", "resume"]
    {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sticky-run"));
        command.args(["--listen", "127.0.0.1:0", "--", "true"]).env("STICKY_UPGRADE", told);
        let output = command.stdin(Stdio::null()).output().unwrap();
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{told}: {log}");
        let line = format!("sticky-run: STICKY_UPGRADE is \"{told}\": unset it: ");
        assert!(log.starts_with(&line) && log.lines().count() == 1, "{log}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_descriptor_that_holds_no_state_is_an_error_and_no_more() {
    let file = File::new("no-state", "sticky-run state 2\nand nonsense");
    for (path, why) in [
        (file.path(), "its state cannot be read"),
        ("/dev/null", "it is no state of sticky-run"),
        ("/", "cannot read the state"),
    ] {
        for task in ["check", "resume"] {
            let mut shell = Command::new("sh");
            shell.args(["-c", "exec 5<\"$0\"; exec \"$@\"", path]);
            shell.args([env!("CARGO_BIN_EXE_sticky-run"), "-l", "127.0.0.1:0", "--", "true"]);
            shell.env("STICKY_UPGRADE", format!("{task}:5")).stdin(Stdio::null());
            let output = shell.output().unwrap();
            let log = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(1), "{task} {path}: {log}");
            assert!(log.contains(why) && log.lines().count() == 1, "{why} in {log}");
        }
    }
}
