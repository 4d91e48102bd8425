//! A shell with its command in one word: `sh -c "cd x && node server.js"`.
//!
//! A single simple command is run without the shell, with its variables. Otherwise the words stay
//! as they were typed, as long as exactly one Node program runs, and that at the end.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use super::text::{self, Simple, Word};
use super::{Finding, Found, Refusal, Walk, shown};

/// What NODE_OPTIONS inside of a text does.
pub(super) const OPTIONS: &str = "NODE_OPTIONS is set inside a shell command, so that sticky-run cannot add to \
                       it: set it before sticky-run instead";

/// Whether a program of this name is a shell.
pub(super) fn is_shell(name: &str) -> bool {
    matches!(name, "sh" | "ash" | "bash" | "dash" | "ksh" | "zsh")
}

impl Walk {
    /// A shell, with all its words.
    pub(super) fn shell(&mut self, words: Vec<OsString>) -> Finding {
        let Some(position) = text_position(&words) else { return Ok(None) };
        let Some(commands) = words[position].to_str().and_then(text::read) else { return Ok(None) };
        let plain = position == 2 && words[1] == "-c" && words.len() == 3;
        if let ([command], true) = (commands.as_slice(), plain)
            && let Some(words) = self.unwrapped(command)
        {
            return self.find(words);
        }
        let mut inside = self.clone();
        let found = inside.node_in(&commands, &shown(&words))?;
        let options = inside.own_node_options();
        if options.is_some() && options != self.place.variables.get(OsStr::new("NODE_OPTIONS")) {
            self.notes.push(OPTIONS.to_owned());
        }
        Ok(found.then_some(Found { words, node: None }))
    }

    /// The words of a command that needs no shell; its variables are set here.
    fn unwrapped(&mut self, command: &Simple) -> Option<Vec<OsString>> {
        let literal = command.words.iter().all(|word| !word.expanded);
        let (assignments, words) = split(&command.words);
        let words = without_exec(words);
        if !literal || command.redirected || words.first()?.text.starts_with('-') {
            return None;
        }
        for (name, value) in assignments {
            self.place.set(name, value);
        }
        Some(words.iter().map(|word| OsString::from(&word.text)).collect())
    }

    /// Whether the last command, or one in the last pipeline, is Node, and no other.
    fn node_in(&mut self, commands: &[Simple], whole: &str) -> Result<bool, Refusal> {
        let piped = commands.iter().rev().skip(1).take_while(|command| command.piped).count();
        let server = commands.len().saturating_sub(1 + piped);
        let (before, server) = commands.split_at(server);
        let early = before.iter().map(|command| self.takes_channel(command, whole));
        let early: Vec<Refusal> = early.filter_map(Result::err).collect();
        let mut found = false;
        for command in server {
            let Some(inside) = self.node_by(command)? else { continue };
            if std::mem::replace(&mut found, true) {
                return Err(Refusal(format!(
                    "two programs in {whole} take the worker's channel: write one of them, and \
                     pipe the output of sticky-run instead"
                )));
            }
            if let Some(what) = inside.changed {
                return Err(Refusal(format!(
                    "{what} in {whole} would keep the worker's channel from the server: write the \
                     command of the server itself there"
                )));
            }
            self.place = inside.place;
        }
        match early.into_iter().next() {
            Some(refusal) if found => Err(refusal),
            // Whoever else is the server has another channel.
            _ => Ok(found),
        }
    }

    /// An error if this command, which comes before the server, is Node.
    fn takes_channel(&mut self, command: &Simple, whole: &str) -> Result<(), Refusal> {
        if self.node_by(command)?.is_none() {
            return Ok(());
        }
        let words: Vec<OsString> = command.words.iter().map(|word| (&word.text).into()).collect();
        Err(Refusal(format!(
            "{} takes the worker's channel before the server in {whole} starts: run it before \
             sticky-run instead",
            shown(&words)
        )))
    }

    /// How this command comes to be Node, if it does.
    fn node_by(&mut self, command: &Simple) -> Result<Option<Self>, Refusal> {
        let (assignments, words) = split(&command.words);
        let assignments: Vec<_> = assignments.collect();
        let Some((first, rest)) = words.split_first() else {
            self.assign(&assignments);
            return Ok(None);
        };
        match (first.text.as_str(), rest) {
            ("cd", [directory]) => {
                self.place.enter(Path::new(&directory.text));
                return Ok(None);
            }
            ("export", variables) => {
                self.assign(&split(variables).0.collect::<Vec<_>>());
                return Ok(None);
            }
            _ if first.expanded => return Ok(None),
            _ => {}
        }
        let mut inside = self.clone();
        inside.changed = None;
        inside.assign(&assignments);
        let words = without_exec(words).iter().map(|word| (&word.text).into()).collect();
        Ok(inside.find(words)?.map(|_| inside))
    }

    /// `NODE_OPTIONS`, unless the shell puts the earlier ones into it.
    fn own_node_options(&self) -> Option<&OsString> {
        let options = self.place.variables.get(OsStr::new("NODE_OPTIONS"));
        options.filter(|options| !options.as_encoded_bytes().contains(&b'$'))
    }

    fn assign(&mut self, assignments: &[(&str, &str)]) {
        for (name, value) in assignments {
            self.place.set(*name, *value);
        }
    }
}

/// Where the text of `-c` is among the words of a shell.
fn text_position(words: &[OsString]) -> Option<usize> {
    let mut position = 1;
    let mut text = false;
    while let Some(word) = words.get(position)?.to_str() {
        let Some(letters) = word.strip_prefix('-').filter(|letters| !letters.is_empty()) else {
            break;
        };
        position += 1;
        if !letters.starts_with('-') {
            text |= letters.contains('c');
            // `-o pipefail`, also as `-eo pipefail`.
            position += usize::from(letters.ends_with('o'));
        }
    }
    (text && position < words.len()).then_some(position)
}

/// The assignments in front of a command, as names and values, and its words.
fn split(words: &[Word]) -> (impl Iterator<Item = (&str, &str)>, &[Word]) {
    let count = words.iter().take_while(|word| word.assignment.is_some()).count();
    let (assignments, words) = words.split_at(count);
    let assignments = assignments.iter().filter_map(|word| {
        let at = word.assignment?;
        Some((&word.text[..at], &word.text[at + 1..]))
    });
    (assignments, words)
}

/// Without the builtins that only run the words behind them.
fn without_exec(words: &[Word]) -> &[Word] {
    match words {
        [first, rest @ ..] if first.text == "exec" || first.text == "command" => rest,
        words => words,
    }
}
