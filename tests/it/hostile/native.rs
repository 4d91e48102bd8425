//! Workers that misuse their channel: told off, bounded, and nobody else's trouble.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use socket2::SockRef;
use tempfile::TempDir;

use crate::support::client::{self, read_answer, read_reply};
use crate::support::log::Pattern;
use crate::support::{Answer, Supervisor, event, eventually, full, get, proc, request, sticky_run};

/// One line about the same thing is allowed in this time.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// What the supervisor may have more of afterwards: nothing of what a worker sends stays.
const BOUND_KIB: u64 = 512;

/// Two workers: one is going to be bad, the other one has clients that must not notice.
struct Scene {
    supervisor: Supervisor,
    bad: Answer,
    good: Answer,
}

impl Scene {
    fn new(flags: &[&str]) -> Self {
        Self::with(flags, "")
    }

    /// Likewise, with workers of these traits.
    fn with(flags: &[&str], traits: &str) -> Self {
        let flags = [&["--balance", "round-robin"], flags].concat();
        Self::of(sticky_run(2, &flags).env("TEST_WORKER", traits).start())
    }

    /// Likewise, with a supervisor that goes round.
    fn of(supervisor: Supervisor) -> Self {
        let bad = get(supervisor.address(), "/announce/bad");
        let good = get(supervisor.address(), "/announce/good");
        assert_ne!(bad.pid, good.pid);
        // An announcement is heard when somebody asks for it, at the latest. Until then, one in another
        // channel may come first.
        for (key, owner) in [("bad", &bad), ("good", &good)] {
            assert_eq!(get(supervisor.address(), &format!("/?sid={key}")).pid, owner.pid);
        }
        Self { supervisor, bad, good }
    }

    /// Has the bad worker do this so often. The clients of the good one are asked all the time.
    fn abuse(&self, what: &str, count: usize) {
        let address = self.supervisor.address();
        let path = format!("/abuse/{what}/{count}?sid=bad");
        let before = self.good_answers(20, &AtomicBool::new(true));
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let meanwhile = scope.spawn(|| self.good_answers(20, &done));
            // A worker that is ended for what it does never answers.
            _ = request(address, &format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
            done.store(true, Ordering::Relaxed);
            self.compare(&before, &joined(meanwhile));
        });
    }

    /// Asks the good worker at least so often and until the end; returns how long it took.
    fn good_answers(&self, least: usize, done: &AtomicBool) -> Vec<Duration> {
        let mut times = Vec::new();
        while times.len() < least || !done.load(Ordering::Relaxed) {
            let since = Instant::now();
            assert_eq!(get(self.supervisor.address(), "/?sid=good").pid, self.good.pid);
            times.push(since.elapsed());
        }
        times.sort_unstable();
        times
    }

    /// The bad worker and this test share the processors with the good one, so that its clients
    /// may wait for the processor, but never for the end of what the bad one does.
    fn compare(&self, before: &[Duration], meanwhile: &[Duration]) {
        let middle = |times: &[Duration]| times[times.len() / 2];
        let (before, meanwhile) = (middle(before), middle(meanwhile));
        let bound = before * 10 + Duration::from_millis(50);
        assert!(meanwhile < bound, "{meanwhile:?} instead of {before:?}");
    }

    /// Does something that costs nothing that stays: no memory, no descriptors, no time.
    fn costs_nothing(&self, what: &str, count: usize) {
        // The first messages of a supervisor bring its own code and buffers into memory.
        self.abuse("flood", 100);
        let pid = self.supervisor.pid();
        proc::wait_for_rest(pid);
        let (memory, files) = (proc::private_kib(pid), proc::open_files(pid));
        self.abuse(what, count);
        proc::wait_for_rest(pid);
        let after = proc::private_kib(pid);
        assert!(after <= memory + BOUND_KIB, "{memory} KiB became {after} KiB");
        assert_eq!(proc::open_files(pid), files);
        assert_eq!(get(self.supervisor.address(), "/?sid=bad").pid, self.bad.pid);
    }

    /// Likewise; the worker is told off with these words, but not for each message.
    fn is_told_off(&self, what: &str, count: usize, words: &str) {
        let since = Instant::now();
        self.costs_nothing(what, count);
        let most = 1 + since.elapsed().div_duration_f64(LINE_EVERY) as usize;
        let lines = self.supervisor.violations().len();
        assert!((1..=most).contains(&lines), "{lines} lines, at most {most}");
        let told = event("protocol_violated").worker(self.bad.slot).saying(words);
        assert_eq!(self.supervisor.count_events(&told), lines, "{told:?}");
    }

    /// The worker is told off and ended for what it does, and another one takes its place.
    fn is_ended(&self, what: &str) {
        self.abuse(what, 1);
        self.supervisor.wait_event(shut_down().worker(self.bad.slot));
        self.supervisor.wait_events(event("worker_ready").worker(self.bad.slot), 2);
        proc::wait_for_rest(self.supervisor.pid());
        assert!(!proc::is_alive(self.bad.pid));
    }
}

