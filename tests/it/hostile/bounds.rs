//! What a Node worker can make the supervisor keep: beyond its bound the worker is ended, and nobody else
//! notices.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::log::Pattern;
use crate::support::node::Port;
use crate::support::node_worker::start;
use crate::support::{
    Supervisor, client, event, eventually, get, get_from, one_of_three, proc, request, within,
};

/// What the supervisor may hold more at any time, in KiB, whatever a worker does.
const BOUND_KIB: u64 = 64 * 1024;
/// It is kept until the worker takes it.
const WAITS: &str = "more than 16 MiB wait because of it";
/// For how long a worker may go on before it is ended, on a busy machine.
const TO_THE_BOUND: Duration = Duration::from_secs(60);

/// So many workers, one of which is going to be bad.
struct Scene {
    supervisor: Supervisor,
    port: Port,
    workers: u16,
    /// The resident memory before.
    before: u64,
}

impl Scene {
    fn new(workers: u16) -> Self {
        Self::with(workers, &[])
    }

    fn with(workers: u16, flags: &[&str]) -> Self {
        let (supervisor, port) = start(workers, flags);
        let before = proc::status(supervisor.pid(), "VmRSS:").expect("it lives");
        Self { supervisor, port, workers, before }
    }

    fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Has one worker do this. The clients of the others are answered.
    fn abuse(&self, what: &str) {
        let path = format!("GET /abuse/{what} HTTP/1.1\r\n\r\n");
        let abused = thread::spawn({
            let address = self.address();
            // One that is ended for what it does never answers.
            move || drop(request(address, &path))
        });
        while !abused.is_finished() {
            get(self.address(), "/");
        }
    }

    /// Has one worker do this, who is ended for it with these words.
    fn is_ended(&self, what: &str, words: &str) {
        self.abuse(what);
        self.costs_little();
        let killed = event("worker_killed").with("reason", "protocol").saying(words);
        within(TO_THE_BOUND, words, || (self.supervisor.count_events(&killed) > 0).then_some(()));
        eventually("another one takes its place", || {
            (self.supervisor.count_events("worker_ready") > self.workers.into()).then_some(())
        });
        get(self.address(), "/");
    }

    /// It never held much.
    #[track_caller]
    fn costs_little(&self) {
        let most = proc::status(self.supervisor.pid(), "VmHWM:").expect("it lives");
        assert!(most <= self.before + BOUND_KIB, "{} KiB became {most} KiB", self.before);
    }
}

/// A worker broke a rule, with these words.
fn violated(words: &str) -> Pattern {
    event("protocol_violated").saying(words)
}

#[test]
fn questions_whose_answers_are_never_read() {
    Scene::new(2).is_ended("questions", WAITS);
}

#[test]
fn much_data_with_each_port() {
    Scene::new(2).is_ended("data", "its data is longer than");
}

#[test]
fn names_of_ten_megabytes() {
    Scene::new(2).is_ended("names", "its address is longer than");
}

#[test]
fn one_connection_handed_back_again_and_again_with_long_heads() {
    let scene = Scene::new(2);
    let _held = client::send(scene.address(), "GET /hold HTTP/1.1\r\n\r\n");
    let _other = client::send(scene.address(), "GET /hold HTTP/1.1\r\n\r\n");
    scene.is_ended("heads", "its head is longer than");
}

#[test]
fn all_its_connections_handed_back_at_once() {
    let scene = Scene::new(1);
    let hold = |_| client::send(scene.address(), "GET /hold HTTP/1.1\r\n\r\n");
    let _held: Vec<_> = (0..100).map(hold).collect();
    scene.is_ended("held", WAITS);
}

#[test]
fn connections_of_a_worker_that_stands_still_cost_the_one_that_hands_them_back_nothing() {
    let scene = Scene::with(2, &["--by", "sid,ip"]);
    let stands = get_from(BAD, scene.address(), "/abuse/announce-one");
    let gives = get_from(GOOD, scene.address(), "/");
    assert_ne!(gives.pid, stands.pid);
    let hold = |_| {
        let mut client = client::connect_from(GOOD, scene.address()).expect("a connection");
        client.write_all(b"GET /hold HTTP/1.1\r\n\r\n").expect("room for a request");
        client
    };
    let _held: Vec<_> = (0..100).map(hold).collect();
    proc::signal(stands.pid, Signal::SIGSTOP);
    get_from(GOOD, scene.address(), "/abuse/held-of-one");
    let dropped = event("connection_dropped").worker(stands.slot).with("reason", "queue_full");
    scene.supervisor.wait_event(dropped);
    scene.costs_little();
    proc::signal(stands.pid, Signal::SIGCONT);
    assert_eq!(get(scene.address(), "/?sid=one").pid, stands.pid);
    assert_eq!(scene.supervisor.count_events("worker_killed"), 0);
}

