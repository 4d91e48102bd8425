//! Unix sockets that listen: at a path, where a file has to be kept in order, or at an abstract name.
//!
//! An abstract name is a path that begins with a null byte to the kernel, and so it is here
//! (`unix(7)`).

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, lchown};
use std::path::{Path, PathBuf};

use nix::libc;
use nix::unistd::{AccessFlags, access, geteuid};
use serde::{Deserialize, Serialize};
use socket2::{Domain, SockAddr, Socket, Type};

use super::Listener;

/// A socket in the file system, known by its identity, so that another one at the same path is
/// left alone.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl SocketFile {
    /// Gives it to a user and a group, unless it is theirs.
    pub(super) fn give_to(&self, uid: Option<u32>, gid: u32) -> io::Result<()> {
        let found = self.path.symlink_metadata()?;
        let is_theirs = found.gid() == gid && uid.is_none_or(|uid| uid == found.uid());
        if is_theirs { Ok(()) } else { lchown(&self.path, uid, Some(gid)) }
    }

    fn at(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), identity: identity(path)? })
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

/// Listens at a path, or at the abstract name that stands after a null byte.
pub(super) fn open_unix(path: &Path, backlog: i32) -> io::Result<Listener> {
    if !is_abstract(path) {
        remove_stale(path)?;
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let file = if is_abstract(path) { None } else { Some(SocketFile::at(path)?) };
    socket.listen(backlog)?;
    socket.set_nonblocking(true)?;
    let mut listener = Listener::new(socket, name_of_path(path));
    listener.about.file = file;
    Ok(listener)
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
    match probe.connect(&SockAddr::unix(path)?) {
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
pub(super) fn name_of_path(path: &Path) -> String {
    match path.as_os_str().as_bytes() {
        [0, name @ ..] => format!("unix:@{}", OsStr::from_bytes(name).display()),
        _ => format!("unix:{}", path.display()),
    }
}

fn is_abstract(path: &Path) -> bool {
    path.as_os_str().as_bytes().starts_with(b"\0")
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
        let listeners = names.each_ref().map(|name| open_unix(name, 8).unwrap());
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
}
