//! The roof: from words to a configuration, and from an ending to an exit code.

mod args;
mod command;
mod exit;
mod generate;
mod resolve;
mod values;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use tracing_subscriber::filter::LevelFilter;

use self::args::Args;
use crate::engine::Engine;
use crate::os::stderr::Stderr;

/// The whole program.
pub fn run() -> ExitCode {
    match Args::try_parse().map_err(anyhow::Error::from).and_then(supervise) {
        Ok(code) => code,
        Err(error) => exit::fail(&error),
    }
}

fn supervise(args: Args) -> anyhow::Result<ExitCode> {
    if let Some(what) = args.generate {
        let text = generate::text(what).context("cannot generate it")?;
        io::stdout().write_all(&text).context("cannot write to standard output")?;
        return Ok(ExitCode::SUCCESS);
    }
    start_log(args.log_level.into());
    let config = resolve::resolve(args).map_err(exit::Usage)?;
    let outcome = Engine::new(config)?.run()?;
    Ok(exit::code(outcome))
}

/// Log lines go to standard error, one event a line.
fn start_log(level: LevelFilter) {
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_target(false)
        .with_ansi(io::stderr().is_terminal())
        // A log that cannot be written is no reason to stop, nor to say so on the same way.
        .log_internal_errors(false)
        .with_writer(Stderr::default())
        .init();
}
