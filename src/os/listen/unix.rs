//! Unix sockets that listen: at a path, where there is a file, or at an abstract name.
//!
//! An abstract name is a path that begins with a null byte to the kernel, and so it is here
//! (`unix(7)`).

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::libc;
use socket2::{Domain, SockAddr, Socket, Type};

use super::file::{Owner, SocketFile};
use super::{Listener, set_number};

/// Whether others may send descriptors along (`asm-generic/socket.h`).
const SO_PASSRIGHTS: libc::c_int = 83;

/// Has the kernel refuse descriptors that clients send along with their bytes, since Linux 6.16: what lies
/// unread in a connection is closed with it, which may take long. Returns whether that was possible.
///
/// Connections inherit that, from the moment on in which they are made. A worker whose clients are to send
/// some allows it for the connections that it is given.
pub(super) fn refuse_descriptors(socket: &Socket) -> bool {
    set_number(socket, libc::SOL_SOCKET, SO_PASSRIGHTS, 0).is_ok()
}

/// Listens at a path, where the file has this owner, or at the abstract name that stands after a null byte.
pub(super) fn open_unix(path: &Path, backlog: i32, owner: &Owner) -> io::Result<Listener> {
    let address = address_of(path)?;
    let (socket, file) = if is_abstract(path) {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.bind(&address)?;
        (socket, None)
    } else {
        let (socket, file) = SocketFile::bind(path, &address, owner)?;
        (socket, Some(file))
    };
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
