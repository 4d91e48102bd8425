//! What was asked for, from all places: flags win over variables, variables over the file.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::PathBuf;

use anyhow::anyhow;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command, CommandFactory, FromArgMatches};

use super::args::Args;
use super::exit::in_one_line;
use super::file::{COMMAND, File, is_command, is_switch, settings};
use crate::logic::config::{self, Asked};

/// All that was given.
#[derive(Debug)]
pub(super) struct Given {
    /// What it says.
    pub(super) args: Args,
    /// Where each of it comes from.
    pub(super) origins: Origins,
}

/// Where each value comes from.
#[derive(Debug)]
pub(super) struct Origins {
    /// What stands on the command line and in variables.
    typed: ArgMatches,
    /// All of it, the file included.
    all: ArgMatches,
    file: Option<File>,
}

/// Where a value comes from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Origin {
    Flag,
    /// The variable of this name.
    Variable(String),
    /// This line of a file.
    File(PathBuf, usize),
    Default,
}

impl Given {
    /// Puts together what the words of the command line, the program's name first, the environment
    /// and the file say.
    ///
    /// An error about words and variables is one of clap, and so is help that was asked for.
    pub(super) fn gather(words: &[OsString]) -> anyhow::Result<Self> {
        let declared = Args::command();
        let typed = declared.clone().try_get_matches_from(words)?;
        let mut args = Args::from_arg_matches(&typed)?;
        let Some(path) = args.config.config.clone().filter(|_| args.generate.is_none()) else {
            return Ok(Self { args, origins: Origins { all: typed.clone(), typed, file: None } });
        };
        let file = File::read(&path, &declared)?;
        let all = add(&file, &typed, &declared, words);
        // Each of its values is known to be one, so it is about several together.
        let refused =
            |error: clap::Error| anyhow!("{}: {}", path.display(), in_one_line(&error.to_string()));
        let all = declared.try_get_matches_from(all).map_err(refused)?;
        args = Args::from_arg_matches(&all).map_err(refused)?;
        if args.command.is_empty() {
            args.command = file.command().collect();
        }
        Ok(Self { args, origins: Origins { typed, all, file: Some(file) } })
    }
}

impl Origins {
    /// Where the value of a flag, or the command, comes from.
    pub(super) fn of(&self, arg: &Arg) -> Origin {
        match self.typed.value_source(arg.get_id().as_str()) {
            Some(ValueSource::CommandLine) => Origin::Flag,
            Some(ValueSource::EnvVariable) => {
                Origin::Variable(arg.get_env().unwrap_or_default().to_string_lossy().into_owned())
            }
            // What clap may add here is no place that a user could change.
            Some(_) | None => {
                let name = arg.get_long().unwrap_or(COMMAND);
                let file = self.file.iter().find_map(|file| Some((file, file.get(name)?)));
                file.map_or(Origin::Default, |(file, setting)| {
                    Origin::File(file.path.clone(), setting.line)
                })
            }
        }
    }

    /// The values of a flag as they were given, or its defaults; none if it has none.
    pub(super) fn values(&self, arg: &Arg) -> Vec<OsString> {
        let values = self.all.get_raw(arg.get_id().as_str());
        let values: Vec<_> = values.into_iter().flatten().map(ToOwned::to_owned).collect();
        if !values.is_empty() || arg.get_long().is_some() {
            return values;
        }
        self.file.iter().flat_map(File::command).collect()
    }

    /// Everything that can be asked for, as it was.
    pub(super) fn asked(&self) -> Vec<Asked> {
        let declared = Args::command();
        let asked = settings(&declared).map(|arg| {
            let name =
                arg.get_long().map_or(config::COMMAND.to_owned(), |name| format!("--{name}"));
            let value = if is_switch(arg) {
                if self.is_on(arg) { "on" } else { "off" }.to_owned()
            } else if is_command(arg) {
                shown_command(&self.values(arg))
            } else {
                let values = self.values(arg).join(OsStr::new(","));
                values.to_string_lossy().into_owned()
            };
            Asked { name, value }
        });
        asked.collect()
    }

    /// Whether a flag that takes no value is on.
    pub(super) fn is_on(&self, arg: &Arg) -> bool {
        self.all.get_flag(arg.get_id().as_str())
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("command line"),
            Self::Variable(name) => write!(f, "environment: {name}"),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

/// The command, as it could be typed.
fn shown_command(words: &[OsString]) -> String {
    let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    // Only a NUL cannot be quoted, which no word of a process has.
    shlex::try_join(words.iter().map(AsRef::as_ref)).unwrap_or_default()
}

/// The words of the command line, with what only the file says in front.
fn add(file: &File, typed: &ArgMatches, declared: &Command, words: &[OsString]) -> Vec<OsString> {
    let (name, rest) = words.split_at(words.len().min(1));
    let mut all = name.to_vec();
    for arg in declared.get_arguments() {
        let Some((name, setting)) = arg.get_long().and_then(|name| Some((name, file.get(name)?)))
        else {
            continue;
        };
        let source = typed.value_source(arg.get_id().as_str());
        if matches!(source, Some(ValueSource::CommandLine | ValueSource::EnvVariable)) {
            continue;
        }
        for value in &setting.values {
            all.push(if is_switch(arg) {
                format!("--{name}").into()
            } else {
                format!("--{name}={value}").into()
            });
        }
    }
    all.extend_from_slice(rest);
    all
}
