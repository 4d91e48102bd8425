//! Storms: one kind of attacker does all that it can, at random and at once, with honest clients beside, who
//! notice none of it.
//!
//! `STICKY_STORM_SECONDS` says for how long each goes on, `STICKY_STORM_SEED` repeats what one began with.

/// What clients do.
mod rude;

use std::env;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use sticky_run::logic::rng::Rng;
use tempfile::TempDir;

use self::rude::Rude;
use crate::support::node::App;
use crate::support::reply::Kept;
use crate::support::{Supervisor, connect, full, pause, proc, sticky_run, within};

/// Honest clients, each asking one request after the other on connections of their own.
const HONEST: usize = 2;
/// Attackers where they are clients. A hostile worker is one process.
const ATTACKERS: usize = 2;
/// What the supervisor may have more of in a storm, in KiB.
const GROWTH_KIB: u64 = 64 * 1024;
/// So many times as long an honest client may wait as beside others that only use the processor.
const SLOWER: u32 = 3;
/// The calm before a storm is no longer than this.
const CALM: Duration = Duration::from_secs(30);
/// The longest time until a worker is started again.
const BACKOFF: Duration = Duration::from_secs(30);
/// Less than this is the processor's doing.
const NOTHING: Duration = Duration::from_millis(10);
/// From so many answers on, one that is slow by chance is not the slowest in a hundred.
const MANY: usize = 5_000;

/// What identifies clients, and the slot that is never hostile.
const BY: [&str; 2] = ["--by", "cookie:stay"];
const GOOD: u16 = 1;
/// The slot that is, where a worker storms.
const HOSTILE: u16 = 0;

#[test]
fn of_clients_that_are_rude() {
    let supervisor = sticky_run(2, &BY).start();
    let address = supervisor.address();
    let storm = |seed, over: &AtomicBool| Rude::over_tcp(seed, address).rage(over);
    is_unnoticed(&supervisor, address, Storm::Outside(&storm));
}

#[test]
fn of_local_users_that_send_descriptors() {
    let directory = TempDir::new().expect("a directory of our own");
    let path = directory.path().join("door.sock");
    let flags = ["--listen", "127.0.0.1:0", "--listen", &format!("unix:{}", path.display())];
    let supervisor = sticky_run(2, &[&BY[..], &flags].concat()).start();
    let storm = |seed, over: &AtomicBool| Rude::over_unix(seed, &path).rage(over);
    is_unnoticed(&supervisor, supervisor.address(), Storm::Outside(&storm));
}

#[test]
fn of_a_worker_that_misuses_its_channel() {
    let directory = TempDir::new().expect("a directory of our own");
    let sign = directory.path().join("storm");
    let traits = format!("storms={}", sign.display());
    let supervisor = sticky_run(2, &BY).env("TEST_WORKER", &traits).start();
    is_unnoticed(&supervisor, supervisor.address(), Storm::Inside(&sign));
}

#[test]
fn of_a_node_worker_that_misuses_its_channel() {
    let Some(app) = App::new("hostile.js") else { return };
    let directory = TempDir::new().expect("a directory of our own");
    let sign = directory.path().join("storm");
    let app = app.env("STORM", sign.to_str().expect("its path is text")).flags(&BY);
    let running = app.start(2);
    is_unnoticed(&running, running.address(), Storm::Inside(&sign));
}

