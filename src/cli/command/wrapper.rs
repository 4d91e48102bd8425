//! Node programs that start the server as a process of its own, and keep the channel from it.

use std::ffi::OsString;
use std::path::Path;

use super::{Finding, Refusal, Walk, name, shown};

impl Walk {
    /// What a wrapper of this name runs; `None` if it is no wrapper.
    pub(super) fn wrapper(&mut self, name: &str, arguments: &[OsString]) -> Finding {
        if name != "cross-env" {
            return check(name, arguments).map(|()| None);
        }
        let expands = |word: &OsString| word.to_string_lossy().contains('$');
        if arguments.iter().any(expands) {
            return Err(refusal(name, "A=b node SCRIPT after sh -c"));
        }
        let mut rest = arguments;
        while let Some((word, behind)) = rest.split_first() {
            let Some((variable, value)) = word.to_str().and_then(|word| word.split_once('='))
            else {
                break;
            };
            self.place.set(variable, value);
            rest = behind;
        }
        self.changed = Some(name.to_owned());
        self.notes.push(format!(
            "cross-env would take the worker's channel: running {} itself",
            shown(rest)
        ));
        match self.find(rest.to_vec())? {
            Some(found) => Ok(Some(found)),
            None => Err(refusal(name, "env A=b node SCRIPT")),
        }
    }
}

/// Refuses wrappers, by name.
pub(super) fn check(wrapper: &str, arguments: &[OsString]) -> Result<(), Refusal> {
    let watching = ["watch", "--watch", "dev"];
    let words = arguments.iter().filter(|word| !watching.iter().any(|other| word == other));
    let words: Vec<_> = words.cloned().collect();
    let script = if words.is_empty() { "SCRIPT".to_owned() } else { shown(&words) };
    let instead = match wrapper {
        "tsx" => format!("node --import tsx {script}"),
        "ts-node-dev" | "tsnd" => "node -r ts-node/register SCRIPT".to_owned(),
        "ts-node-esm" => "node --loader ts-node/esm SCRIPT".to_owned(),
        "babel-node" => "node -r @babel/register SCRIPT".to_owned(),
        "nest" => "node dist/main".to_owned(),
        "next" if arguments.first().is_none_or(|word| word != "start") => "next start".to_owned(),
        "c8" | "nyc" if words.first().is_some_and(|word| super::program::is_node(&name(word))) => {
            script
        }
        "c8" | "nyc" => "node SCRIPT".to_owned(),
        "dotenv" | "dotenvx" | "env-cmd" => "node --env-file=.env SCRIPT".to_owned(),
        "nodemon" | "node-dev" | "pm2" | "pm2-dev" | "pm2-runtime" | "forever"
        | "cross-env-shell" | "concurrently" | "conc" | "npm-run-all" | "run-p" | "run-s"
        | "turbo" | "nx" | "lerna" => "node SCRIPT".to_owned(),
        _ => return Ok(()),
    };
    Err(refusal(wrapper, &instead))
}

/// Refuses options with which node itself is only a wrapper.
pub(super) fn check_options(options: &[OsString]) -> Result<(), Refusal> {
    for option in options {
        let option = option.to_string_lossy();
        let option = option.split('=').next().unwrap_or_default();
        if matches!(option, "--watch" | "--watch-path" | "--run") {
            return Err(refusal(&format!("node {option}"), "node SCRIPT"));
        }
    }
    Ok(())
}

/// Refuses `node node_modules/.bin/WRAPPER`.
pub(super) fn check_script(script: &Path, arguments: &[OsString]) -> Result<(), Refusal> {
    if script.parent().is_some_and(|directory| directory.ends_with(".bin")) {
        return check(&name(script.as_os_str()), arguments);
    }
    Ok(())
}

/// What cannot be run, why, and what to write instead.
fn refusal(what: &str, instead: &str) -> Refusal {
    Refusal(format!(
        "{what} runs the server in a process of its own and keeps the worker's channel from it: \
         write {instead} instead"
    ))
}
