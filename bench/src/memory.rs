//! What announced sids cost: memory for each, and the price of a lookup among all of them.

use anyhow::ensure;

use crate::args::Options;
use crate::cost::{Run, measure};
use crate::load::{Load, Outcome, Requests, Stays, announce};
use crate::sid::SID_LENGTH;
use crate::spread::Spread;
use crate::supervisor::{Supervisor, WORKERS};

/// How many polls check that sids reach their owner, before the memory is read again.
const SAMPLE: u32 = 10_000;

/// Measures and prints. Errors when a supervisor fails, or a sid does not reach its owner.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let program = options.sticky_run()?;
    let many = Supervisor::sticky_run(&program, "sid", WORKERS)?;
    let few = Supervisor::sticky_run(&program, "sid", WORKERS)?;
    let per_slot = options.sids / u32::from(WORKERS);
    let mut wrong = fill(&many, options, per_slot)?;
    announce(few.address, 1)?;
    wrong += compare_lookups(options, &few, &many, per_slot)?;
    many.stop()?;
    few.stop()?;
    ensure!(wrong == 0, "{wrong} connections failed or did not reach the owner of their sid");
    Ok(())
}

/// Announces the sids and prints what they cost; returns how many of a sample went wrong.
fn fill(supervisor: &Supervisor, options: &Options, per_slot: u32) -> anyhow::Result<u32> {
    announce(supervisor.address, 1)?;
    // The buffers and the machinery for one connection are there before the sids are.
    polls(SAMPLE, options, 1).run(supervisor.address).check()?;
    let before = supervisor.private_memory()?;
    announce(supervisor.address, per_slot)?;
    let sample = polls(SAMPLE, options, per_slot).run(supervisor.address);
    let after = supervisor.private_memory()?;
    let count = per_slot * u32::from(WORKERS);
    let each = (after as f64 - before as f64) / f64::from(count);
    println!(
        "| announced sids of {SID_LENGTH} bytes | private memory before | after | bytes a sid |"
    );
    println!("|---|---|---|---|");
    println!("| {count} | {} KiB | {} KiB | {each:.1} |\n", before / 1024, after / 1024);
    println!("{SAMPLE} polls: {} errors, {} astray\n", sample.errors, sample.astray);
    Ok(sample.wrong())
}

/// Prints the price of a lookup; returns how many connections went wrong.
fn compare_lookups(
    options: &Options,
    few: &Supervisor,
    many: &Supervisor,
    per_slot: u32,
) -> anyhow::Result<u32> {
    let mut rounds: Vec<(Run, Run)> = Vec::new();
    for round in 0..options.rounds {
        let of = |per_slot| Load { round, ..polls(options.connections, options, per_slot) };
        rounds.push((measure(few, &of(1))?, measure(many, &of(per_slot))?));
    }
    println!(
        "| polls with known sids | 1 a worker, us | {per_slot} a worker, us | difference, us |"
    );
    println!("|---|---|---|---|");
    println!(
        "| {} connections a run, {} rounds | {} | {} | {} |",
        options.connections,
        options.rounds,
        Spread::of(rounds.iter().map(|(few, _)| few.microseconds)),
        Spread::of(rounds.iter().map(|(_, many)| many.microseconds)),
        Spread::of(rounds.iter().map(|(few, many)| many.microseconds - few.microseconds)),
    );
    let outcomes = rounds.iter().flat_map(|(few, many)| [&few.outcome, &many.outcome]);
    Ok(outcomes.map(Outcome::wrong).sum())
}

/// Polls with random ones of the sids that have been announced.
fn polls(connections: u32, options: &Options, per_slot: u32) -> Load<'static> {
    Load {
        connections,
        at_once: options.at_once,
        requests: Requests::Known { per_slot },
        stays: Stays::WithSid,
        round: 0,
    }
}
