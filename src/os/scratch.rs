//! Files of our own that workers read, in a private directory that goes with us.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use tempfile::TempDir;

/// A directory with a few files in it.
#[derive(Debug)]
pub struct Scratch {
    files: &'static [(&'static str, &'static str)],
    directory: TempDir,
    /// Held for as long as the directory is needed.
    _lock: Flock<File>,
}

impl Scratch {
    /// Writes these files, each a name and what is in it, below the directory for temporary files
    /// (`TMPDIR`, or `/tmp`).
    pub fn new(files: &'static [(&'static str, &'static str)]) -> io::Result<Self> {
        let directory = new_directory()?;
        let scratch = Self { files, _lock: lock(directory.path())?, directory };
        scratch.write()?;
        Ok(scratch)
    }

    /// Where a file is. All of them are there again afterwards, if somebody who tidies up has
    /// removed them.
    pub fn path(&mut self, name: &str) -> io::Result<PathBuf> {
        let is_there = |file: &str| self.directory.path().join(file).is_file();
        if !self.files.iter().all(|(file, _)| is_there(file)) {
            if !self.directory.path().is_dir() {
                self.directory = new_directory()?;
                self._lock = lock(self.directory.path())?;
            }
            self.write()?;
        }
        Ok(self.directory.path().join(name))
    }

    fn write(&self) -> io::Result<()> {
        let write = |(name, text): &(&str, &str)| write(self.directory.path(), name, text);
        self.files.iter().try_for_each(write)
    }
}

/// A directory that everybody may read, whatever the umask: workers may be somebody else.
fn new_directory() -> io::Result<TempDir> {
    let directory = tempfile::Builder::new().prefix("sticky-run-").tempdir()?;
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755))?;
    Ok(directory)
}

/// Has those who tidy up after some days leave a directory alone (`tmpfiles.d(5)`, on aging).
fn lock(directory: &Path) -> io::Result<Flock<File>> {
    let lock = Flock::lock(File::open(directory)?, FlockArg::LockSharedNonblock);
    lock.map_err(|(_, errno)| errno.into())
}

fn write(directory: &Path, name: &str, text: &str) -> io::Result<()> {
    let path = directory.join(name);
    fs::write(&path, text)?;
    fs::set_permissions(&path, Permissions::from_mode(0o644))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILES: &[(&str, &str)] = &[("a.cjs", "one"), ("b.cjs", "two")];

    #[test]
    fn files_that_were_tidied_away_come_back_and_all_go_in_the_end() {
        let mut scratch = Scratch::new(FILES).unwrap();
        let first = scratch.path("a.cjs").unwrap();
        assert_eq!(fs::read_to_string(&first).unwrap(), "one");
        fs::remove_file(first.with_file_name("b.cjs")).unwrap();
        let path = scratch.path("b.cjs").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
        let path = scratch.path("b.cjs").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        drop(scratch);
        assert!(!path.exists());
    }
}
