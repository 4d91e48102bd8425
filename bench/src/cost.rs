//! CPU time of the supervisor per connection: the floor and sticky-run in turn, under one load.

use std::time::Duration;

use anyhow::ensure;

use crate::args::{Options, own_program};
use crate::load::{Load, Outcome, Requests, Stays, announce};
use crate::spread::Spread;
use crate::supervisor::{Supervisor, WORKERS};
use crate::syscalls::Count;

/// Connections before the measured ones, so that memory and caches are warm.
const WARM_UP: u32 = 2_000;
/// Announced sids of each slot in the row with known ones.
const KNOWN_SIDS: u32 = 5_000;

/// One row of the table.
struct Row {
    name: &'static str,
    /// The key list of sticky-run; without one, the floor is measured against itself.
    by: Option<&'static str>,
    requests: Requests<'static>,
    /// What sticky-run promises for this key.
    stays: Stays,
}

const CONTROL: Row = Row {
    name: "floor beside itself",
    by: None,
    requests: Requests::Handshake,
    stays: Stays::Anywhere,
};

const ROWS: [Row; 3] = [
    Row {
        name: "by sid, handshakes",
        by: Some("sid"),
        requests: Requests::Handshake,
        stays: Stays::Anywhere,
    },
    Row {
        name: "by sid, known sids",
        by: Some("sid"),
        requests: Requests::Known { per_slot: KNOWN_SIDS },
        stays: Stays::WithSid,
    },
    Row { name: "by ip", by: Some("ip"), requests: Requests::Handshake, stays: Stays::WithAddress },
];

/// One run of one supervisor.
#[derive(Debug)]
pub struct Run {
    /// CPU time of the supervisor, per connection, in microseconds.
    pub microseconds: f64,
    /// Connections per second.
    pub per_second: f64,
    /// What the clients saw.
    pub outcome: Outcome,
}

/// Measures and prints the table. Errors when a supervisor fails, a connection gets no answer or
/// goes astray: a fast wrong answer is no result.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let (sticky_run, bench) = (options.sticky_run()?, own_program()?);
    println!(
        "{} connections a run, {} at once, {WORKERS} workers, {} rounds: median (least to greatest)\n",
        options.connections, options.at_once, options.rounds
    );
    println!(
        "| row | floor, us | sticky-run, us | ratio | floor, conn/s | sticky-run, conn/s | errors | astray |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    let mut notes = Vec::new();
    let mut wrong = 0;
    for row in options.control.then_some(CONTROL).into_iter().chain(ROWS) {
        let floor = Supervisor::floor(&bench)?;
        let sticky = match row.by {
            Some(by) => Supervisor::sticky_run(&sticky_run, by, WORKERS)?,
            None => Supervisor::floor(&bench)?,
        };
        wrong += row.compare(options, &floor, &sticky)?;
        if options.syscalls {
            let both = [("floor", &floor, Stays::Anywhere), ("sticky-run", &sticky, row.stays)];
            for (name, supervisor, stays) in both {
                let line = count_syscalls(supervisor, &row.load(options, stays))?;
                notes.push(format!("{}, {name}: {line}", row.name));
            }
        }
        floor.stop()?;
        sticky.stop()?;
    }
    notes.iter().for_each(|note| println!("\n{note}"));
    ensure!(wrong == 0, "{wrong} connections failed or went astray");
    Ok(())
}

impl Row {
    /// Prints the row; returns how many connections failed or went astray.
    fn compare(
        &self,
        options: &Options,
        floor: &Supervisor,
        sticky: &Supervisor,
    ) -> anyhow::Result<u32> {
        let to_floor = self.load(options, Stays::Anywhere);
        let to_sticky = self.load(options, self.stays);
        announce(floor.address, 0)?;
        announce(sticky.address, self.announced())?;
        for (supervisor, load) in [(floor, to_floor), (sticky, to_sticky)] {
            Load { connections: WARM_UP, ..load }.run(supervisor.address).check()?;
        }
        let mut rounds = Vec::new();
        for round in 0..options.rounds {
            rounds.push((
                measure(floor, &Load { round, ..to_floor })?,
                measure(sticky, &Load { round, ..to_sticky })?,
            ));
        }
        Ok(self.print(&rounds))
    }

    fn load(&self, options: &Options, stays: Stays) -> Load<'static> {
        Load {
            connections: options.connections,
            at_once: options.at_once,
            requests: self.requests,
            stays,
            round: 0,
        }
    }

    fn announced(&self) -> u32 {
        match self.requests {
            Requests::Handshake | Requests::Opened(_) | Requests::MadeUp => 0,
            Requests::Known { per_slot } => per_slot,
        }
    }

    fn print(&self, rounds: &[(Run, Run)]) -> u32 {
        let both = || rounds.iter().flat_map(|(floor, sticky)| [&floor.outcome, &sticky.outcome]);
        let errors: u32 = both().map(|outcome| outcome.errors).sum();
        let astray: u32 = both().map(|outcome| outcome.astray).sum();
        println!(
            "| {} | {} | {} | {} | {:.0} | {:.0} | {errors} | {astray} |",
            self.name,
            Spread::of(rounds.iter().map(|(floor, _)| floor.microseconds)),
            Spread::of(rounds.iter().map(|(_, sticky)| sticky.microseconds)),
            Spread::of(
                rounds.iter().map(|(floor, sticky)| sticky.microseconds / floor.microseconds)
            ),
            Spread::of(rounds.iter().map(|(floor, _)| floor.per_second)).median,
            Spread::of(rounds.iter().map(|(_, sticky)| sticky.per_second)).median,
        );
        if let Some(error) = both().find_map(|outcome| outcome.last_error.as_ref()) {
            eprintln!("{}: {error}", self.name);
        }
        errors + astray
    }
}

/// Runs a load and reads the supervisor's clock before and after. Errors when /proc does not say.
pub fn measure(supervisor: &Supervisor, load: &Load<'_>) -> anyhow::Result<Run> {
    let before = supervisor.cpu_time()?;
    let outcome = load.run(supervisor.address);
    let spent = supervisor.cpu_time()?.saturating_sub(before);
    let connections = f64::from(load.connections);
    Ok(Run {
        microseconds: spent.as_secs_f64() * 1e6 / connections,
        per_second: connections / outcome.took.max(Duration::from_nanos(1)).as_secs_f64(),
        outcome,
    })
}

/// The system calls of a supervisor under a load, per connection, in one line. Errors when perf does
/// not count, or a connection fails.
pub fn count_syscalls(supervisor: &Supervisor, load: &Load<'_>) -> anyhow::Result<String> {
    let count = Count::begin(supervisor.pid())?;
    load.run(supervisor.address).check()?;
    count.end(load.connections)
}
