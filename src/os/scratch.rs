//! Files for workers to read, in a private directory that is removed with the supervisor.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::libc;
use nix::unistd::geteuid;
use serde::{Deserialize, Serialize};

use super::errors;
use crate::logic::config::Account;

/// What the names of our directories begin with.
const PREFIX: &str = "sticky-run-";
/// Where there may be room besides `TMPDIR`: the first two are for files, the others in memory.
const BASES: [&str; 4] = ["/tmp", "/var/tmp", "/dev/shm", "/run"];
/// How many files of such a directory are looked at.
const MOST_ENTRIES: usize = 10_000;

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
    files: Files,
    /// Who reads them, if not who this process is.
    reader: Option<Account>,
    place: Place,
    /// The open directory, locked for as long as it is needed, if nobody is in the way.
    lock: Option<File>,
    /// What is in the directory was written by another program.
    stale: bool,
}

/// Files, each a name and what is in it.
type Files = &'static [(&'static str, &'static str)];

impl Scratch {
    /// Writes these files below the first directory for temporary files where they can be written, and
    /// read by this user: `TMPDIR`, then those that machines have.
    ///
    /// Directories that others like this one left behind there are removed. The error says why each
    /// place is none.
    pub fn new(files: Files, reader: Option<Account>) -> io::Result<Self> {
        let mut scratch = Self::restore(files, reader, Place::default(), None);
        scratch.complete()?;
        Ok(scratch)
    }

    /// Goes on with the directory that another program had for its own. These files are written when
    /// the first of them is asked for: no want of room is a reason not to go on.
    ///
    /// A lock that it held is held without a break, or others would take the directory for left behind.
    pub fn restore(
        files: Files,
        reader: Option<Account>,
        place: Place,
        held: Option<OwnedFd>,
    ) -> Self {
        let lock = place.open().and_then(|opened| held.map(File::from).or_else(|| lock(opened)));
        Self { files, reader, place, lock, stale: true }
    }

    /// Where it is, for another program.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// What holds the lock, for another program.
    pub fn lock(&self) -> Option<&File> {
        self.lock.as_ref()
    }

    /// Where a file is. All of them are there again afterwards, if somebody who tidies up has
    /// removed them.
    pub fn path(&mut self, name: &str) -> io::Result<PathBuf> {
        let is_there = |file: &str| self.place.directory().join(file).is_file();
        let is_whole = self.place.is_there() && self.files.iter().all(|(file, _)| is_there(file));
        if self.stale || !is_whole || self.lock.is_none() {
            self.complete()?;
        }
        Ok(self.place.directory().join(name))
    }

    /// Has all files be there, in a new directory if there is none or if it cannot be written to.
    fn complete(&mut self) -> io::Result<()> {
        let opened = self.place.open();
        let is_complete = opened.as_ref().is_some_and(|own| write_all(own, self.files).is_ok());
        if !is_complete {
            (self.place, self.lock) = self.begin()?;
        } else if self.lock.is_none() {
            self.lock = opened.and_then(lock);
        }
        self.stale = false;
        Ok(())
    }

    /// A new directory with all files, at the first place that will do.
    fn begin(&self) -> io::Result<(Place, Option<File>)> {
        let mut reasons = Vec::new();
        let mut bases = vec![env::temp_dir()];
        bases.extend(BASES.map(PathBuf::from));
        for (number, base) in bases.iter().enumerate() {
            if bases[..number].contains(base) {
                continue;
            }
            match self.begin_below(base) {
                Ok(begun) => {
                    remove_left_behind(base, self.files);
                    return Ok(begun);
                }
                Err(error) => {
                    reasons.push(format!("{}: {}", base.display(), errors::text(&error)));
                }
            }
        }
        Err(io::Error::other(format!(
            "{} (set TMPDIR to a directory that workers can read)",
            reasons.join("; ")
        )))
    }

    fn begin_below(&self, base: &Path) -> io::Result<(Place, Option<File>)> {
        check_steady(base)?;
        if let Some(reader) = &self.reader {
            check_reader(base, reader)?;
        }
        // Everybody may read it, whatever the umask: workers may be somebody else.
        let directory = tempfile::Builder::new().prefix(PREFIX).tempdir_in(base)?;
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755))?;
        let place = Place::at(directory.path())?;
        let opened = open_directory(directory.path())?;
        // Before the files, which others take for a sign that the lock is held.
        let lock = opened.try_clone().ok().and_then(lock);
        write_all(&opened, self.files)?;
        _ = directory.keep();
        Ok((place, lock))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Some(opened) = self.place.open() {
            // Nobody can do anything about it any more.
            let _ = remove(&opened, self.place.directory());
        }
    }
}

impl Place {
    /// What is at a path. A link is itself, and not where it leads to.
    fn at(path: &Path) -> io::Result<Self> {
        Ok(Self::named(path, &path.symlink_metadata()?))
    }

