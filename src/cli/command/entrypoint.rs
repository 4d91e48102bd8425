//! A shell script in front of the server, such as the `docker-entrypoint.sh` of the images of Node: its
//! last line, `exec "$@"` or `exec node server.js`, says what it becomes.
//!
//! The script keeps the channel open, so programs that it runs before may be Node too.

use std::ffi::OsString;

use super::{Finding, Found, Refusal, Walk, shown};

/// What stands for the arguments of the script.
const ARGUMENTS: &str = "$@";
/// What a shell would do something with.
const SPECIAL: [char; 11] = ['$', '`', ';', '&', '|', '<', '>', '(', ')', '*', '\\'];

impl Walk {
    /// A shell script of this text, with its arguments, which `words` start.
    pub(super) fn entrypoint(&mut self, text: &str, words: Vec<OsString>) -> Finding {
        let Some(becomes) = becomes(text) else { return Ok(None) };
        let arguments = &words[1..];
        let inner = becomes.iter().flat_map(|word| match word.as_str() {
            ARGUMENTS => arguments.to_vec(),
            word => vec![OsString::from(word)],
        });
        let mut inside = self.clone();
        inside.changed = None;
        let Some(found) = inside.find(inner.collect())? else { return Ok(None) };
        let words = match inside.changed.take() {
            None => words,
            // What the script is given can be something else.
            Some(_) if becomes == [ARGUMENTS] => [vec![words[0].clone()], found.words].concat(),
            Some(what) => {
                return Err(Refusal(format!(
                    "{what} in {} would keep the worker's channel from the server: write the \
                     command of the server itself there",
                    shown(&words)
                )));
            }
        };
        if text.contains("NODE_OPTIONS=") && !text.contains("$NODE_OPTIONS") {
            self.notes.push(super::shell::OPTIONS.to_owned());
        }
        inside.changed = self.changed.take();
        *self = inside;
        Ok(Some(Found { words, node: None }))
    }
}

/// The words of the program that the script becomes at its end.
fn becomes(text: &str) -> Option<Vec<String>> {
    let mut lines = text.lines().map(str::trim_end).rev();
    let last = lines.find(|line| !line.is_empty() && !line.starts_with('#'))?;
    let words = shlex::split(last.strip_prefix("exec ")?)?;
    let plain = |word: &String| word == ARGUMENTS || !word.contains(SPECIAL);
    (!words.is_empty() && words.iter().all(plain)).then_some(words)
}
