//! The roof: from words to a configuration, and from an ending to an exit code.

mod args;
mod check;
mod command;
mod exit;
mod file;
mod generate;
mod given;
mod resolve;
mod values;

use std::env;
use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use anyhow::Context;
use tracing_subscriber::filter::LevelFilter;

use self::given::Given;
use crate::engine::{Engine, Source};
use crate::logic::config::Config;
use crate::os::stderr::Stderr;

/// The whole program.
pub fn run() -> ExitCode {
    match supervise(env::args_os().collect()) {
        Ok(code) => code,
        Err(error) => exit::fail(&error),
    }
}

fn supervise(words: Vec<OsString>) -> anyhow::Result<ExitCode> {
    let Given { args, origins } = Given::gather(&words).map_err(exit::usage)?;
    if let Some(what) = args.generate {
        return print(&generate::text(what).context("cannot generate it")?);
    }
    start_log(args.log_level.into());
    let only_check = args.config.check;
    let mut config = resolve::resolve(args).map_err(exit::usage)?;
    config.asked = origins.asked();
    if only_check {
        return print(check::check(&config, &origins)?.as_bytes());
    }
    let outcome = Engine::new(config, Box::new(Words(words)))?.run()?;
    Ok(exit::code(outcome))
}

/// The words of the command line, which are the same as long as the program runs; so is the
/// environment. Their file and what they mean can change.
#[derive(Debug)]
struct Words(Vec<OsString>);

impl Source for Words {
    fn read(&mut self) -> anyhow::Result<Config> {
        let Given { args, origins } = Given::gather(&self.0)?;
        let mut config = resolve::resolve(args)?;
        config.asked = origins.asked();
        Ok(config)
    }
}

/// Text for whoever reads standard output.
fn print(text: &[u8]) -> anyhow::Result<ExitCode> {
    io::stdout().write_all(text).context("cannot write to standard output")?;
    Ok(ExitCode::SUCCESS)
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
