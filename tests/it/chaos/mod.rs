//! Chaos: workers are killed and stopped, the supervisor is stopped, restarts its workers, becomes
//! itself anew, gets more workers and fewer, has no descriptors left, and its clients are rude, all
//! at random and at once. Polite clients notice none of it, but for those whom a worker that was
//! killed had picked up.
//!
//! `STICKY_CHAOS_SEED` repeats a sequence of deeds, `STICKY_CHAOS_SECONDS` says for how long each
//! test goes on.

/// What is done to the supervisor and its workers.
mod deeds;
/// Polite clients.
mod load;
/// What became of their requests.
mod verdict;

use std::env;
use std::net::SocketAddr;
use std::process;
use std::thread;
use std::time::Duration;

use self::deeds::{Doer, Killed};
use self::load::Load;
use self::verdict::Verdict;
use crate::support::ledger::Book;
use crate::support::log::Event;
use crate::support::node::App;
use crate::support::{Supervisor, eventually, full, proc, programs, sticky_run};

/// How many of each kind of client there are.
const CLIENTS: u8 = 3;
/// What the supervisor may hold in the end that it did not before, in KiB.
const GROWTH: u64 = 1024;
/// What the log tells of what has happened.
const ALWAYS: [&str; 3] = ["restart_done", "upgraded", "scaled"];
/// What may go wrong. Nothing else does.
const TROUBLE: [&str; 15] = [
    "connection_dropped",
    "draining_worker_exited",
    "lines_suppressed",
    "restart_failed",
    "restart_waiting",
    "upgrade_failed",
    "worker_boot_timeout",
    "worker_exited",
    "worker_leave_timeout",
    "worker_paused",
    "worker_recycle_failed",
    "worker_stalled",
    "worker_start_failed",
    "worker_stop_timeout",
    "workers_killed",
];

/// Keys are free after this time without a connection, so that workers can drain.
const KEY_IDLE: Duration = Duration::from_secs(1);
/// Whoever waits for anything else than what this is about waits for ever.
const FLAGS: [&str; 4] = ["--drain-timeout", "1h", "--grace", "1h"];
const KEY_FLAGS: [&str; 4] = ["--key-idle", "1s", "--stall-timeout", "300ms"];
/// Few enough that half heads can use them up.
const FEW_FILES: &str = "ulimit -n 512;";
/// Enough for all that clients whose first bytes nobody awaits can send to one stopped worker.
const ENOUGH_FILES: &str = "ulimit -n 2048;";

/// What identifies the clients of a test.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Keys {
    /// Some have sessions, others have not.
    Sessions,
    /// Their addresses are their keys.
    Addresses,
    /// Nobody has a key.
    None,
}

#[test]
fn sessions_in_chaos_lose_only_what_killed_workers_had_picked_up() {
    native("sid", FEW_FILES, Keys::Sessions);
}

#[test]
fn clients_known_by_their_addresses_lose_in_chaos_only_what_killed_workers_had_picked_up() {
    native("ip", ENOUGH_FILES, Keys::Addresses);
}

#[test]
fn clients_of_node_servers_lose_in_chaos_only_what_killed_workers_had_picked_up() {
    let Some(app) = App::new("noted.js") else { return };
    let book = Book::new(&programs::target().join("tests/chaos"), "node");
    let (name, path) = book.variable();
    let mut running = app.env(name, path).flags(&FLAGS).after(FEW_FILES).start(3);
    let address = running.address();
    survive(&mut running, address, &book, 3, Keys::None);
}

/// Chaos around native workers whose clients are known by this key.
fn native(key: &str, limit: &str, keys: Keys) {
    let book = Book::new(&programs::target().join("tests/chaos"), key);
    let (name, path) = book.variable();
    let builder = sticky_run(4, &[&["--by", key], &KEY_FLAGS[..], &FLAGS].concat());
    let builder = builder.env(name, path).env("TEST_WORKER", "polite");
    let mut supervisor = builder.after(limit).start();
    let address = supervisor.address();
    survive(&mut supervisor, address, &book, 4, keys);
}

