//! The variables `STICKY_<FLAG>`, each of which stands for a flag that is not on the command line.

use std::env;
use std::ffi::{OsStr, OsString};

use anyhow::anyhow;
use clap::error::ErrorKind;
use clap::{Arg, Command};

use super::exit::{in_one_line, reason};
use super::file::{is_switch, nearest};

/// What our variables begin with.
const PREFIX: &str = "STICKY_";
/// Those that a supervisor sets for its workers, of which a sticky-run may be one, and for itself.
const NO_FLAGS: [&str; 7] = [
    "STICKY_CHANNEL",
    "STICKY_CHANNEL_INODE",
    "STICKY_CHANNEL_KEYS",
    "STICKY_NODE",
    "STICKY_PROTOCOL",
    "STICKY_UPGRADE",
    "STICKY_WORKER_ID",
];
/// Other programs have variables that begin like ours, so one has to be this similar.
const SIMILAR: f64 = 0.9;

/// All that say something.
#[derive(Debug, Default)]
pub(super) struct Variables(Vec<Variable>);

/// One variable, and its value as on a command line.
#[derive(Debug)]
pub(super) struct Variable {
    /// The long name of the flag.
    flag: String,
    /// The values; none for a flag without a value that is off.
    pub(super) values: Vec<OsString>,
}

impl Variables {
    /// Reads those of all declared flags; `plain` is the same declaration without variables.
    ///
    /// # Errors
    /// One has a value that its flag does not take.
    pub(super) fn read(declared: &Command, plain: &Command) -> anyhow::Result<Self> {
        Self::from(declared, plain, value)
    }

    fn from(
        declared: &Command,
        plain: &Command,
        value: impl Fn(&OsStr) -> Option<OsString>,
    ) -> anyhow::Result<Self> {
        let mut all = Vec::new();
        for arg in declared.get_arguments() {
            let (Some(name), Some(flag)) = (arg.get_env(), arg.get_long()) else { continue };
            // A variable cannot be unset everywhere, so an empty one is as good as none.
            let Some(value) = value(name).filter(|value| !value.is_empty()) else { continue };
            let values = values(arg, flag, &value, plain)
                .map_err(|why| anyhow!("{} is \"{}\": {why}", name.display(), value.display()))?;
            all.push(Variable { flag: flag.to_owned(), values });
        }
        Ok(Self(all))
    }

    /// What the variable of this flag says.
    pub(super) fn get(&self, flag: &str) -> Option<&Variable> {
        self.0.iter().find(|variable| variable.flag == flag)
    }
}

/// The values of one variable, each of them one that the flag takes.
fn values(arg: &Arg, flag: &str, value: &OsStr, plain: &Command) -> Result<Vec<OsString>, String> {
    if is_switch(arg) {
        let on = value.to_str().and_then(switch).ok_or("use 1 or 0, true or false")?;
        return Ok(if on { vec!["true".into()] } else { Vec::new() });
    }
    let mut word = OsString::from(format!("--{flag}="));
    word.push(value);
    match plain.clone().try_get_matches_from([OsStr::new("sticky-run"), &word]) {
        // A flag that needs another one may have it from elsewhere.
        Err(error) if error.kind() != ErrorKind::MissingRequiredArgument => {
            Err(reason(&error).unwrap_or_else(|| in_one_line(&error)))
        }
        Ok(_) | Err(_) => Ok(vec![value.to_owned()]),
    }
}

/// Whether a word says yes or no.
fn switch(word: &str) -> Option<bool> {
    match word.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Some(true),
        "0" | "false" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// Variables of the environment that look as if one of ours was meant, each with that one.
pub(super) fn misspelt(declared: &Command) -> Vec<(String, String)> {
    let names = names();
    let ours = || declared.get_arguments().filter_map(|arg| arg.get_env()?.to_str());
    let is_known = |name: &str| NO_FLAGS.contains(&name) || ours().any(|own| own == name);
    let unknown = names.into_iter().filter(|name| !is_known(name));
    let meant = |name: String| {
        let rest = name.strip_prefix(PREFIX)?.to_owned();
        let known = ours().filter_map(|own| own.strip_prefix(PREFIX));
        let meant = nearest(&rest.to_ascii_uppercase(), known, SIMILAR)?;
        Some((name, format!("{PREFIX}{meant}")))
    };
    unknown.filter_map(meant).collect()
}

#[expect(clippy::disallowed_methods, reason = "the command line includes the environment")]
fn value(name: &OsStr) -> Option<OsString> {
    env::var_os(name)
}

#[expect(clippy::disallowed_methods, reason = "the command line includes the environment")]
fn names() -> Vec<String> {
    env::vars_os().filter_map(|(name, _)| name.into_string().ok()).collect()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::args::Args;
    use crate::cli::file::without_variables;

    fn read(name: &str, value: &str) -> Result<Variables, String> {
        let declared = Args::command();
        let plain = without_variables(&declared);
        let only = |asked: &OsStr| (asked == name).then(|| value.into());
        Variables::from(&declared, &plain, only).map_err(|error| error.to_string())
    }

    #[test]
    fn a_value_that_the_flag_does_not_take_names_the_variable() {
        for (name, value, why) in [
            ("STICKY_WORKERS", "many", "use a number from 1 to 1024, or auto"),
            ("STICKY_BALANCE", "hsh", "(did you mean hash?)"),
            ("STICKY_GRACE", "5", "250ms, 10s, 2m or 1h"),
            ("STICKY_MAX_KEYS", "x", "invalid digit"),
            ("STICKY_SUBREAPER", "perhaps", "use 1 or 0, true or false"),
            ("STICKY_ENV", "A", "use NAME=VALUE"),
        ] {
            let wrong = read(name, value).unwrap_err();
            assert!(wrong.starts_with(&format!("{name} is \"{value}\": ")), "{wrong}");
            assert!(wrong.contains(why), "{wrong}");
        }
    }

    #[test]
    fn an_empty_variable_is_none() {
        for name in ["STICKY_WORKERS", "STICKY_SUBREAPER", "STICKY_BY", "STICKY_LISTEN"] {
            assert!(read(name, "").unwrap().0.is_empty());
        }
    }

    #[test]
    fn a_switch_is_on_or_off_in_all_the_words_for_it() {
        for (words, values) in [
            (["1", "true", "YES", "on"], vec!["true".into()]),
            (["0", "False", "no", "off"], Vec::<OsString>::new()),
        ] {
            for word in words {
                let read = read("STICKY_NO_NEW_PRIVS", word).unwrap();
                assert_eq!(read.get("no-new-privs").unwrap().values, values, "{word}");
            }
        }
    }
}
