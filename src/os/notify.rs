//! Messages to the service manager, as `sd_notify(3)` sends them.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The socket of the service manager.
#[derive(Debug)]
pub struct NotifySocket {
    socket: UnixDatagram,
    manager: SocketAddr,
}

impl NotifySocket {
    /// At the address that stands in `NOTIFY_SOCKET`: a path, or `@` and an abstract name. Others,
    /// such as those of virtual machines, are `Unsupported`. Nothing is sent yet, and nobody has to
    /// be there.
    pub fn new(address: &OsStr) -> io::Result<Self> {
        let manager = match address.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            [b'/', ..] => SocketAddr::from_pathname(address)?,
            _ => return Err(io::ErrorKind::Unsupported.into()),
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, manager })
    }

    /// Sends a message, lines of `NAME=value`. Never waits: `WouldBlock` is about room, other errors
    /// are those of `sendto(2)`.
    pub fn send(&self, message: &str) -> io::Result<()> {
        self.socket.send_to_addr(message.as_bytes(), &self.manager).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_arrives_at_an_abstract_address() {
        let name = format!("sticky-run-os-{}", std::process::id());
        let manager = SocketAddr::from_abstract_name(&name).unwrap();
        let manager = UnixDatagram::bind_addr(&manager).unwrap();
        let socket = NotifySocket::new(format!("@{name}").as_ref()).unwrap();
        socket.send("READY=1\nSTATUS=1 worker").unwrap();
        let mut buffer = [0; 64];
        let len = manager.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..len], b"READY=1\nSTATUS=1 worker");
    }

    #[test]
    fn nobody_there_no_room_and_other_addresses_are_errors_at_once() {
        let name = format!("sticky-run-os-full-{}", std::process::id());
        let socket = NotifySocket::new(format!("@{name}").as_ref()).unwrap();
        assert_eq!(socket.send("X=1").unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        let manager = SocketAddr::from_abstract_name(&name).unwrap();
        let _manager = UnixDatagram::bind_addr(&manager).unwrap();
        let full = (0..100_000).find_map(|_| socket.send("X=1").err()).unwrap();
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
        for address in ["vsock:2:1234", "relative", ""] {
            assert!(NotifySocket::new(address.as_ref()).is_err());
        }
    }
}
