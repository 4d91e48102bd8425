//! What a server asks to listen on: its name, its address and its flags, as Node means them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::path::PathBuf;

use nix::libc;
use nix::net::if_::if_nametoindex;

use crate::os::listen::name_of_path;
use crate::protocol::node::{AddressType, Query, ServerKind, Sockname};

/// Of libuv's bind: an IPv6 address takes no IPv4 clients (`UV_TCP_IPV6ONLY`, `UV_UDP_IPV6ONLY`).
pub(in crate::engine) const ONLY_V6: u32 = 1;
/// Of libuv's bind: several UDP sockets may have the address (`UV_UDP_REUSEADDR`).
pub(in crate::engine) const REUSE: u32 = 4;

/// Node's own name of what is asked for.
pub(in crate::engine) fn name(query: &Query) -> String {
    let address = query.address.as_deref().unwrap_or("null");
    let port = query.port.map_or(-1, i32::from);
    let fd = query.fd.map_or(String::new(), |fd| fd.to_string());
    let kind = query.kind;
    // Each port 0 is another one, and so is each socket that shares its address.
    let shares = matches!(kind, AddressType::Udp4 | AddressType::Udp6) && has(query, REUSE);
    if query.port == Some(0) || shares {
        format!("{address}:{port}:{kind:?}:{fd}:{}", query.index)
    } else {
        format!("{address}:{port}:{kind:?}:{fd}")
    }
}

pub(in crate::engine) fn has(query: &Query, flag: u32) -> bool {
    query.flags & flag != 0
}

/// What is asked for, for the log.
pub(in crate::engine) fn place(query: &Query) -> String {
    match (&query.address, query.port) {
        (Some(address), Some(port)) if address.contains(':') => format!("[{address}]:{port}"),
        (Some(address), Some(port)) => format!("{address}:{port}"),
        (Some(_), None) => name_of_path(&path(query)),
        (None, port) => format!("port {}", port.unwrap_or(0)),
    }
}

/// The path of a Unix socket; an abstract name begins with a null byte. Node puts the directory of the
/// worker in front of both.
pub(in crate::engine) fn path(query: &Query) -> PathBuf {
    let address = query.address.as_deref().unwrap_or_default();
    address.find('\0').map_or(address, |at| &address[at..]).into()
}

/// The number of the error that Node gives an app for this one: without its directory, a Unix socket
/// is said to be forbidden (`uv_pipe_bind` of libuv).
pub(in crate::engine) fn errno(query: &Query, error: &io::Error) -> i32 {
    match error.raw_os_error() {
        Some(libc::ENOENT) if query.kind == AddressType::Unix => libc::EACCES,
        errno => errno.unwrap_or(libc::EINVAL),
    }
}

/// Whether the head of a request is to be expected; without the preload nobody says.
pub(in crate::engine) fn speaks_http(query: &Query) -> bool {
    matches!(query.server, None | Some(ServerKind::Http))
}

/// The address that is asked for; a link-local one may have a zone, as in `fe80::1%eth0`.
pub(in crate::engine) fn address(query: &Query) -> io::Result<SocketAddr> {
    let wrong = || io::Error::from_raw_os_error(libc::EINVAL);
    let port = query.port.unwrap_or(0);
    let Some(text) = &query.address else {
        let any = match query.kind {
            AddressType::V6 | AddressType::Udp6 => IpAddr::from(Ipv6Addr::UNSPECIFIED),
            _ => IpAddr::from(Ipv4Addr::UNSPECIFIED),
        };
        return Ok(SocketAddr::new(any, port));
    };
    match text.split_once('%') {
        None => Ok(SocketAddr::new(text.parse().map_err(|_| wrong())?, port)),
        Some((address, zone)) => {
            let address = address.parse().map_err(|_| wrong())?;
            let zone = zone.parse().or_else(|_| if_nametoindex(zone))?;
            Ok(SocketAddrV6::new(address, port, 0, zone).into())
        }
    }
}

/// What a server is told that its address is; the port has to be the one that it asked for.
pub(in crate::engine) fn sockname(query: &Query, real: SocketAddr) -> Sockname {
    let asked = query.port.filter(|port| *port != 0);
    Sockname { address: real.ip(), port: asked.unwrap_or(real.port()) }
}

/// Whether a given address covers the one asked for, or the other way round; `None` is any.
pub(in crate::engine) fn overlaps(given: IpAddr, asked: Option<IpAddr>) -> bool {
    asked.is_none_or(|asked| given == asked || given.is_unspecified() || asked.is_unspecified())
}
