//! Too few descriptors: nobody is lost that was not refused, nothing spins, and it passes.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::client::{self, connect, read_answer};
use crate::support::{eventually, get, proc, sticky_run};

/// The share of a processor that a supervisor which waits may use at the most.
const HARDLY_ANYTHING: f64 = 0.05;

#[test]
fn with_64_files_hundreds_of_silent_and_talking_clients_cost_nobody_an_answer() {
    let supervisor = sticky_run(2, &["--head-timeout", "2s"]).after("ulimit -n 64;").start();
    let (address, pid) = (supervisor.address(), supervisor.pid());
    let before = proc::open_files(pid);
    let (cpu, since) = (proc::cpu_time(pid), Instant::now());
    let silent: Vec<_> = (0..200).map(|_| connect(address).expect("a connection")).collect();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..50).for_each(|_| _ = get(address, "/")));
        }
    });
    for mut stream in silent {
        assert!(stream.read(&mut [0]).is_ok_and(|count| count == 0));
    }
    let share = (proc::cpu_time(pid) - cpu).as_secs_f64() / since.elapsed().as_secs_f64();
    assert!(share < 0.5, "{share}");
    proc::wait_for_rest(pid);
    assert_eq!(proc::open_files(pid), before);
    assert_eq!(supervisor.count_log("WARN"), 0);
}

#[test]
fn without_a_free_descriptor_clients_wait_until_there_is_one() {
    let supervisor = sticky_run(2, &[]).start();
    let (address, pid) = (supervisor.address(), supervisor.pid());
    let before = proc::open_files(pid);
    limit_files(pid, first_free(pid));
    let clients: Vec<_> = (0..100).map(|_| ask(address)).collect();
    supervisor.wait_for_log("cannot accept");
    let (cpu, since) = (proc::cpu_time(pid), Instant::now());
    proc::watch(Duration::from_secs(1));
    let share = (proc::cpu_time(pid) - cpu).as_secs_f64() / since.elapsed().as_secs_f64();
    assert!(share < HARDLY_ANYTHING, "{share}");
    assert_eq!(supervisor.count_log("cannot accept"), 1);
    limit_files(pid, 1024);
    answer_all(clients);
    assert_eq!(proc::open_files(pid), before);
}

#[test]
fn without_a_free_descriptor_a_worker_that_dies_is_replaced_later() {
    let supervisor = sticky_run(2, &[]).start();
    let (address, pid) = (supervisor.address(), supervisor.pid());
    let before = proc::open_files(pid);
    limit_files(pid, first_free(pid) - 2);
    proc::signal(supervisor.pid_of(0), Signal::SIGKILL);
    supervisor.wait_for_log("cannot start worker 0");
    limit_files(pid, 1024);
    supervisor.wait_for_log_times("worker 0 is ready", 2);
    proc::wait_for_rest(pid);
    assert_eq!(proc::open_files(pid), before);
    get(address, "/");
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

/// Sets the soft limit on open files of a running supervisor.
/// The number that the next descriptor would have.
fn first_free(pid: i32) -> usize {
    let open: Vec<_> = proc::descriptors(pid).into_iter().map(|(number, _)| number).collect();
    (0..).find(|number| !open.contains(number)).map_or(0, |number| number as usize)
}

fn limit_files(pid: i32, limit: usize) {
    let mut command = Command::new("prlimit");
    command.args(["--pid", &pid.to_string(), &format!("--nofile={limit}:")]);
    assert!(command.status().expect("prlimit(1) is part of util-linux").success());
}

fn ask(address: SocketAddr) -> TcpStream {
    client::send(address, "GET / HTTP/1.1\r\nHost: test\r\n\r\n")
}

#[track_caller]
fn answer_all(clients: Vec<TcpStream>) {
    for mut client in clients {
        read_answer(&mut client).expect("everybody is answered");
    }
}
