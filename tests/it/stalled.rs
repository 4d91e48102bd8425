//! Workers that have stopped reading.

use std::io::Write;
use std::net::TcpStream;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::{
    Answer, Supervisor, connect, event, eventually, get, proc, read_reply, request, sticky_run,
};

/// Longer than a busy machine holds up an answer.
const STALL: Duration = Duration::from_secs(2);
const FLAGS: [&str; 4] = ["--balance", "round-robin", "--stall-timeout", "2s"];
/// The most messages in flight to a worker.
const IN_FLIGHT: usize = 32;

fn stop(pid: i32) {
    proc::signal(pid, Signal::SIGSTOP);
    eventually("the worker is stopped", || proc::is_stopped(pid).then_some(()));
}

/// Sends this many requests at once; returns the answers and how long each took.
fn get_at_once(supervisor: &Supervisor, count: usize) -> Vec<(Answer, Duration)> {
    let address = supervisor.address();
    let mut streams: Vec<TcpStream> =
        (0..count).map(|_| connect(address).expect("a connection")).collect();
    let start = Instant::now();
    for stream in &mut streams {
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("a request");
    }
    let (sender, answers) = mpsc::channel();
    for mut stream in streams {
        let sender = sender.clone();
        thread::spawn(move || {
            let answer = read_reply(&mut stream).expect("an answer");
            sender.send((answer, start.elapsed())).ok();
        });
    }
    drop(sender);
    answers.iter().collect()
}

#[test]
fn only_connections_in_flight_to_a_stopped_worker_wait_and_they_move_after_the_stated_time() {
    let flags = [&FLAGS[..], &["--by", "none"]].concat();
    let supervisor = sticky_run(2, &flags).start();
    let stopped = supervisor.pid_of(0);
    stop(stopped);
    let answers = get_at_once(&supervisor, 100);
    assert_eq!(answers.len(), 100);
    assert!(answers.iter().all(|(answer, _)| answer.slot == 1));
    // Nothing that is answered without waiting for the stopped worker takes nearly that long.
    let late: Vec<Duration> =
        answers.iter().map(|(_, took)| *took).filter(|took| *took > STALL * 9 / 10).collect();
    assert!((1..=IN_FLIGHT).contains(&late.len()), "{} waited", late.len());
    let latest = *late.iter().max().expect("one at least");
    assert!(latest < STALL + Duration::from_secs(2), "moved after {latest:?}");
    assert_eq!(supervisor.count_events("worker_stalled"), 1);
    // From now on nobody is sent there.
    let start = Instant::now();
    for _ in 0..20 {
        assert_eq!(get(supervisor.address(), "/").slot, 1);
    }
    assert!(start.elapsed() < STALL, "20 answers took {:?}", start.elapsed());
    proc::signal(stopped, Signal::SIGCONT);
    supervisor.wait_event("worker_recovered");
    let back = eventually("it gets connections again", || {
        let answer = get(supervisor.address(), "/");
        (answer.slot == 0).then_some(answer)
    });
    assert_eq!(back.pid, stopped);
}

#[test]
fn the_client_of_a_stopped_worker_waits_for_it_and_nobody_else_does() {
    let supervisor = sticky_run(2, &FLAGS).start();
    let address = supervisor.address();
    let owner = get(address, "/announce/mine");
    stop(owner.pid);
    let mut bound = connect(address).expect("a connection");
    bound.write_all(b"GET /?sid=mine HTTP/1.1\r\n\r\n").expect("a request");
    supervisor.wait_event("worker_stalled");
    let start = Instant::now();
    for _ in 0..20 {
        assert_ne!(get(address, "/").slot, owner.slot);
    }
    assert!(start.elapsed() < STALL, "20 answers took {:?}", start.elapsed());
    bound.set_nonblocking(true).expect("a mode");
    let early = bound.peek(&mut [0]).expect_err("nothing is answered while the owner is stopped");
    assert_eq!(early.kind(), std::io::ErrorKind::WouldBlock);
    bound.set_nonblocking(false).expect("a mode");
    proc::signal(owner.pid, Signal::SIGCONT);
    let answer = read_reply(&mut bound).expect("an answer");
    assert_eq!((answer.slot, answer.pid), (owner.slot, owner.pid));
}

#[test]
fn a_flood_for_a_stopped_owner_is_bounded_and_others_are_served() {
    let flags = ["--balance", "round-robin", "--stall-timeout", "700ms"];
    let supervisor = sticky_run(2, &flags).start();
    let address = supervisor.address();
    let owner = get(address, "/announce/mine");
    stop(owner.pid);
    let mut bound: Vec<TcpStream> = Vec::new();
    // More may wait while nobody can know yet that the owner is stopped, so a fast client needs more
    // of them.
    while supervisor.count_events(event("connection_dropped").with("reason", "queue_full")) == 0
        && bound.len() < 6_000
    {
        let mut stream = connect(address).expect("a connection");
        stream.write_all(b"GET /?sid=mine HTTP/1.1\r\n\r\n").expect("a request");
        bound.push(stream);
    }
    supervisor.wait_event(event("connection_dropped").with("reason", "queue_full"));
    let other = request(address, "GET /?sid=other HTTP/1.1\r\n\r\n").expect("an answer");
    assert_ne!(other.slot, owner.slot);
    proc::signal(owner.pid, Signal::SIGCONT);
    let answers = bound.iter_mut().map(read_reply);
    let answered =
        answers.filter_map(Result::ok).inspect(|answer| assert_eq!(answer.pid, owner.pid));
    let answered = answered.count();
    // Those in flight and the queue of one worker at least; the rest was refused.
    assert!((IN_FLIGHT + 1024..bound.len()).contains(&answered), "{answered}");
}
