//! The roof: from words to a configuration, and from an ending to an exit code.

mod args;
mod command;
mod exit;
mod generate;
mod resolve;
mod values;

use std::fmt::{self, Debug};
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use tracing::field::Field;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::{Writer, debug_fn};

use self::args::Args;
use crate::engine::Engine;
use crate::logic::config::LogFormat;
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
    start_log(args.log.log_level.into(), args.log.log_format.into());
    let config = resolve::resolve(args).map_err(exit::Usage)?;
    let outcome = Engine::new(config)?.run()?;
    Ok(exit::code(outcome))
}

/// Log lines go to standard error, one event a line.
fn start_log(level: LevelFilter, format: LogFormat) {
    let log = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_target(false)
        .with_ansi(format == LogFormat::Text && io::stderr().is_terminal())
        // A log that cannot be written is no reason to stop, nor to say so on the same way.
        .log_internal_errors(false)
        .with_writer(Stderr::new(format));
    match format {
        LogFormat::Text => log.fmt_fields(debug_fn(message_alone)).init(),
        LogFormat::Json => log.json().flatten_event(true).with_current_span(false).init(),
    }
}

/// The other fields of an event are for machines; the message has them in words.
fn message_alone(writer: &mut Writer<'_>, field: &Field, value: &dyn Debug) -> fmt::Result {
    if field.name() == "message" { write!(writer, "{value:?}") } else { Ok(()) }
}
