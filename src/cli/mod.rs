//! The command line: from words to a configuration, and from a result to an exit code.

mod args;
mod check;
mod command;
mod exit;
mod file;
mod generate;
mod log;
mod resolve;
mod sources;
mod values;
mod variables;

use std::env;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::CommandFactory;
use tracing::subscriber::NoSubscriber;
use tracing::warn;
use tracing_subscriber::filter::LevelFilter;

use self::log::Level;
use self::sources::Sources;
use crate::engine::{self, Engine, Origin, Source};
use crate::logic::config::{Config, LogFormat};
use crate::os::standard;
use crate::os::upgrade::{ENV_UPGRADE, Program, StateFile, Task};

/// How long the last lines of the log may take to be written.
const LAST_LINES: Duration = Duration::from_millis(500);

/// The whole program.
pub fn run() -> ExitCode {
    let mut format = LogFormat::Text;
    let code = match supervise(env::args_os().collect(), &mut format) {
        Ok(code) => code,
        Err(error) => exit::fail(&error, format),
    };
    standard::finish(LAST_LINES);
    code
}

/// Runs to the end. An error is to be told in the format that is noted here.
fn supervise(words: Vec<OsString>, format: &mut LogFormat) -> anyhow::Result<ExitCode> {
    // Before anything else is opened, since its descriptor is known by its number alone.
    let handed_over = handed_over().map_err(exit::usage)?;
    let Sources { args, origins } = Sources::gather(&words).map_err(exit::usage)?;
    if let Some(what) = args.generate {
        return print(&generate::text(what).context("cannot generate it")?);
    }
    let level = log::start(args.log.log_level.into(), args.log.log_format.into());
    // Another supervisor reads the answer of one that is asked.
    if !matches!(handed_over, Some((Task::Check, _))) {
        *format = args.log.log_format.into();
    }
    for (name, meant) in variables::misspelt(&args::Args::command()) {
        warn!(
            name: "variable_unknown", variable = name,
            "{name} is not a variable of sticky-run (did you mean {meant}?)"
        );
    }
    let only_check = args.config.check;
    let mut config = resolve::resolve(args).map_err(exit::usage)?;
    config.flags = origins.asked();
    if only_check {
        return print(check::check(&config, &origins)?.as_bytes());
    }
    let program = Program::own(words.clone(), variables());
    let file = origins.file().map(Path::to_owned);
    let source = Words { words, file, level, read: None, before: None };
    let origin = Origin { program, source: Box::new(source) };
    let outcome = match handed_over {
        None => {
            check::find(&config)?;
            Engine::new(config, origin)?.run()?
        }
        Some((Task::Check, state)) => {
            check::find(&config)?;
            let answer = engine::check(config, state)?;
            return print(format!("{answer}\n").as_bytes());
        }
        Some((Task::Resume, state)) => Engine::resume(config, origin, state)?.run()?,
    };
    Ok(exit::code(outcome))
}

#[expect(clippy::disallowed_methods, reason = "the command line includes the environment")]
fn variables() -> Vec<(OsString, OsString)> {
    env::vars_os().collect()
}

/// The state of a supervisor that wants to become this program, if there is one.
#[expect(clippy::disallowed_methods, reason = "the command line includes the environment")]
fn handed_over() -> anyhow::Result<Option<(Task, StateFile)>> {
    let Some(told) = env::var_os(ENV_UPGRADE) else { return Ok(None) };
    let told = told.to_string_lossy();
    let state = StateFile::from_variable(&told);
    Ok(Some(state.with_context(|| format!("{ENV_UPGRADE} is \"{told}\": unset it"))?))
}

/// The words of the command line, which are the same as long as the program runs; so is the
/// environment. Their file and what they mean can change.
#[derive(Debug)]
struct Words {
    words: Vec<OsString>,
    /// The path of their file.
    file: Option<PathBuf>,
    /// How much the log says.
    level: Level,
    /// How much it is to say by what was read last.
    read: Option<LevelFilter>,
    /// How much it said before.
    before: Option<LevelFilter>,
}

impl Source for Words {
    fn read(&mut self) -> anyhow::Result<Config> {
        let sources = Sources::gather(&self.words)?;
        self.read = Some(sources.args.log.log_level.into());
        configuration(sources)
    }

    fn rehearse(&self) -> anyhow::Result<Config> {
        tracing::subscriber::with_default(NoSubscriber::new(), || {
            configuration(Sources::gather(&self.words)?)
        })
    }

    fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    fn adopted(&mut self) {
        if let Some(level) = self.read.take() {
            self.before = Some(self.level.set(level));
        }
    }

    fn fell_back(&mut self) {
        if let Some(level) = self.before.take() {
            self.level.set(level);
        }
    }
}

fn configuration(sources: Sources) -> anyhow::Result<Config> {
    let mut config = resolve::resolve(sources.args)?;
    config.flags = sources.origins.asked();
    Ok(config)
}

/// Text for whoever reads standard output.
fn print(text: &[u8]) -> anyhow::Result<ExitCode> {
    // It is the last that is said.
    standard::finish(LAST_LINES);
    io::stdout().write_all(text).context("cannot write to standard output")?;
    Ok(ExitCode::SUCCESS)
}
