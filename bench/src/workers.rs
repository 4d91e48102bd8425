//! What a connection costs the supervisor with few workers and with many, in turn, under one load.
//!
//! Each client presents a key that nobody knows: it may have been announced a moment ago, so whatever
//! lies in the channels has to be heard before it is placed.

use anyhow::ensure;

use crate::args::Options;
use crate::cost::{count_syscalls, measure};
use crate::load::{Load, Requests, Stays};
use crate::spread::Spread;
use crate::supervisor::Supervisor;

const FEW: u16 = 2;
const MANY: u16 = 256;
/// Connections before the measured ones: enough to reach each of many workers.
const WARM_UP: u32 = 4_000;
/// Key lists: all of these stand in each request.
const KEYS: [&str; 5] = ["ip", "sid", "query:key", "header:key", "cookie:key"];

/// Measures and prints the table. Errors when a supervisor fails or a connection gets no answer.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let sticky_run = options.sticky_run()?;
    println!(
        "| unknown keys, {} rounds of {} | {FEW} workers, us | {MANY} workers, us | ratio | errors |",
        options.rounds, options.connections
    );
    println!("|---|---|---|---|---|");
    let (mut notes, mut errors) = (Vec::new(), 0);
    for by in KEYS {
        let few = Supervisor::sticky_run(&sticky_run, by, FEW)?;
        let many = Supervisor::sticky_run(&sticky_run, by, MANY)?;
        let load = load(options, options.connections);
        for supervisor in [&few, &many] {
            Load { connections: WARM_UP, ..load }.run(supervisor.address).check()?;
        }
        let mut rounds = Vec::new();
        for round in 1..=options.rounds {
            let load = Load { round, ..load };
            rounds.push((measure(&few, &load)?, measure(&many, &load)?));
        }
        let failed: u32 =
            rounds.iter().map(|(few, many)| few.outcome.errors + many.outcome.errors).sum();
        println!(
            "| by {by} | {} | {} | {} | {failed} |",
            Spread::of(rounds.iter().map(|(few, _)| few.microseconds)),
            Spread::of(rounds.iter().map(|(_, many)| many.microseconds)),
            Spread::of(rounds.iter().map(|(few, many)| many.microseconds / few.microseconds)),
        );
        errors += failed;
        if options.syscalls {
            for (workers, supervisor) in [(FEW, &few), (MANY, &many)] {
                let load = Load { round: options.rounds + 1, ..load };
                let line = count_syscalls(supervisor, &load)?;
                notes.push(format!("by {by}, {workers} workers: {line}"));
            }
        }
        few.stop()?;
        many.stop()?;
    }
    notes.iter().for_each(|note| println!("\n{note}"));
    ensure!(errors == 0, "{errors} connections failed");
    Ok(())
}

fn load(options: &Options, connections: u32) -> Load<'static> {
    Load {
        connections,
        at_once: options.at_once,
        requests: Requests::MadeUp,
        stays: Stays::Anywhere,
        round: 0,
    }
}
