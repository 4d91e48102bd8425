//! What happens to the supervisor and its workers, one deed after the other, as a seed says.

use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;
use std::thread::{Scope, ScopedJoinHandle};
use std::time::Duration;

use nix::sys::signal::Signal;
use rustix::process::{Pid, PidfdFlags, Signal as ToWorker, pidfd_open, pidfd_send_signal};
use sticky_run::logic::rng::Rng;
use sticky_worker::message::ENV_WORKER_ID;

use super::Keys;
use super::load::{Load, source};
use crate::support::ledger::now;
use crate::support::{Supervisor, client, pause, proc};

/// The network of those who flood.
const FLOODERS: u8 = 100;
/// The network of those who come in crowds.
const CROWD: u8 = 101;
/// So many slots there may be more than in the beginning, or fewer.
const MORE: u16 = 2;
const FEWER: u16 = 1;
/// So many that send half a head come at once: more than the supervisor has room for, where it has to
/// see heads.
const HALF: u16 = 500;
/// So many where they are for the workers to wait for.
const HALF_FOR_WORKERS: u16 = 60;
/// A worker that is killed or stopped may run for so long after the signal was sent.
const ENDING: Duration = Duration::from_millis(100);
/// So many crowds there are at once. On a busy machine they come faster than they can leave, until no
/// client of the test finds a descriptor.
const CROWDS: usize = 6;
/// So many that say nothing come at once.
const SILENT: u16 = 100;
/// So many ask and leave at once.
const VANISHING: u16 = 20;

/// What can be done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Deed {
    /// A worker is killed.
    Kill,
    /// A worker is stopped for a while.
    Stop,
    /// The supervisor is stopped for a moment.
    Freeze,
    Restart,
    Upgrade,
    More,
    Fewer,
    /// Many at once ask a worker that is stopped.
    Flood,
    /// Many at once send half a head, and leave after a while.
    Half,
    /// Many at once say nothing, and leave after a while.
    Silent,
    /// Many ask and leave at once.
    Vanish,
}

const ALL: [Deed; 11] = [
    Deed::Kill,
    Deed::Stop,
    Deed::Freeze,
    Deed::Restart,
    Deed::Upgrade,
    Deed::More,
    Deed::Fewer,
    Deed::Flood,
    Deed::Half,
    Deed::Silent,
    Deed::Vanish,
];

/// A worker was killed by the test.
#[derive(Clone, Copy, Debug)]
pub(super) struct Killed {
    /// Its pid.
    pub(super) pid: i32,
    /// Just before, on the clock of the ledger.
    pub(super) after: Duration,
    /// Just after.
    pub(super) before: Duration,
    /// It did nothing any more since then, having been stopped perhaps long before.
    pub(super) still: Duration,
}

/// A worker that is stopped.
#[derive(Debug)]
struct Stopped {
    process: OwnedFd,
    pid: i32,
    /// It does nothing from then on.
    still: Duration,
    until: Duration,
    /// It is killed then, and does not go on.
    dies: bool,
}

/// Whoever does it.
pub(super) struct Doer<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    supervisor: &'env Supervisor,
    load: &'env Load,
    rng: Rng,
    /// How many slots there are, and how many there may be.
    slots: u16,
    range: RangeInclusive<u16>,
    keys: Keys,
    pub(super) killed: Vec<Killed>,
    stopped: Vec<Stopped>,
    flood: Option<ScopedJoinHandle<'scope, ()>>,
    /// How many floods there were.
    floods: u16,
    crowds: Vec<ScopedJoinHandle<'scope, ()>>,
    /// How many have come in crowds.
    came: u16,
}

