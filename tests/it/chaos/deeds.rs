//! What happens to the supervisor and its workers, one deed after the other, as a seed says.

use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::OwnedFd;
use std::thread::{Scope, ScopedJoinHandle};
use std::time::Duration;

use nix::sys::signal::Signal;
use rustix::process::{Pid, PidfdFlags, pidfd_open, pidfd_send_signal};
use sticky_run::logic::rng::Rng;

use super::Clients;
use super::load::Load;
use crate::support::ledger::now;
use crate::support::{Supervisor, client, proc};

/// The client that floods.
const FLOODER: Ipv4Addr = Ipv4Addr::new(127, 3, 0, 1);
/// So many that send half a head come at once: more than the supervisor has room for, where it has to
/// see heads.
const HALF: u32 = 500;
/// So many where they are for the workers to wait for.
const HALF_FOR_WORKERS: u32 = 60;
/// So many that say nothing come at once.
const SILENT: u32 = 100;

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
    /// Just after. It may have run for a moment more.
    pub(super) before: Duration,
}

/// A worker that is stopped.
#[derive(Debug)]
struct Stopped {
    process: OwnedFd,
    pid: i32,
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
    /// The fewest slots and the most.
    range: (u16, u16),
    slots: u16,
    clients: Clients,
    pub(super) killed: Vec<Killed>,
    stopped: Vec<Stopped>,
    /// Connections that are kept, until when.
    kept: Vec<(Vec<TcpStream>, Duration)>,
    flood: Option<ScopedJoinHandle<'scope, ()>>,
    floods: u32,
}

impl<'scope, 'env> Doer<'scope, 'env> {
    /// One who has not done anything, with so many slots to begin with and at the most.
    pub(super) fn new(
        scope: &'scope Scope<'scope, 'env>,
        supervisor: &'env Supervisor,
        load: &'env Load,
        seed: u64,
        (slots, most): (u16, u16),
        clients: Clients,
    ) -> Self {
        Self {
            scope,
            supervisor,
            load,
            rng: Rng::new(seed),
            range: (slots - 1, most),
            slots,
            clients,
            killed: Vec::new(),
            stopped: Vec::new(),
            kept: Vec::new(),
            flood: None,
            floods: 0,
        }
    }

    /// Does one thing after the other: everything once, then as it comes.
    pub(super) fn rage(&mut self, time: Duration) {
        let end = now() + time;
        let mut first = ALL.to_vec();
        while now() < end || !first.is_empty() {
            let deed = match u32::try_from(first.len()).expect("eleven at most") {
                0 => ALL[self.below(11) as usize],
                left => first.swap_remove(self.below(left) as usize),
            };
            let (chance, rest) = (self.rng.bits(), 5 + self.below(120));
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

    fn below(&mut self, bound: u32) -> u32 {
        self.rng.below(bound)
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
            Deed::Half if self.clients == Clients::Neighbours => {
                self.crowd(HALF_FOR_WORKERS, "GET /?si", time);
            }
            Deed::Half => self.crowd(HALF, "GET /?si", time),
            Deed::Silent => self.crowd(SILENT, "", time),
            Deed::Vanish => {
                for _ in 0..20 {
                    client::send(self.load.address(), "GET /vanished HTTP/1.1\r\n\r\n");
                }
            }
        }
    }

    fn kill(&mut self, chance: u64) {
        let Some(pid) = self.victim(chance) else { return };
        let after = now();
        if strike(self.supervisor.pid(), pid, rustix::process::Signal::KILL).is_some() {
            self.killed.push(Killed { pid, after, before: now() });
        }
    }

    /// A child of the supervisor.
    fn victim(&self, chance: u64) -> Option<i32> {
        let mut pids = self.supervisor.worker_pids();
        pids.sort_unstable();
        pids.get((chance >> 32) as usize % pids.len().max(1)).copied()
    }

    fn stop(&mut self, pid: i32, time: Duration, dies: bool) {
        let stopped = strike(self.supervisor.pid(), pid, rustix::process::Signal::STOP);
        let until = now() + time;
        self.stopped.extend(stopped.map(|process| Stopped { process, pid, until, dies }));
    }

    fn resize(&mut self, deed: Deed) {
        let (signal, slots) = match deed {
            Deed::More => (Signal::SIGTTIN, self.slots + 1),
            _ => (Signal::SIGTTOU, self.slots - 1),
        };
        if (self.range.0..=self.range.1).contains(&slots) {
            const SAID: &str = "workers from now on: ";
            let before = self.supervisor.count_log(SAID);
            self.supervisor.signal(signal);
            self.supervisor.wait_for_log_times(SAID, before + 1);
            self.slots = slots;
        }
    }

    /// Many at once for one worker that has stopped, if clients belong to workers.
    fn flood(&mut self, chance: u64, time: Duration) {
        if self.flood.as_ref().is_some_and(|flood| !flood.is_finished()) {
            return;
        }
        self.floods += 1;
        let id = format!("flood-{}", self.floods);
        let (load, sessions) = (self.load, self.clients == Clients::Sessions);
        let (path, pid) = if sessions {
            let Some(owner) = load.ask(FLOODER, &format!("/announce/{id}")) else { return };
            (format!("/?sid={id}"), Some(owner.pid))
        } else {
            ("/".to_owned(), load.ask(FLOODER, "/").map(|owner| owner.pid).or(self.victim(chance)))
        };
        if let Some(pid) = pid {
            // What it has not picked up is for others then.
            self.stop(pid, time, chance & 1 == 1);
        }
        self.flood = Some(self.scope.spawn(move || {
            load.flood(FLOODER, &path);
            if sessions {
                load.ask(FLOODER, &format!("/end/{id}{}", &path[1..]));
            }
        }));
    }

    /// Many at once who say no more than this, each from an address of its own.
    fn crowd(&mut self, many: u32, says: &str, time: Duration) {
        let first = Ipv4Addr::new(127, 4, 0, 1).to_bits();
        let one = |nth| {
            let source = Ipv4Addr::from_bits(first + nth);
            let mut stream = client::connect_from(source.into(), self.load.address())?;
            stream.write_all(says.as_bytes())?;
            Ok(stream)
        };
        let crowd: io::Result<Vec<_>> = (0..many).map(one).collect();
        self.kept.push((crowd.expect("connections"), now() + time));
    }

    /// Lets workers go on, and clients leave, whose time has come.
    fn release(&mut self, due: Duration) {
        for Stopped { process, pid, dies, .. } in
            self.stopped.extract_if(.., |its| its.until <= due)
        {
            let after = now();
            let signal =
                if dies { rustix::process::Signal::KILL } else { rustix::process::Signal::CONT };
            // It may have ended.
            if pidfd_send_signal(&process, signal).is_ok() && dies {
                self.killed.push(Killed { pid, after, before: now() });
            }
        }
        self.kept.retain(|(_, until)| *until > due);
    }
}

/// Sends a signal to a child of the supervisor, if it still is one.
fn strike(supervisor: i32, pid: i32, signal: rustix::process::Signal) -> Option<OwnedFd> {
    let process = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
    // Now that the number cannot come to mean another process.
    proc::children(supervisor).contains(&pid).then_some(())?;
    pidfd_send_signal(&process, signal).ok()?;
    Some(process)
}
