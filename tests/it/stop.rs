//! Stops: in order, in time, and with nothing left behind.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::geteuid;

use crate::privileges::{AS_SOMEBODY, public_program};
use crate::support::client::{self, connect, read_answer};
use crate::support::{
    Supervisor, event, eventually, full, get, proc, sticky_run, uninterrupted, worker,
};

/// What ending may take besides the time that is meant, on a busy machine.
const SLACK: Duration = Duration::from_secs(4);

/// Stops that come within this time of one are the same.
pub(crate) const ONE_STOP: Duration = Duration::from_millis(500);

#[test]
fn term_and_int_wait_for_open_connections() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut supervisor = sticky_run(2, &["--grace", "1h"]).start();
        let (held, _) = client::hold(supervisor.address(), "/hold");
        supervisor.signal(signal);
        supervisor.wait_event(event("stop_waiting").with("count", 1));
        is_closed_to_new_clients(supervisor.address());
        assert!(proc::is_alive(supervisor.pid()));
        drop(held);
        ends_in_order(&mut supervisor);
        assert_eq!(supervisor.kills(), 0);
    }
}

#[test]
fn a_connection_that_never_ends_is_given_the_grace_and_no_more() {
    let mut supervisor = sticky_run(2, &["--grace", "1s"]).start();
    let (mut held, _) = client::hold(supervisor.address(), "/hold");
    let since = Instant::now();
    supervisor.signal(Signal::SIGTERM);
    ends_in_order(&mut supervisor);
    // The last fifth of the grace is for the workers to end after their TERM.
    assert!(since.elapsed() >= Duration::from_millis(800), "{:?}", since.elapsed());
    assert!(since.elapsed() < Duration::from_secs(1) + SLACK, "{:?}", since.elapsed());
    assert!(uninterrupted(|| held.read(&mut [0])).is_ok_and(|count| count == 0));
    assert_eq!(supervisor.kills(), 0);
}

#[test]
fn a_worker_that_ignores_term_is_killed_at_the_end_of_the_grace() {
    let builder = sticky_run(2, &["--grace", "1s"]).env("TEST_WORKER", "stubborn");
    let mut supervisor = builder.start();
    let since = Instant::now();
    supervisor.signal(Signal::SIGTERM);
    ends_in_order(&mut supervisor);
    assert!(since.elapsed() >= Duration::from_secs(1), "{:?}", since.elapsed());
    assert!(since.elapsed() < Duration::from_secs(1) + SLACK, "{:?}", since.elapsed());
    assert_eq!(supervisor.count_events(event("workers_killed").with("count", 2)), 1);
}

#[test]
fn children_of_workers_are_gone_too() {
    for traits in ["", "stubborn"] {
        let words = with_grandchild();
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        let builder = sticky_run(2, &["--grace", "1s"]).env("TEST_WORKER", traits);
        let mut supervisor = builder.command(&words).start();
        let groups = supervisor.worker_pids();
        let members = || groups.iter().map(|group| proc::group(*group).len()).sum::<usize>();
        assert_eq!(members(), 4);
        supervisor.signal(Signal::SIGTERM);
        ends_in_order(&mut supervisor);
        eventually("nobody is left of the groups", || (members() == 0).then_some(()));
    }
}

#[test]
fn a_second_signal_ends_it_within_a_second_and_a_third_at_once() {
    for signals in [2, 3] {
        let builder = sticky_run(2, &["--grace", "1h"]).env("TEST_WORKER", "stubborn");
        let mut supervisor = builder.start();
        let (_held, _) = client::hold(supervisor.address(), "/hold");
        let since = Instant::now();
        supervisor.signal(Signal::SIGINT);
        supervisor.wait_event("stop_waiting");
        for _ in 1..signals {
            let heard = supervisor.count_events("signal_received");
            proc::watch(ONE_STOP);
            supervisor.signal(Signal::SIGTERM);
            supervisor.wait_events("signal_received", heard + 1);
        }
        ends_in_order(&mut supervisor);
        assert!(since.elapsed() < Duration::from_secs(1) + SLACK, "{:?}", since.elapsed());
    }
}

#[test]
fn a_stop_that_arrives_twice_within_a_moment_waits_for_open_connections() {
    for second in [Signal::SIGTERM, Signal::SIGINT] {
        let mut supervisor = sticky_run(2, &["--grace", "1h"]).start();
        let (held, _) = client::hold(supervisor.address(), "/hold");
        supervisor.signal(Signal::SIGTERM);
        supervisor.wait_event(event("stop_waiting").with("count", 1));
        supervisor.signal(second);
        supervisor.wait_event("stop_repeated");
        assert_eq!(supervisor.count_events("stop_hurried"), 0);
        assert_eq!(supervisor.worker_pids().len(), 2);
        drop(held);
        ends_in_order(&mut supervisor);
    }
}

