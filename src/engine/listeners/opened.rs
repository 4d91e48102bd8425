//! What is open of all that servers have asked for.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::rc::Rc;

use crate::logic::time::Time;
use crate::protocol::node::Data;

/// Everything that servers have asked for, by Node's name of it.
#[derive(Debug)]
pub(in crate::engine) struct Ports {
    /// The listeners that were named by the user.
    pub(in crate::engine) given: BTreeSet<u32>,
    ports: BTreeMap<String, Port>,
    /// Each listener and how many of them it leads to.
    leading: BTreeMap<u32, usize>,
    /// When to look which of them nobody serves any more.
    pub(in crate::engine) look_at: Option<Time>,
}

/// One thing that servers of all workers share.
#[derive(Debug)]
pub(in crate::engine) struct Port {
    pub(in crate::engine) opened: Opened,
    /// What the first of them wants all to have.
    pub(in crate::engine) data: Option<Data>,
}

#[derive(Clone, Debug)]
pub(in crate::engine) enum Opened {
    /// The numbers of the listeners that lead to it.
    Listeners(Vec<u32>),
    Udp(Rc<OwnedFd>),
}

impl Ports {
    pub(in crate::engine) fn new(given: BTreeSet<u32>) -> Self {
        Self { given, ports: BTreeMap::new(), leading: BTreeMap::new(), look_at: None }
    }

    /// Something is open that servers may share.
    pub(in crate::engine) fn insert(&mut self, name: String, port: Port) {
        for listener in port.listeners() {
            *self.leading.entry(*listener).or_default() += 1;
        }
        self.ports.insert(name, port);
    }

    /// Nobody serves one of them any more; returns the listeners that lead nowhere from now on. Those that
    /// the user named always lead somewhere.
    pub(in crate::engine) fn remove(&mut self, name: &str) -> Vec<u32> {
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

    pub(in crate::engine) fn get(&self, name: &str) -> Option<&Port> {
        self.ports.get(name)
    }

    pub(in crate::engine) fn len(&self) -> usize {
        self.ports.len()
    }

    pub(in crate::engine) fn names(&self) -> Vec<String> {
        self.ports.keys().cloned().collect()
    }

    pub(in crate::engine) fn all(&self) -> impl Iterator<Item = (&String, &Port)> {
        self.ports.iter()
    }

    /// The listeners that were named by the user.
    pub(in crate::engine) fn given(&self) -> &BTreeSet<u32> {
        &self.given
    }

    /// Whether this listener leads anywhere.
    pub(in crate::engine) fn has(&self, listener: u32) -> bool {
        self.given.contains(&listener) || self.is_asked_for(listener)
    }

    /// Whether servers have asked for this listener.
    pub(in crate::engine) fn is_asked_for(&self, listener: u32) -> bool {
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
    use super::*;

    #[test]
    fn a_listener_leads_somewhere_until_the_last_port_that_has_it_is_closed() {
        let mut ports = Ports::new([0].into());
        let port =
            |listeners: &[u32]| Port { opened: Opened::Listeners(listeners.into()), data: None };
        for (name, listeners) in [("a", &[0, 1][..]), ("b", &[1]), ("c", &[2])] {
            ports.insert(name.to_owned(), port(listeners));
        }
        assert_eq!(ports.remove("a"), [0; 0]);
        assert!(ports.has(0) && ports.has(1));
        assert_eq!(ports.remove("b"), [1]);
        assert!(!ports.has(1) && ports.remove("b").is_empty());
        assert_eq!(ports.names(), ["c"]);
    }
}
