//! Workers that misuse their channel: such a worker is replaced or told off, and nothing else
//! happens.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::node::{App, Running};
use crate::support::reply::{self, Kept};
use crate::support::{event, eventually, proc, within};

/// What the supervisor may grow by, in KiB, whatever a worker sends.
const BOUND_KIB: u64 = 64 * 1024;

/// How long a worker may take to send so much, on a busy machine.
const TO_THE_LIMIT: Duration = Duration::from_secs(90);

/// What becomes of a worker that did it.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Fate {
    /// Nobody can follow its channel any more.
    Replaced,
    /// Its channel may still be good.
    Either,
}

/// Has one of two workers do this; the other one and its connections see nothing
/// of it.
fn is_survived(abuse: &str, fate: Fate) {
    let Some(app) = App::new("hostile.js") else { return };
    // What a worker has read without being understood is closed when it does not come again.
    let flags = ["--head-timeout", "1s", "-b", "round-robin"];
    let running = app.flags(&flags).start(2);
    let before = proc::private_kib(running.pid());
    let mut witness = Kept::open(running.address());
    let witnessed = witness.get("/").expect("an answer").pid();
    let (mut other, hostile) = loop {
        let mut kept = Kept::open(running.address());
        let answer = kept.get("/").expect("an answer");
        if answer.pid() != witnessed {
            break (kept, answer);
        }
    };
    other.get(&format!("/{abuse}")).expect("an answer");
    if fate == Fate::Replaced {
        within(TO_THE_LIMIT, "it is gone", || (!proc::is_alive(hostile.pid())).then_some(()));
        running.wait_events(event("worker_ready").worker(hostile.slot()), 2);
    }
    proc::watch(Duration::from_millis(200));
    for _ in 0..20 {
        is_answered(&running, hostile.pid());
    }
    assert_eq!(witness.get("/").expect("an answer").pid(), witnessed, "{abuse}");
    let after = proc::private_kib(running.pid());
    assert!(after <= before + BOUND_KIB, "{abuse}: {before} KiB became {after} KiB");
}

/// A connection is answered, unless it went to the worker in question and that one is ended for it.
#[track_caller]
fn is_answered(running: &Running, hostile: i32) {
    let was_there = proc::is_alive(hostile);
    match Kept::open(running.address()).get("/") {
        Ok(answer) => assert_eq!(answer.status, 200),
        Err(error) => {
            assert!(was_there, "only the worker in question may end with a connection: {error:?}");
            eventually("it is gone", || (!proc::is_alive(hostile)).then_some(()));
        }
    }
}

#[test]
fn what_a_worker_has_detached_outlives_its_end_but_not_its_being_killed() {
    let Some(app) = App::new("detached.js") else { return };
    let mut running = app.flags(&["--grace", "500ms"]).start(1);
    let start = || {
        let reply = reply::get(running.address(), "/start");
        (reply.pid(), reply.value("child").parse::<i32>().expect("a pid"))
    };
    let (worker, daemon) = start();
    running.signal(Signal::SIGHUP);
    running.wait_events(event("worker_ready").worker(0), 2);
    eventually("it has ended", || (!proc::is_alive(worker)).then_some(()));
    let (worker, other) = start();
    let mut hangs = Kept::open(running.address());
    hangs.send("GET", "/hang", b"").expect("a request");
    hangs.reply_without_body().expect("the beginning of an answer");
    running.stop();
    assert!(!proc::is_alive(worker) && proc::is_alive(daemon));
    eventually("it is gone", || (!proc::is_alive(other)).then_some(()));
    proc::signal(daemon, Signal::SIGKILL);
}

#[test]
fn a_frame_that_is_longer_than_any_costs_its_worker_the_channel() {
    is_survived("endless", Fate::Replaced);
}

#[test]
fn a_length_that_no_frame_has_is_survived() {
    is_survived("length-huge", Fate::Either);
}

#[test]
fn empty_frames_are_survived() {
    is_survived("length-zero", Fate::Either);
}

#[test]
fn bytes_that_mean_nothing_are_survived() {
    is_survived("garbage", Fate::Either);
}

#[test]
fn frames_that_mean_nothing_are_survived() {
    is_survived("frames", Fate::Either);
}

#[test]
fn half_a_frame_is_survived() {
    is_survived("half", Fate::Either);
}

#[test]
fn values_that_are_nested_deeply_are_survived() {
    is_survived("deep", Fate::Either);
    is_survived("nested", Fate::Either);
}

#[test]
fn a_value_of_a_kind_that_nobody_knows_is_survived() {
    is_survived("unknown-tag", Fate::Either);
}

#[test]
fn messages_with_fields_of_the_wrong_types_are_survived() {
    is_survived("wrong-types", Fate::Either);
}

#[test]
fn acknowledgements_and_refusals_of_what_was_never_sent_are_survived() {
    is_survived("acknowledgements", Fate::Either);
    is_survived("refusals", Fate::Either);
}

#[test]
fn thousands_of_listeners_are_survived() {
    is_survived("queries", Fate::Either);
}

/// The most ports of one worker with so many files as here, and a few more for everything else.
const MOST_PORTS: usize = 128;

