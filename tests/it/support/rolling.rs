//! What goes on while workers are replaced and the supervisor is: many requests, none of which may
//! fail.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::client::Answer;
use super::log::Pattern;
use super::reply::Reply;
use super::{Supervisor, event, eventually, full, proc};

/// Clients that come at the same time.
const CLIENTS: u8 = 4;
/// So many answers come within the time that a condition has.
const ANSWERS: u32 = 100;
/// More failures than these are not kept.
const SHOWN: usize = 20;
/// What large bodies consist of: pieces, and the bytes of one.
const PIECES: usize = 800;
const PIECE: usize = 64 * 1024;

/// An answer, in short.
#[derive(Clone, Copy, Debug)]
pub struct Served {
    /// The worker that it is from.
    pub pid: i32,
    /// How many requests that worker says it has had.
    pub count: u32,
}

impl From<Answer> for Served {
    fn from(answer: Answer) -> Self {
        Self { pid: answer.pid, count: answer.value("accepted").parse().expect("a number") }
    }
}

impl From<Reply> for Served {
    fn from(reply: Reply) -> Self {
        Self { pid: reply.pid(), count: reply.value("served").parse().expect("a number") }
    }
}

/// Clients that ask all the time.
#[derive(Debug, Default)]
pub struct Load {
    is_over: AtomicBool,
    /// Requests that were answered.
    answered: AtomicU32,
    failures: Mutex<Vec<String>>,
    /// How many requests each worker has had, as it said itself last.
    counts: Mutex<BTreeMap<i32, u32>>,
}

/// Ends the load, also when what went on meanwhile has failed.
struct Over<'a>(&'a Load);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::Relaxed);
    }
}

impl Load {
    /// Has clients make visits as long as something else goes on. A visit is known by the number of
    /// its client and its own, and is some requests.
    #[track_caller]
    pub fn during(
        visit: impl Fn(u8, u32) -> io::Result<Vec<Served>> + Sync,
        meanwhile: impl FnOnce(&Self),
    ) -> Self {
        let load = Self::default();
        // Every day the machine is rather for what goes on than for visits.
        let rest = if full() { Duration::ZERO } else { Duration::from_millis(3) };
        thread::scope(|scope| {
            let _over = Over(&load);
            for client in 0..CLIENTS {
                let (load, visit) = (&load, &visit);
                scope.spawn(move || load.run(rest, |nth| visit(client, nth)));
            }
            meanwhile(&load);
        });
        load
    }

    fn run(&self, rest: Duration, visit: impl Fn(u32) -> io::Result<Vec<Served>>) {
        let mut nth = 0;
        while !self.is_over.load(Ordering::Relaxed) {
            match visit(nth) {
                Ok(served) => self.note(&served),
                Err(error) => self.fail(format!("visit {nth}: {error}")),
            }
            nth += 1;
            thread::sleep(rest);
        }
    }

    fn note(&self, served: &[Served]) {
        let mut counts = self.counts.lock().unwrap();
        for Served { pid, count } in served {
            let most = counts.entry(*pid).or_default();
            *most = (*most).max(*count);
        }
        self.answered.fetch_add(u32::try_from(served.len()).expect("few"), Ordering::Relaxed);
    }

    fn fail(&self, why: String) {
        let mut failures = self.failures.lock().unwrap();
        if failures.len() < SHOWN {
            failures.push(why);
        }
    }

    /// Waits until so many more requests were answered, for as long as there are answers at all.
    #[track_caller]
    pub fn go_on(&self, requests: u32) {
        let end = self.answered.load(Ordering::Relaxed) + requests;
        loop {
            let next = end.min(self.answered.load(Ordering::Relaxed) + ANSWERS);
            eventually(&format!("{next} of {end} answers"), || {
                (self.answered.load(Ordering::Relaxed) >= next).then_some(())
            });
            if next == end {
                return;
            }
        }
    }

    /// Waits until so many workers have answered; a new one has a smaller part at first.
    #[track_caller]
    pub fn reaches(&self, workers: usize) {
        eventually(&format!("answers of {workers} workers"), || {
            (self.workers() >= workers).then_some(())
        });
    }

