//! What is open of all that servers have asked for.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::os::kept::{Keeper, Kept, Shared};

/// Everything that servers have asked for, by its name.
#[derive(Debug, Default)]
pub(super) struct Ports {
    /// The listeners that were named by the user.
    pub(super) given: BTreeSet<u32>,
    ports: BTreeMap<String, Port>,
    /// Each listener and how many of them it leads to.
    leading: BTreeMap<u32, usize>,
}

/// The same in a state.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct SavedPorts {
    named: BTreeSet<u32>,
    ports: BTreeMap<String, SavedPort>,
}

#[derive(Debug, Deserialize, Serialize)]
struct SavedPort {
    opened: SavedOpened,
    shared: Option<ByteBuf>,
}

#[derive(Debug, Deserialize, Serialize)]
enum SavedOpened {
    Listeners(Vec<u32>),
    Udp(Kept),
}

/// One thing that servers of all workers share.
#[derive(Debug)]
pub(super) struct Port {
    pub(super) opened: Opened,
    /// What the first of them wants all to have.
    pub(super) shared: Option<Rc<[u8]>>,
}

#[derive(Clone, Debug)]
pub(super) enum Opened {
    /// The numbers of the listeners that lead to it.
    Listeners(Vec<u32>),
    Udp(Rc<OwnedFd>),
}

impl Ports {
    pub(super) fn new(given: BTreeSet<u32>) -> Self {
        Self { given, ..Self::default() }
    }

    /// Writes it down.
    pub(super) fn save(&self, keeper: &mut Keeper) -> SavedPorts {
        let save = |(name, port): (&String, &Port)| {
            let opened = match &port.opened {
                Opened::Listeners(listeners) => SavedOpened::Listeners(listeners.clone()),
                Opened::Udp(socket) => SavedOpened::Udp(keeper.keep(socket)),
            };
            let shared = port.shared.as_ref().map(|shared| ByteBuf::from(shared.to_vec()));
            (name.clone(), SavedPort { opened, shared })
        };
        SavedPorts { named: self.given.clone(), ports: self.ports.iter().map(save).collect() }
    }

    /// Goes on with what was written down.
    pub(super) fn restore(saved: SavedPorts, shared: &mut Shared) -> io::Result<Self> {
        let mut ports = Self::new(saved.named);
        for (name, port) in saved.ports {
            let opened = match port.opened {
                SavedOpened::Listeners(listeners) => Opened::Listeners(listeners),
                SavedOpened::Udp(socket) => Opened::Udp(socket.share(shared)?),
            };
            let shared = port.shared.map(|shared| shared.into_vec().into());
            ports.insert(name, Port { opened, shared });
        }
        Ok(ports)
    }

    /// Something is open that servers may share.
    pub(super) fn insert(&mut self, name: String, port: Port) {
        for listener in port.listeners() {
            *self.leading.entry(*listener).or_default() += 1;
        }
        self.ports.insert(name, port);
    }

    /// Nobody serves one of them any more; returns the listeners that lead nowhere from now on. Those that
    /// the user named always lead somewhere.
    pub(super) fn remove(&mut self, name: &str) -> Vec<u32> {
        let Some(port) = self.ports.remove(name) else { return Vec::new() };
        for listener in port.listeners() {
            if let Entry::Occupied(mut entry) = self.leading.entry(*listener) {
                *entry.get_mut() -= 1;
                if *entry.get() == 0 {
                    entry.remove();
                }
            }
        }
        port.listeners().iter().copied().filter(|listener| !self.has(*listener)).collect()
    }

    pub(super) fn get(&self, name: &str) -> Option<&Port> {
        self.ports.get(name)
    }

    pub(super) fn len(&self) -> usize {
        self.ports.len()
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.ports.keys().cloned().collect()
    }

    /// Whether this listener leads anywhere.
    pub(super) fn has(&self, listener: u32) -> bool {
        self.given.contains(&listener) || self.is_asked_for(listener)
    }

    /// Whether servers have asked for this listener.
    pub(super) fn is_asked_for(&self, listener: u32) -> bool {
        self.leading.contains_key(&listener)
    }
}

impl Port {
    fn listeners(&self) -> &[u32] {
        match &self.opened {
            Opened::Listeners(listeners) => listeners,
            Opened::Udp(_) => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use std::mem;
    use std::net::UdpSocket;
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn a_listener_leads_somewhere_until_the_last_port_that_has_it_is_closed() {
        let mut ports = Ports::new([0].into());
        let port =
            |listeners: &[u32]| Port { opened: Opened::Listeners(listeners.into()), shared: None };
        for (name, listeners) in [("a", &[0, 1][..]), ("b", &[1]), ("c", &[2])] {
            ports.insert(name.to_owned(), port(listeners));
        }
        assert_eq!(ports.remove("a"), [0; 0]);
        assert!(ports.has(0) && ports.has(1));
        assert_eq!(ports.remove("b"), [1]);
        assert!(!ports.has(1) && ports.remove("b").is_empty());
        assert_eq!(ports.names(), ["c"]);
    }

    #[test]
    fn ports_are_those_of_before() {
        let mut ports = Ports::new([0, 1].into());
        let udp: Rc<OwnedFd> = Rc::new(UdpSocket::bind("127.0.0.1:0").unwrap().into());
        let mut port = |name: &str, opened| {
            ports.insert(name.to_owned(), Port { opened, shared: None });
        };
        port("tcp", Opened::Listeners(vec![4, 5]));
        port("udp", Opened::Udp(Rc::clone(&udp)));
        let bytes = rmp_serde::to_vec_named(&ports.save(&mut Keeper::default())).unwrap();
        let number = udp.as_raw_fd();
        mem::forget((ports, udp));
        let saved = rmp_serde::from_slice(&bytes).unwrap();
        let ports = Ports::restore(saved, &mut Shared::default()).unwrap();
        assert!(ports.has(1) && ports.has(5) && !ports.has(3));
        let Opened::Udp(udp) = &ports.get("udp").unwrap().opened else { panic!("no UDP") };
        assert_eq!(udp.as_raw_fd(), number);
    }
}
