//! The files of Unix sockets: whose they are, and what becomes of them.
//!
//! A name can lead elsewhere at any moment for whoever may write to a directory on its way. So a socket is
//! made with the rights of the account that it is for, wherever these do, and what is looked at, changed
//! or removed is an open file in an open directory.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata, Permissions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{AtFlags, OFlag, open, openat};
use nix::libc;
use nix::sys::stat::{Mode, umask};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{AccessFlags, Gid, Uid, UnlinkatFlags, access, fchownat, unlinkat};
use serde::{Deserialize, Serialize};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::logic::config::Account;
use crate::os::capabilities::may_read_everything;
use crate::os::rights::{self, Beside, act_as};

/// Whose a socket's file is.
#[derive(Clone, Debug, Default)]
pub struct Owner {
    /// With whose rights it is made, if not with those of this process alone.
    pub account: Option<Account>,
    /// Whether those of this process help where the others do not do.
    pub is_helped: bool,
    /// The mode that it has from the beginning, if not what the umask leaves.
    pub mode: Option<u32>,
}

/// A socket in the file system, known by its identity, so that another one at the same path is
/// left alone.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
    /// Whether it was surely this process that made it.
    #[serde(default)]
    is_own: bool,
    /// With whose rights it was made.
    #[serde(default)]
    account: Option<Account>,
}

impl SocketFile {
    /// Binds a socket to this path, at which the kernel makes a file. What a process left there that does
    /// not listen any more is removed.
    pub(super) fn bind(
        path: &Path,
        address: &SockAddr,
        owner: &Owner,
    ) -> io::Result<(Socket, Self)> {
        let make = || make(path, address, owner.mode);
        let Some(account) = &owner.account else {
            let (socket, identity, is_own) = make()?;
            return Ok((socket, Self { path: path.to_owned(), identity, is_own, account: None }));
        };
        let made = match act_as(account, Beside::Nothing, make) {
            // Its own directory, or what it left there itself, needs no help.
            Err(error) if owner.is_helped && is_refused(&error) => {
                if may_read_everything() {
                    act_as(account, Beside::Ours, make)
                } else {
                    make()
                }
            }
            made => made,
        };
        let (socket, identity, is_own) = made?;
        let account = owner.account.clone();
        Ok((socket, Self { path: path.to_owned(), identity, is_own, account }))
    }

    /// Has it be of this user and group and have this mode; none of them stays as it is.
    pub(super) fn set(
        &self,
        uid: Option<u32>,
        gid: Option<u32>,
        mode: Option<u32>,
    ) -> io::Result<()> {
        let (file, found) = self.reach(|| Place::of(&self.path)?.look())?;
        let is_other = |asked: Option<u32>, found| asked.is_some_and(|asked| asked != found);
        let given = is_other(uid, found.uid()) || is_other(gid, found.gid());
        let changed = is_other(mode, found.mode() & 0o777);
        if !given && !changed {
            return Ok(());
        }
        if !self.is_own || identity(&found) != self.identity {
            return Err(io::Error::other("another file is in its place"));
        }
        if let Some(mode) = mode.filter(|_| changed) {
            let permissions = Permissions::from_mode(mode);
            self.reach(|| fs::set_permissions(link_to(&file), permissions.clone()))?;
        }
        if given {
            let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
            fchownat(&file, "", uid, gid, AtFlags::AT_EMPTY_PATH)?;
        }
        Ok(())
    }

    /// Lets everybody read from it or write to it, beside what the umask left.
    pub(super) fn open_to_all(&self, read: bool, write: bool) -> io::Result<()> {
        let added = if read { 0o444 } else { 0 } | if write { 0o222 } else { 0 };
        let (_, found) = self.reach(|| Place::of(&self.path)?.look())?;
        self.set(None, None, Some(found.mode() & 0o777 | added))
    }

    /// Whether clients can find it.
    pub(super) fn is_in_place(&self) -> bool {
        let found = self.reach(|| Place::of(&self.path)?.look());
        found.is_ok_and(|(_, found)| identity(&found) == self.identity)
    }

    /// Whether this process may remove it. Errors are those of `access(2)`.
    pub(super) fn may_be_removed(&self) -> io::Result<()> {
        self.reach(|| may_remove_from(directory_of(&self.path)))
    }

    /// Removes it, unless another one is there or it is not sure which one it is.
    pub(super) fn remove(&self) {
        if !self.is_own {
            return;
        }
        let removed = self.reach(|| {
            let place = Place::of(&self.path)?;
            match place.look() {
                Ok((_, found)) if identity(&found) == self.identity => place.clear(),
                Ok(_) => Ok(()),
                Err(error) => Err(error),
            }
        });
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(
                    name: "socket_file_kept", path = %self.path.display(), %error,
                    "cannot remove {}: {error}",
                    self.path.display()
                );
            }
            Ok(()) | Err(_) => {}
        }
    }

    /// Does something with the rights that it was made with, or else with those of this process.
    fn reach<T: Send>(&self, work: impl Fn() -> io::Result<T> + Sync) -> io::Result<T> {
        let Some(account) = &self.account else { return work() };
        match act_as(account, Beside::Nothing, &work) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => work(),
            done => done,
        }
    }
}

