//! The local address of connections, by which their listener is found.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::path::PathBuf;

use socket2::{SockAddr, SockRef};

use super::Listener;
use super::unix::unix_path;

/// Where a listener is.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Place {
    /// A TCP address; a link-local one in any zone.
    Tcp(IpAddr, u16),
    /// The path of a Unix socket, or an abstract name after a null byte.
    Unix(PathBuf),
}

impl Place {
    fn of(address: &SockAddr) -> Option<Self> {
        match address.as_socket() {
            Some(address) => Some(Self::at(address)),
            None => unix_path(address).map(Self::Unix),
        }
    }

    fn at(address: SocketAddr) -> Self {
        Self::Tcp(address.ip(), address.port())
    }
}

impl Listener {
    /// Where it is.
    pub fn place(&self) -> Option<Place> {
        Place::of(&self.socket.local_addr().ok()?)
    }
}

/// Where the listener may be that a connection came to, the most likely place first: its own address,
/// or any address of its family, or of the other one.
pub fn places_of(connection: &impl AsFd) -> Vec<Place> {
    let address = SockRef::from(connection).local_addr().ok();
    let Some(own) = address.and_then(|address| Place::of(&address)) else { return Vec::new() };
    let Place::Tcp(ip, port) = own else { return vec![own] };
    let [v4, v6] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    let [near, far] = if ip.is_ipv4() { [v4, v6] } else { [v6, v4] };
    [ip, near, far].map(|ip| Place::Tcp(ip, port)).into()
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use socket2::{Domain, Socket, Type};

    use super::*;
    use crate::os::listen::unix::{address_of_abstract, open_unix};
    use crate::os::listen::{Asked, Mode, Owner, open_asked};

    #[test]
    fn a_connection_is_known_by_the_abstract_name_that_it_came_to() {
        let names = ["a", "b"].map(|name| {
            address_of_abstract(format!("sticky-run-{name}-{}", std::process::id()).as_ref())
        });
        let listeners = names.each_ref().map(|name| open_unix(name, 8, &Owner::default()).unwrap());
        let client = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        client.connect(&SockAddr::unix(&names[1]).unwrap()).unwrap();
        let connection: OwnedFd = listeners[1].accept().unwrap().socket;
        let places = places_of(&connection);
        let is_origin = |listener: &Listener| places.contains(&listener.place().unwrap());
        assert_eq!(listeners.each_ref().map(is_origin), [false, true]);
        assert_eq!(listeners[0].path().as_ref(), Some(&names[0]));
        assert!(listeners[0].to_string().starts_with("unix:@sticky-run-a-"));
        assert!(listeners[0].is_in_place());
    }

    #[test]
    fn a_connection_is_known_by_its_address_or_by_any_address() {
        for address in ["127.0.0.1:0", "0.0.0.0:0"] {
            let asked = Asked::Tcp { address: address.parse().unwrap(), only_v6: false };
            let listener = open_asked(&asked, false, 8, Mode::Blocking, &Owner::default()).unwrap();
            let port = listener.address().unwrap().port();
            let _client = std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
            let accepted = listener.accept();
            let accepted = accepted.or_else(|_| {
                listener.socket.set_nonblocking(false)?;
                listener.accept()
            });
            let places = places_of(&accepted.unwrap().socket);
            assert!(places.contains(&listener.place().unwrap()), "{places:?}");
            assert!(!places.contains(&Place::Tcp(Ipv4Addr::LOCALHOST.into(), port + 1)));
        }
    }
}
