//! Programs that become another one, or start it and wait for it: `env`, `nice`, `tini` and more.
//!
//! `env` is taken away and done here instead, because the channel and the preload stand in the
//! variables that it changes. The others stay in front.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use super::{Finding, Found, Refusal, Walk, shown};

/// A program in front of another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prefix {
    name: &'static str,
    /// Its options that have their value in the next word.
    with_value: &'static [&'static str],
    /// How many words of its own come after the options.
    operands: usize,
}

const PREFIXES: [Prefix; 14] = [
    Prefix { name: "catatonit", with_value: &["-P"], operands: 0 },
    Prefix { name: "dumb-init", with_value: &["-r", "--rewrite"], operands: 0 },
    Prefix { name: "gosu", with_value: &[], operands: 1 },
    Prefix { name: "ionice", with_value: &["-c", "--class", "-n", "--classdata"], operands: 0 },
    Prefix { name: "nice", with_value: &["-n", "--adjustment"], operands: 0 },
    Prefix { name: "nohup", with_value: &[], operands: 0 },
    Prefix { name: "setsid", with_value: &[], operands: 0 },
    Prefix {
        name: "stdbuf",
        with_value: &["-i", "--input", "-o", "--output", "-e", "--error"],
        operands: 0,
    },
    Prefix { name: "su-exec", with_value: &[], operands: 1 },
    Prefix { name: "taskset", with_value: &[], operands: 1 },
    Prefix { name: "time", with_value: &["-f", "--format", "-o", "--output"], operands: 0 },
    Prefix { name: "timeout", with_value: &["-k", "--kill-after", "-s", "--signal"], operands: 1 },
    Prefix { name: "tini", with_value: &["-p", "-e"], operands: 0 },
    Prefix { name: "tini-static", with_value: &["-p", "-e"], operands: 0 },
];

/// The prefix of this name.
pub(super) fn find(name: &str) -> Option<Prefix> {
    PREFIXES.into_iter().find(|prefix| prefix.name == name)
}

impl Prefix {
    /// Where the other program begins.
    fn end(self, words: &[OsString]) -> usize {
        let mut position = 1;
        while let Some(word) = words.get(position).and_then(|word| word.to_str()) {
            if word == "--" {
                position += 1;
                break;
            }
            if !word.starts_with('-') || word == "-" {
                break;
            }
            position += 1 + usize::from(self.with_value.contains(&word));
        }
        (position + self.operands).min(words.len())
    }
}

impl Walk {
    /// A prefix and what comes after it.
    pub(super) fn prefix(&mut self, prefix: Prefix, mut words: Vec<OsString>) -> Finding {
        let rest = words.split_off(prefix.end(&words));
        let Some(found) = self.find(rest)? else { return Ok(None) };
        if prefix.name == "setsid" {
            let line = "setsid takes node away from its worker: leave it out, every worker has a \
                        process group of its own";
            return Err(Refusal(line.to_owned()));
        }
        let node = found.node.map(|index| index + words.len());
        words.extend(found.words);
        Ok(Some(Found { words, node }))
    }

    /// `env`, with the options of GNU coreutils; those that do something to signals are not known.
    pub(super) fn env(&mut self, arguments: &[OsString]) -> Finding {
        let mut words = arguments.to_vec();
        let mut options = true;
        while let Some(word) = words.first().cloned() {
            let word = word.as_bytes();
            if options && word == b"--" {
                (options, _) = (false, words.remove(0));
            } else if options && word.starts_with(b"-") {
                let Some(rest) = self.env_option(&words) else { return Ok(None) };
                words = rest;
            } else if let Some(at) = word.iter().position(|byte| *byte == b'=') {
                options = false;
                self.place.set(OsStr::from_bytes(&word[..at]), OsStr::from_bytes(&word[at + 1..]));
                words.remove(0);
            } else {
                break;
            }
        }
        self.find(words)
    }

    /// Does the option in the first word, and returns the words that come after it.
    fn env_option(&mut self, words: &[OsString]) -> Option<Vec<OsString>> {
        let (word, rest) = words.split_first()?;
        let word = word.as_bytes();
        match word {
            b"-" | b"-i" | b"--ignore-environment" => {
                self.changed = Some(shown(&["env".into(), words[0].clone()]));
                self.place.variables.clear();
                return Some(rest.to_vec());
            }
            b"-v" | b"--debug" => return Some(rest.to_vec()),
            _ => {}
        }
        let long = [b"--unset".as_slice(), b"--chdir", b"--split-string"];
        let (option, value, rest) = match word.iter().position(|byte| *byte == b'=') {
            Some(at) if word.starts_with(b"--") => (&word[..at], word[at + 1..].to_vec(), rest),
            None if long.contains(&word) || word.len() == 2 => {
                let (value, rest) = rest.split_first()?;
                (word, value.as_bytes().to_vec(), rest)
            }
            _ => (&word[..2], word[2..].to_vec(), rest),
        };
        let value = OsString::from_vec(value);
        match option {
            b"-u" | b"--unset" => _ = self.place.variables.remove(&value),
            b"-C" | b"--chdir" => self.place.enter(Path::new(&value)),
            b"-S" | b"--split-string" => return split_string(&value, rest),
            _ => return None,
        }
        Some(rest.to_vec())
    }
}

/// `-S`: the words in one word. Escapes and variables in it are left to `env` itself.
fn split_string(text: &OsStr, rest: &[OsString]) -> Option<Vec<OsString>> {
    let text = text.to_str().filter(|text| !text.contains(['$', '\\', '#']))?;
    let words = shlex::split(text)?;
    Some(words.into_iter().map(OsString::from).chain(rest.iter().cloned()).collect())
}
