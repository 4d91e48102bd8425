//! Files of our own that workers read, in a private directory that goes with us.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

/// A directory with a few files in it.
#[derive(Debug)]
pub struct Scratch {
    files: &'static [(&'static str, &'static str)],
    directory: PathBuf,
    /// Held for as long as the directory is needed, where there is one.
    lock: Option<Flock<File>>,
    /// What is in the directory was written by another program.
    stale: bool,
}

impl Scratch {
    /// Writes these files, each a name and what is in it, below the directory for temporary files
    /// (`TMPDIR`, or `/tmp`).
    pub fn new(files: &'static [(&'static str, &'static str)]) -> io::Result<Self> {
        let mut scratch = Self::restore(files, PathBuf::new());
        scratch.complete()?;
        Ok(scratch)
    }

    /// Goes on with the directory that another program had for its own. These files are written when
    /// the first of them is asked for: no want of room is a reason not to go on.
    pub fn restore(files: &'static [(&'static str, &'static str)], directory: PathBuf) -> Self {
        let lock = lock(&directory).ok();
        Self { files, directory, lock, stale: true }
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where a file is. All of them are there again afterwards, if somebody who tidies up has
    /// removed them.
    pub fn path(&mut self, name: &str) -> io::Result<PathBuf> {
        let is_there = |file: &str| self.directory.join(file).is_file();
        if self.stale || !self.files.iter().all(|(file, _)| is_there(file)) {
            self.complete()?;
        }
        Ok(self.directory.join(name))
    }

    /// Writes all files, into a new directory if there is none.
    fn complete(&mut self) -> io::Result<()> {
        if !self.directory.is_dir() {
            self.directory = new_directory()?;
            self.lock = None;
        }
        if self.lock.is_none() {
            self.lock = Some(lock(&self.directory)?);
        }
        let write = |(name, text): &(&str, &str)| write(&self.directory, name, text);
        self.files.iter().try_for_each(write)?;
        self.stale = false;
        Ok(())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.directory.as_os_str().is_empty() {
            // Nobody can do anything about it any more.
            let _ = fs::remove_dir_all(&self.directory);
        }
    }
}

/// A directory that everybody may read, whatever the umask: workers may be somebody else.
fn new_directory() -> io::Result<PathBuf> {
    let directory = tempfile::Builder::new().prefix("sticky-run-").tempdir()?;
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755))?;
    Ok(directory.keep())
}

/// Has those who tidy up after some days leave a directory alone (`tmpfiles.d(5)`, on aging).
fn lock(directory: &Path) -> io::Result<Flock<File>> {
    let lock = Flock::lock(File::open(directory)?, FlockArg::LockSharedNonblock);
    lock.map_err(|(_, errno)| errno.into())
}

fn write(directory: &Path, name: &str, text: &str) -> io::Result<()> {
    let path = directory.join(name);
    // A worker that is just being started finds a whole file, whichever.
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(text.as_bytes())?;
    file.as_file().set_permissions(Permissions::from_mode(0o644))?;
    file.persist(path)?;
    Ok(())
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

    #[test]
    fn another_program_goes_on_with_the_directory() {
        let mut before = Scratch::new(FILES).unwrap();
        let path = before.path("a.cjs").unwrap();
        let mut after = Scratch::restore(&[("a.cjs", "newer")], before.directory().into());
        assert_eq!(after.path("a.cjs").unwrap(), path);
        assert_eq!(fs::read_to_string(&path).unwrap(), "newer");
        drop(after);
        assert!(!path.exists());
        let mut anew = Scratch::restore(FILES, before.directory().into());
        assert_eq!(fs::read_to_string(anew.path("b.cjs").unwrap()).unwrap(), "two");
    }
}
