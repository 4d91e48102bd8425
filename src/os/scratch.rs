//! Files of our own that workers read, in a private directory that goes with us.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

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
    /// Held for as long as the directory is needed, where there is one and nobody is in the way.
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
        let held = held.map(File::from);
        let lock = if place.is_there() { held.or_else(|| lock(place.directory())) } else { None };
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
        if self.stale || !is_whole {
            self.complete()?;
        }
        Ok(self.place.directory().join(name))
    }

    /// Writes all files, into a new directory if there is none.
    fn complete(&mut self) -> io::Result<()> {
        if self.place.is_there() {
            if self.lock.is_none() {
                self.lock = lock(self.place.directory());
            }
            write_all(self.place.directory(), self.files)?;
        } else {
            (self.place, self.lock) = self.begin()?;
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
        if let Some(reader) = &self.reader {
            check_reader(base, reader)?;
        }
        // Everybody may read it, whatever the umask: workers may be somebody else.
        let directory = tempfile::Builder::new().prefix(PREFIX).tempdir_in(base)?;
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755))?;
        let place = Place::at(directory.path())?;
        // Before the files, which others take for a sign that the lock is held.
        let lock = lock(directory.path());
        write_all(directory.path(), self.files)?;
        _ = directory.keep();
        Ok((place, lock))
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

/// Has those who tidy up after some days leave a directory alone (`tmpfiles.d(5)`, on aging), and others
/// like this program. It is no more than a courtesy: anybody can hold a lock of their own there.
fn lock(directory: &Path) -> Option<File> {
    let opened = File::open(directory).ok()?;
    opened.try_lock_shared().is_ok().then_some(opened)
}

/// Removes directories of this user that hold files like these and that no process has locked: whoever
/// made them was killed. What cannot be removed stays.
fn remove_left_behind(base: &Path, files: Files) {
    let entries = fs::read_dir(base).into_iter().flatten().take(MOST_ENTRIES).flatten();
    let names = entries.filter(|entry| entry.file_name().as_bytes().starts_with(PREFIX.as_bytes()));
    for path in names.map(|entry| entry.path()) {
        let is_ours = path
            .symlink_metadata()
            .is_ok_and(|found| found.is_dir() && found.uid() == geteuid().as_raw());
        if !is_ours || !holds_only(&path, files) {
            continue;
        }
        let Ok(directory) = File::open(&path) else { continue };
        if directory.try_lock().is_ok() {
            _ = fs::remove_dir_all(&path);
        }
    }
}

