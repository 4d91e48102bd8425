//! `--check`: whether it would run, and with which configuration.
//!
//! What it prints is a file for `--config`: every flag and the command, with where each value comes
//! from. Like the file, it knows flags by their declaration only.

use std::fmt::Write;
use std::io;

use anyhow::{Context, anyhow};
use clap::{Arg, CommandFactory};
use toml_writer::{ToTomlValue, TomlStringBuilder};

use super::args::Args;
use super::command;
use super::file::{COMMAND, is_list, is_switch, settings};
use super::resolve;
use super::sources::{Origin, Origins};
use crate::engine::CommandError;
use crate::logic::config::{Config, Listen, is_secret};
use crate::os::capabilities;

/// Where the comments of short lines begin.
const COLUMN: usize = 40;

/// Looks for the command, and says what would be run with.
///
/// # Errors
/// The command or its script cannot be run, which is a [`CommandError`], or a value is no text.
pub(super) fn check(config: &Config, origins: &Origins) -> anyhow::Result<String> {
    find(config)?;
    find_script(config)?;
    let mut text = String::new();
    let declared = Args::command();
    for arg in settings(&declared) {
        let name = arg.get_long().unwrap_or(COMMAND);
        let line = line(name, arg, config, origins);
        writeln!(text, "{}", line.with_context(|| format!("cannot write {name} to a file"))?)?;
    }
    Ok(text)
}

/// Looks for the command. The error is a [`CommandError`].
pub(super) fn find(config: &Config) -> anyhow::Result<()> {
    match command::find(&config.command) {
        Ok(_) => Ok(()),
        // The user of the workers may do more there than a supervisor that gave up rights for it.
        Err(error)
            if error.kind() == io::ErrorKind::PermissionDenied
                && config.process.account.is_some()
                && !capabilities::may_read_everything() =>
        {
            Ok(())
        }
        Err(error) => Err(CommandError::new(config.command.program.clone(), error).into()),
    }
}

/// Looks for the script of an interpreter. The error is a [`CommandError`].
fn find_script(config: &Config) -> anyhow::Result<()> {
    let program = &config.command.program;
    match command::missing_script(&config.command) {
        Ok(None) => Ok(()),
        Ok(Some(path)) => Err(CommandError::no_script(program.clone(), &path).into()),
        Err(error) => Err(CommandError::new(program.clone(), error).into()),
    }
}

/// A name, its value, and where that comes from.
fn line(name: &str, arg: &Arg, config: &Config, origins: &Origins) -> anyhow::Result<String> {
    let values = origins.values(arg).into_iter().map(|value| {
        value.into_string().map_err(|value| anyhow!("{} is not UTF-8", value.display()))
    });
    let values: Vec<String> = values.collect::<Result<_, _>>()?;
    let mut origin = origins.of(arg).to_string();
    if is_secret(name) && !values.is_empty() {
        let count = values.len();
        let setting = format!("# {name}: {count} not shown, and missing in this file");
        return Ok(format!("{setting:<COLUMN$} # {origin}"));
    }
    let value = match values.as_slice() {
        _ if is_switch(arg) => origins.is_on(arg).to_string(),
        [] => {
            let Some((value, variable)) = chosen(name, config) else {
                return Ok(format!("# {name} is not set"));
            };
            if resolve::variable(variable)?.is_some() {
                origin = Origin::Variable(variable.to_owned()).to_string();
            }
            value
        }
        several if is_list(arg) => list(several),
        [value, ..] => scalar(value),
    };
    if let Some(found) = found(name, &values, config) {
        write!(origin, ", here {found}")?;
    }
    let setting = format!("{name} = {value}");
    Ok(format!("{setting:<COLUMN$} # {origin}"))
}

fn list(values: &[String]) -> String {
    let values: Vec<_> = values.iter().map(|value| text(value)).collect();
    format!("[{}]", values.join(", "))
}

/// A number, if it is one as TOML writes it, else a text.
fn scalar(value: &str) -> String {
    match value.parse::<i64>() {
        Ok(number) if number.to_string() == value => number.to_string(),
        Ok(_) | Err(_) => text(value),
    }
}

/// In quotes, on one line.
fn text(value: &str) -> String {
    TomlStringBuilder::new(value).as_basic().to_toml_value()
}

/// What was chosen where nothing was given, and the variable that may have said so.
fn chosen(name: &str, config: &Config) -> Option<(String, &'static str)> {
    match (name, config.listen.as_slice()) {
        ("workers", _) => Some((config.fleet.workers.to_string(), "WEB_CONCURRENCY")),
        ("listen", [Listen::Port(port)]) => Some((list(&[format!(":{port}")]), "PORT")),
        _ => None,
    }
}

/// What `auto` is here.
fn found(name: &str, values: &[String], config: &Config) -> Option<String> {
    match (name, values) {
        ("workers", [auto]) if auto == "auto" => Some(config.fleet.workers.to_string()),
        ("handoff", [auto]) if auto == "auto" => Some(config.handoff.name().to_owned()),
        _ => None,
    }
}
