//! The file of `--config`: TOML whose names are those of the flags.
//!
//! What can stand in it is not said here: it is every flag that has a variable too, and the command.
//! So a new flag is known as soon as it is declared. Each value is tried on the declaration as the only
//! one, so that what is wrong has a line.

mod value;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use clap::builder::Resettable;
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, Command};
use toml::de::{DeTable, DeValue};

use super::exit::in_one_line;
use crate::os::{errors, file};

/// The name under which the command stands in the file.
pub(super) const COMMAND: &str = "command";
/// A name this similar to an unknown one was probably meant.
const SIMILAR: f64 = 0.8;

/// What stands in a file.
#[derive(Clone, Debug)]
pub(super) struct File {
    /// As it was given.
    pub(super) path: PathBuf,
    /// In the order of the file.
    pub(super) settings: Vec<Setting>,
}

/// One name of a file, and its value as on a command line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Setting {
    /// The long name of the flag, or [`COMMAND`].
    pub(super) name: String,
    /// Where it stands, from 1.
    pub(super) line: usize,
    /// The values; none for a flag without a value that is off.
    pub(super) values: Vec<String>,
}

impl File {
    /// Reads a file for this declaration of flags. Errors say file, line and name.
    pub(super) fn read(path: &Path, declared: &Command) -> anyhow::Result<Self> {
        let shown = path.display();
        let bytes = file::read(path)
            .map_err(|error| anyhow!(errors::text(&error)))
            .with_context(|| format!("cannot read the configuration file {shown}"))?;
        let text = match std::str::from_utf8(&bytes) {
            Ok(text) => text,
            Err(error) => {
                let line = line(&bytes, error.valid_up_to());
                bail!("{shown}:{line}: not UTF-8, in which TOML is written")
            }
        };
        match read_settings(text, declared) {
            Ok(settings) => Ok(Self { path: path.to_owned(), settings }),
            Err(Wrong { at, what }) => bail!("{shown}:{}: {what}", line(&bytes, at)),
        }
    }

    /// The words of the command; none if there is none.
    pub(super) fn command(&self) -> impl Iterator<Item = OsString> {
        self.get(COMMAND).into_iter().flat_map(|command| &command.values).map(OsString::from)
    }

    /// What the file says under this name.
    pub(super) fn get(&self, name: &str) -> Option<&Setting> {
        self.settings.iter().find(|setting| setting.name == name)
    }
}

/// Whether a flag can stand in a file: every one that has a variable, but not the file itself.
fn is_setting(arg: &Arg) -> bool {
    arg.get_env().is_some() && arg.get_long() != Some("config")
}

/// Everything that can stand in a file, in the order of its declaration, the command last.
pub(super) fn settings(declared: &Command) -> impl Iterator<Item = &Arg> {
    let flags = declared.get_arguments().filter(|arg| is_setting(arg));
    flags.chain(declared.get_arguments().filter(|arg| is_command(arg)))
}

/// The declaration without its variables: what stands in one is not the fault of a file or of a flag.
pub(super) fn without_variables(declared: &Command) -> Command {
    declared.clone().mut_args(|arg| arg.env(Resettable::Reset))
}

/// Whether it is the command.
pub(super) fn is_command(arg: &Arg) -> bool {
    arg.get_id() == COMMAND
}

/// Whether a flag can be given several times.
pub(super) fn is_list(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Append)
}

/// Whether a flag takes no value.
pub(super) fn is_switch(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::SetTrue)
}

/// What is wrong, and at which byte.
#[derive(Debug)]
struct Wrong {
    at: usize,
    what: String,
}

fn read_settings(text: &str, declared: &Command) -> Result<Vec<Setting>, Wrong> {
    let table = DeTable::parse(text).map_err(|error| Wrong {
        at: error.span().map_or(0, |span| span.start),
        what: error.message().split_whitespace().collect::<Vec<_>>().join(" "),
    })?;
    let mut entries: Vec<_> = table.get_ref().iter().collect();
    entries.sort_by_key(|(name, _)| name.span().start);
    let trial = without_variables(declared);
    let mut settings = Vec::new();
    for (name, value) in entries {
        let at = name.span().start;
        let name: &str = name.get_ref();
        let values = values(name, value.get_ref(), declared, &trial);
        let values = values.map_err(|what| Wrong { at, what })?;
        let line = line(text.as_bytes(), at);
        settings.push(Setting { name: name.to_owned(), line, values });
    }
    Ok(settings)
}