/// Whether there is the last of these files in a directory, and nothing but them.
fn holds_only(directory: &Path, files: Files) -> bool {
    let is_one = |name: &OsStr| files.iter().any(|(file, _)| name == OsStr::new(file));
    let is_written = files.last().is_some_and(|(last, _)| directory.join(last).is_file());
    let mut entries = fs::read_dir(directory).into_iter().flatten();
    is_written && entries.all(|entry| entry.is_ok_and(|entry| is_one(&entry.file_name())))
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

fn write_all(directory: &Path, files: Files) -> io::Result<()> {
    files.iter().try_for_each(|(name, text)| write(directory, name, text))
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

    // Each test that leaves a directory without a lock has names of its own: others remove it else.
    const FILES: &[(&str, &str)] = &[("a.cjs", "one"), ("b.cjs", "two")];
    const OTHERS: &[(&str, &str)] = &[("c.cjs", "one"), ("d.cjs", "two")];
    const LOCKED: &[(&str, &str)] = &[("e.cjs", "one")];

    #[test]
    fn files_that_were_tidied_away_come_back_and_all_go_in_the_end() {
        let mut scratch = Scratch::new(FILES, None).unwrap();
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
            let mut scratch = Scratch::new(OTHERS, None).unwrap();
            let (path, place) = (scratch.path("c.cjs").unwrap(), scratch.place().clone());
            let directory = place.directory();
            // Ours is not gone, or its number could be given to another one at once.
            let ours = directory.with_extension("ours");
            fs::rename(directory, &ours).unwrap();
            if is_link {
                link(&ours, directory)
            } else {
                fs::create_dir(directory).unwrap()
            }
            for name in ["c.cjs", "d.cjs"] {
                fs::write(directory.join(name), "evil").unwrap();
            }
            // Or they would look as if this very program had left them behind.
            for directory in [directory, &ours] {
                fs::write(directory.join("more"), "").unwrap();
            }
            let mut after = Scratch::restore(OTHERS, None, place.clone(), None);
            for scratch in [&mut scratch, &mut after] {
                let anew = scratch.path("c.cjs").unwrap();
                assert_ne!(anew, path);
                assert_eq!(fs::read_to_string(anew).unwrap(), "one");
            }
            drop(scratch);
            drop(Scratch::restore(OTHERS, None, place.clone(), None));
            assert_eq!(fs::read_to_string(&path).unwrap(), "evil");
            fs::remove_dir_all(ours).unwrap();
            if is_link { fs::remove_file(directory) } else { fs::remove_dir_all(directory) }
                .unwrap();
        }
    }

    #[test]
    fn another_program_goes_on_with_the_directory() {
        let mut before = Scratch::new(FILES, None).unwrap();
        let path = before.path("a.cjs").unwrap();
        let mut after = Scratch::restore(&[("a.cjs", "newer")], None, before.place().clone(), None);
        assert_eq!(after.path("a.cjs").unwrap(), path);
        assert_eq!(fs::read_to_string(&path).unwrap(), "newer");
        drop(after);
        assert!(!path.exists());
        let mut anew = Scratch::restore(FILES, None, before.place().clone(), None);
        assert_eq!(fs::read_to_string(anew.path("b.cjs").unwrap()).unwrap(), "two");
    }

    #[test]
    fn a_user_has_to_be_able_to_enter_each_directory_on_the_way() {
        let account = |uid, groups: &[u32]| Account {
            uid: Some(uid),
            gid: 54_321,
            groups: groups.to_vec(),
            home: None,
        };
        let outer = tempfile::tempdir().unwrap();
        let inner = outer.path().join("inner");
        fs::create_dir(&inner).unwrap();
        let own = outer.path().metadata().unwrap();
        for (mode, uid, groups, may) in [
            (0o700, 54_321, &[][..], false),
            (0o711, 54_321, &[], true),
            (0o710, 54_321, &[own.gid()], true),
            (0o701, 54_321, &[own.gid()], false),
            (0o700, own.uid(), &[], true),
            (0o700, 0, &[], true),
        ] {
            fs::set_permissions(outer.path(), Permissions::from_mode(mode)).unwrap();
            let checked = check_reader(&inner, &account(uid, groups));
            assert_eq!(checked.is_ok(), may, "{mode:o} {uid} {groups:?} {checked:?}");
        }
    }

    #[test]
    fn what_a_killed_one_left_is_removed_and_all_else_stays() {
        let base = tempfile::tempdir().unwrap();
        let left = |name: &str, files: &[&str]| {
            let path = base.path().join(name);
            fs::create_dir(&path).unwrap();
            files.iter().for_each(|file| fs::write(path.join(file), "").unwrap());
            path
        };
        let dead = left("sticky-run-dead", &["a.cjs", "b.cjs"]);
        let live = left("sticky-run-live", &["a.cjs", "b.cjs"]);
        let held = lock(&live).unwrap();
        let others = [
            left("sticky-run-begun", &["a.cjs"]),
            left("sticky-run-other", &["a.cjs", "b.cjs", "c"]),
            left("mine", &["a.cjs", "b.cjs"]),
            live.clone(),
        ];
        std::os::unix::fs::symlink(&others[2], base.path().join("sticky-run-link")).unwrap();
        remove_left_behind(base.path(), FILES);
        assert!(!dead.exists());
        for path in &others {
            assert!(path.join("a.cjs").exists(), "{}", path.display());
        }
        drop(held);
        remove_left_behind(base.path(), FILES);
        assert!(!live.exists());
    }

    #[test]
    fn nobody_takes_a_directory_for_left_behind_while_it_goes_over_to_another_program() {
        let base = tempfile::tempdir().unwrap();
        let begun = Scratch::restore(FILES, None, Place::default(), None);
        let (place, held) = begun.begin_below(base.path()).unwrap();
        let mut after = Scratch::restore(FILES, None, place, held.map(OwnedFd::from));
        remove_left_behind(base.path(), FILES);
        assert!(after.path("a.cjs").unwrap().starts_with(base.path()));
        assert!(after.lock().is_some_and(|lock| lock.try_lock_shared().is_ok()));
    }

    #[test]
    fn somebody_elses_lock_is_no_reason_not_to_go_on() {
        let mut scratch = Scratch::new(LOCKED, None).unwrap();
        (scratch.lock, scratch.stale) = (None, true);
        let directory = File::open(scratch.place().directory()).unwrap();
        directory.try_lock().unwrap();
        assert_eq!(fs::read_to_string(scratch.path("e.cjs").unwrap()).unwrap(), "one");
    }
}
