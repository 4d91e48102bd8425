//! What the command is: a Node server, something else, or something that would keep the channel
//! from its server.
//!
//! Node takes its channel from the environment, at its start. So the first Node program that the
//! command runs gets it. `npm start`, `npx`, `cross-env` and their like are Node programs: they
//! take the channel for themselves, and the server that they start has none. Such a command is
//! resolved to what it would run in the end; if that cannot be known, it is refused, with what to
//! write instead.
//!
//! The words are walked from the left, each step by its own file: programs that become or start
//! another one (`prefix.rs`), shells (`shell.rs`, which reads with `text.rs`), package managers
//! (`manager.rs`, `package.rs`), other wrappers (`wrapper.rs`), and files that name their
//! interpreter (`program.rs`). On the way they change directory and variables (`place.rs`), as the
//! real ones would.
//!
//! Of shell scripts in files only the last line is looked at, which may say what they become
//! (`entrypoint.rs`): nobody can tell what else a script does. Whatever is uncertain is no Node server.

mod dotenv;
mod entrypoint;
mod manager;
mod package;
mod place;
mod prefix;
mod program;
mod script;
mod shell;
#[cfg(test)]
mod tests;
mod text;
mod wrapper;

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

pub(super) use self::dotenv::node_options;
pub(super) use self::place::Place;
use crate::logic::config::Command;

/// A command goes through fewer others than this; a script that calls itself does not.
const MOST_STEPS: u8 = 24;

/// What the command is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Recognised {
    /// It runs Node, and Node gets the channel.
    Node(NodeCommand),
    /// Anything else.
    Other,
    /// It runs a Node program that takes the channel from the server. One line: what, why, and
    /// what to write instead.
    Refused(String),
}

/// How to start the server itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct NodeCommand {
    /// The program, its arguments, and where it runs. With `PATH` among the variables, that is also
    /// where the program is searched for.
    pub(super) command: Command,
    /// Where the words after `node` begin among the arguments. `None` if a shell or a file stands
    /// between.
    pub(super) node_arguments: Option<usize>,
    /// What the user should know about it; each a line for the log.
    pub(super) notes: Vec<String>,
}

/// The file that is run as `command`, from where the supervisor is. An error is what `execve(2)` would
/// say.
pub(super) fn find(command: &Command) -> io::Result<PathBuf> {
    let place = place_of(command)?;
    let path = place.find(&command.program)?;
    if let Some(interpreter) = program::interpreter_of(&path) {
        // The kernel searches nowhere for it.
        place.find(place.directory.join(interpreter).as_os_str())?;
    }
    Ok(path)
}

/// The script that this command's interpreter would look for in vain, as far as one can tell.
pub(super) fn missing_script(command: &Command) -> io::Result<Option<PathBuf>> {
    let mut walk = Walk::new(place_of(command)?);
    let found = walk.find(words(command));
    let other = || script::missing(&walk.place, &name(&command.program), &command.arguments);
    Ok(match found {
        Ok(Some(_)) => walk.missing,
        Ok(None) => other(),
        // Another file has refused it already, if it is to be.
        Err(Refusal(_)) => None,
    })
}

/// Where this command runs.
fn place_of(command: &Command) -> io::Result<Place> {
    let mut place = Place::of(command.directory.as_deref())?;
    for (name, value) in &command.environment {
        match value {
            Some(value) => place.set(name, value),
            None => place.unset(name),
        }
    }
    Ok(place)
}

fn words(command: &Command) -> Vec<OsString> {
    [command.program.clone()].into_iter().chain(command.arguments.iter().cloned()).collect()
}

/// Says what `command` is when it is started in `place`.
pub(super) fn recognise(command: &Command, place: Place) -> Recognised {
    let mut walk = Walk::new(place.clone());
    match walk.find(words(command)) {
        Ok(Some(Found { words, node })) => {
            let mut words = words.into_iter();
            let Some(program) = words.next() else { return Recognised::Other };
            Recognised::Node(NodeCommand {
                command: Command {
                    program,
                    arguments: words.collect(),
                    directory: walk.place.directory_if_not(&place),
                    environment: walk.place.variables_since(&place),
                },
                node_arguments: node.map(|index| index - 1),
                notes: walk.notes,
            })
        }
        Ok(None) => Recognised::Other,
        Err(Refusal(line)) => Recognised::Refused(line),
    }
}

/// The state of the walk through the words.
#[derive(Clone, Debug)]
struct Walk {
    place: Place,
    notes: Vec<String>,
    steps: u8,
    /// What was resolved such that the words as they were typed would not do any more.
    changed: Option<String>,
    /// The script that Node would look for in vain.
    missing: Option<PathBuf>,
}

/// Words that run Node.
#[derive(Debug)]
struct Found {
    words: Vec<OsString>,
    /// Where the words after `node` begin, at least 1.
    node: Option<usize>,
}

/// Why a command cannot be run, and what to write instead.
#[derive(Debug)]
struct Refusal(String);

/// `None` is something else than Node.
type Finding = Result<Option<Found>, Refusal>;

impl Walk {
    fn new(place: Place) -> Self {
        Self { place, notes: Vec::new(), steps: 0, changed: None, missing: None }
    }

    /// What these words run.
    fn find(&mut self, words: Vec<OsString>) -> Finding {
        let Some((program, arguments)) = words.split_first() else { return Ok(None) };
        self.steps += 1;
        if self.steps > MOST_STEPS {
            let line =
                format!("{} leads to itself: write the command of the server", shown(&words));
            return Err(Refusal(line));
        }
        let name = name(program);
        if program::is_node(&name) {
            return self.node(words);
        }
        match name.as_str() {
            "env" => self.env(arguments),
            "npm" | "npx" | "pnpm" | "pnpx" | "yarn" | "yarnpkg" | "corepack" => {
                self.manager(&name, arguments)
            }
            name if shell::is_shell(name) => self.shell(words),
            name => match prefix::find(name) {
                Some(prefix) => self.prefix(prefix, words),
                None => self.program(words),
            },
        }
    }

    /// `node` itself, unless it only looks after another process that runs the script.
    fn node(&mut self, words: Vec<OsString>) -> Finding {
        if self.place.program(&words[0]).is_some_and(|path| program::is_no_node(&path)) {
            return Ok(None);
        }
        let arguments = &words[1..];
        let options = crate::logic::inspect::options(arguments);
        wrapper::check_options(&arguments[..options])?;
        if let Some(script) = arguments.get(options) {
            wrapper::check_script(Path::new(script), &arguments[options + 1..])?;
        }
        self.missing = script::missing_for_node(&self.place, arguments, options);
        Ok(Some(Found { words, node: Some(1) }))
    }
}

/// The last part of a path, as text.
fn name(program: &OsStr) -> String {
    let name = Path::new(program).file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// Words as one would type them.
fn shown(words: &[OsString]) -> String {
    let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    text::quoted(words.iter().map(AsRef::as_ref))
}
