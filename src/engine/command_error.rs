//! Why a command cannot be run, and what to do about it.

use std::ffi::OsString;
use std::io;

use nix::libc;

use crate::os::errors;
use crate::os::spawn::Step;

/// The command cannot be run at all.
#[derive(Debug, thiserror::Error)]
#[error("cannot run {}: {}", program.display(), self.reason())]
pub struct CommandError {
    pub(super) program: OsString,
    pub(super) step: Step,
    pub(super) error: io::Error,
}

impl CommandError {
    /// About this program, with an error as of `execve(2)`.
    pub fn new(program: OsString, error: io::Error) -> Self {
        Self { program, step: Step::Start, error }
    }

    /// Whether there is no such command.
    pub fn is_not_found(&self) -> bool {
        self.step == Step::Start
            && matches!(self.error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR))
    }

    pub(super) fn reason(&self) -> String {
        let text = errors::text(&self.error);
        match self.step {
            Step::Start => self.reason_of_start(),
            Step::Limits => format!("cannot set the limits of --rlimit: {text}"),
            Step::Account => format!("cannot become the user or group asked for: {text}"),
            Step::Directory => {
                format!(
                    "cannot change to its directory: {text} (check --chdir, and --user's rights there)"
                )
            }
        }
    }

    fn reason_of_start(&self) -> String {
        match self.error.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR) => {
                "not found (check the name and PATH; for a script, the interpreter in its first line)"
                    .to_owned()
            }
            Some(libc::EACCES) => {
                "permission denied (it has to be an executable file: chmod +x)".to_owned()
            }
            Some(libc::ENOEXEC) => {
                "not a program (a script needs a first line such as #!/bin/sh)".to_owned()
            }
            _ => errors::text(&self.error),
        }
    }
}
