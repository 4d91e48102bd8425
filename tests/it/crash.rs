//! Workers that die: nobody who can be served goes without an answer.

use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::client::{self, read_answer};
use crate::support::{Answer, eventually, get, proc, sticky_run, worker};

/// What may be in flight to one worker.
const IN_FLIGHT: usize = 32;

#[test]
fn all_232_who_are_with_a_stopped_worker_that_is_killed_are_answered_by_others() {
    let supervisor = sticky_run(4, &["--stall-timeout", "1h"]).start();
    let address = supervisor.address();
    let owner = get(address, "/announce/mine");
    stop(owner.pid);
    let before = proc::open_files(supervisor.pid());
    let clients: Vec<_> = (0..232).map(|_| send(address, "/?sid=mine")).collect();
    eventually("32 are in flight and 200 wait", || {
        (proc::open_files(supervisor.pid()) == before + 232 - IN_FLIGHT).then_some(())
    });
    proc::signal(owner.pid, Signal::SIGKILL);
    for answer in answers(clients) {
        assert_ne!(answer.pid, owner.pid);
    }
}

#[test]
fn clients_in_flight_that_belong_nowhere_are_answered_by_others_too() {
    let flags = ["--by", "none", "--balance", "round-robin", "--stall-timeout", "1h"];
    let supervisor = sticky_run(2, &flags).start();
    let address = supervisor.address();
    let victim = get(address, "/");
    stop(victim.pid);
    let clients: Vec<_> = (0..232).map(|_| send(address, "/")).collect();
    let mut clients = clients.into_iter();
    // Every other one of the first went to the stopped worker, until it had all it may have.
    let early: Vec<_> = clients.by_ref().take(3 * IN_FLIGHT).collect();
    assert!(answers(clients).iter().all(|answer| answer.pid != victim.pid));
    proc::signal(victim.pid, Signal::SIGKILL);
    assert!(answers(early).iter().all(|answer| answer.pid != victim.pid));
}

#[test]
fn clients_of_an_only_worker_that_dies_are_answered_by_its_successor() {
    let supervisor = sticky_run(1, &["--stall-timeout", "1h"]).start();
    let address = supervisor.address();
    let first = get(address, "/announce/mine");
    stop(first.pid);
    let paths = ["/", "/?sid=mine", "/?sid=unknown"];
    let clients: Vec<_> = (0..90).map(|nth| send(address, paths[nth % 3])).collect();
    proc::signal(first.pid, Signal::SIGKILL);
    for answer in answers(clients) {
        assert_eq!((answer.slot, answer.pid), (0, supervisor.pid_of(0)));
    }
}

#[test]
fn sessions_of_other_workers_notice_nothing_of_a_death() {
    let supervisor = sticky_run(4, &["--balance", "round-robin"]).start();
    let address = supervisor.address();
    let owners: Vec<_> = (0..4).map(|nth| get(address, &format!("/announce/s{nth}"))).collect();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for (nth, owner) in owners.iter().enumerate().skip(1) {
            let done = &done;
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    assert_eq!(get(address, &format!("/?sid=s{nth}")).pid, owner.pid);
                }
            });
        }
        stop(owners[0].pid);
        let clients: Vec<_> = (0..100).map(|_| send(address, "/?sid=s0")).collect();
        proc::signal(owners[0].pid, Signal::SIGKILL);
        let answered = answers(clients).len();
        supervisor.wait_for_log_times(&format!("worker {} is ready", owners[0].slot), 2);
        done.store(true, Ordering::Relaxed);
        assert_eq!(answered, 100);
    });
}

#[test]
fn a_connection_that_was_picked_up_dies_with_its_worker_and_no_other_does() {
    let supervisor = sticky_run(2, &["--balance", "round-robin"]).start();
    let (mut first, victim) = client::hold(supervisor.address(), "/hold");
    let (mut second, other) = client::hold(supervisor.address(), "/hold");
    assert_ne!(victim.pid, other.pid);
    proc::signal(victim.pid, Signal::SIGKILL);
    assert!(reads_end(&mut first));
    second.set_nonblocking(true).unwrap();
    let error = std::io::Read::read(&mut second, &mut [0]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn a_slot_is_back_within_150_ms_and_the_time_of_a_boot() {
    let supervisor = sticky_run(4, &[]).start();
    // Other load of the machine can only add to a time, so the best of four is the supervisor's.
    let times = (0..4).map(|slot| {
        let killed = Instant::now();
        proc::signal(supervisor.pid_of(slot), Signal::SIGKILL);
        supervisor.wait_for_log_times(&format!("worker {slot} started"), 2);
        killed.elapsed()
    });
    let best = times.min().unwrap();
    assert!(best < Duration::from_millis(150), "{best:?}");
    supervisor.wait_for_log_times("is ready", 8);
}

#[test]
fn a_worker_that_dies_on_every_start_rests_longer_each_time_and_costs_next_to_nothing() {
    let mut words = vec!["sh", "-c", "[ $STICKY_WORKER_ID = 0 ] && exit 3; exec \"$0\" \"$@\""];
    let command = worker::command();
    words.extend(command.iter().map(String::as_str));
    let supervisor = sticky_run(2, &[]).command(&words).listening();
    supervisor.wait_for_log("worker 1 is ready");
    supervisor.wait_for_log_times("worker 0 restarts in", 5);
    let cost = || proc::cpu_time(supervisor.pid()) + proc::cpu_time_of_children(supervisor.pid());
    let (before, since) = (cost(), Instant::now());
    supervisor.wait_for_log_times("worker 0 restarts in", 6);
    let share = (cost() - before).as_secs_f64() / since.elapsed().as_secs_f64();
    assert!(share < 0.01, "{share}");
    let log = supervisor.log();
    let rests = log.lines().filter_map(|line| line.split("worker 0 restarts in ").nth(1));
    let rests: Vec<u64> = rests.map(|rest| rest.trim_end_matches(" ms").parse().unwrap()).collect();
    assert!(rests.windows(2).all(|pair| pair[1] > pair[0]), "{rests:?}");
    assert!(get(supervisor.address(), "/").slot == 1);
}

/// Stops a worker and waits until it is.
fn stop(pid: i32) {
    proc::signal(pid, Signal::SIGSTOP);
    eventually("the worker is stopped", || proc::is_stopped(pid).then_some(()));
}

/// Sends a request and leaves the answer for later.
fn send(address: SocketAddr, path: &str) -> TcpStream {
    client::send(address, &format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"))
}

fn reads_end(stream: &mut TcpStream) -> bool {
    std::io::Read::read(stream, &mut [0]).is_ok_and(|count| count == 0)
}

fn answers(clients: impl IntoIterator<Item = TcpStream>) -> Vec<Answer> {
    let answer = |mut stream| read_answer(&mut stream).expect("everybody is answered");
    clients.into_iter().map(answer).collect()
}