/// The values of one name, each of them one that the flag takes.
fn values(
    name: &str,
    value: &DeValue<'_>,
    declared: &Command,
    trial: &Command,
) -> Result<Vec<String>, String> {
    if name == COMMAND {
        return value::command(value);
    }
    let Some(arg) = declared.get_arguments().find(|arg| arg.get_long() == Some(name)) else {
        return Err(unknown(name, declared));
    };
    if !is_setting(arg) {
        return Err(format!("\"{name}\" cannot stand in a file, it is for the command line"));
    }
    let values = value::of_flag(arg, name, value)?;
    if is_switch(arg) {
        return Ok(values);
    }
    let words = values.iter().map(|value| format!("--{name}={value}"));
    let words = ["sticky-run".to_owned()].into_iter().chain(words);
    match trial.clone().try_get_matches_from(words) {
        // A flag that needs another one may have it from elsewhere.
        Err(error) if error.kind() != ErrorKind::MissingRequiredArgument => {
            Err(in_one_line(&error))
        }
        Ok(_) | Err(_) => Ok(values),
    }
}

/// Says so, and which name was probably meant.
fn unknown(name: &str, declared: &Command) -> String {
    let names = settings(declared).map(|arg| arg.get_long().unwrap_or(COMMAND));
    match nearest(name, names, SIMILAR) {
        Some(known) => format!("unknown name \"{name}\" (did you mean {known}?)"),
        None => format!("unknown name \"{name}\": the names are those of the flags"),
    }
}

/// The name that was probably meant, if one is at least so similar; 1 is the same.
pub(super) fn nearest<'a>(
    name: &str,
    names: impl Iterator<Item = &'a str>,
    least: f64,
) -> Option<&'a str> {
    let similar = names.map(|known| (strsim::jaro_winkler(name, known), known));
    let nearest = similar.max_by(|(one, _), (other, _)| one.total_cmp(other));
    nearest.filter(|(similarity, _)| *similarity >= least).map(|(_, known)| known)
}

