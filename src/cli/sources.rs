//! Flags, variables and the file merged: flags override variables, variables override the file.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command, CommandFactory, FromArgMatches};

use super::args::Args;
use super::exit::in_one_line;
use super::file::{COMMAND, File, is_command, is_switch, settings, without_variables};
use super::variables::Variables;
use crate::logic::config::{self, FlagValue};

/// All that was given.
#[derive(Debug)]
pub(super) struct Sources {
    /// What it says.
    pub(super) args: Args,
    /// Where each of it comes from.
    pub(super) origins: Origins,
}

/// Where each value comes from.
#[derive(Debug)]
pub(super) struct Origins {
    /// What stands on the command line.
    typed: ArgMatches,
    /// All of it, variables and the file included.
    all: ArgMatches,
    variables: Variables,
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

impl Sources {
    /// Puts together what the words of the command line, the program's name first, the environment
    /// and the file say.
    ///
    /// An error about words is one of clap, and so is help that was asked for.
    pub(super) fn gather(words: &[OsString]) -> anyhow::Result<Self> {
        let declared = Args::command();
        let plain = without_variables(&declared);
        let typed = match plain.clone().try_get_matches_from(words) {
            // The help names the variables.
            Err(error) if error.kind() == ErrorKind::DisplayHelp => {
                return Err(declared.try_get_matches_from(words).err().unwrap_or(error).into());
            }
            typed => typed?,
        };
        let args = Args::from_arg_matches(&typed)?;
        if args.generate.is_some() {
            let (all, variables) = (typed.clone(), Variables::default());
            return Ok(Self { args, origins: Origins { all, typed, variables, file: None } });
        }
        let variables = Variables::read(&declared, &plain)?;
        let named = variables.get("config").and_then(|config| config.values.first());
        let path = args.config.config.or_else(|| named.map(PathBuf::from));
        let file = path.map(|path| File::read(&path, &declared)).transpose()?;
        let all = add(&variables, file.as_ref(), &typed, &declared, words);
        // Each of its values is known to be one, so it is about several together.
        let refused = |error: clap::Error| match &file {
            Some(file) => anyhow!("{}: {}", file.path.display(), in_one_line(&error)),
            None => error.into(),
        };
        let all = plain.try_get_matches_from(all).map_err(refused)?;
        let mut args = Args::from_arg_matches(&all).map_err(refused)?;
        if args.command.is_empty() {
            args.command = file.iter().flat_map(File::command).collect();
        }
        Ok(Self { args, origins: Origins { typed, all, variables, file } })
    }
}

impl Origins {
    /// The file, if there is one.
    pub(super) fn file(&self) -> Option<&Path> {
        self.file.as_ref().map(|file| &*file.path)
    }

    /// Where the value of a flag, or the command, comes from.
    pub(super) fn of(&self, arg: &Arg) -> Origin {
        let name = arg.get_long().unwrap_or(COMMAND);
        if is_typed(&self.typed, arg) {
            Origin::Flag
        } else if self.variables.get(name).is_some() {
            Origin::Variable(arg.get_env().unwrap_or_default().to_string_lossy().into_owned())
        } else {
            let file = self.file.iter().find_map(|file| Some((file, file.get(name)?)));
            file.map_or(Origin::Default, |(file, setting)| {
                Origin::File(file.path.clone(), setting.line)
            })
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
    pub(super) fn asked(&self) -> Vec<FlagValue> {
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
            FlagValue { name, value }
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

/// Whether a flag stands on the command line.
fn is_typed(typed: &ArgMatches, arg: &Arg) -> bool {
    typed.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine)
}

/// The words of the command line, with what only variables and the file say in front.
fn add(
    variables: &Variables,
    file: Option<&File>,
    typed: &ArgMatches,
    declared: &Command,
    words: &[OsString],
) -> Vec<OsString> {
    let (name, rest) = words.split_at(words.len().min(1));
    let mut all = name.to_vec();
    for arg in declared.get_arguments().filter(|arg| !is_typed(typed, arg)) {
        let Some(name) = arg.get_long() else { continue };
        let in_file = || Some(file?.get(name)?.values.iter().map(OsString::from).collect());
        let values = variables.get(name).map(|variable| variable.values.clone());
        for value in values.or_else(in_file).unwrap_or_default() {
            let mut word = OsString::from(format!("--{name}"));
            if !is_switch(arg) {
                word.push("=");
                word.push(value);
            }
            all.push(word);
        }
    }
    all.extend_from_slice(rest);
    all
}
