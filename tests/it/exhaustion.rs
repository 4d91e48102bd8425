//! Too few descriptors: nobody is lost that was not refused, nothing spins, and it passes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::client::{self, connect, read_answer, read_reply, request};
use crate::support::{
    Answer, SOON, Supervisor, event, eventually, get, proc, programs, sticky_run, uninterrupted,
};

/// The share of a processor that a supervisor which waits may use at the most.
const HARDLY_ANYTHING: f64 = 0.05;

#[test]
fn with_64_files_hundreds_of_silent_and_talking_clients_cost_nobody_an_answer() {
    let supervisor = sticky_run(2, &["--head-timeout", "2s"]).after("ulimit -n 64;").start();
    let (address, pid) = (supervisor.address(), supervisor.pid());
    let before = proc::open_files_at_rest(pid);
    let (cpu, since) = (proc::cpu_time(pid), Instant::now());
    let silent: Vec<_> = (0..200).map(|_| connect(address).expect("a connection")).collect();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..50).for_each(|_| _ = get(address, "/")));
        }
    });
    for mut stream in silent {
        assert_eq!(uninterrupted(|| stream.read(&mut [0])).expect("the end"), 0);
    }
    let share = (proc::cpu_time(pid) - cpu).as_secs_f64() / since.elapsed().as_secs_f64();
    assert!(share < 0.5, "{share}");
    proc::wait_for_rest(pid);
    assert_eq!(proc::open_files(pid), before);
    supervisor.expect_no_trouble();
}

#[test]
fn without_a_free_descriptor_clients_wait_until_there_is_one() {
    let supervisor = sticky_run(2, &[]).start();
    let (address, pid) = (supervisor.address(), supervisor.pid());
    let before = proc::open_files_at_rest(pid);
    limit_files(pid, proc::lowest_free(pid));
    let clients: Vec<_> = (0..100).map(|_| ask(address)).collect();
    supervisor.wait_event("accept_paused");
    let (cpu, since) = (proc::cpu_time(pid), Instant::now());
    proc::watch(Duration::from_secs(1));
    let share = (proc::cpu_time(pid) - cpu).as_secs_f64() / since.elapsed().as_secs_f64();
    assert!(share < HARDLY_ANYTHING, "{share}");
    assert_eq!(supervisor.count_events("accept_paused"), 1);
    limit_files(pid, 1024);
    answer_all(clients);
    assert_eq!(proc::open_files(pid), before);
}

#[test]
fn without_a_free_descriptor_a_worker_that_dies_is_replaced_later() {
    let supervisor = sticky_run(2, &[]).start();
    let (address, pid) = (supervisor.address(), supervisor.pid());
    let before = proc::open_files_at_rest(pid);
    limit_files(pid, proc::lowest_free(pid) - 2);
    proc::signal(supervisor.pid_of(0), Signal::SIGKILL);
    supervisor.wait_event(event("worker_spawn_failed").worker(0));
    limit_files(pid, 1024);
    supervisor.wait_events(event("worker_ready").worker(0), 2);
    proc::wait_for_rest(pid);
    assert_eq!(proc::open_files(pid), before);
    get(address, "/");
}

#[test]
fn a_connection_that_is_lost_on_its_way_back_is_not_waited_for() {
    let mut supervisor = sticky_run(1, &["--grace", "1h"]).start();
    let pid = supervisor.pid();
    let mut stream = client::send(supervisor.address(), "GET /next HTTP/1.1\r\n\r\n");
    read_reply(&mut stream).expect("an answer");
    proc::wait_for_rest(pid);
    limit_files(pid, proc::lowest_free(pid));
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("a request");
    supervisor.wait_event("descriptor_lost");
    limit_files(pid, 1024);
    assert!(supervisor.stop().success());
}

#[test]
fn more_descriptors_in_flight_than_the_kernel_allows_wait_in_the_supervisor() {
    // The kernel counts what all processes of a user have in flight, unless it is root (unix(7)).
    // Nobody else is to count here; the right is needed to find the program.
    let as_nobody = "ulimit -n 40; exec setpriv --reuid 65534 --clear-groups \
                     --inh-caps=+dac_read_search --ambient-caps=+dac_read_search \"$0\" \"$@\";";
    let here = i32::try_from(std::process::id()).unwrap();
    let is_root = proc::status(here, "Uid:") == Some(0);
    let bounded = if is_root { as_nobody } else { "ulimit -n 40;" };
    let flags = ["--by", "none", "--stall-timeout", "1h"];
    let supervisor = sticky_run(2, &flags).after(bounded).start();
    let (address, pid) = (supervisor.address(), supervisor.pid());
    let workers = supervisor.worker_pids();
    for worker in &workers {
        proc::signal(*worker, Signal::SIGSTOP);
        eventually("the worker is stopped", || proc::is_stopped(*worker).then_some(()));
    }
    let clients: Vec<_> = (0..100).map(|_| ask(address)).collect();
    let (cpu, since) = (proc::cpu_time(pid), Instant::now());
    proc::watch(Duration::from_secs(1));
    let share = (proc::cpu_time(pid) - cpu).as_secs_f64() / since.elapsed().as_secs_f64();
    assert!(share < HARDLY_ANYTHING, "{share}");
    // That is no reason for another one not to start.
    sticky_run(1, &[]).after(bounded).start();
    for worker in &workers {
        proc::signal(*worker, Signal::SIGCONT);
    }
    answer_all(clients);
}