/// The number of the line in which a byte stands, from 1.
fn line(bytes: &[u8], at: usize) -> usize {
    1 + bytes.iter().take(at).filter(|byte| **byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use proptest::prelude::*;

    use super::*;
    use crate::cli::args::Args;

    /// A name, its line, and its values.
    type Entry = (String, usize, Vec<String>);

    fn read(text: &str) -> Result<Vec<Entry>, (usize, String)> {
        let settings = read_settings(text, &Args::command());
        let settings = settings.map_err(|wrong| (line(text.as_bytes(), wrong.at), wrong.what))?;
        Ok(settings.into_iter().map(|it| (it.name, it.line, it.values)).collect())
    }

    #[track_caller]
    fn wrong(text: &str, line: usize, words: &[&str]) {
        let (at, what) = read(text).unwrap_err();
        assert_eq!(at, line, "{what}");
        assert!(words.iter().all(|word| what.contains(word)), "{words:?} in {what}");
        assert!(!what.contains('\n'), "{what}");
    }

    #[test]
    fn every_kind_of_value_becomes_words() {
        let text = "workers = 4\nlisten = [\n':3000', 'unix:/a']\nno-node-preload = true\n\
            command = ['node', 'a b.js', 1]\nby='ip'\nhash-seed = 18_446744073709551615\n";
        let entry = |name: &str, line, values: &[&str]| {
            (name.to_owned(), line, values.iter().map(|value| (*value).to_owned()).collect())
        };
        let expected = vec![
            entry("workers", 1, &["4"]),
            entry("listen", 2, &[":3000", "unix:/a"]),
            entry("no-node-preload", 4, &["true"]),
            entry("command", 5, &["node", "a b.js", "1"]),
            entry("by", 6, &["ip"]),
            entry("hash-seed", 7, &["18446744073709551615"]),
        ];
        assert_eq!(read(text), Ok(expected));
        assert_eq!(read("no-node-preload = false"), Ok(vec![entry("no-node-preload", 1, &[])]));
        assert_eq!(read("listen = ':1'"), Ok(vec![entry("listen", 1, &[":1"])]));
        assert_eq!(read(""), Ok(Vec::new()));
    }

    #[test]
    fn a_name_that_is_none_is_refused_with_the_one_that_was_meant() {
        wrong("\n\nworker = 4", 3, &["unknown name \"worker\" (did you mean workers?)"]);
        wrong("keep_alive = 'close'", 1, &["did you mean keep-alive?"]);
        wrong("[server]\nx = 1", 1, &["unknown name \"server\""]);
        wrong("zzz = 1", 1, &["the names are those of the flags"]);
        for name in ["config", "check", "generate", "help", "version"] {
            read(&format!("{name} = 'x'")).unwrap_err();
        }
    }

    #[test]
    fn a_value_that_the_flag_does_not_take_is_refused_as_on_the_command_line() {
        wrong("\nworkers = 0", 2, &["workers", "a number from 1 to 1024, or auto"]);
        wrong("grace = 25", 1, &["--grace", "250ms, 10s, 2m or 1h"]);
        wrong("balance = 'fair'", 1, &["fair", "least-connection"]);
        wrong("max-keys = -1", 1, &["--max-keys"]);
        wrong("by = ''", 1, &["by"]);
        wrong("hash-seed = 0xff", 1, &["0xff"]);
        wrong("umask = 0o027", 1, &["0o027"]);
    }

    #[test]
    fn a_value_of_the_wrong_kind_is_refused() {
        wrong("grace = ['1s']", 1, &["grace is one value, not an array"]);
        wrong("grace = true", 1, &["grace is one value, not a boolean"]);
        wrong("no-node-preload = 'yes'", 1, &["no-node-preload is true or false, not a string"]);
        wrong(
            "command = 'node a.js'",
            1,
            &["command is a list of words", "[\"node\", \"server.js\"]"],
        );
        wrong("command = []", 1, &["command is a list of words"]);
        wrong("command = ['a', ['b']]", 1, &["command is a list of words"]);
        wrong("listen = [[':1']]", 1, &["listen is a list of values, without an array in it"]);
        wrong("session-idle = 2020-01-01", 1, &["session-idle is one value, not a datetime"]);
        wrong("by = \"\\u0000\"", 1, &["NUL"]);
    }

    #[test]
    fn toml_that_is_broken_has_a_line() {
        wrong("workers = 2\nby = ", 2, &[]);
        wrong("workers = 2\n\nworkers = 3", 3, &["duplicate key"]);
        wrong("by = \"sid", 1, &[]);
        wrong(&format!("by = {}", "[".repeat(10_000)), 1, &[]);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "([a-z-]{0,12} ?= ?)?[\\PC\\n]{0,60}") {
            read(&text).ok();
        }
    }

    #[test]
    fn a_table_is_a_list_of_pairs() {
        let text = "[env]\nPORT = 80\nNAME = 'a b'\n";
        let (name, line, values) = read(text).unwrap().remove(0);
        assert_eq!((name.as_str(), line), ("env", 1));
        assert_eq!(values, ["PORT=80", "NAME=a b"]);
        wrong("[env]\nA = [1]", 1, &["env is a list of values, without an array in it"]);
    }

    #[test]
    fn every_flag_has_the_variable_of_its_name_and_the_other_way_round() {
        for arg in Args::command().get_arguments() {
            let name = arg.get_long();
            let told = ["check", "generate", "help", "version"].map(Some).contains(&name);
            let variable = arg.get_env().map(|name| name.to_str().unwrap().to_owned());
            let expected = name.filter(|_| !told);
            let expected =
                expected.map(|name| format!("STICKY_{}", name.to_uppercase().replace('-', "_")));
            assert_eq!(variable, expected, "{}", arg.get_id());
        }
    }
}