#[test]
fn no_socket_file_is_left() {
    let path = std::env::temp_dir().join(format!("sticky-run-stop-{}.sock", std::process::id()));
    let listen = format!("unix:{}", path.display());
    let mut supervisor = sticky_run(2, &["--listen", &listen]).start();
    let mut client = UnixStream::connect(&path).unwrap();
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    assert_eq!(read_answer(&mut client).unwrap().value("message"), "CONN listener=0");
    supervisor.signal(Signal::SIGTERM);
    ends_in_order(&mut supervisor);
    assert!(!path.exists());
}

#[test]
fn workers_that_are_not_ready_yet_are_ended() {
    let mut supervisor = sticky_run(1, &[]).env("TEST_WORKER", "deaf").listening();
    supervisor.wait_event(event("worker_started").worker(0));
    let since = Instant::now();
    supervisor.signal(Signal::SIGTERM);
    ends_in_order(&mut supervisor);
    assert!(since.elapsed() < SLACK, "{:?}", since.elapsed());
}

#[test]
fn workers_that_crash_on_every_start_are_not_started_any_more() {
    let mut supervisor = sticky_run(3, &[]).command(&["false"]).listening();
    supervisor.wait_events("worker_start_scheduled", 3);
    let since = Instant::now();
    supervisor.signal(Signal::SIGTERM);
    ends_in_order(&mut supervisor);
    assert!(since.elapsed() < SLACK, "{:?}", since.elapsed());
}

#[test]
fn clients_whose_head_was_not_complete_and_clients_that_wait_are_served() {
    let mut supervisor = sticky_run(1, &["--grace", "1h", "--stall-timeout", "1h"]).start();
    let (address, worker) = (supervisor.address(), supervisor.pid_of(0));
    proc::signal(worker, Signal::SIGSTOP);
    eventually("the worker is stopped", || proc::is_stopped(worker).then_some(()));
    let before = proc::open_files_at_rest(supervisor.pid());
    let waiting = (0..50).map(|_| client::send(address, "GET / HTTP/1.1\r\n\r\n"));
    let mut clients: Vec<_> = waiting.collect();
    let mut pending = client::send(address, "GET /?si");
    eventually("18 wait, and one is pending", || {
        (proc::open_files(supervisor.pid()) == before + 19).then_some(())
    });
    supervisor.signal(Signal::SIGTERM);
    supervisor.wait_event(event("stop_waiting").with("count", 51));
    proc::signal(worker, Signal::SIGCONT);
    pending.write_all(b"d=late HTTP/1.1\r\n\r\n").unwrap();
    clients.push(pending);
    for mut client in clients {
        assert_eq!(read_answer(&mut client).expect("an answer").pid, worker);
    }
    ends_in_order(&mut supervisor);
}

#[test]
fn a_client_that_has_said_nothing_does_not_hold_up_a_stop() {
    let mut supervisor = sticky_run(2, &["--grace", "1h", "--head-timeout", "1h"]).start();
    let before = proc::open_files_at_rest(supervisor.pid());
    let mut silent = connect(supervisor.address()).unwrap();
    eventually("the silent client was accepted", || {
        (proc::open_files(supervisor.pid()) == before + 1).then_some(())
    });
    supervisor.signal(Signal::SIGTERM);
    ends_in_order(&mut supervisor);
    assert!(uninterrupted(|| silent.read(&mut [0])).is_ok_and(|count| count == 0));
}

#[test]
fn a_client_with_a_part_of_a_head_delays_a_stop_by_a_second_and_not_by_the_head_timeout() {
    let mut supervisor = sticky_run(2, &["--grace", "1h", "--head-timeout", "1h"]).start();
    let before = proc::open_files_at_rest(supervisor.pid());
    let _partial = client::send(supervisor.address(), "GET /?si");
    eventually("the client was accepted", || {
        (proc::open_files(supervisor.pid()) == before + 1).then_some(())
    });
    let since = Instant::now();
    supervisor.signal(Signal::SIGTERM);
    ends_in_order(&mut supervisor);
    assert!(since.elapsed() < Duration::from_secs(1) + SLACK, "{:?}", since.elapsed());
}

#[test]
fn a_listener_that_was_inherited_is_closed_too_while_others_are_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let builder = sticky_run(2, &["--listen", "fd:3", "--grace", "1h"]);
    let mut supervisor = builder.inherit(listener.into()).start();
    let (held, _) = client::hold(supervisor.address(), "/hold");
    supervisor.signal(Signal::SIGTERM);
    supervisor.wait_event(event("stop_waiting").with("count", 1));
    is_closed_to_new_clients(supervisor.address());
    drop(held);
    ends_in_order(&mut supervisor);
}