#[test]
fn a_long_message_takes_no_descriptor_of_the_next_one() {
    let scene = Scene::new(1);
    let _held = client::send(scene.address(), "GET /hold HTTP/1.1\r\n\r\n");
    get(scene.address(), "/abuse/long-and-back");
    scene.supervisor.wait_event(violated("a message of 18 MiB is dropped"));
    let told = || get(scene.address(), "/").value("told").to_owned();
    eventually("it hears of what it sent", || (!told().is_empty()).then_some(()));
    assert_eq!(told().trim(), "arrived");
}

#[test]
fn many_sockets_at_once_that_are_open_already() {
    let scene = Scene::with(2, &["--by", "ip"]);
    for client in [GOOD, BAD] {
        get_from(client, scene.address(), "/abuse/many-sockets");
        get_from(client, scene.address(), "/");
    }
    assert_eq!(scene.supervisor.violations(), [""; 0]);
}

#[test]
fn more_connections_handed_back_than_are_open() {
    let scene = Scene::new(1);
    let hold = |_| client::send(scene.address(), "GET /hold HTTP/1.1\r\n\r\n");
    let _held: Vec<_> = (0..40).map(hold).collect();
    get(scene.address(), "/abuse/own");
    scene.supervisor.wait_event(violated("it gave back more connections than it was given"));
}

#[test]
fn sockets_whose_arrival_is_never_told() {
    Scene::new(2).is_ended("sockets", WAITS);
}

/// Two clients that are always with the same worker, each with another.
const GOOD: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
const BAD: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 3));
/// What one of a hundred requests may wait longer, where nobody has a processor for itself.
const HELD_UP: Duration = Duration::from_millis(60);

/// How long requests to the one worker take while the other one does this, the shortest first.
fn beside(what: &str) -> Vec<Duration> {
    let (supervisor, port) = start(2, &["--by", "ip"]);
    let address = port.address();
    assert_ne!(get_from(GOOD, address, "/").pid, get_from(BAD, address, "/").pid);
    let path = format!("/abuse/{what}");
    let flood = thread::spawn(move || get_from(BAD, address, &path));
    let mut times = Vec::new();
    while times.len() < 100 || !flood.is_finished() {
        let since = Instant::now();
        get_from(GOOD, address, "/");
        times.push(since.elapsed());
    }
    flood.join().expect("it is answered");
    assert_eq!(supervisor.violations(), [""; 0]);
    times.sort_unstable();
    times
}

/// 99 of a hundred.
fn most_of(times: &[Duration]) -> Duration {
    times[times.len() * 99 / 100]
}

#[test]
fn messages_that_are_slow_to_read_hold_few_up() {
    let nine_of_ten = |times: Vec<Duration>| times[times.len() * 9 / 10];
    one_of_three(|| nine_of_ten(beside("dear")), |time| *time < HELD_UP);
}

#[test]
fn many_short_messages_hold_nobody_up() {
    one_of_three(|| most_of(&beside("short")), |time| *time < HELD_UP);
}

#[test]
fn long_messages_hold_nobody_up() {
    one_of_three(|| most_of(&beside("long")), |time| *time < HELD_UP);
}

#[test]
fn messages_of_workers_reach_the_others_unless_they_are_too_long() {
    let scene = Scene::new(2);
    scene.abuse("tell-much");
    let heard = || get(scene.address(), "/").value("heard").parse::<usize>().ok();
    eventually("the other one hears it", || heard().filter(|length| *length > 4 << 20));
    scene.abuse("tell-too-much");
    scene.supervisor.wait_event(violated("a message of 21 MiB is dropped"));
    assert!((0..4).all(|_| heard().is_some_and(|length| length < 5 << 20)));
    assert_eq!(scene.supervisor.count_events("worker_killed"), 0);
    scene.costs_little();
}

#[test]
fn what_others_say_to_a_worker_that_stands_still_is_dropped_in_time() {
    let scene = Scene::with(2, &["--by", "ip"]);
    let (talks, stands) =
        (get_from(GOOD, scene.address(), "/"), get_from(BAD, scene.address(), "/"));
    proc::signal(stands.pid, Signal::SIGSTOP);
    assert_eq!(get_from(GOOD, scene.address(), "/abuse/tell-often").pid, talks.pid);
    scene.supervisor.wait_event(event("messages_dropped").worker(stands.slot));
    scene.costs_little();
    proc::signal(stands.pid, Signal::SIGCONT);
    assert_eq!(get_from(BAD, scene.address(), "/").pid, stands.pid);
    assert_eq!(scene.supervisor.count_events("worker_killed"), 0);
}

#[test]
fn a_connection_that_its_worker_closes_first_and_that_lingers_freezes_nobody() {
    let (mut supervisor, port) = start(2, &[]);
    let lingering: Vec<_> =
        (0..10).map(|_| client::send(port.address(), "GET /linger HTTP/1.1\r\n\r\n")).collect();
    let since = Instant::now();
    for _ in 0..20 {
        get(port.address(), "/");
    }
    supervisor.signal(Signal::SIGTERM);
    assert_eq!(supervisor.wait().code(), Some(0));
    assert!(since.elapsed() < Duration::from_secs(10), "{:?}", since.elapsed());
    drop(lingering);
}