/// A name in a directory that stays the same, whatever becomes of the path.
struct Place<'a> {
    directory: OwnedFd,
    name: &'a OsStr,
}

impl<'a> Place<'a> {
    fn of(path: &'a Path) -> io::Result<Self> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        Ok(Self { directory: open(directory_of(path), flags, Mode::empty())?, name })
    }

    /// What is there, without following a link.
    fn look(&self) -> io::Result<(File, Metadata)> {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = File::from(openat(&self.directory, self.name, flags, Mode::empty())?);
        let found = file.metadata()?;
        Ok((file, found))
    }

    /// Removes what is there.
    fn clear(&self) -> io::Result<()> {
        Ok(unlinkat(&self.directory, self.name, UnlinkatFlags::NoRemoveDir)?)
    }

    /// Removes the socket file that a process left which does not listen any more, and nothing else.
    fn clear_of_stale(&self) -> io::Result<()> {
        let Ok((file, found)) = self.look() else { return Ok(()) };
        if !found.file_type().is_socket() {
            return Ok(());
        }
        // Somebody who listens may have a full backlog, which is no reason to wait.
        let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        probe.set_nonblocking(true)?;
        match probe.connect(&SockAddr::unix(link_to(&file))?) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => self.clear(),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// Makes a socket with a file, of this mode from the beginning if one is given; also says which file it is,
/// and whether that is sure.
///
/// No file was linked or moved there in the meantime that this thread did not make: it is a socket of this
/// user, has no second name, and is no older than this call.
fn make(
    path: &Path,
    address: &SockAddr,
    mode: Option<u32>,
) -> io::Result<(Socket, (u64, u64), bool)> {
    let place = Place::of(path)?;
    place.clear_of_stale()?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    let begun = clock_gettime(ClockId::CLOCK_REALTIME_COARSE)?;
    let umask_before = mode.map(|mode| umask(Mode::from_bits_truncate(!mode & 0o777)));
    let bound = socket.bind(address);
    umask_before.map(umask);
    bound?;
    let (_, found) = place.look()?;
    let is_ours = found.file_type().is_socket() && found.uid() == rights::user().as_raw();
    let is_new = (found.ctime(), found.ctime_nsec()) >= (begun.tv_sec(), begun.tv_nsec());
    Ok((socket, identity(&found), is_ours && is_new && found.nlink() == 1))
}

/// Whether this thread may remove its own from a directory.
fn may_remove_from(directory: &Path) -> io::Result<()> {
    let how = AccessFlags::W_OK | AccessFlags::X_OK;
    let asked = rights::access(directory, how);
    // Old kernels do not know the question, and old filters forbid it.
    let is_unknown =
        |error: &io::Error| matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM));
    if !asked.as_ref().is_err_and(is_unknown) {
        return asked;
    }
    let found = directory.metadata()?;
    let is_own = found.uid() == rights::user().as_raw() && found.mode() & 0o300 == 0o300;
    if is_own { Ok(()) } else { Ok(access(directory, how)?) }
}

/// Whether it is about rights; nobody but its user can ask whether a socket that is in the way is in use.
fn is_refused(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::AddrInUse)
}

/// A path that leads to an open file and nowhere else, for calls that take no descriptor like this one.
fn link_to(file: &File) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

/// The directory of a file.
pub fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    }
}

fn identity(found: &Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::listen::unix::open_unix;

    #[test]
    fn a_file_has_its_mode_from_the_beginning() {
        let directory = tempfile::tempdir().unwrap();
        // With the owner's rights: other tests make files meanwhile.
        for mode in [0o700, 0o770, 0o722, 0o777] {
            let path = directory.path().join(format!("{mode:o}"));
            let before = umask(Mode::empty());
            let listener =
                open_unix(&path, 8, &Owner { mode: Some(mode), ..Owner::default() }).unwrap();
            assert_eq!(umask(before), Mode::empty());
            assert_eq!(path.metadata().unwrap().mode() & 0o777, mode);
            drop(listener);
        }
    }

    #[test]
    fn what_somebody_put_in_the_place_of_a_socket_is_left_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.sock");
        let (victim, aside) = (directory.path().join("victim"), directory.path().join("aside"));
        fs::write(&victim, "").unwrap();
        fs::set_permissions(&victim, Permissions::from_mode(0o640)).unwrap();
        // Without a mode: the mask of a process is that of all its tests.
        let listener = open_unix(&path, 8, &Owner::default()).unwrap();
        fs::rename(&path, &aside).unwrap();
        let put: [&dyn Fn(); 3] = [
            &|| std::os::unix::fs::symlink(&victim, &path).unwrap(),
            &|| fs::hard_link(&victim, &path).unwrap(),
            &|| {
                drop(
                    Socket::new(Domain::UNIX, Type::STREAM, None)
                        .and_then(|socket| socket.bind(&SockAddr::unix(&path)?)),
                )
            },
        ];
        for put in put {
            put();
            listener.set_file(None, None, Some(0o666)).unwrap_err();
            assert_eq!(victim.metadata().unwrap().mode() & 0o777, 0o640);
            fs::remove_file(&path).unwrap();
        }
        fs::rename(&aside, &path).unwrap();
        listener.set_file(None, None, Some(0o666)).unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o666);
    }
}
