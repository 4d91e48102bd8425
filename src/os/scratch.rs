//! Files of our own that workers read, in a private directory that goes with us.

use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

/// A directory that we made. Whatever else is at its path, such as one that somebody made anew after
/// ours was tidied away, is not ours.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Place {
    directory: OsString,
    device: u64,
    inode: u64,
    owner: u32,
}

/// A directory with a few files in it.
#[derive(Debug)]
pub struct Scratch {
    files: &'static [(&'static str, &'static str)],
    place: Place,
    /// Held for as long as the directory is needed, where there is one.
    lock: Option<Flock<File>>,
    /// What is in the directory was written by another program.
    stale: bool,
}

impl Scratch {
    /// Writes these files, each a name and what is in it, below the directory for temporary files
    /// (`TMPDIR`, or `/tmp`).
    pub fn new(files: &'static [(&'static str, &'static str)]) -> io::Result<Self> {
        let mut scratch = Self::restore(files, Place::default());
        scratch.complete()?;
        Ok(scratch)
    }

    /// Goes on with the directory that another program had for its own. These files are written when
    /// the first of them is asked for: no want of room is a reason not to go on.
    pub fn restore(files: &'static [(&'static str, &'static str)], place: Place) -> Self {
        let lock = if place.is_there() { lock(place.directory()).ok() } else { None };
        Self { files, place, lock, stale: true }
    }

    /// Where it is, for another program.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Where a file is. All of them are there again afterwards, if somebody who tidies up has
    /// removed them.
    pub fn path(&mut self, name: &str) -> io::Result<PathBuf> {
        let is_there = |file: &str| self.place.directory().join(file).is_file();
        let is_whole = self.place.is_there() && self.files.iter().all(|(file, _)| is_there(file));
        if self.stale || !is_whole {
            self.complete()?;
        }
        Ok(self.place.directory().join(name))
    }

    /// Writes all files, into a new directory if there is none.
    fn complete(&mut self) -> io::Result<()> {
        if !self.place.is_there() {
            self.place = Place::new()?;
            self.lock = None;
        }
        if self.lock.is_none() {
            self.lock = Some(lock(self.place.directory())?);
        }
        let write = |(name, text): &(&str, &str)| write(self.place.directory(), name, text);
        self.files.iter().try_for_each(write)?;
        self.stale = false;
        Ok(())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.place.is_there() {
            // Nobody can do anything about it any more.
            let _ = fs::remove_dir_all(self.place.directory());
        }
    }
}

impl Place {
    /// A new directory that everybody may read, whatever the umask: workers may be somebody else.
    fn new() -> io::Result<Self> {
        let directory = tempfile::Builder::new().prefix("sticky-run-").tempdir()?;
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755))?;
        let place = Self::at(directory.path())?;
        _ = directory.keep();
        Ok(place)
    }

    /// What is at a path. A link is itself, and not where it leads to.
    fn at(path: &Path) -> io::Result<Self> {
        let found = path.symlink_metadata()?;
        let (device, inode, owner) = (found.dev(), found.ino(), found.uid());
        Ok(Self { directory: path.into(), device, inode, owner })
    }

    fn directory(&self) -> &Path {
        Path::new(&self.directory)
    }

    /// Whether it is still at its path.
    fn is_there(&self) -> bool {
        Self::at(self.directory()).is_ok_and(|found| found == *self)
    }
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
    fn a_directory_that_somebody_else_made_is_left_alone() {
        let link = |to: &Path, path: &Path| std::os::unix::fs::symlink(to, path).unwrap();
        for is_link in [false, true] {
            let mut scratch = Scratch::new(FILES).unwrap();
            let (path, place) = (scratch.path("a.cjs").unwrap(), scratch.place().clone());
            let directory = place.directory();
            // Ours is not gone, or its number could be given to another one at once.
            let ours = directory.with_extension("ours");
            fs::rename(directory, &ours).unwrap();
            if is_link {
                link(&ours, directory)
            } else {
                fs::create_dir(directory).unwrap()
            }
            for name in ["a.cjs", "b.cjs"] {
                fs::write(directory.join(name), "evil").unwrap();
            }
            let mut after = Scratch::restore(FILES, place.clone());
            for scratch in [&mut scratch, &mut after] {
                let anew = scratch.path("a.cjs").unwrap();
                assert_ne!(anew, path);
                assert_eq!(fs::read_to_string(anew).unwrap(), "one");
            }
            drop(scratch);
            drop(Scratch::restore(FILES, place.clone()));
            assert_eq!(fs::read_to_string(&path).unwrap(), "evil");
            fs::remove_dir_all(ours).unwrap();
            if is_link { fs::remove_file(directory) } else { fs::remove_dir_all(directory) }
                .unwrap();
        }
    }

    #[test]
    fn another_program_goes_on_with_the_directory() {
        let mut before = Scratch::new(FILES).unwrap();
        let path = before.path("a.cjs").unwrap();
        let mut after = Scratch::restore(&[("a.cjs", "newer")], before.place().clone());
        assert_eq!(after.path("a.cjs").unwrap(), path);
        assert_eq!(fs::read_to_string(&path).unwrap(), "newer");
        drop(after);
        assert!(!path.exists());
        let mut anew = Scratch::restore(FILES, before.place().clone());
        assert_eq!(fs::read_to_string(anew.path("b.cjs").unwrap()).unwrap(), "two");
    }
}
