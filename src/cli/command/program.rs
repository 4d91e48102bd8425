//! What a file is: Node under another name, or a script that names its interpreter.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::shell::is_shell;
use super::{Finding, Found, Walk, name};
use crate::os::file;

/// How much of a file is looked at. The kernel itself takes 256 bytes of a first line
/// (`execve(2)`); the launchers that pnpm writes are longer, for all they say.
const LOOKED_AT: u64 = 16 * 1024;

impl Walk {
    /// A program that nothing is known of but its file.
    pub(super) fn program(&mut self, words: Vec<OsString>) -> Finding {
        let arguments = &words[1..];
        let Some(path) = self.place.program(&words[0]) else {
            // It is not installed here; its name is all there is.
            return self.wrapper(&name(&words[0]), arguments);
        };
        let real = path.canonicalize().unwrap_or_else(|_| path.clone());
        if is_node(&name(real.as_os_str())) {
            return Ok(Some(Found { words, node: Some(1) }));
        }
        let Some(start) = start_of(&path) else { return Ok(None) };
        let name = name(&words[0]);
        if is_launcher(&path, &start) {
            return match self.wrapper(&name, arguments)? {
                Some(found) => Ok(Some(found)),
                None => Ok(Some(Found { words, node: None })),
            };
        }
        let Some(mut interpreter) = interpreter(&start) else { return Ok(None) };
        if interpreter_is_shell(&interpreter) {
            return match self.wrapper(&name, arguments)? {
                Some(found) => Ok(Some(found)),
                None => self.entrypoint(&String::from_utf8_lossy(&start), words),
            };
        }
        // As the kernel does: the path in the place of the name.
        let file = if words[0].as_bytes().contains(&b'/') { words[0].clone() } else { path.into() };
        interpreter.push(file);
        interpreter.extend_from_slice(arguments);
        // Only who runs Node can take the channel, whatever the name.
        let mut inside = self.clone();
        let finding = inside.find(interpreter);
        if matches!(finding, Ok(None)) {
            return Ok(None);
        }
        if let Some(found) = self.wrapper(&name, arguments)? {
            return Ok(Some(found));
        }
        *self = inside;
        finding
    }
}

/// Whether a program of this name is Node: `node`, `nodejs`, `node20`, `node-22.1`.
pub(super) fn is_node(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("node") else { return false };
    let version = rest.strip_prefix("js").unwrap_or(rest);
    let version = version.strip_prefix('-').unwrap_or(version);
    let named = version.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    named && !rest.ends_with('-')
}

/// Whether something else goes by Node's name.
pub(super) fn is_no_node(path: &Path) -> bool {
    let real = path.canonicalize().unwrap_or_default();
    real.file_name().is_some_and(|name| name == "bun" || name == "deno")
}

/// The first bytes of a file.
fn start_of(path: &Path) -> Option<Vec<u8>> {
    file::start_of(path, LOOKED_AT).ok()
}

/// The words of the first line: the interpreter, and at most one argument (`execve(2)`).
fn interpreter(start: &[u8]) -> Option<Vec<OsString>> {
    let line = start.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?.trim_ascii();
    let mut words = line.splitn(2, |byte| matches!(byte, b' ' | b'\t'));
    let program = words.next().filter(|program| !program.is_empty())?;
    let argument = words.next().map(<[u8]>::trim_ascii).filter(|argument| !argument.is_empty());
    let words = [program].into_iter().chain(argument);
    Some(words.map(|word| OsStr::from_bytes(word).to_owned()).collect())
}

/// Whether a script with this first line is for a shell, and nothing else comes from there.
fn interpreter_is_shell(words: &[OsString]) -> bool {
    let options = |word: &OsString| word.as_bytes().starts_with(b"-");
    match words {
        [env, shell] if name(env) == "env" => is_shell(&name(shell)),
        [shell, rest @ ..] => is_shell(&name(shell)) && rest.iter().all(options),
        [] => false,
    }
}

/// The interpreter that the kernel starts for a script.
pub(super) fn interpreter_of(path: &Path) -> Option<OsString> {
    interpreter(&start_of(path)?)?.into_iter().next()
}

/// Whether a package manager wrote it to start a Node program from a shell.
fn is_launcher(path: &Path, start: &[u8]) -> bool {
    let text = String::from_utf8_lossy(start);
    path.parent().is_some_and(|directory| directory.ends_with("node_modules/.bin"))
        && text.starts_with("#!/bin/sh\n")
        && text.contains("exec node ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_goes_by_many_names() {
        for name in ["node", "nodejs", "node20", "node-18", "node22.1.0"] {
            assert!(is_node(name), "{name}");
        }
        for name in ["nodemon", "node-", "nod", "node_modules", "anode", "node-dev", ""] {
            assert!(!is_node(name), "{name}");
        }
    }

    #[test]
    fn a_first_line_is_read_as_the_kernel_reads_it() {
        let read =
            |text: &str| interpreter(text.as_bytes()).map(|words| words.join(OsStr::new("|")));
        assert_eq!(read("#!/usr/bin/env node\nx").unwrap(), "/usr/bin/env|node");
        assert_eq!(read("#! /usr/bin/env -S node --x \n").unwrap(), "/usr/bin/env|-S node --x");
        assert_eq!(read("#!/node").unwrap(), "/node");
        assert_eq!(read("#!\n"), None);
        assert_eq!(read("\u{7f}ELF"), None);
    }
}
