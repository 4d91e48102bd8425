//! CPU time of the primary per connection: the Node primaries and sticky-run in turn, under one load
//! and in front of the same tiny server.
//!
//! [`primary`] says who takes part, [`packages`] installs what they need, [`table`] prints.

use std::process::Command;

use anyhow::ensure;

use crate::args::Options;
use crate::cost::{count_syscalls, measure};
use crate::load::{Load, Requests, Session, Stays, announce, open_sessions};
use crate::supervisor::{Supervisor, WORKERS};

pub mod packages;
pub mod primary;
pub mod table;

use primary::{PRIMARIES, Primary};
use table::Row;

/// Connections before the measured ones, so that memory and caches are warm and the code compiled.
const WARM_UP: u32 = 5_000;
/// Sessions opened at each primary that keeps them, or is compared with those that do.
const SESSIONS: u32 = 10_000;

/// A primary that runs.
#[derive(Debug)]
pub struct Contender {
    /// Which one it is.
    pub primary: &'static Primary,
    /// Its process.
    pub supervisor: Supervisor,
    /// The sessions that the clients of the second table have there; none where it is not in it.
    pub sessions: Vec<Session>,
}

/// Measures and prints both tables. Errors when a primary fails, a connection gets no answer or goes
/// astray: a fast wrong answer is no result.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let apps = packages::install()?;
    let sticky_run = options.sticky_run()?;
    let mut contenders = Vec::new();
    for primary in &PRIMARIES {
        contenders.push(Contender::start(primary, primary.command(&apps, &sticky_run))?);
    }
    println!(
        "Node {}, {} connections a run, {} at once, {WORKERS} workers, {} rounds: median (least to greatest)\n",
        packages::node_version()?,
        options.connections,
        options.at_once,
        options.rounds
    );
    let plain: Vec<_> = contenders.iter().map(|one| (one, one.plain(options))).collect();
    let mut wrong = compare("requests without a sid", &plain, options)?;
    for contender in contenders.iter_mut().filter(|one| one.primary.with_sid.is_some()) {
        contender.sessions = open_sessions(contender.supervisor.address, SESSIONS)?;
    }
    println!();
    let polls: Vec<_> =
        contenders.iter().filter_map(|one| Some((one, one.polls(options)?))).collect();
    wrong += compare("polls with known sids", &polls, options)?;
    for contender in contenders {
        contender.supervisor.stop()?;
    }
    ensure!(wrong == 0, "{wrong} connections failed or went astray");
    Ok(())
}

/// Prints one table; returns how many connections failed or went astray.
fn compare(
    title: &str,
    loads: &[(&Contender, Load<'_>)],
    options: &Options,
) -> anyhow::Result<u32> {
    for (contender, load) in loads {
        // @socket.io/sticky hears of a sid after its client does, so who answers is checked later.
        let warm_up = Load { connections: WARM_UP, stays: Stays::Anywhere, ..*load };
        warm_up.run(contender.supervisor.address).check()?;
    }
    let mut rows: Vec<_> = loads.iter().map(|(contender, _)| Row::new(contender.primary)).collect();
    for round in 0..options.rounds {
        for (row, (contender, load)) in rows.iter_mut().zip(loads) {
            let run = measure(&contender.supervisor, &Load { round, ..*load })?;
            row.runs.push(run);
        }
    }
    let wrong = table::print(title, &rows);
    for (contender, load) in loads.iter().filter(|_| options.syscalls) {
        let line = count_syscalls(&contender.supervisor, load)?;
        println!("\n{}, {title}: {line}", contender.primary.name);
    }
    Ok(wrong)
}

impl Contender {
    /// Starts a primary and waits until all of its workers answer. Errors when they do not.
    pub fn start(primary: &'static Primary, command: Command) -> anyhow::Result<Self> {
        let supervisor = Supervisor::start(command)?;
        announce(supervisor.address, 0)?;
        Ok(Self { primary, supervisor, sessions: Vec::new() })
    }

    /// Requests that belong to no session.
    pub fn plain(&self, options: &Options) -> Load<'_> {
        load(options, Requests::Handshake, self.primary.without_sid)
    }

    /// Requests that belong to one of the sessions; none when this primary does not know of sids.
    pub fn polls(&self, options: &Options) -> Option<Load<'_>> {
        Some(load(options, Requests::Opened(&self.sessions), self.primary.with_sid?))
    }
}

fn load<'a>(options: &Options, requests: Requests<'a>, stays: Stays) -> Load<'a> {
    Load { connections: options.connections, at_once: options.at_once, requests, stays, round: 0 }
}