#[test]
fn with_64_files_those_in_flight_to_workers_that_die_are_answered_by_others() {
    let (supervisor, clients) = with_64_files_and_stopped_workers("1h");
    for slot in [0, 1] {
        proc::signal(supervisor.pid_of(slot), Signal::SIGKILL);
    }
    proc::signal(supervisor.pid_of(2), Signal::SIGCONT);
    answer_all(clients);
    assert_eq!(supervisor.count_events("descriptor_lost"), 0);
}

#[test]
fn with_64_files_those_in_flight_to_workers_that_stopped_are_answered_by_others() {
    let (supervisor, clients) = with_64_files_and_stopped_workers("500ms");
    supervisor.wait_events("worker_stalled", 3);
    let alive = supervisor.pid_of(2);
    proc::signal(alive, Signal::SIGCONT);
    assert!(answer_all(clients).iter().all(|answer| answer.pid == alive));
    assert_eq!(supervisor.count_events("descriptor_lost"), 0);
}

#[test]
fn a_slow_owner_of_one_key_leaves_room_for_the_clients_of_others() {
    let flags = ["--by", "header:x", "--balance", "hash"];
    let builder = sticky_run(2, &flags).env("TEST_WORKER", "rests=30");
    let supervisor = builder.after("ulimit -n 256;").start();
    let address = supervisor.address();
    let ask = |key| request(address, &format!("GET / HTTP/1.1\r\nx: {key}\r\n\r\n"));
    let key_of = |slot| (0..).find(|key| ask(*key).expect("an answer").slot == slot);
    let (slow, other) = (key_of(0).unwrap(), key_of(1).unwrap());
    let (done, started) = (AtomicBool::new(false), Instant::now());
    thread::scope(|scope| {
        for _ in 0..400 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) && started.elapsed() < SOON {
                    // When too many wait for the owner, some of its own clients are refused.
                    if ask(slow).is_err() {
                        proc::watch(Duration::from_millis(100));
                    }
                }
            });
        }
        supervisor.wait_event(event("connection_dropped").with("reason", "queue_full"));
        let times = (0..25).map(|_| {
            let since = Instant::now();
            ask(other).expect("an answer");
            since.elapsed()
        });
        let mut times: Vec<_> = times.collect();
        times.sort_unstable();
        done.store(true, Ordering::Relaxed);
        // All that wait for the owner would take seconds.
        assert!(times[12] < Duration::from_millis(250), "{times:?}");
    });
}

#[test]
fn a_worker_at_its_own_limit_of_files_answers_everybody() {
    let whoami = programs::example("whoami");
    let words = ["sh", "-c", "ulimit -n 12; exec \"$0\"", &whoami];
    let supervisor = sticky_run(2, &[]).command(&words).start();
    for mut client in (0..200).map(|_| ask(supervisor.address())).collect::<Vec<_>>() {
        let mut answer = String::new();
        client.read_to_string(&mut answer).expect("everybody is answered");
        assert!(answer.contains("\r\n\r\nworker "), "{answer:?}");
    }
}

#[test]
fn a_restart_finds_descriptors_for_those_who_drain_when_clients_have_taken_all_there_is_for_them() {
    let flags = ["--head-timeout", "1h", "--restart-parallel", "4", "--balance", "round-robin"];
    let supervisor = sticky_run(16, &flags).after("ulimit -n 128;").start();
    let address = supervisor.address();
    let before = proc::open_files_at_rest(supervisor.pid());
    // A worker with a session drains for longer than this test.
    for session in 0..16 {
        get(address, &format!("/announce/{session}"));
    }
    let _clients: Vec<_> = (0..128).map(|_| client::send(address, "GET /?si")).collect();
    eventually("the supervisor has as many as it takes", || {
        (proc::open_files(supervisor.pid()) >= before + 30).then_some(())
    });
    supervisor.signal(Signal::SIGHUP);
    supervisor.wait_event(event("restart_done").with("count", 16));
    supervisor.expect_no_trouble();
}

/// Three workers that are stopped, and as many clients as they and the supervisor can have.
fn with_64_files_and_stopped_workers(stall: &str) -> (Supervisor, Vec<TcpStream>) {
    let flags = ["--by", "none", "--stall-timeout", stall];
    let supervisor = sticky_run(3, &flags).after("ulimit -n 64;").start();
    for worker in supervisor.worker_pids() {
        proc::signal(worker, Signal::SIGSTOP);
        eventually("the worker is stopped", || proc::is_stopped(worker).then_some(()));
    }
    let before = proc::open_files_at_rest(supervisor.pid());
    let clients = (0..120).map(|_| ask(supervisor.address())).collect();
    eventually("the supervisor has as many as it takes", || {
        (proc::open_files(supervisor.pid()) >= before + 18).then_some(())
    });
    (supervisor, clients)
}

/// Sets the soft limit on open files of a running supervisor.
fn limit_files(pid: i32, limit: usize) {
    let mut command = Command::new("prlimit");
    command.args(["--pid", &pid.to_string(), &format!("--nofile={limit}:")]);
    assert!(command.status().expect("prlimit(1) is part of util-linux").success());
}

fn ask(address: SocketAddr) -> TcpStream {
    client::send(address, "GET / HTTP/1.1\r\nHost: test\r\n\r\n")
}

#[track_caller]
fn answer_all(clients: Vec<TcpStream>) -> Vec<Answer> {
    let answer = |mut client| read_answer(&mut client).expect("everybody is answered");
    clients.into_iter().map(answer).collect()
}