/// Chaos around a supervisor with so many slots, and what is right to see afterwards.
fn survive(supervisor: &mut Supervisor, address: SocketAddr, book: &Book, slots: u16, keys: Keys) {
    let any = || u64::from(process::id()) << 20 | u64::from(address.port());
    let seed = number("STICKY_CHAOS_SEED").unwrap_or_else(any);
    let seconds = number("STICKY_CHAOS_SECONDS").unwrap_or(if full() { 20 } else { 3 });
    eprintln!("STICKY_CHAOS_SEED={seed} STICKY_CHAOS_SECONDS={seconds}, {keys:?}");
    all_are_ready(supervisor, slots);
    let before = Holding::of(supervisor);
    let load = Load::new(address);
    let killed = rage(supervisor, &load, slots, (seed, Duration::from_secs(seconds)), keys);
    let verdict = Verdict::new(&load, book, &killed, keys);
    eprintln!("{verdict:?}");
    verdict.assert_right();
    all_are_ready(supervisor, slots);
    // The kernel may take some time until it has told of all who said nothing and left.
    eventually("descriptors are free again", || {
        (proc::open_files(supervisor.pid()) == before.files).then_some(())
    });
    let after = Holding::of(supervisor);
    eprintln!("{before:?}, then {after:?}");
    assert_eq!(after.files, before.files, "{:?}", proc::descriptors(supervisor.pid()));
    assert!(after.kib <= before.kib + GROWTH, "{before:?} became {after:?}");
    // It ends at once if it knows that nothing is open.
    assert_eq!(supervisor.stop().code(), Some(0));
    assert!(!supervisor.whole_log().contains("panicked"));
    let events = supervisor.all_events();
    let wrong: Vec<_> = events.iter().filter(|event| is_wrong(event)).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    // Ready, drained or neither.
    assert!(events.iter().any(|event| event.text("signal") == "SIGKILL"), "nobody was killed");
    ALWAYS.iter().for_each(|name| supervisor.wait_event(*name));
}

/// Clients, and deeds for so long as this seed wants them. Returns which workers were killed.
fn rage(
    supervisor: &Supervisor,
    load: &Load,
    slots: u16,
    (seed, time): (u64, Duration),
    keys: Keys,
) -> Vec<Killed> {
    thread::scope(|scope| {
        for nth in 0..CLIENTS {
            let [first, second, third] = [1, 2, 3].map(|kind| 10 * kind + nth);
            match keys {
                Keys::Sessions => {
                    scope.spawn(move || load.strangers(first));
                    scope.spawn(move || load.sessions(second));
                    scope.spawn(move || load.holders(third));
                }
                Keys::Addresses => {
                    scope.spawn(move || load.neighbours(first));
                    scope.spawn(move || load.neighbours(second));
                    scope.spawn(move || load.holders(third));
                }
                Keys::None => {
                    scope.spawn(move || load.strangers(first));
                }
            }
        }
        let _ending = load.ending();
        let mut doer = Doer::new(scope, supervisor, load, seed, slots, keys);
        doer.rage(time);
        doer.calm_down(slots);
        doer.killed
    })
}

/// Waits until so many workers are there and nobody else, and all are ready.
#[track_caller]
fn all_are_ready(supervisor: &Supervisor, slots: u16) {
    eventually("there are as many workers as slots, and all are ready", || {
        let (ready, children) =
            (supervisor.events("worker_ready"), proc::children(supervisor.pid()));
        let is_ready = |pid: &i32| ready.iter().any(|event| event.number::<i32>("pid") == *pid);
        let all = children.iter().filter(|pid| proc::is_alive(**pid) && is_ready(pid));
        (children.len() == usize::from(slots) && all.count() == children.len()).then_some(())
    });
}

/// What a supervisor holds that has nothing to do.
#[derive(Debug)]
struct Holding {
    files: usize,
    kib: u64,
}

impl Holding {
    fn of(supervisor: &Supervisor) -> Self {
        let files = proc::open_files_at_rest(supervisor.pid());
        Self { files, kib: proc::private_kib(supervisor.pid()) }
    }
}

/// Whether this line is never to be in the log. When clients and those who come back from workers
/// have all descriptors, an upgrade is rightly put off.
fn is_wrong(event: &Event) -> bool {
    let no_room = event.name() != "upgrade_failed" || event.text("error").contains("open files");
    let is_full = event.text("reason") == "queue_full";
    event.is_trouble() && !(no_room && !is_full && TROUBLE.contains(&event.name()))
}

fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok().map(|text| text.parse().expect("a number"))
}