#[test]
fn garbage_is_told_off() {
    Scene::new(&[]).is_told_off("garbage", 10_000, "the message is not one line");
}

#[test]
fn empty_datagrams_are_told_off() {
    Scene::new(&[]).is_told_off("empty", 10_000, "the message is not one line");
}

#[test]
fn ten_megabytes_of_messages_cost_nothing_that_stays() {
    Scene::new(&[]).costs_nothing("flood", 10_240);
}

#[test]
fn half_a_megabyte_without_a_newline_is_bounded() {
    Scene::new(&[]).costs_nothing("line", 512);
}

#[test]
fn datagrams_of_half_a_megabyte_are_told_off() {
    Scene::new(&[]).is_told_off("giant", 64, "the message is longer than 16384 bytes");
}

#[test]
fn a_million_announced_keys_stay_within_the_cap_and_push_out_no_other_workers_keys() {
    let (count, cap) = if full() { (1_000_000, 1 << 20) } else { (50_000, 20_000) };
    let scene = Scene::new(&["--max-sessions", &cap.to_string()]);
    let pid = scene.supervisor.pid();
    let before = proc::private_kib(pid);
    scene.abuse("sessions", count);
    proc::wait_for_rest(pid);
    // Half of the cap is the bad worker's, at 64 bytes for each key at the most.
    let bound = before + cap / 2 * 64 / 1024 + BOUND_KIB;
    let after = proc::private_kib(pid);
    assert!(after <= bound, "{before} KiB became {after} KiB, at most {bound}");
    assert_eq!(get(scene.supervisor.address(), "/?sid=good").pid, scene.good.pid);
    // The last one announced is remembered.
    let last = format!("/?sid=made-up-{}", count - 1);
    assert_eq!(get(scene.supervisor.address(), &last).pid, scene.bad.pid);
}

#[test]
fn a_worker_that_leaves_its_process_group_is_killed_with_all_that_it_has_started() {
    let mut scene = Scene::with(&["--grace", "300ms"], "stubborn");
    scene.abuse("leave", 1);
    let bad = scene.bad.pid;
    let left = eventually("its children are elsewhere", || {
        let children = proc::children(bad);
        let elsewhere = |pid: &i32| proc::group_of(*pid).is_some_and(|group| group != bad);
        (children.len() == 2 && children.iter().all(elsewhere)).then_some(children)
    });
    assert_ne!(proc::group_of(bad), Some(bad));
    let asked = Instant::now();
    scene.supervisor.stop();
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    assert_eq!(scene.supervisor.count_events("worker_unkillable"), 0);
    assert!(!proc::is_alive(bad));
    eventually("they are gone", || (!left.iter().any(|pid| proc::is_alive(*pid))).then_some(()));
}

#[test]
fn a_key_that_another_live_worker_owns_cannot_be_taken() {
    let scene = Scene::new(&[]);
    get(scene.supervisor.address(), "/announce/good?sid=bad");
    scene.supervisor.wait_event("announced_key_taken");
    scene.good_answers(20, &AtomicBool::new(true));
    assert_eq!(scene.supervisor.violations(), [""; 0]);
}

#[test]
fn a_key_of_another_worker_cannot_be_ended() {
    let scene = Scene::new(&[]);
    get(scene.supervisor.address(), "/end/good?sid=bad");
    scene.good_answers(20, &AtomicBool::new(true));
}

#[test]
fn back_without_a_connection_is_told_off() {
    Scene::new(&[]).is_told_off("back", 5_000, "BACK came without a connection");
}

#[test]
fn back_with_a_file_is_told_off() {
    Scene::new(&[]).is_told_off("back-file", 5_000, "BACK came with no connection");
}

#[test]
fn back_with_a_pipe_is_told_off() {
    Scene::new(&[]).is_told_off("back-pipe", 5_000, "BACK came with no connection");
}

#[test]
fn back_with_a_listening_socket_is_told_off() {
    Scene::new(&[]).is_told_off("back-listener", 5_000, "BACK came with no connection");
}

