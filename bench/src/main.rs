//! The door of the bench: picks what to run and turns an error into an exit code.

use std::process::ExitCode;

use clap::Parser;
use sticky_bench::args::{Args, What};
use sticky_bench::{cost, floor, memory, node, worker, workers};

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sticky-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> anyhow::Result<()> {
    let measures = !matches!(args.what, Some(What::Floor(_) | What::Worker));
    if measures && cfg!(debug_assertions) {
        eprintln!("sticky-bench: built without --release, the numbers mean nothing");
    }
    match &args.what {
        None => {
            cost::run(&args.options)?;
            println!();
            memory::run(&args.options)?;
            println!();
            workers::run(&args.options)
        }
        Some(What::Cost) => cost::run(&args.options),
        Some(What::Memory) => memory::run(&args.options),
        Some(What::Workers) => workers::run(&args.options),
        Some(What::Node) => node::run(&args.options),
        Some(What::Floor(floor)) => floor::run(floor),
        Some(What::Worker) => worker::run(),
    }
}
