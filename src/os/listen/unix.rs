//! Unix sockets that listen: at a path, where a file has to be kept in order, or at an abstract name.
//!
//! An abstract name is a path that begins with a null byte to the kernel, and so it is here
//! (`unix(7)`).

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{AtFlags, OFlag, open};
use nix::libc;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{AccessFlags, Gid, Uid, access, fchownat, geteuid};
use serde::{Deserialize, Serialize};
use socket2::{Domain, SockAddr, Socket, Type};

use super::Listener;

/// A socket in the file system, known by its identity, so that another one at the same path is
/// left alone.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
    /// Whether it was surely this process that made it.
    #[serde(default)]
    is_own: bool,
}

impl SocketFile {
    /// Has it be of this user and group and have this mode; none of them stays as it is.
    ///
    /// Whoever may write to its directory could put another file in its place at any moment, so what is
    /// changed is an open file that is known to be the socket, and nothing by its name.
    pub(super) fn set(
        &self,
        uid: Option<u32>,
        gid: Option<u32>,
        mode: Option<u32>,
    ) -> io::Result<()> {
        let (file, found) = open_path(&self.path)?;
        let is_other = |asked: Option<u32>, found| asked.is_some_and(|asked| asked != found);
        let given = is_other(uid, found.uid()) || is_other(gid, found.gid());
        let changed = is_other(mode, found.mode() & 0o777);
        if !given && !changed {
            return Ok(());
        }
        if !self.is_own || (found.dev(), found.ino()) != self.identity {
            return Err(io::Error::other("another file is in its place"));
        }
        if given {
            let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
            fchownat(&file, "", uid, gid, AtFlags::AT_EMPTY_PATH)?;
        }
        if let Some(mode) = mode.filter(|_| changed) {
            // A descriptor of this kind cannot be changed itself, but its link leads nowhere else.
            let link = format!("/proc/self/fd/{}", file.as_raw_fd());
            fs::set_permissions(link, Permissions::from_mode(mode))?;
        }
        Ok(())
    }

    /// Lets everybody read from it or write to it, beside what the umask left.
    pub(super) fn open_to_all(&self, read: bool, write: bool) -> io::Result<()> {
        let added = if read { 0o444 } else { 0 } | if write { 0o222 } else { 0 };
        let mode = self.path.symlink_metadata()?.mode() & 0o777;
        self.set(None, None, Some(mode | added))
    }

    /// The file of a socket that was just bound to this path.
    ///
    /// Nobody else can make a socket of this user, and it has no second name: no file was linked or
    /// moved there that this process did not make.
    fn at(path: &Path) -> io::Result<Self> {
        let (_, found) = open_path(path)?;
        let is_ours = found.file_type().is_socket() && found.uid() == geteuid().as_raw();
        Ok(Self {
            path: path.to_owned(),
            identity: (found.dev(), found.ino()),
            is_own: is_ours && found.nlink() == 1,
        })
    }

    /// Whether clients can find it.
    pub(super) fn is_in_place(&self) -> bool {
        identity(&self.path).is_ok_and(|found| found == self.identity)
    }

    /// Whether this process may remove it. Errors are those of `access(2)` and `unlink(2)`.
    pub(super) fn may_be_removed(&self) -> io::Result<()> {
        let directory = match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            Some(_) | None => Path::new("."),
        };
        access(directory, AccessFlags::W_OK | AccessFlags::X_OK)?;
        let (own, around) = (self.path.symlink_metadata()?, directory.metadata()?);
        let is_sticky = around.mode() & libc::S_ISVTX != 0;
        let me = geteuid().as_raw();
        if is_sticky && ![own.uid(), around.uid()].contains(&me) {
            return Err(io::Error::from_raw_os_error(libc::EPERM));
        }
        Ok(())
    }

    /// Removes it, unless another one is there.
    pub(super) fn remove(&self) {
        if self.is_in_place()
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::warn!("cannot remove {}: {error}", self.path.display());
        }
    }
}