#[test]
fn back_with_a_socket_of_datagrams_is_told_off() {
    Scene::new(&[]).is_told_off("back-datagrams", 5_000, "BACK came with no connection");
}

#[test]
fn back_with_the_channel_itself_is_told_off() {
    Scene::new(&[]).is_told_off("back-channel", 5_000, "BACK came with no connection");
}

#[test]
fn connections_that_it_was_never_given_cannot_be_given_back() {
    let words = "it gave back more connections than it was given";
    Scene::new(&["--head-timeout", "1h"]).is_told_off("back-own", 5_000, words);
}

#[test]
fn connections_that_no_worker_wants_are_closed_and_told_at_a_limited_rate() {
    let supervisor = sticky_run(2, &[]).start();
    let since = Instant::now();
    for _ in 0..50 {
        let answer = request(supervisor.address(), "GET /back/all HTTP/1.1\r\n\r\n");
        assert!(answer.is_err());
    }
    let most = 1 + since.elapsed().div_duration_f64(LINE_EVERY) as usize;
    let lines = supervisor.count_events(event("connection_dropped").with("reason", "unwanted"));
    assert!((1..=most).contains(&lines), "{lines} lines, at most {most}");
}

#[test]
fn descriptors_that_nobody_asked_for_are_told_off_and_closed() {
    Scene::new(&[]).is_told_off("descriptors", 200, "it sent descriptors that nobody asked for");
}

/// Sockets that take a minute to be closed keep nobody, not even a stop.
fn freezes_nobody(what: &str) {
    let mut scene = Scene::new(&["--head-timeout", "300ms"]);
    let files = proc::open_files_at_rest(scene.supervisor.pid());
    let since = Instant::now();
    scene.abuse(what, 5);
    eventually("all of them are closed", || {
        (proc::open_files(scene.supervisor.pid()) == files).then_some(())
    });
    let times = scene.good_answers(20, &AtomicBool::new(true));
    assert!(times.last() < Some(&Duration::from_secs(1)), "{times:?}");
    scene.supervisor.signal(Signal::SIGTERM);
    assert_eq!(scene.supervisor.wait().code(), Some(0));
    assert!(since.elapsed() < Duration::from_secs(20), "{:?}", since.elapsed());
}

#[test]
fn descriptors_that_are_slow_to_close_freeze_nobody() {
    freezes_nobody("slow");
}

#[test]
fn descriptors_within_others_that_are_slow_to_close_freeze_nobody() {
    freezes_nobody("slow-within");
}

#[test]
fn connections_that_come_back_and_are_slow_to_close_freeze_nobody() {
    freezes_nobody("slow-back");
}

#[test]
fn a_worker_whose_descriptors_do_not_close_for_a_second_is_ended() {
    let builder = sticky_run(2, &["--balance", "round-robin"]);
    // A worker may take a quarter of what there is room for.
    let scene = Scene::of(builder.after("ulimit -n 516;").start());
    scene.abuse("slow", 20);
    let slot = scene.bad.slot;
    let killed = event("worker_killed").worker(slot).with("reason", "open_descriptors");
    scene.supervisor.wait_event(killed);
    scene.supervisor.wait_events(event("worker_ready").worker(slot), 2);
    scene.good_answers(20, &AtomicBool::new(true));
}

#[test]
fn messages_that_are_taken_back_leave_nothing_behind_although_the_worker_has_asked_for_more() {
    let scene = Scene::new(&[]);
    let (address, pid) = (scene.supervisor.address(), scene.supervisor.pid());
    let files = proc::open_files_at_rest(pid);
    let _never_answered = client::send(address, "GET /abuse/pidfd?sid=bad HTTP/1.1\r\n\r\n");
    eventually("it stands still", || proc::is_stopped(scene.bad.pid).then_some(()));
    let request = "GET /?sid=bad HTTP/1.1\r\n\r\n";
    let clients: Vec<_> = (0..20).map(|_| client::send(address, request)).collect();
    proc::wait_for_rest(pid);
    proc::signal(scene.bad.pid, Signal::SIGKILL);
    scene.supervisor.wait_events(event("worker_ready").worker(scene.bad.slot), 2);
    for mut client in clients {
        assert_eq!(read_answer(&mut client).expect("an answer").pid, scene.good.pid);
    }
    eventually("nothing is left", || (proc::open_files(pid) == files).then_some(()));
}