    /// Whether there was an answer to each of at least so many requests, and none came to two
    /// workers or twice to one.
    #[track_caller]
    pub fn assert_right(&self, at_least: u32) {
        assert_eq!(*self.failures.lock().unwrap(), Vec::<String>::new());
        let answered = self.answered.load(Ordering::Relaxed);
        assert!(answered >= at_least, "only {answered} of {at_least} answers");
        assert_eq!(self.counts.lock().unwrap().values().sum::<u32>(), answered);
    }

    /// How many workers have answered.
    pub fn workers(&self) -> usize {
        self.counts.lock().unwrap().len()
    }
}

/// Sends 50 MB to a worker that sends back what comes, and checks that; does something else at
/// some points of it.
#[track_caller]
pub fn mirror(mut stream: TcpStream, mut meanwhile: impl FnMut()) {
    stream.set_nodelay(true).expect("it is open");
    let mut piece: Vec<u8> = (0..PIECE).map(|at| (at % 251) as u8).collect();
    let mut back = vec![0; PIECE];
    for nth in 0..PIECES {
        if nth % (PIECES / 4) == PIECES / 8 {
            meanwhile();
        }
        piece.rotate_left(1);
        stream.write_all(&piece).expect("the worker reads");
        stream.read_exact(&mut back).expect("it sends it back");
        assert!(back == piece, "piece {nth} is another one");
    }
}

impl Supervisor {
    /// Replaces all workers, and waits until each has its successor.
    #[track_caller]
    pub fn restart(&self) {
        self.do_once(Signal::SIGHUP, "restart_done");
    }

    /// Replaces the supervisor, and waits until it is.
    #[track_caller]
    pub fn upgrade(&self) {
        self.do_once(Signal::SIGUSR2, "upgraded");
    }

    /// Restarts and upgrades in turns, each after the one before, with so many requests in between.
    #[track_caller]
    pub fn restart_and_upgrade(&self, load: &Load, rounds: u32, requests: u32) {
        for _ in 0..rounds {
            load.go_on(requests);
            self.restart();
            load.go_on(requests);
            self.upgrade();
        }
    }

    /// The same with signals that come while the ones before are still being carried out.
    #[track_caller]
    pub fn restart_within_upgrades(&self, load: &Load, rounds: u32, requests: u32) {
        for _ in 0..rounds {
            // Equal signals that are pending together count once.
            let restarts = self.count_events(event("signal_received").with("signal", "SIGHUP"));
            let upgrades = self.count_events("upgraded");
            self.signal(Signal::SIGHUP);
            self.wait_events(event("signal_received").with("signal", "SIGHUP"), restarts + 1);
            self.signal(Signal::SIGUSR2);
            self.wait_events("upgrade_begun", upgrades + 1);
            self.signal(Signal::SIGHUP);
            load.go_on(requests);
            self.wait_events("upgraded", upgrades + 1);
        }
        eventually("the last restart is over", || {
            let last = self.last_of(&["restart_begun", "restart_done"]);
            last.is_some_and(|last| last.name() == "restart_done").then_some(())
        });
    }

    /// One worker more or fewer, by this signal, so that there are so many.
    #[track_caller]
    pub fn resize(&self, signal: Signal, workers: u16) {
        self.do_once(signal, event("scaled").with("count", workers));
    }

    #[track_caller]
    fn do_once(&self, signal: Signal, done: impl Into<Pattern>) {
        let done = done.into();
        let before = self.count_events(&done);
        self.signal(signal);
        self.wait_events(done, before + 1);
    }

    /// Waits until there are so many workers and no other child, dead or alive, and the supervisor
    /// has as many descriptors open as then.
    #[track_caller]
    pub fn wait_for_workers(&self, count: usize, open_files: usize) {
        eventually(&format!("{count} workers and no other child"), || {
            let children = proc::children(self.pid());
            (children.len() == count && self.worker_pids().len() == count).then_some(())
        });
        eventually(&format!("{open_files} descriptors"), || {
            (proc::open_files_at_rest(self.pid()) == open_files).then_some(())
        });
    }
}