impl<'scope, 'env> Doer<'scope, 'env> {
    /// One who has not done anything yet to a supervisor with so many slots.
    pub(super) fn new(
        scope: &'scope Scope<'scope, 'env>,
        supervisor: &'env Supervisor,
        load: &'env Load,
        seed: u64,
        slots: u16,
        keys: Keys,
    ) -> Self {
        Self {
            scope,
            supervisor,
            load,
            rng: Rng::new(seed),
            slots,
            range: slots - FEWER..=slots + MORE,
            keys,
            killed: Vec::new(),
            stopped: Vec::new(),
            flood: None,
            floods: 0,
            crowds: Vec::new(),
            came: 0,
        }
    }

    /// Does one thing after the other: everything once, then as it comes.
    pub(super) fn rage(&mut self, time: Duration) {
        let end = now() + time;
        let mut first = ALL.to_vec();
        while now() < end || !first.is_empty() {
            let deed = match first.len() {
                0 => ALL[self.below(ALL.len())],
                left => first.swap_remove(self.below(left)),
            };
            let (chance, rest) = (self.rng.bits(), 5 + self.rng.below(120));
            self.do_it(deed, chance);
            proc::watch(Duration::from_millis(rest.into()));
            self.release(now());
        }
    }

    /// Lets go of everything, and sees to it that there are as many slots as in the beginning and
    /// that none rests.
    pub(super) fn calm_down(&mut self, slots: u16) {
        self.release(Duration::MAX);
        if let Some(flood) = self.flood.take() {
            flood.join().expect("clients do not panic");
        }
        while self.slots < slots {
            self.resize(Deed::More);
        }
        while self.slots > slots {
            self.resize(Deed::Fewer);
        }
        self.supervisor.signal(Signal::SIGHUP);
    }

    fn below(&mut self, bound: usize) -> usize {
        self.rng.below(u32::try_from(bound).expect("there are few deeds")) as usize
    }

    fn do_it(&mut self, deed: Deed, chance: u64) {
        let time = Duration::from_millis(20 + chance % 800);
        match deed {
            Deed::Kill => self.kill(chance),
            Deed::Stop => {
                if let Some(pid) = self.victim(chance) {
                    self.stop(pid, time, false);
                }
            }
            Deed::Freeze => {
                self.supervisor.signal(Signal::SIGSTOP);
                proc::watch(time / 3);
                self.supervisor.signal(Signal::SIGCONT);
            }
            Deed::Restart => self.supervisor.signal(Signal::SIGHUP),
            Deed::Upgrade => self.supervisor.signal(Signal::SIGUSR2),
            Deed::More | Deed::Fewer => self.resize(deed),
            Deed::Flood => self.flood(chance, time),
            Deed::Half if self.keys == Keys::Addresses => {
                self.crowd(HALF_FOR_WORKERS, "GET /?si", time);
            }
            Deed::Half => self.crowd(HALF, "GET /?si", time),
            Deed::Silent => self.crowd(SILENT, "", time),
            Deed::Vanish => self.crowd(VANISHING, "GET / HTTP/1.1\r\n\r\n", Duration::ZERO),
        }
    }

    fn kill(&mut self, chance: u64) {
        let Some(pid) = self.victim(chance) else { return };
        let after = now();
        if strike(self.supervisor.pid(), pid, ToWorker::KILL).is_some() {
            let before = now();
            self.killed.push(Killed { pid, after, before, still: before + ENDING });
        }
    }

    /// A worker. Not a child of the supervisor that is no other program yet: the supervisor waits for
    /// it, and would be stopped with it.
    fn victim(&self, chance: u64) -> Option<i32> {
        let mut pids = self.supervisor.worker_pids();
        pids.retain(|pid| proc::environment(*pid).iter().any(|(name, _)| name == ENV_WORKER_ID));
        pids.sort_unstable();
        pids.get((chance >> 32) as usize % pids.len().max(1)).copied()
    }

    /// Stops a worker for a while, unless it is stopped already.
    fn stop(&mut self, pid: i32, time: Duration, dies: bool) {
        if self.stopped.iter().any(|stopped| stopped.pid == pid) {
            return;
        }
        let stopped = strike(self.supervisor.pid(), pid, ToWorker::STOP);
        let (still, until) = (now() + ENDING, now() + time);
        self.stopped.extend(stopped.map(|process| Stopped { process, pid, still, until, dies }));
    }

