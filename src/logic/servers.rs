//! The servers of one worker, and which of them a listener leads to.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// Servers by their keys, each with the listeners that lead to it.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(from = "ByKey", into = "ByKey")]
pub struct Servers {
    by_key: ByKey,
    /// Each listener with each server that it leads to.
    by_listener: BTreeSet<(u32, String)>,
}

type ByKey = BTreeMap<String, Vec<u32>>;

impl Servers {
    /// A server is there, to which these listeners lead.
    pub fn insert(&mut self, key: &str, listeners: Vec<u32>) {
        self.remove(key);
        self.by_listener.extend(listeners.iter().map(|listener| (*listener, key.to_owned())));
        self.by_key.insert(key.to_owned(), listeners);
    }

    /// Forgets a server; returns the listeners that led to it, if it was there.
    pub fn remove(&mut self, key: &str) -> Option<Vec<u32>> {
        let (key, listeners) = self.by_key.remove_entry(key)?;
        let mut entry = (0, key);
        for listener in &listeners {
            entry.0 = *listener;
            self.by_listener.remove(&entry);
        }
        Some(listeners)
    }

    /// Whether there is a server with this key.
    pub fn contains(&self, key: &str) -> bool {
        self.by_key.contains_key(key)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// The first server by its key.
    pub fn first(&self) -> Option<&String> {
        self.by_key.keys().next()
    }

    /// The first server by its key to which this listener leads.
    pub fn of_listener(&self, listener: u32) -> Option<&String> {
        let (found, key) = self.by_listener.range((listener, String::new())..).next()?;
        (*found == listener).then_some(key)
    }

    /// All listeners that lead to any of them.
    pub fn listeners(&self) -> impl Iterator<Item = u32> {
        self.by_listener.iter().map(|(listener, _)| *listener)
    }
}

impl From<ByKey> for Servers {
    fn from(by_key: ByKey) -> Self {
        let mut servers = Self::default();
        for (key, listeners) in by_key {
            servers.insert(&key, listeners);
        }
        servers
    }
}

impl From<Servers> for ByKey {
    fn from(servers: Servers) -> Self {
        servers.by_key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_leads_to_the_first_of_its_servers_that_is_left() {
        let mut servers = Servers::default();
        servers.insert("b", vec![1, 2]);
        servers.insert("a", vec![2]);
        servers.insert("", vec![3]);
        let found = |servers: &Servers| {
            [0, 1, 2, 3, 4].map(|listener| {
                servers.of_listener(listener).map(String::as_str).map(str::to_owned)
            })
        };
        let names = |names: [Option<&str>; 5]| names.map(|name| name.map(str::to_owned));
        assert_eq!(found(&servers), names([None, Some("b"), Some("a"), Some(""), None]));
        let servers_again = Servers::from(ByKey::from(servers.clone()));
        assert_eq!(found(&servers_again), found(&servers));
        assert_eq!(servers.remove("a"), Some(vec![2]));
        assert_eq!(servers.remove("a"), None);
        // One that is there again has its new listeners alone.
        servers.insert("b", vec![2]);
        assert_eq!(found(&servers), names([None, None, Some("b"), Some(""), None]));
        assert_eq!(servers.listeners().collect::<Vec<_>>(), [2, 3]);
    }
}
