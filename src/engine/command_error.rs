//! Why a command cannot be run, and what to do about it.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

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
    /// The script that is not there, of an interpreter that is.
    pub(super) script: Option<PathBuf>,
}

impl CommandError {
    /// About this program, with an error as of `execve(2)`.
    pub fn new(program: OsString, error: io::Error) -> Self {
        Self { program, step: Step::Start, error, script: None }
    }

    /// About this interpreter, whose script is not there.
    pub fn no_script(program: OsString, script: &Path) -> Self {
        let script = Some(script.to_owned());
        Self { script, ..Self::new(program, io::Error::from_raw_os_error(libc::ENOENT)) }
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
        if let Some(script) = &self.script {
            return format!("its script {} is not there (check the name)", script.display());
        }
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