    fn resize(&mut self, deed: Deed) {
        let (signal, slots) = match deed {
            Deed::More => (Signal::SIGTTIN, self.slots + 1),
            _ => (Signal::SIGTTOU, self.slots - 1),
        };
        if self.range.contains(&slots) {
            let before = self.supervisor.count_events("scaled");
            self.supervisor.signal(signal);
            self.supervisor.wait_events("scaled", before + 1);
            self.slots = slots;
        }
    }

    /// Many at once for one worker that is stopped, if clients belong to workers.
    fn flood(&mut self, chance: u64, time: Duration) {
        if self.flood.as_ref().is_some_and(|flood| !flood.is_finished()) {
            return;
        }
        self.floods += 1;
        let (load, client) = (self.load, source(FLOODERS, self.floods));
        let (owner, path) = match self.keys {
            Keys::Sessions => {
                (self.owner(client, format!("/announce/{client}")), format!("/?sid={client}"))
            }
            Keys::Addresses => (self.owner(client, "/".to_owned()), "/".to_owned()),
            Keys::None => (self.victim(chance), "/".to_owned()),
        };
        let Some(owner) = owner else { return };
        // The first dies, and what it has not picked up then is for others. The next lives on.
        self.stop(owner, time, self.floods % 2 == 1);
        let ends = self.keys == Keys::Sessions;
        self.flood = Some(self.scope.spawn(move || {
            load.flood(client, &path);
            if ends {
                load.ask(client, &format!("/end/{client}?sid={client}"));
            }
        }));
    }

    /// Many at once who say no more than this, each from an address of its own. They may have to wait
    /// for others to leave.
    fn crowd(&mut self, many: u16, says: &'static str, time: Duration) {
        self.crowds.retain(|crowd| !crowd.is_finished());
        if self.crowds.len() == CROWDS {
            return;
        }
        let (first, address) = (self.came, self.load.address());
        self.came = first.wrapping_add(many);
        self.crowds.push(self.scope.spawn(move || {
            let one = |nth| {
                let client = source(CROWD, first.wrapping_add(nth));
                let mut stream = client::connect_from(client.into(), address)?;
                stream.write_all(says.as_bytes())?;
                Ok(stream)
            };
            let crowd: Vec<io::Result<TcpStream>> = (0..many).map(one).collect();
            proc::watch(time);
            drop(crowd);
        }));
    }

    /// The worker that answers a client. Others go on and die meanwhile: it may have to wait for them.
    fn owner(&mut self, client: Ipv4Addr, path: String) -> Option<i32> {
        let load = self.load;
        let asking = self.scope.spawn(move || load.ask(client, &path));
        while !asking.is_finished() {
            self.release(now());
            pause();
        }
        asking.join().expect("clients do not panic").map(|owner| owner.pid)
    }

    /// Lets workers go on, or die, whose time has come.
    fn release(&mut self, due: Duration) {
        for Stopped { process, pid, still, dies, .. } in
            self.stopped.extract_if(.., |its| its.until <= due)
        {
            let after = now();
            let signal = if dies { ToWorker::KILL } else { rustix::process::Signal::CONT };
            // It may have ended.
            if pidfd_send_signal(&process, signal).is_ok() && dies {
                self.killed.push(Killed { pid, after, before: now(), still });
            }
        }
    }
}

/// Sends a signal to a child of the supervisor, if it still is one.
fn strike(supervisor: i32, pid: i32, signal: ToWorker) -> Option<OwnedFd> {
    let process = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
    // Now that the number cannot come to mean another process.
    proc::children(supervisor).contains(&pid).then_some(())?;
    pidfd_send_signal(&process, signal).ok()?;
    Some(process)
}