    fn named(path: &Path, found: &Metadata) -> Self {
        let (device, inode, owner) = (found.dev(), found.ino(), found.uid());
        Self { directory: path.into(), device, inode, owner }
    }

    fn directory(&self) -> &Path {
        Path::new(&self.directory)
    }

    /// Whether it is still at its path.
    fn is_there(&self) -> bool {
        Self::at(self.directory()).is_ok_and(|found| found == *self)
    }

    /// The directory itself, if it is still at its path.
    fn open(&self) -> Option<File> {
        let opened = open_directory(self.directory()).ok()?;
        let found = opened.metadata().ok()?;
        (Self::named(self.directory(), &found) == *self).then_some(opened)
    }
}

/// Opens a directory, and neither what a link leads to nor what one could wait for.
fn open_directory(path: &Path) -> io::Result<File> {
    let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

/// The path of an open directory, wherever its name leads by now.
fn held(directory: &File) -> PathBuf {
    format!("/proc/self/fd/{}", directory.as_raw_fd()).into()
}

/// Has those who tidy up after some days leave a directory alone (`tmpfiles.d(5)`, on aging), and others
/// like this program. It is no more than a courtesy: anybody can hold a lock of their own there.
fn lock(directory: File) -> Option<File> {
    directory.try_lock_shared().is_ok().then_some(directory)
}

/// Removes directories of this user that hold files like these and that no process has locked: whoever
/// made them was killed. What cannot be removed stays.
fn remove_left_behind(base: &Path, files: Files) {
    let entries = fs::read_dir(base).into_iter().flatten().take(MOST_ENTRIES).flatten();
    let names = entries.filter(|entry| entry.file_name().as_bytes().starts_with(PREFIX.as_bytes()));
    for path in names.map(|entry| entry.path()) {
        let Ok(directory) = open_directory(&path) else { continue };
        let owner = directory.metadata().map(|found| found.uid());
        let is_ours = owner.is_ok_and(|owner| owner == geteuid().as_raw());
        if is_ours && holds_only(&directory, files) && directory.try_lock().is_ok() {
            _ = remove(&directory, &path);
        }
    }
}

/// Whether there is the last of these files in a directory, and nothing but them.
fn holds_only(directory: &File, files: Files) -> bool {
    let is_one = |name: &OsStr| files.iter().any(|(file, _)| name == OsStr::new(file));
    let is_written = files.last().is_some_and(|(last, _)| held(directory).join(last).is_file());
    let mut entries = fs::read_dir(held(directory)).into_iter().flatten();
    is_written && entries.all(|entry| entry.is_ok_and(|entry| is_one(&entry.file_name())))
}

/// Removes an open directory with the files in it; its name goes if it leads there, or to nothing.
fn remove(directory: &File, path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(held(directory))? {
        fs::remove_file(entry?.path())?;
    }
    fs::remove_dir(path)
}

/// Whether what is in a directory stays there: where everybody may write, and not only remove their own, it
/// could be replaced, and workers would load what somebody else wrote.
fn check_steady(directory: &Path) -> io::Result<()> {
    for above in directory.canonicalize()?.ancestors() {
        if above.metadata()?.mode() & (libc::S_IWOTH | libc::S_ISVTX) == libc::S_IWOTH {
            let why = format!("everybody may move what is in {}", above.display());
            return Err(io::Error::other(why));
        }
    }
    Ok(())
}

/// Whether a user finds what is in a directory that everybody may read.
fn check_reader(directory: &Path, reader: &Account) -> io::Result<()> {
    let uid = reader.uid.unwrap_or_else(|| geteuid().as_raw());
    for above in directory.canonicalize()?.ancestors() {
        let found = above.metadata()?;
        let is_in_group = found.gid() == reader.gid || reader.groups.contains(&found.gid());
        let right = match (found.uid() == uid, is_in_group) {
            (true, _) => 0o100,
            (false, true) => 0o010,
            (false, false) => 0o001,
        };
        if uid != 0 && found.mode() & right == 0 {
            let why = format!("user {uid} may not enter {}", above.display());
            return Err(io::Error::other(why));
        }
    }
    Ok(())
}

/// Writes the files that are not there like this already, so that no room is needed for those that are.
fn write_all(directory: &File, files: Files) -> io::Result<()> {
    let directory = held(directory);
    let is_there = |name: &str, text: &str| {
        fs::read(directory.join(name)).is_ok_and(|found| found == text.as_bytes())
    };
    let mut missing = files.iter().filter(|(name, text)| !is_there(name, text));
    missing.try_for_each(|(name, text)| write(&directory, name, text))
}

fn write(directory: &Path, name: &str, text: &str) -> io::Result<()> {
    // A worker that is just being started finds a whole file, whichever.
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(text.as_bytes())?;
    file.as_file().set_permissions(Permissions::from_mode(0o644))?;
    file.persist(directory.join(name))?;
    Ok(())
}

#[cfg(test)]
mod tests;
