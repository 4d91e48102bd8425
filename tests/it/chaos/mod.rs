//! Chaos: workers are killed and stopped, the supervisor is stopped, restarts its workers, becomes
//! itself anew, gets more workers and fewer, has no descriptors left, and its clients are rude, all
//! at random and at once. Polite clients notice none of it, but for those whom a worker that was
//! killed had picked up.
//!
//! `STICKY_CHAOS_SEED` repeats a sequence of deeds, `STICKY_CHAOS_SECONDS` says for how long each
//! test goes on.

/// What is done to the supervisor.
mod deeds;
/// Clients.
mod load;

use std::env;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use self::deeds::{Doer, Killed};
use self::load::{Failure, Load, Move};
use crate::support::ledger::{Book, Pickup};
use crate::support::node::App;
use crate::support::{Supervisor, eventually, full, proc, programs, sticky_run};

/// What the supervisor may hold in the end that it did not before, in KiB.
const GROWTH: u64 = 1024;
/// A client whose worker was killed sees it within this time.
const SEEN: Duration = Duration::from_secs(5);
/// Nor does a worker that is killed do anything after this time.
const DYING: Duration = Duration::from_millis(100);
/// Nothing of this is ever in the log.
const NEVER: [&str; 6] =
    ["panicked", "misuses its channel", "lost", "cannot take back", "too many wait", "ERROR"];
/// Few enough that half heads can use them up.
const FEW_FILES: &str = "ulimit -n 512;";
/// Enough for all that clients whose first bytes nobody awaits can send to one stopped worker.
const ENOUGH_FILES: &str = "ulimit -n 2048;";

/// What the clients of a test do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Clients {
    /// Some have sessions, others have not.
    Sessions,
    /// Their addresses are their keys.
    Neighbours,
    /// Nobody has a key.
    Strangers,
}

#[test]
fn sessions_in_chaos_lose_only_what_killed_workers_had_picked_up() {
    let book = Book::new(&programs::target().join("tests/chaos"), "sid");
    let flags = ["--by", "sid", "--key-idle", "1s", "--drain-timeout", "1h", "--grace", "1h"];
    let builder = sticky_run(4, &[&flags[..], &["--stall-timeout", "300ms"]].concat());
    let (name, path) = book.variable();
    let builder = builder.env(name, path).env("TEST_WORKER", "polite").after(FEW_FILES);
    let mut supervisor = builder.start();
    let address = supervisor.address();
    survive(&mut supervisor, address, &book, 4, Clients::Sessions);
    assert_eq!(supervisor.count_log("has not drained in time"), 0);
}

#[test]
fn clients_known_by_their_addresses_lose_in_chaos_only_what_killed_workers_had_picked_up() {
    let book = Book::new(&programs::target().join("tests/chaos"), "ip");
    let flags = ["--by", "ip", "--key-idle", "3s", "--drain-timeout", "1s", "--grace", "1h"];
    let builder = sticky_run(4, &[&flags[..], &["--stall-timeout", "300ms"]].concat());
    let (name, path) = book.variable();
    let builder = builder.env(name, path).env("TEST_WORKER", "polite").after(ENOUGH_FILES);
    let mut supervisor = builder.start();
    let address = supervisor.address();
    survive(&mut supervisor, address, &book, 4, Clients::Neighbours);
}

#[test]
fn clients_of_node_servers_lose_in_chaos_only_what_killed_workers_had_picked_up() {
    let Some(app) = App::new("noted.js") else { return };
    let book = Book::new(&programs::target().join("tests/chaos"), "node");
    let (name, path) = book.variable();
    let app = app.env(name, path).flags(&["--drain-timeout", "1h", "--grace", "1h"]);
    let mut running = app.after(FEW_FILES).start(3);
    let address = running.address();
    survive(&mut running, address, &book, 3, Clients::Strangers);
}