/// Who storms.
#[derive(Clone, Copy)]
enum Storm<'a> {
    /// Threads of the test that do this, each with a seed.
    Outside(&'a (dyn Fn(u64, &AtomicBool) + Sync)),
    /// The worker of slot 0, for as long as there is this file. Its seed is in it.
    Inside(&'a Path),
}

/// What honest clients saw in a while, and what the supervisor had.
#[derive(Debug)]
struct Seen {
    answers: usize,
    failed: Vec<String>,
    p99: Duration,
    /// The most memory that it had to itself, in KiB.
    peak_kib: u64,
}

/// Honest clients are served in the storm as they are without it, and nothing of it is left afterwards.
#[track_caller]
fn is_unnoticed(supervisor: &Supervisor, address: SocketAddr, storm: Storm<'_>) {
    let seed = number("STICKY_STORM_SEED").unwrap_or_else(|| u64::from(process::id()));
    let seconds = number("STICKY_STORM_SECONDS").unwrap_or(if full() { 3 } else { 1 });
    eprintln!("STICKY_STORM_SEED={seed} STICKY_STORM_SECONDS={seconds}");
    let time = Duration::from_secs(seconds);
    let keys = keys_of(address, GOOD);
    // Others use the processor beside, or the storm would be slower than the calm by that alone.
    let calm = watch(supervisor, address, &keys, time.min(CALM), Storm::Outside(&spin), seed);
    let before = (proc::open_files_at_rest(supervisor.pid()), proc::private_kib(supervisor.pid()));
    let stormy = watch(supervisor, address, &keys, time, storm, seed);
    eprintln!("calm: {calm:?}\nstorm: {stormy:?}");
    assert!(stormy.failed.is_empty(), "{} failed: {:?}", stormy.failed.len(), stormy.failed);
    let most = before.1 + GROWTH_KIB;
    assert!(stormy.peak_kib <= most, "{} KiB became {}", before.1, stormy.peak_kib);
    let bound = (SLOWER * calm.p99).max(NOTHING);
    let is_slow = stormy.p99 > bound && stormy.answers >= MANY;
    assert!(!is_slow, "{:?} instead of {:?}", stormy.p99, calm.p99);
    // A worker has what it has opened until it ends, and is started once more then.
    if let Storm::Inside(_) = storm
        && let pid = supervisor.pid_of(HOSTILE)
        && supervisor.worker_pids().contains(&pid)
    {
        proc::signal(pid, Signal::SIGKILL);
    }
    within(2 * BACKOFF, "descriptors are as they were", || {
        (proc::open_files(supervisor.pid()) == before.0).then_some(())
    });
    assert!(proc::private_kib(supervisor.pid()) <= most);
}

/// Has honest clients ask for this time while it storms.
fn watch(
    supervisor: &Supervisor,
    address: SocketAddr,
    keys: &[String],
    time: Duration,
    storm: Storm<'_>,
    seed: u64,
) -> Seen {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let honest = keys.iter().map(|key| scope.spawn(|| ask_on(address, key, &over)));
        let honest: Vec<_> = honest.collect();
        let _ending = match storm {
            Storm::Outside(rage) => {
                let over = &over;
                for nth in 0..ATTACKERS as u64 {
                    scope.spawn(move || rage(seed + nth, over));
                }
                None
            }
            Storm::Inside(sign) => {
                fs::write(sign, seed.to_string()).expect("the directory is ours");
                Some(Sign(sign))
            }
        };
        let (until, mut peak_kib) = (Instant::now() + time, 0);
        while Instant::now() < until {
            peak_kib = peak_kib.max(proc::private_kib(supervisor.pid()));
            pause();
        }
        over.store(true, Ordering::Relaxed);
        seen(honest, peak_kib)
    })
}

/// The file that has a worker storm.
struct Sign<'a>(&'a Path);

impl Drop for Sign<'_> {
    fn drop(&mut self) {
        fs::remove_file(self.0).ok();
    }
}

type Honest<'scope> = ScopedJoinHandle<'scope, (Vec<Duration>, Vec<String>)>;

fn seen(honest: Vec<Honest<'_>>, peak_kib: u64) -> Seen {
    let (mut times, mut failed) = (Vec::new(), Vec::new());
    for client in honest {
        let (more_times, more_failed) = client.join().expect("it only counts");
        times.extend(more_times);
        failed.extend(more_failed);
    }
    times.sort_unstable();
    let p99 = times[times.len() * 99 / 100];
    Seen { answers: times.len(), failed, p99, peak_kib }
}

/// One honest client: how long its answers took, and what it has got instead.
fn ask_on(address: SocketAddr, key: &str, over: &AtomicBool) -> (Vec<Duration>, Vec<String>) {
    let (mut times, mut failed) = (Vec::new(), Vec::new());
    while !over.load(Ordering::Relaxed) {
        let since = Instant::now();
        match slot_of(address, key) {
            Ok(GOOD) => times.push(since.elapsed()),
            Ok(slot) => failed.push(format!("{key} went to {slot}")),
            Err(error) => failed.push(error.to_string()),
        }
    }
    (times, failed)
}

/// Who answers a client with this key.
fn slot_of(address: SocketAddr, key: &str) -> io::Result<u16> {
    let mut client = Kept::over(connect(address)?);
    let request = format!("GET / HTTP/1.1\r\nHost: test\r\nCookie: stay={key}\r\n\r\n");
    client.write(request.as_bytes())?;
    let reply = client.reply()?;
    reply.value("slot").parse().map_err(io::Error::other)
}

/// Keys that live in this slot, one for each honest client.
fn keys_of(address: SocketAddr, slot: u16) -> Vec<String> {
    let keys = (0..100).map(|number| format!("honest-{number}"));
    let keys = keys.filter(|key| slot_of(address, key).is_ok_and(|found| found == slot));
    let keys: Vec<_> = keys.take(HONEST).collect();
    assert_eq!(keys.len(), HONEST);
    keys
}

/// Uses the processor and nothing else.
fn spin(seed: u64, over: &AtomicBool) {
    let mut rng = Rng::new(seed);
    while !over.load(Ordering::Relaxed) {
        std::hint::black_box(rng.bits());
    }
}

fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok().map(|text| text.parse().expect("a number"))
}