#[test]
fn clients_that_reset_before_their_connections_come_back_are_counted_out() {
    let mut supervisor = sticky_run(2, &["--max-connections", "40", "--grace", "1h"]).start();
    let address = supervisor.address();
    for _ in 0..150 {
        let (client, _) = client::hold(address, "/next");
        SockRef::from(&client).set_linger(Some(Duration::ZERO)).expect("it is a socket");
    }
    // As many as may be there are served, and the rest waits.
    let held: Vec<_> = (0..39).map(|_| client::hold(address, "/hold")).collect();
    get(address, "/");
    drop(held);
    // Nothing is left of them where it is waited for.
    supervisor.signal(Signal::SIGHUP);
    supervisor.wait_event(event("restart_done").with("count", 2));
    let since = Instant::now();
    assert_eq!(supervisor.stop().code(), Some(0));
    assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
    assert_eq!(supervisor.violations(), [""; 0]);
}

#[test]
fn a_connection_that_goes_round_for_a_next_request_that_nobody_reads_is_closed() {
    let directory = TempDir::new().expect("room for a directory");
    let path = directory.path().join("a.sock");
    let listen = format!("unix:{}", path.display());
    for unix in [false, true] {
        let flags: &[&str] = if unix { &["--listen", &listen] } else { &[] };
        let supervisor = sticky_run(2, flags).start();
        let connect = || -> Box<dyn ReadWrite> {
            if unix {
                Box::new(UnixStream::connect(&path).expect("a connection"))
            } else {
                Box::new(client::connect(supervisor.address()).expect("a connection"))
            }
        };
        let mut stream = connect();
        stream.write_all(b"GET /bounce HTTP/1.1\r\n\r\n").expect("room for a request");
        let mut answer = Vec::new();
        // The request was not read, so the end may come as a reset.
        stream.read_to_end(&mut answer).ok();
        assert!(answer.is_empty());
        supervisor.wait_event(
            event("connection_dropped").with("reason", "unwanted").saying("goes round"),
        );
        // One whose requests are served goes round for as long as it likes.
        let mut stream = connect();
        for _ in 0..300 {
            stream.write_all(b"GET /next HTTP/1.1\r\n\r\n").expect("room for a request");
            read_reply(&mut stream).expect("an answer");
        }
    }
}

trait ReadWrite: Read + Write {}
impl<T: Read + Write> ReadWrite for T {}

#[test]
fn a_worker_that_was_never_ready_cannot_give_anything_back() {
    let builder = sticky_run(2, &["--head-timeout", "1h"]).env("TEST_WORKER", "early-back=50");
    let supervisor = builder.start();
    let told = event("protocol_violated");
    supervisor.wait_event(told.saying("it gave back more connections than it was given"));
    get(supervisor.address(), "/");
    let files = proc::open_files_at_rest(supervisor.pid());
    assert!(files < 50, "{files}");
}

#[test]
fn more_closed_connections_than_it_has_are_told_off() {
    Scene::new(&[]).is_told_off("closed", 5_000, "it closed more connections than it was given");
}

#[test]
fn a_worker_that_shuts_its_channel_for_writing_is_ended() {
    Scene::with(&[], "stays").is_ended("shut-write");
}

#[test]
fn a_worker_that_shuts_its_channel_for_reading_is_ended_and_its_clients_are_answered() {
    let scene = Scene::with(&[], "stays");
    scene.abuse("shut-read", 1);
    // Nothing but a connection for it shows that it does not listen any more.
    let address = scene.supervisor.address();
    assert_ne!(get(address, "/?sid=bad").pid, scene.bad.pid);
    scene.good_answers(20, &AtomicBool::new(true));
    scene.supervisor.wait_event(shut_down());
    assert_eq!(scene.supervisor.count_events(shut_down()), 1);
    scene.supervisor.wait_events(event("worker_ready").worker(scene.bad.slot), 2);
}

#[test]
fn a_worker_that_shuts_its_channel_for_both_is_ended() {
    Scene::with(&[], "stays").is_ended("shut-both");
}

#[test]
fn a_key_announced_before_ready_is_told_off_and_not_remembered() {
    let supervisor = sticky_run(2, &["--by", "sid"]).env("TEST_WORKER", "early=same").start();
    supervisor.wait_events(event("protocol_violated").saying("SESSION came before READY"), 2);
    assert_eq!(get(supervisor.address(), "/announce/same").value("accepted"), "1");
    assert_eq!(supervisor.violations().len(), 2);
}

/// A worker was ended since it did not keep its channel open.
fn shut_down() -> Pattern {
    event("worker_killed").with("reason", "protocol").saying("it shut its channel down")
}

#[track_caller]
fn joined<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().expect("the clients of the good worker notice nothing")
}
