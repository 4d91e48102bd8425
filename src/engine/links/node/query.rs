//! What a server asks to listen on: its name, its address and its flags, as Node means them, and the
//! answer (`cluster`'s `queryServer`).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::path::PathBuf;

use nix::libc;
use nix::net::if_::if_nametoindex;

use super::{Node, Payload};
use crate::engine::links::Wires;
use crate::engine::listeners::{Ask, Granted, Request};
use crate::logic::Worker;
use crate::logic::core::First;
use crate::os::listen::{Asked, name_of_path};
use crate::protocol::node::{AddressType, Data, Query, ServerKind, Sockname, ToNode};

/// What Node asks for when the app does not say how many connections may wait in the kernel.
const BACKLOG: i32 = 511;
/// What a UDP socket costs on its way to the worker that it was opened for, in bytes: the kernel keeps buffers
/// for it, also if it is closed meanwhile.
pub(super) const SOCKET: usize = 32 * 1024;
/// On its way to another worker, which shares it, that is its message, at most. All that may be open are not
/// too much at once.
const SHARED: usize = 8 * 1024;
/// Of libuv's bind: an IPv6 address takes no IPv4 clients (`UV_TCP_IPV6ONLY`, `UV_UDP_IPV6ONLY`).
const ONLY_V6: u32 = 1;
/// Of libuv's bind: several UDP sockets may have the address (`UV_UDP_REUSEADDR`).
const REUSE: u32 = 4;

impl Node {
    /// Gives a server what it asks for.
    pub(super) fn grant(
        &mut self,
        worker: Worker,
        request: &Request,
        granted: Granted,
        wires: &mut Wires,
    ) {
        let (ack, key) = (request.seq, request.name.as_str());
        let data = granted.shared.map(Data::from);
        let data = data.as_ref();
        match granted.socket {
            None => {
                let sockname = granted.address.map(|real| sockname(request, real));
                self.say(worker, |seq| ToNode::Grant { ack, seq, key, data, sockname }, wires);
            }
            Some(socket) => {
                let cost = if granted.is_new { SOCKET } else { SHARED };
                let Some(link) = self.link(worker) else { return };
                let payload = Payload::Udp { socket, _part: link.quota.charge(cost) };
                self.say_with(
                    worker,
                    payload,
                    |seq| ToNode::GrantUdp { ack, seq, key, data },
                    wires,
                );
            }
        }
        if let Some(link) = self.link(worker) {
            link.primary.serve(key, granted.listeners);
        }
    }

    /// Tells a server why it does not get what it asks for.
    pub(super) fn refuse(
        &mut self,
        worker: Worker,
        request: &Request,
        error: &io::Error,
        wires: &mut Wires,
    ) {
        let (ack, key) = (request.seq, request.name.as_str());
        let errno = errno(request, error);
        let data = request.shared.clone().map(Data::from);
        let data = data.as_ref();
        self.say(worker, |seq| ToNode::Refuse { ack, seq, key, errno, data }, wires);
    }
}

/// What a query asks for.
pub(super) fn request(query: Query) -> Request {
    let only_v6 = has(&query, ONLY_V6);
    let ask = match query.kind {
        AddressType::Any => tcp(&query, Ok(Asked::Any(query.port.unwrap_or(0)))),
        AddressType::V4 | AddressType::V6 => {
            tcp(&query, address(&query).map(|address| Asked::Tcp { address, only_v6 }))
        }
        AddressType::Unix => Ask::Unix(path(&query)),
        AddressType::Udp4 | AddressType::Udp6 => Ask::Udp {
            address: address(&query).map_err(|error| number(&error)),
            only_v6,
            reuse: has(&query, REUSE),
        },
        AddressType::Other => Ask::Descriptor(query.fd),
    };
    let backlog = i32::try_from(query.backlog).ok().filter(|backlog| *backlog > 0);
    Request {
        seq: query.seq,
        name: name(&query),
        place: place(&query),
        ask,
        backlog: backlog.unwrap_or(BACKLOG),
        first: match query.server {
            Some(ServerKind::Http) => First::Client,
            Some(ServerKind::Tls | ServerKind::Tcp) => First::Server,
            // Without the preload nobody says.
            None => First::Unknown,
        },
        is_tls: query.server == Some(ServerKind::Tls),
        open_to: (query.readable_all, query.writable_all),
        shared: query.data.map(Into::into),
    }
}

fn tcp(query: &Query, open: io::Result<Asked>) -> Ask {
    let ip = query.address.as_ref().and_then(|address| address.parse().ok());
    Ask::Tcp { port: query.port.unwrap_or(0), ip, open: open.map_err(|error| number(&error)) }
}

/// Node's own name of what is asked for.
fn name(query: &Query) -> String {
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

fn has(query: &Query, flag: u32) -> bool {
    query.flags & flag != 0
}

/// What is asked for, for the log.
fn place(query: &Query) -> String {
    match (&query.address, query.port) {
        (Some(address), Some(port)) if address.contains(':') => format!("[{address}]:{port}"),
        (Some(address), Some(port)) => format!("{address}:{port}"),
        (Some(_), None) => name_of_path(&path(query)),
        (None, port) => format!("port {}", port.unwrap_or(0)),
    }
}

/// The path of a Unix socket; an abstract name begins with a null byte. Node puts the directory of the
/// worker in front of both.
fn path(query: &Query) -> PathBuf {
    let address = query.address.as_deref().unwrap_or_default();
    address.find('\0').map_or(address, |at| &address[at..]).into()
}

/// The number of the error that Node gives an app for this one: without its directory, a Unix socket
/// is said to be forbidden (`uv_pipe_bind` of libuv).
fn errno(request: &Request, error: &io::Error) -> i32 {
    match error.raw_os_error() {
        Some(libc::ENOENT) if matches!(request.ask, Ask::Unix(_)) => libc::EACCES,
        _ => number(error),
    }
}

fn number(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EINVAL)
}

/// The address that is asked for; a link-local one may have a zone, as in `fe80::1%eth0`.
fn address(query: &Query) -> io::Result<SocketAddr> {
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
fn sockname(request: &Request, real: SocketAddr) -> Sockname {
    let port = match request.ask {
        Ask::Tcp { port, .. } if port != 0 => port,
        _ => real.port(),
    };
    Sockname { address: real.ip(), port }
}
