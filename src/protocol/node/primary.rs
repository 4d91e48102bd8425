//! The primary's side of the conversation with one worker: what it serves and how it wants its
//! connections, as it has reported so far.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Adapter, PackageMessage, ToNode};
use crate::logic::servers::Servers;

/// The most adapters that are remembered of one worker: one for each namespace.
const MOST_ADAPTERS: usize = 1024;
/// The first version of the preload that hears [`ToNode::Close`]. One of before lives on in workers that were
/// there before an upgrade.
const HEARS_CLOSE: u32 = 2;

/// What one worker has said and was told.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Primary {
    /// The number of the next message to the worker.
    seq: u32,
    /// Its servers by their keys, each with the listeners that lead to it.
    servers: Servers,
    /// The server that it had first.
    first: Option<String>,
    package: Option<Package>,
    /// The preload is there, and says which connections are finished.
    preload: bool,
    /// The preload ends the worker when it is asked to.
    hears_close: bool,
    adapters: BTreeSet<(String, String)>,
    /// It uses an adapter whose messages do not say which one they are from.
    has_old_adapter: bool,
}

/// A package that takes the connections of a worker.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Package {
    name: String,
    message: Option<String>,
}

/// How a connection gets into a worker.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Target<'a> {
    /// To the server with this key.
    Server(&'a str),
    /// To its package, in this message.
    Package(PackageMessage<'a>),
}

impl Package {
    /// A package by its name in the registry of npm, whose connections come in `message` if it says
    /// so. `None` for one whose message is not known.
    pub fn new(name: &str, message: Option<String>) -> Option<Self> {
        let package = Self { name: name.to_owned(), message };
        package.message().is_some().then_some(package)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What its workers listen for, as their sources have it.
    fn message(&self) -> Option<PackageMessage<'_>> {
        let text = match (self.message.as_deref(), self.name.as_str()) {
            (Some(message), _) => message,
            (None, "@socket.io/sticky") => return Some(PackageMessage::Connection),
            (None, "sticky-session" | "sticky-session-custom") => "sticky:balance",
            (None, "socketio-sticky-session") => "sticky-session:connection",
            (None, "sticky-cluster") => "sticky-cluster:connection",
            (None, _) => return None,
        };
        Some(PackageMessage::Text(text))
    }
}

impl Primary {
    /// The number of the next message to the worker.
    pub fn seq(&mut self) -> u32 {
        let seq = self.seq;
        self.seq = self.seq.wrapping_add(1);
        seq
    }

    /// Node has booted: whatever another Node said before over this channel is over.
    pub fn boot(&mut self) {
        *self = Self { seq: self.seq, ..Self::default() };
    }

    /// The worker has a server to which these listeners lead.
    pub fn serve(&mut self, key: &str, listeners: Vec<u32>) {
        self.first.get_or_insert_with(|| key.to_owned());
        self.servers.insert(key, listeners);
    }

    /// The worker has closed a server.
    pub fn close(&mut self, key: &str) {
        if self.first.as_deref() == Some(key) {
            self.first = None;
        }
        self.servers.remove(key);
    }

    /// A package of the worker takes connections.
    pub fn use_package(&mut self, package: Package) {
        self.package = Some(package);
    }

    /// The package that takes connections.
    pub fn package(&self) -> Option<&Package> {
        self.package.as_ref()
    }

    /// The preload has said that it is there.
    pub fn meet_preload(&mut self, version: u32) {
        self.preload = true;
        self.hears_close = version >= HEARS_CLOSE;
    }

    /// Whether the preload ends the worker when it is asked to.
    pub fn hears_close(&self) -> bool {
        self.hears_close
    }

    /// Whether the preload is there, which says which connections are finished and answers pings.
    pub fn has_preload(&self) -> bool {
        self.preload
    }

    /// How a connection of this listener gets in: to the server that asked for it, else to the
    /// package, else to the first server.
    pub fn target(&self, listener: u32) -> Option<Target<'_>> {
        self.servers
            .of_listener(listener)
            .map(|key| Target::Server(key))
            .or_else(|| self.given_target())
    }

    /// How a connection gets in that no server has asked for.
    fn given_target(&self) -> Option<Target<'_>> {
        let package = self.package.as_ref().and_then(Package::message).map(Target::Package);
        let first = || self.first.as_ref().or_else(|| self.servers.first());
        package.or_else(|| first().map(|key| Target::Server(key)))
    }

    /// Notes whose message this is.
    pub fn note_adapter(&mut self, adapter: &Adapter) {
        match (&adapter.uid, &adapter.nsp) {
            (Some(uid), Some(nsp)) if self.adapters.len() < MOST_ADAPTERS => {
                self.adapters.insert((uid.clone(), nsp.clone()));
            }
            (Some(_), _) => {}
            (None, _) => self.has_old_adapter = true,
        }
    }

    /// Whether the adapter with this number is this worker's.
    pub fn has_adapter(&self, uid: &str) -> bool {
        let from = (uid.to_owned(), String::new());
        self.adapters.range(from..).next().is_some_and(|(own, _)| own == uid)
    }

    /// What the others have to be told when the worker with this `NODE_UNIQUE_ID` is gone.
    pub fn farewell(&self, id: u32) -> Vec<ToNode<'_>> {
        let closed = self.adapters.iter().map(|(uid, nsp)| ToNode::AdapterClose { uid, nsp });
        let gone = self.has_old_adapter.then_some(ToNode::AdapterGone { id });
        closed.chain(gone).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapter(uid: Option<&str>) -> Adapter {
        let nsp = Some("/".to_owned());
        Adapter { uid: uid.map(str::to_owned), nsp, requester_uid: None, kind: Some(1) }
    }

    #[test]
    fn a_given_listener_leads_to_the_server_that_asked_for_it_or_else_to_the_first() {
        let mut primary = Primary::default();
        primary.serve("z", vec![5]);
        primary.serve("a", vec![1]);
        assert_eq!(primary.target(0), Some(Target::Server("z")));
        assert_eq!(primary.target(1), Some(Target::Server("a")));
        primary.close("z");
        assert_eq!(primary.target(0), Some(Target::Server("a")));
    }

    #[test]
    fn a_package_takes_what_no_server_asked_for() {
        let mut primary = Primary::default();
        primary.use_package(Package::new("@socket.io/sticky", None).unwrap());
        assert_eq!(primary.target(0), Some(Target::Package(PackageMessage::Connection)));
        primary.serve("a", vec![1]);
        assert_eq!(primary.target(0), Some(Target::Package(PackageMessage::Connection)));
        assert_eq!(primary.target(1), Some(Target::Server("a")));
        primary.boot();
        assert_eq!(primary.target(0), None);
    }

    #[test]
    fn packages_have_their_own_messages() {
        let text = |name, message: Option<&str>| {
            Package::new(name, message.map(str::to_owned))
                .map(|package| format!("{:?}", package.message().unwrap()))
        };
        assert_eq!(text("sticky-session", None).unwrap(), "Text(\"sticky:balance\")");
        assert_eq!(text("sticky-cluster", Some("x:connection")).unwrap(), "Text(\"x:connection\")");
        assert_eq!(text("left-pad", None), None);
    }

    #[test]
    fn only_a_preload_that_hears_it_is_asked_to_end() {
        let mut primary = Primary::default();
        for (version, hears) in [(1, false), (2, true)] {
            primary.meet_preload(version);
            assert_eq!((primary.has_preload(), primary.hears_close()), (true, hears));
        }
        primary.boot();
        assert!(!primary.hears_close());
    }

    #[test]
    fn adapters_are_known_and_missed() {
        let mut primary = Primary::default();
        assert!(primary.farewell(1).is_empty());
        primary.note_adapter(&adapter(Some("u")));
        primary.note_adapter(&adapter(Some("u")));
        assert!(primary.has_adapter("u") && !primary.has_adapter("v"));
        assert!(matches!(primary.farewell(1)[..], [ToNode::AdapterClose { uid: "u", nsp: "/" }]));
        primary.note_adapter(&adapter(None));
        assert!(matches!(primary.farewell(3)[1..], [ToNode::AdapterGone { id: 3 }]));
    }
}