/// Chaos with clients, and what is right to see afterwards.
fn survive(
    supervisor: &mut Supervisor,
    address: SocketAddr,
    book: &Book,
    slots: u16,
    clients: Clients,
) {
    let seed = number("STICKY_CHAOS_SEED")
        .unwrap_or_else(|| u64::from(std::process::id()) << 20 | u64::from(address.port()));
    let time =
        Duration::from_secs(number("STICKY_CHAOS_SECONDS").unwrap_or(if full() { 20 } else { 3 }));
    eprintln!("STICKY_CHAOS_SEED={seed}, for {time:?}");
    let load = Load::new(address);
    all_are_ready(supervisor, slots);
    let before = Holding::of(supervisor);
    let killed = rage(supervisor, &load, (slots, seed, time), clients);
    let verdict = Verdict::new(&load, book, &killed, clients);
    eprintln!("{verdict:?}");
    all_are_ready(supervisor, slots);
    verdict.assert_right(clients);
    let after = Holding::of(supervisor);
    eprintln!("{before:?}, then {after:?}");
    assert_eq!(after.files, before.files, "{:?}", proc::descriptors(supervisor.pid()));
    assert!(after.kib <= before.kib + GROWTH, "{before:?} became {after:?}");
    // It ends at once if it knows that nothing is open.
    assert_eq!(supervisor.stop().code(), Some(0));
    let log = supervisor.whole_log();
    if env::var("CHAOS_LOG").is_ok() {
        eprintln!("{log}");
    }
    for text in NEVER {
        assert!(!log.contains(text), "{text}");
    }
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

fn rage(
    supervisor: &Supervisor,
    load: &Load,
    (slots, seed, time): (u16, u64, Duration),
    clients: Clients,
) -> Vec<Killed> {
    thread::scope(|scope| {
        for nth in 1..=3 {
            let source = move |group| Ipv4Addr::new(127, 2, group, nth);
            match clients {
                Clients::Sessions => {
                    scope.spawn(move || load.strangers(source(0)));
                    scope.spawn(move || load.sessions(source(1)));
                    scope.spawn(move || load.holders(source(2)));
                }
                Clients::Neighbours => {
                    scope.spawn(move || load.neighbour(source(0)));
                    scope.spawn(move || load.neighbour(source(1)));
                    scope.spawn(move || load.holders(source(2)));
                }
                Clients::Strangers => {
                    scope.spawn(move || load.strangers(source(0)));
                }
            }
        }
        let _ending = load.ending();
        let mut doer = Doer::new(scope, supervisor, load, seed, (slots, slots + 2), clients);
        doer.rage(time);
        doer.calm_down(slots);
        doer.killed
    })
}

/// Waits until so many workers are there and nobody else, and all are ready.
#[track_caller]
fn all_are_ready(supervisor: &Supervisor, slots: u16) {
    eventually("there are as many workers as slots, and all are ready", || {
        let (log, children) = (supervisor.log(), proc::children(supervisor.pid()));
        let is_ready = |pid: &i32| {
            let (before, since) = log.rsplit_once(&format!(" started (pid {pid})"))?;
            let worker = before.rsplit_once("worker ")?.1;
            since.contains(&format!("worker {worker} is ready")).then_some(())
        };
        let all = children.iter().filter(|pid| proc::is_alive(**pid) && is_ready(pid).is_some());
        (children.len() == usize::from(slots) && all.count() == children.len()).then_some(())
    });
}

/// What became of the requests.
#[derive(Debug)]
struct Verdict {
    sent: u64,
    answered: u64,
    /// Those that killed workers had picked up.
    excused: u64,
    /// Those that were nobody's fault but the supervisor's.
    failed: Vec<(Failure, Vec<Pickup>)>,
    /// Clients that left a worker which lived.
    moved: Vec<Move>,
}

impl Verdict {
    fn new(load: &Load, book: &Book, killed: &[Killed], clients: Clients) -> Self {
        let pickups = book.read();
        let failures = load.failed.lock().unwrap().clone();
        let all = failures.len();
        let found = failures.into_iter().map(|failure| {
            let its = failure.client.and_then(|client| pickups.get(&client));
            let during = failure.began..=failure.ended;
            let its = its.into_iter().flatten().filter(|pickup| during.contains(&pickup.at));
            let its = its.copied().collect();
            (failure, its)
        });
        // Node says that it has picked somebody up just before the app can note it.
        let mut unnoted = if clients == Clients::Strangers { killed.to_vec() } else { Vec::new() };
        let unexcused = |(failure, pickups): &(Failure, Vec<Pickup>)| match pickups.last() {
            Some(last) => !killed.iter().any(|killed| killed.took(Some(*last), failure)),
            None => {
                let one = unnoted.iter().position(|killed| killed.took(None, failure));
                one.map(|one| unnoted.swap_remove(one)).is_none()
            }
        };
        let failed: Vec<_> = found.filter(unexcused).collect();
        Self {
            sent: load.sent.load(Ordering::Relaxed),
            answered: load.answered.load(Ordering::Relaxed),
            excused: (all - failed.len()) as u64,
            failed,
            moved: load.moved.lock().unwrap().clone(),
        }
    }

    #[track_caller]
    fn assert_right(&self, clients: Clients) {
        assert!(self.failed.is_empty(), "{:#?}", self.failed);
        assert_eq!(self.sent, self.answered + self.excused);
        // Who is known by an address can leave a worker whose time to drain is over.
        let moved = self.moved.iter();
        let wrong = moved.filter(|moved| clients != Clients::Neighbours || moved.from.lives());
        assert_eq!(wrong.count(), 0, "{:#?}", self.moved);
    }
}

impl Killed {
    /// Whether this client failed because this worker was killed, which had picked it up then.
    fn took(&self, pickup: Option<Pickup>, failure: &Failure) -> bool {
        let since = pickup.map_or(failure.began, |pickup| pickup.at);
        pickup.is_none_or(|pickup| pickup.pid == self.pid)
            && since <= self.before + DYING
            && self.after <= failure.ended
            && failure.ended.saturating_sub(self.before) < SEEN
    }
}

fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok().map(|text| text.parse().expect("a number"))
}