/// A hundred of each kind, and a few more.
const MOST_LINES: usize = 400;

/// Ports that one worker asks for take no more descriptors than it has a right to, and few lines of the log.
#[track_caller]
fn ports_are_bounded(abuse: &str) {
    let Some(app) = App::new("hostile.js") else { return };
    let running = app.after("ulimit -n 1024;").flags(&["-b", "round-robin"]).start(2);
    let before = proc::open_files_at_rest(running.pid());
    let kept = Kept::open(running.address()).get(&format!("/{abuse}")).expect("an answer");
    running.wait_event(event("listen_refused").worker(kept.slot()));
    for _ in 0..20 {
        assert_eq!(reply::get(running.address(), "/").status, 200);
    }
    let after = proc::open_files_at_rest(running.pid());
    assert!(after <= before + MOST_PORTS, "{before} files became {after}");
    let lines = running.log().lines().count();
    assert!(lines < MOST_LINES, "{lines} lines");
}

#[test]
fn ports_without_number_are_bounded() {
    ports_are_bounded("queries");
}

#[test]
fn sockets_for_datagrams_without_number_are_bounded() {
    ports_are_bounded("datagrams");
}

#[test]
fn ports_that_come_and_go_are_bounded() {
    ports_are_bounded("cycles");
}

#[test]
fn names_without_number_for_one_port_are_bounded() {
    ports_are_bounded("names");
}

/// What a worker has opened is looked at when something comes there, and at no other time.
#[test]
fn a_request_costs_the_same_beside_hundreds_of_ports() {
    let Some(app) = App::new("hostile.js") else { return };
    let running = app.flags(&["-b", "round-robin"]).start(1);
    let cost = || {
        (0..20).for_each(|_| _ = reply::get(running.address(), "/"));
        proc::wait_for_rest(running.pid());
        let before = proc::cpu_time(running.pid());
        (0..400).for_each(|_| _ = reply::get(running.address(), "/"));
        proc::cpu_time(running.pid()) - before
    };
    let alone = cost();
    let files = proc::open_files(running.pid());
    Kept::open(running.address()).get("/queries").expect("an answer");
    eventually("they are open", || (proc::open_files(running.pid()) > files + 250).then_some(()));
    let beside = cost();
    assert!(beside < alone * 2 + Duration::from_millis(30), "{alone:?} became {beside:?}");
}

#[test]
fn thousands_of_sessions_are_survived() {
    is_survived("sessions", Fate::Either);
}

#[test]
fn connections_handed_back_without_any_are_survived() {
    is_survived("handback", Fate::Either);
}

#[test]
fn messages_of_an_adapter_that_make_no_sense_are_survived() {
    is_survived("adapter", Fate::Either);
}

/// A worker that asks for one port after the other, and has a request that goes on.
#[test]
fn a_port_that_is_asked_for_during_a_stop_is_not_opened_and_delays_nothing() {
    let Some(app) = App::new("hostile.js") else { return };
    let mut running = app.flags(&["--grace", "15s"]).start(1);
    let mut asked = Kept::open(running.address());
    asked.get("/asks").expect("an answer");
    running.wait_events("listening", 3);
    asked.send("GET", "/slow", b"").expect("it is open");
    assert_eq!(asked.reply_without_body().expect("a head").status, 200);
    let asked_to_stop = Instant::now();
    running.signal(Signal::SIGTERM);
    assert!(running.wait().success());
    let took = asked_to_stop.elapsed();
    let last = running.last_of(&["signal_received", "listening"]);
    assert_eq!(last.expect("it was asked to stop").name(), "signal_received");
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn a_port_that_a_worker_asks_for_after_it_has_left_is_not_opened() {
    let Some(app) = App::new("hostile.js") else { return };
    let running = app.start(1);
    Kept::open(running.address()).get("/leaves").expect("an answer");
    running.wait_event(event("worker_leaving").worker(0));
    let told = event("protocol_violated");
    running.wait_event(told.saying("a package that is not known: the last word"));
    assert_eq!(running.count_events("listening"), 1);
}

/// What a worker chooses is one line whatever is in it, and nothing that a terminal obeys.
#[test]
fn a_name_that_ends_lines_or_steers_a_terminal_is_shown_as_it_is() {
    const SHOWN: &str = "/no/no\\n2026 INFO stopped\\u{1b}[2J\\u{9b}31m\\u{202e}where: ";
    const IN_JSON: &str = "/no/no\\n2026 INFO stopped\\u001b[2J\\u009b31m\\u202ewhere: ";
    for (format, shown) in [("text", SHOWN), ("json", IN_JSON)] {
        let Some(app) = App::new("hostile.js") else { return };
        let running = app.flags(&["--log-format", format]).start(1);
        Kept::open(running.address()).get("/terminal").expect("an answer");
        for said in [&format!("cannot listen on unix:{shown}"), "a package that is not known: "] {
            eventually(said, || running.raw_log().contains(said).then_some(()));
        }
        let log = running.raw_log();
        assert!(!log.contains(['\x1b', '\u{9b}', '\u{202e}']), "{log:?}");
        assert!(!log.contains("\n2026 INFO stopped"), "{log}");
    }
}
