//! `--check`: whether it would run, and with what.
//!
//! What it prints is a file for `--config`: every flag and the command, with where each value comes
//! from. Like the file, it knows flags by their declaration only.

use std::fmt::Write;

use anyhow::Context;
use clap::{Arg, CommandFactory};
use toml::Value;

use super::args::Args;
use super::command;
use super::file::{COMMAND, is_command, is_list, is_setting, is_switch};
use super::given::{Origin, Origins};
use super::resolve;
use crate::engine::CommandError;
use crate::logic::config::{Config, Handoff, Listen};

/// Where the comments of short lines begin.
const COLUMN: usize = 40;

/// Looks for the command, and says what would be run with.
///
/// # Errors
/// The command cannot be run, which is a [`CommandError`], or a value is no text.
pub(super) fn check(config: &Config, origins: &Origins) -> anyhow::Result<String> {
    let program = &config.command.program;
    command::find(&config.command).map_err(|error| CommandError::new(program.clone(), error))?;
    let mut text = String::new();
    let declared = Args::command();
    for arg in declared.get_arguments().filter(|arg| is_setting(arg) || is_command(arg)) {
        let name = arg.get_long().unwrap_or(COMMAND);
        let line = line(name, arg, config, origins);
        writeln!(text, "{}", line.with_context(|| format!("cannot write {name} to a file"))?)?;
    }
    Ok(text)
}

fn line(name: &str, arg: &Arg, config: &Config, origins: &Origins) -> anyhow::Result<String> {
    let mut origin = origins.of(arg).to_string();
    let value = if is_switch(arg) {
        Some(Value::Boolean(origins.is_on(arg)))
    } else {
        let values = origins.values(arg).into_iter().map(|value| {
            value.into_string().map_err(|value| anyhow::anyhow!("{} is not UTF-8", value.display()))
        });
        let values: Vec<String> = values.collect::<Result<_, _>>()?;
        if values.is_empty() {
            let (value, variable) = made_up(name, config)?;
            if let Some(variable) = variable {
                origin = Origin::Variable(variable).to_string();
            }
            value
        } else if is_list(arg) {
            Some(values.into())
        } else {
            values.into_iter().next().map(scalar)
        }
    };
    let Some(value) = value else { return Ok(format!("# {name} is not set")) };
    let found = found(name, &value, config).map(|found| format!(", here {found}"));
    let setting = format!("{name} = {value}");
    Ok(format!("{setting:<COLUMN$} # {origin}{}", found.unwrap_or_default()))
}

/// A number, if it is one as TOML writes it, else a text.
fn scalar(text: String) -> Value {
    match text.parse::<i64>() {
        Ok(number) if number.to_string() == text => Value::Integer(number),
        Ok(_) | Err(_) => Value::String(text),
    }
}

/// What was chosen where nothing was given, and the variable that said so.
fn made_up(name: &str, config: &Config) -> anyhow::Result<(Option<Value>, Option<String>)> {
    let (value, variable) = match name {
        "workers" => (Value::Integer(config.fleet.workers.into()), "WEB_CONCURRENCY"),
        "listen" => match config.listen.as_slice() {
            [Listen::Port(port)] => (Value::Array(vec![format!(":{port}").into()]), "PORT"),
            _ => return Ok((None, None)),
        },
        _ => return Ok((None, None)),
    };
    let variable = resolve::variable(variable)?.map(|_| variable.to_owned());
    Ok((Some(value), variable))
}

/// What `auto` is here.
fn found(name: &str, value: &Value, config: &Config) -> Option<String> {
    match (name, value.as_str()?) {
        ("workers", "auto") => Some(config.fleet.workers.to_string()),
        ("handoff", "auto") => Some(match config.handoff {
            Handoff::Channel => "channel".to_owned(),
            Handoff::Node(_) => "node".to_owned(),
        }),
        _ => None,
    }
}
