//! Unix sockets that listen: at a path, where there is a file, or at an abstract name.
//!
//! An abstract name is a path that begins with a null byte to the kernel, and so it is here
//! (`unix(7)`).

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

use super::Listener;
use super::file::{Owner, SocketFile};

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

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use super::*;

    #[test]
    fn a_connection_is_known_by_the_abstract_name_that_it_came_to() {
        let names = ["a", "b"].map(|name| {
            address_of_abstract(format!("sticky-run-{name}-{}", std::process::id()).as_ref())
        });
        let listeners = names.each_ref().map(|name| open_unix(name, 8, &Owner::default()).unwrap());
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
