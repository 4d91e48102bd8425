//! Sockets that a worker requests, opened as Node would.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use nix::libc;
use socket2::{Domain, Socket, Type};

use super::unix::open_unix;
use super::{Listener, Mode, Owner, bind_tcp};

/// What a server asks to listen on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Asked {
    /// A port on any address: one socket for both families, or for IPv4 where there is no IPv6.
    Any(u16),
    /// A TCP address; an IPv6 one takes IPv4 clients too, unless `only_v6`.
    Tcp {
        /// Where.
        address: SocketAddr,
        /// Whether IPv4 clients are refused.
        only_v6: bool,
    },
    /// A Unix stream socket at this path, or at an abstract name after a null byte.
    Unix(PathBuf),
}

/// Opens a listener that a worker asks for; the file of a Unix socket has this owner. Errors are those of
/// `socket(2)`, `bind(2)` and `listen(2)`.
pub fn open_asked(
    asked: &Asked,
    defer: bool,
    backlog: i32,
    mode: Mode,
    owner: &Owner,
) -> io::Result<Listener> {
    let mut listener = match asked {
        Asked::Any(port) => {
            let v6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, *port));
            match bind_tcp(v6, false, defer, backlog) {
                Err(error) if is_without_v6(&error) => {
                    bind_tcp((Ipv4Addr::UNSPECIFIED, *port).into(), false, defer, backlog)
                }
                opened => opened,
            }
        }
        Asked::Tcp { address, only_v6 } => bind_tcp(*address, *only_v6, defer, backlog),
        Asked::Unix(path) => open_unix(path, backlog, owner),
    }?;
    listener.about.mode = mode;
    Ok(listener)
}

/// Binds a UDP socket, which all workers share; with `reuse` others may have the address too. Errors are those of `socket(2)` and `bind(2)`.
pub fn open_udp(address: SocketAddr, only_v6: bool, reuse: bool) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    socket.set_reuse_address(reuse)?;
    socket.bind(&address.into())?;
    // libuv expects it of a socket that it is given.
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn is_without_v6(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}