/// Listens at a path, or at the abstract name that stands after a null byte. A file has this mode from
/// the beginning, if one is given.
pub(super) fn open_unix(path: &Path, backlog: i32, mode: Option<u32>) -> io::Result<Listener> {
    if !is_abstract(path) {
        remove_stale(path)?;
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    let address = address_of(path)?;
    let umask_before = mode.map(|mode| umask(Mode::from_bits_truncate(!mode & 0o777)));
    let bound = socket.bind(&address);
    umask_before.map(umask);
    bound?;
    let file = if is_abstract(path) { None } else { Some(SocketFile::at(path)?) };
    socket.listen(backlog)?;
    socket.set_nonblocking(true)?;
    let mut listener = Listener::new(socket, name_of_path(path));
    listener.about.file = file;
    Ok(listener)
}

/// The address of a path, from this directory if that is short enough and the whole path is not.
fn address_of(path: &Path) -> io::Result<SockAddr> {
    SockAddr::unix(path).or_else(|error| {
        let here = std::env::current_dir()?;
        SockAddr::unix(path.strip_prefix(here).map_err(|_| error)?)
    })
}

/// Removes the socket file that a process left which does not listen any more, and nothing else.
fn remove_stale(path: &Path) -> io::Result<()> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    if !is_socket {
        return Ok(());
    }
    // Somebody who listens may have a full backlog, which is no reason to wait.
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    probe.set_nonblocking(true)?;
    match probe.connect(&address_of(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The path of an abstract name.
pub(super) fn address_of_abstract(name: &OsStr) -> PathBuf {
    let mut path = OsString::from("\0");
    path.push(name);
    path.into()
}

/// Where a Unix socket is.
pub(super) fn unix_path(address: &SockAddr) -> Option<PathBuf> {
    let name =
        address.as_abstract_namespace().map(|name| address_of_abstract(OsStr::from_bytes(name)));
    name.or_else(|| Some(address.as_pathname()?.to_owned()))
}

/// How `--listen` writes it.
pub fn name_of_path(path: &Path) -> String {
    match path.as_os_str().as_bytes() {
        [0, name @ ..] => format!("unix:@{}", OsStr::from_bytes(name).display()),
        _ => format!("unix:{}", path.display()),
    }
}

fn is_abstract(path: &Path) -> bool {
    path.as_os_str().as_bytes().starts_with(b"\0")
}

/// The file at a path, without following a link, and what it is.
fn open_path(path: &Path) -> io::Result<(File, Metadata)> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let file = File::from(open(path, flags, Mode::empty())?);
    let found = file.metadata()?;
    Ok((file, found))
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let file = std::fs::symlink_metadata(path)?;
    Ok((file.dev(), file.ino()))
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use super::*;

    #[test]
    fn a_connection_is_known_by_the_abstract_name_that_it_came_to() {
        let names = ["a", "b"].map(|name| {
            address_of_abstract(format!("sticky-run-{name}-{}", std::process::id()).as_ref())
        });
        let listeners = names.each_ref().map(|name| open_unix(name, 8, None).unwrap());
        let client = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        client.connect(&SockAddr::unix(&names[1]).unwrap()).unwrap();
        let connection: OwnedFd = listeners[1].accept().unwrap().socket;
        assert_eq!(
            listeners.each_ref().map(|listener| listener.is_origin_of(&connection)),
            [false, true]
        );
        assert_eq!(listeners[0].path().as_ref(), Some(&names[0]));
        assert!(listeners[0].to_string().starts_with("unix:@sticky-run-a-"));
        assert!(listeners[0].is_in_place());
    }

    #[test]
    fn a_file_has_its_mode_from_the_beginning() {
        let directory = tempfile::tempdir().unwrap();
        // With the owner's rights: other tests make files meanwhile.
        for mode in [0o700, 0o770, 0o722, 0o777] {
            let path = directory.path().join(format!("{mode:o}"));
            let before = umask(Mode::empty());
            let listener = open_unix(&path, 8, Some(mode)).unwrap();
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
        let listener = open_unix(&path, 8, None).unwrap();
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