#[test]
fn clients_that_connected_before_the_stop_are_answered_although_nobody_accepted_them_yet() {
    for by in ["none", "sid"] {
        let mut supervisor = sticky_run(2, &["--by", by, "--grace", "1h"]).start();
        let (address, pid) = (supervisor.address(), supervisor.pid());
        // It comes to see the clients and the signal at the same time.
        proc::signal(pid, Signal::SIGSTOP);
        eventually("the supervisor is stopped", || proc::is_stopped(pid).then_some(()));
        let clients = (0..200).map(|_| client::send(address, "GET / HTTP/1.1\r\n\r\n"));
        let clients: Vec<_> = clients.collect();
        supervisor.signal(Signal::SIGTERM);
        supervisor.signal(Signal::SIGCONT);
        for mut client in clients {
            read_answer(&mut client).expect("everybody is answered");
        }
        ends_in_order(&mut supervisor);
    }
}

#[test]
fn no_client_is_reset_by_a_stop_under_load() {
    let (_directory, command) = worker::public_command();
    let command: Vec<_> = command.iter().map(String::as_str).collect();
    let program = public_program();
    // Only root can start workers of another user, and gives up rights then; or not be root at all.
    let somebody = "exec setpriv --reuid 54321 --regid 54321 --clear-groups \"$0\" \"$@\";";
    let mut ways: Vec<(&[&str], &str)> = vec![(&[], "")];
    if geteuid().is_root() {
        ways.extend([(&AS_SOMEBODY[..], ""), (&[][..], somebody)]);
    }
    let mut listen = vec!["127.0.0.1:0"];
    // Not every machine has IPv6.
    listen.extend(TcpListener::bind("[::1]:0").is_ok().then_some("[::1]:0"));
    for round in 0..if full() { 36 } else { 6 } {
        let (flags, before) = ways[round % ways.len()];
        let address = listen[round / ways.len() % listen.len()];
        let flags = [&["--by", "none", "--grace", "1h", "--listen", address], flags].concat();
        let builder = sticky_run(2, &flags).command(&command).program(&program.path().join("run"));
        let mut supervisor = builder.after(before).start();
        let address = supervisor.address();
        let answered = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| until_refused(address, &answered));
            }
            eventually("there is load", || (answered.load(Ordering::Relaxed) >= 100).then_some(()));
            supervisor.signal(Signal::SIGTERM);
        });
        ends_in_order(&mut supervisor);
        supervisor.whole_log();
        supervisor.expect_no_trouble();
    }
}

#[test]
fn no_worker_survives_a_supervisor_that_was_killed() {
    for traits in ["", "stubborn", "deaf", "stays"] {
        let mut supervisor = sticky_run(3, &[]).env("TEST_WORKER", traits).listening();
        // As long as none is ready, there is one alone.
        let count = if traits == "deaf" { 1 } else { 3 };
        supervisor.wait_events("worker_started", count);
        let workers = supervisor.worker_pids();
        assert_eq!(workers.len(), count);
        supervisor.signal(Signal::SIGKILL);
        supervisor.wait();
        eventually("no worker is left", || {
            (!workers.iter().any(|pid| proc::is_alive(*pid))).then_some(())
        });
    }
}

#[test]
fn a_stop_that_nobody_asked_twice_lets_an_answer_finish() {
    let mut supervisor = sticky_run(1, &["--grace", "1h"]).start();
    let address = supervisor.address();
    let mut upload = client::send(address, "POST /body HTTP/1.1\r\nContent-Length: 4\r\n\r\n12");
    get(address, "/");
    supervisor.signal(Signal::SIGTERM);
    supervisor.wait_event("stop_waiting");
    upload.write_all(b"34").unwrap();
    assert_eq!(read_answer(&mut upload).unwrap().value("length"), "4");
    ends_in_order(&mut supervisor);
}

/// Waits for the end: exit code 0 and no worker left.
#[track_caller]
fn ends_in_order(supervisor: &mut Supervisor) {
    let workers = supervisor.worker_pids();
    assert_eq!(supervisor.wait().code(), Some(0));
    assert!(!workers.iter().any(|pid| proc::is_alive(*pid)));
}

/// Asks again and again until there is nobody any more; each that could connect is answered.
pub fn until_refused(address: SocketAddr, answered: &AtomicUsize) {
    loop {
        match connect(address) {
            Ok(mut stream) => {
                stream.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("room for a request");
                read_answer(&mut stream).expect("an answer");
                answered.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => return assert_eq!(error.kind(), ErrorKind::ConnectionRefused),
        }
    }
}

#[track_caller]
fn is_closed_to_new_clients(address: SocketAddr) {
    eventually("new clients are refused", || {
        let refused = TcpStream::connect(address).err()?.kind() == ErrorKind::ConnectionRefused;
        refused.then_some(())
    });
}

/// The test worker, with a child that it knows nothing of.
fn with_grandchild() -> Vec<String> {
    let shell = ["sh", "-c", "sleep 100 & exec \"$0\" \"$@\""].map(str::to_owned);
    shell.into_iter().chain(worker::command()).collect()
}
