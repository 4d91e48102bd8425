//! Shutting a TCP listener for new connections, while handshakes that have begun are completed.

use std::io;

use nix::libc;
use socket2::{SockFilter, Socket};

use super::set_number;

/// No interface has this number, which is the last one possible.
const NO_INTERFACE: libc::c_int = libc::c_int::MAX;

/// Drops the first packets of handshakes from now on, or refuses them.
///
/// To be dropped is better, since the packet comes again a second later (RFC 6298) and is refused then, unless
/// somebody else listens there by that time. But some kernels want `CAP_NET_ADMIN` for a filter,
/// which is more than a supervisor should have. To be bound to an interface needs Linux 5.7 or
/// `CAP_NET_RAW`. Errors are those of `setsockopt(2)`.
pub(super) fn shut_tcp(socket: &Socket) -> io::Result<()> {
    socket.attach_filter(&drop_syn()).or_else(|_| bind_to_no_interface(socket))
}

/// New packets come by some interface and so not to this listener (`SO_BINDTOIFINDEX`, which is as
/// `SO_BINDTODEVICE` of `socket(7)`); those of handshakes that have begun belong to sockets of their own.
fn bind_to_no_interface(socket: &Socket) -> io::Result<()> {
    set_number(socket, libc::SOL_SOCKET, libc::SO_BINDTOIFINDEX, NO_INTERFACE)
}

/// A filter that drops the first packet of a handshake and no other (`SO_ATTACH_FILTER` of
/// `socket(7)`). Sockets that are accepted inherit it, and never get such a packet.
fn drop_syn() -> [SockFilter; 5] {
    /// Where the flags are in a TCP header, and two of them (RFC 9293, section 3.1).
    const FLAGS: u32 = 13;
    const SYN: u32 = 0x02;
    const ACK: u32 = 0x10;
    let step =
        |code: u32, jump_false, operand| SockFilter::new(code as u16, 0, jump_false, operand);
    [
        step(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, FLAGS),
        step(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0, SYN | ACK),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, SYN),
        step(libc::BPF_RET | libc::BPF_K, 0, 0),
        step(libc::BPF_RET | libc::BPF_K, 0, u32::MAX),
    ]
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
    use std::time::Duration;

    use super::*;
    use crate::os::listen::bind_tcp;

    #[test]
    fn a_listener_bound_to_no_interface_refuses_and_still_has_those_who_were_there() {
        for address in [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), (Ipv6Addr::LOCALHOST, 0).into()]
        {
            for defer in [false, true] {
                let Ok(listener) = bind_tcp(address, true, defer, 10) else {
                    // Not every machine has IPv6.
                    assert!(address.is_ipv6());
                    continue;
                };
                let address = listener.address().unwrap();
                let mut client = TcpStream::connect(address).unwrap();
                bind_to_no_interface(&listener.socket).unwrap();
                let refused = TcpStream::connect(address).unwrap_err();
                assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
                listener.socket.set_nonblocking(false).unwrap();
                listener.socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
                // With `defer`, its handshake ends only now.
                io::Write::write_all(&mut client, b"x").unwrap();
                let accepted = listener.accept().unwrap();
                assert_eq!(accepted.client, client.local_addr().ok());
            }
        }
    }
}
