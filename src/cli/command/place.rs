//! Where a command runs: its directory and its variables.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::stat::{SFlag, stat};
use nix::unistd::{AccessFlags, access};

/// The search path when `PATH` is not set.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// A directory and variables.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(in crate::cli) struct Place {
    /// Absolute.
    pub(in crate::cli) directory: PathBuf,
    /// All that are set.
    pub(in crate::cli) variables: BTreeMap<OsString, OsString>,
}

impl Place {
    /// Where the supervisor is, or in this directory, as `cd` finds it. An error is that of
    /// `getcwd(3)`, which matters only if the directory is not absolute.
    #[expect(clippy::disallowed_methods, reason = "the command line includes the environment")]
    pub(in crate::cli) fn of(directory: Option<&Path>) -> io::Result<Self> {
        let directory = match directory {
            Some(directory) if directory.is_absolute() => directory.to_owned(),
            Some(directory) => std::env::current_dir()?.join(directory),
            None => std::env::current_dir()?,
        };
        Ok(Self { directory, variables: std::env::vars_os().collect() })
    }

    /// Sets a variable.
    pub(in crate::cli) fn set(&mut self, name: impl Into<OsString>, value: impl Into<OsString>) {
        self.variables.insert(name.into(), value.into());
    }

    /// Takes a variable away.
    pub(super) fn unset(&mut self, name: &OsStr) {
        self.variables.remove(name);
    }

    /// Changes the directory, as `cd` does.
    pub(in crate::cli) fn enter(&mut self, directory: &Path) {
        self.directory = self.directory.join(directory);
    }

    /// Puts `node_modules/.bin` of this directory and all above it in front of `PATH`, as package
    /// managers do.
    pub(super) fn add_bin_directories(&mut self) {
        let bins = self.directory.ancestors().map(|above| above.join("node_modules/.bin"));
        let mut path: Vec<PathBuf> = bins.collect();
        path.extend(std::env::split_paths(self.path()));
        // A directory with a colon in its name cannot stand in PATH, so nothing is found there.
        path.retain(|directory| !directory.as_os_str().as_encoded_bytes().contains(&b':'));
        if let Ok(path) = std::env::join_paths(path) {
            self.set("PATH", path);
        }
    }

    /// The file that `word` runs, searched for as `execvp(3)` does.
    pub(super) fn program(&self, word: &OsStr) -> Option<PathBuf> {
        if word.is_empty() {
            return None;
        }
        if word.as_encoded_bytes().contains(&b'/') {
            return Some(self.directory.join(word)).filter(|path| is_executable(path));
        }
        let mut paths = std::env::split_paths(self.path());
        paths.find_map(|path| {
            let path = self.directory.join(path).join(word);
            is_executable(&path).then_some(path)
        })
    }

    /// The file that `word` runs, or the error that `execvp(3)` gives.
    pub(super) fn find(&self, word: &OsStr) -> io::Result<PathBuf> {
        let candidates: Vec<_> = if word.as_encoded_bytes().contains(&b'/') {
            vec![self.directory.join(word)]
        } else {
            let paths = std::env::split_paths(self.path()).filter(|_| !word.is_empty());
            paths.map(|path| self.directory.join(path).join(word)).collect()
        };
        let mut error = Errno::ENOENT;
        for path in candidates {
            match executable(&path) {
                Ok(()) => return Ok(path),
                Err(Errno::ENOENT | Errno::ENOTDIR) => {}
                // Another directory of PATH may still have one that can be executed.
                Err(other) => error = other,
            }
        }
        Err(error.into())
    }

    /// The nearest directory, from here upwards, in which `file` exists.
    pub(super) fn above(&self, file: &str) -> Option<PathBuf> {
        let mut above = self.directory.ancestors();
        above.find(|directory| directory.join(file).exists()).map(Path::to_owned)
    }

    /// The variables that are different from those of `before`.
    pub(super) fn variables_since(&self, before: &Self) -> Vec<(OsString, Option<OsString>)> {
        let gone = before.variables.keys().filter(|name| !self.variables.contains_key(*name));
        let new = self
            .variables
            .iter()
            .filter(|(name, value)| before.variables.get(*name) != Some(*value));
        let new = new.map(|(name, value)| (name.clone(), Some(value.clone())));
        gone.map(|name| (name.clone(), None)).chain(new).collect()
    }

    /// The directory, if it is not that of `before`.
    pub(super) fn directory_if_not(&self, before: &Self) -> Option<PathBuf> {
        (self.directory != before.directory).then(|| self.directory.clone())
    }

    fn path(&self) -> &OsStr {
        self.variables.get(OsStr::new("PATH")).map_or(OsStr::new(DEFAULT_PATH), |path| path)
    }
}

fn executable(path: &Path) -> Result<(), Errno> {
    if stat(path)?.st_mode & SFlag::S_IFMT.bits() != SFlag::S_IFREG.bits() {
        return Err(Errno::EACCES);
    }
    access(path, AccessFlags::X_OK)
}

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}
