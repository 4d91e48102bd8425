//! Workers that die: nobody who can be served goes without an answer.

use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::client::{self, read_answer};
use crate::support::{Answer, event, eventually, get, proc, sticky_run, worker};

/// What may be in flight to one worker.
const IN_FLIGHT: usize = 32;

#[test]
fn all_232_who_are_with_a_stopped_worker_that_is_killed_are_answered_by_others() {
    let supervisor = sticky_run(4, &["--stall-timeout", "1h"]).start();
    let address = supervisor.address();
    let owner = get(address, "/announce/mine");
    stop(owner.pid);
    let before = proc::open_files_at_rest(supervisor.pid());
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
        supervisor.wait_events(event("worker_ready").worker(owners[0].slot), 2);
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
        supervisor.wait_events(event("worker_started").worker(slot), 2);
        killed.elapsed()
    });
    let best = times.min().unwrap();
    assert!(best < Duration::from_millis(150), "{best:?}");
    supervisor.wait_events("worker_ready", 8);
}

#[test]
fn a_worker_that_dies_of_a_real_time_signal_is_replaced_and_so_are_others_after_it() {
    let mut supervisor = sticky_run(2, &[]).start();
    end_by_real_time_signal(supervisor.pid_of(0));
    supervisor.wait_events(event("worker_ready").worker(0), 2);
    proc::signal(supervisor.pid_of(1), Signal::SIGKILL);
    supervisor.wait_events(event("worker_ready").worker(1), 2);
    end_by_real_time_signal(supervisor.pid_of(0));
    assert_eq!(supervisor.stop().code(), Some(0));
}

#[test]
fn an_orphan_that_dies_of_a_real_time_signal_is_reaped_as_process_1() {
    let in_a_namespace = "exec unshare --pid --fork --kill-child --mount-proc";
    let mut probe = Command::new("sh");
    if !probe.args(["-c", &format!("{in_a_namespace} true")]).status().unwrap().success() {
        eprintln!("not tested: no right to make a namespace of processes here");
        return;
    }
    // The orphan waits until it belongs to process 1; the fourth word is its parent, proc(5).
    let orphan = "while read -r _ _ _ parent _ </proc/$$/stat && [ $parent != 1 ]; do :; done; \
                  echo an orphan dies >&2; kill -40 $$";
    let mut words = vec!["sh", "-c", "(sh -c \"$0\" &); exec \"$@\"", orphan];
    let command = worker::command();
    words.extend(command.iter().map(String::as_str));
    let before = format!("{in_a_namespace} \"$0\" \"$@\";");
    let supervisor = sticky_run(2, &[]).after(&before).command(&words).start();
    supervisor.wait_for_log_times("an orphan dies", 2);
    let process_1 = proc::children(supervisor.pid())[0];
    eventually("nobody is left but the workers", || {
        (proc::children(process_1).len() == 2).then_some(())
    });
    // Not all of its children: that it goes on to reap is what is meant.
    proc::signal(proc::children(process_1)[0], Signal::SIGKILL);
    supervisor.wait_events("worker_ready", 3);
}

#[test]
fn a_worker_of_another_user_that_dies_is_replaced_without_the_right_to_signal_it() {
    let here = i32::try_from(std::process::id()).unwrap();
    if proc::status(here, "Uid:") != Some(0) {
        eprintln!("not tested: only root can start a worker of another user");
        return;
    }
    // The right to read is needed to find the program.
    let as_nobody = ["setpriv", "--reuid", "65534", "--clear-groups"];
    let as_nobody = [&as_nobody[..], &["--inh-caps=+dac_read_search"]].concat();
    let as_nobody = [&as_nobody[..], &["--ambient-caps=+dac_read_search"]].concat();
    let command = worker::command();
    let words: Vec<_> = as_nobody.into_iter().chain(command.iter().map(String::as_str)).collect();
    let without = "exec setpriv --bounding-set=-kill --inh-caps=-kill \"$0\" \"$@\";";
    let supervisor = sticky_run(2, &[]).after(without).command(&words).start();
    let first = supervisor.pid_of(0);
    assert_eq!(proc::status(first, "Uid:"), Some(65534));
    proc::signal(first, Signal::SIGKILL);
    supervisor.wait_events(event("worker_ready").worker(0), 2);
    assert!(!proc::children(supervisor.pid()).contains(&first));
    get(supervisor.address(), "/");
}

#[test]
fn a_worker_that_dies_on_every_start_rests_longer_each_time_and_costs_next_to_nothing() {
    let mut words = vec!["sh", "-c", "[ $STICKY_WORKER_ID = 0 ] && exit 3; exec \"$0\" \"$@\""];
    let command = worker::command();
    words.extend(command.iter().map(String::as_str));
    let supervisor = sticky_run(2, &[]).command(&words).listening();
    supervisor.wait_event(event("worker_ready").worker(1));
    supervisor.wait_events(event("worker_restart_scheduled").worker(0), 5);
    let cost = || proc::cpu_time(supervisor.pid()) + proc::cpu_time_of_children(supervisor.pid());
    let (before, since) = (cost(), Instant::now());
    supervisor.wait_events(event("worker_restart_scheduled").worker(0), 6);
    let share = (cost() - before).as_secs_f64() / since.elapsed().as_secs_f64();
    assert!(share < 0.01, "{share}");
    let rests = supervisor.events(event("worker_restart_scheduled").worker(0));
    let rests: Vec<u64> = rests.iter().map(|event| event.number("delay_ms")).collect();
    assert!(rests.windows(2).all(|pair| pair[1] > pair[0]), "{rests:?}");
    assert!(get(supervisor.address(), "/").slot == 1);
}

/// Ends a process by a signal that has a number but no name (`signal(7)`).
fn end_by_real_time_signal(pid: i32) {
    let mut shell = Command::new("sh");
    assert!(shell.args(["-c", &format!("kill -40 {pid}")]).status().unwrap().success());
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
