//! The handoff `node` in a state, for an upgrade in place.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;

use serde::{Deserialize, Serialize};

use super::send::{Resting, SavedResting};
use super::{Node, NodeLink, OPENS, Parcel, SOCKET, launch};
use crate::engine::connection::SavedConnection;
use crate::engine::listeners::opened::{Opened, Port, Ports};
use crate::logic::Worker;
use crate::logic::burden::Burden;
use crate::logic::config::{Account, NodeConfig};
use crate::logic::route::Assignment;
use crate::logic::time::Time;
use crate::os::closing::{Foreign, Sender};
use crate::os::kept::{Keeper, Kept, Shared};
use crate::os::scratch::{Place, Scratch};
use crate::os::stream::Stream;
use crate::protocol::node::{Data, Frames, Ledger, Outbox, Primary};

/// What all links share, in a state.
#[derive(Debug, Deserialize, Serialize)]
pub(in crate::engine) struct SavedNode {
    /// Where the preload is.
    preload: Option<Place>,
    /// What holds the lock on that.
    #[serde(default)]
    preload_lock: Option<Kept>,
    ports: SavedPorts,
    resting: SavedResting,
    guessed: bool,
    #[serde(default)]
    elsewhere: Vec<(Worker, Time)>,
}

/// A link in a state.
#[derive(Debug, Deserialize, Serialize)]
pub(in crate::engine) struct SavedNodeLink {
    id: u32,
    stream: Kept,
    frames: Frames,
    descriptors: Vec<Kept>,
    primary: Primary,
    outbox: Outbox,
    ledger: Ledger<SavedParcel>,
    #[serde(default = "uncounted")]
    returnable: u64,
    listeners: BTreeSet<u32>,
    withdrawn: bool,
    over: bool,
}

/// An earlier program did not count what a worker may give back.
fn uncounted() -> u64 {
    u32::MAX.into()
}

#[derive(Debug, Deserialize, Serialize)]
enum SavedParcel {
    Connection(SavedConnection, Assignment),
    Udp(Kept),
}

/// Everything that servers have asked for, in a state.
#[derive(Debug, Deserialize, Serialize)]
struct SavedPorts {
    given: BTreeSet<u32>,
    ports: BTreeMap<String, SavedPort>,
    #[serde(default)]
    look_at: Option<Time>,
}

#[derive(Debug, Deserialize, Serialize)]
struct SavedPort {
    opened: SavedOpened,
    data: Option<Data>,
}

#[derive(Debug, Deserialize, Serialize)]
enum SavedOpened {
    Listeners(Vec<u32>),
    Udp(Kept),
}

impl Node {
    /// Writes it down.
    pub(in crate::engine) fn save(&self, keeper: &mut Keeper) -> SavedNode {
        SavedNode {
            preload: self.preload.as_ref().map(|scratch| scratch.place().clone()),
            preload_lock: self.preload.as_ref().and_then(Scratch::lock).map(|it| keeper.keep(it)),
            ports: self.ports.save(keeper),
            resting: self.resting.save(keeper),
            guessed: self.guessed,
            elsewhere: self.elsewhere.iter().map(|(worker, at)| (*worker, *at)).collect(),
        }
    }

    /// Goes on with what was written down.
    pub(in crate::engine) fn restore(
        now: Time,
        config: NodeConfig,
        account: Option<Account>,
        saved: SavedNode,
        shared: &mut Shared,
    ) -> io::Result<Self> {
        let SavedNode { preload, preload_lock, ports, resting, guessed, elsewhere } = saved;
        // Workers that were started with it need it to their end, and so do their own children.
        let needed = preload.is_some() || config.preload.is_some();
        let held = preload_lock.map(|lock| lock.take_over()).transpose()?;
        let place = preload.unwrap_or_default();
        let preload = needed.then(|| Scratch::restore(launch::PRELOAD, account, place, held));
        let ports = Ports::restore(ports, shared)?;
        let resting = Resting::restore(resting)?;
        Ok(Self {
            guessed,
            elsewhere: elsewhere.into_iter().collect(),
            // What no channel had room for may have room now, and what the router had widened is
            // made narrow again.
            retry_at: Some(now),
            wide: true,
            ..Self::with(now, config, preload, ports, resting)
        })
    }
}

impl Ports {
    /// Writes it down.
    fn save(&self, keeper: &mut Keeper) -> SavedPorts {
        let save = |(key, port): (&String, &Port)| {
            let opened = match &port.opened {
                Opened::Listeners(listeners) => SavedOpened::Listeners(listeners.clone()),
                Opened::Udp(socket) => SavedOpened::Udp(keeper.keep(socket)),
            };
            (key.clone(), SavedPort { opened, data: port.data.clone() })
        };
        SavedPorts {
            given: self.given.clone(),
            ports: self.all().map(save).collect(),
            look_at: self.look_at,
        }
    }

    /// Goes on with what was written down.
    fn restore(saved: SavedPorts, shared: &mut Shared) -> io::Result<Self> {
        let mut ports = Self::new(saved.given);
        ports.look_at = saved.look_at;
        for (key, port) in saved.ports {
            let opened = match port.opened {
                SavedOpened::Listeners(listeners) => Opened::Listeners(listeners),
                SavedOpened::Udp(socket) => Opened::Udp(socket.share(shared)?),
            };
            ports.insert(key, Port { opened, data: port.data });
        }
        Ok(ports)
    }
}

impl NodeLink {
    /// Writes it down.
    pub(in crate::engine) fn save(&self, keeper: &mut Keeper) -> SavedNodeLink {
        SavedNodeLink {
            id: self.id,
            stream: keeper.keep(&self.stream),
            frames: self.frames.clone(),
            descriptors: self.descriptors.iter().map(|fd| keeper.keep(fd)).collect(),
            primary: self.primary.clone(),
            outbox: self.outbox.clone(),
            ledger: self.ledger.map(|parcel| match parcel {
                Parcel::Connection(connection, give) => {
                    SavedParcel::Connection(connection.save(keeper), *give)
                }
                Parcel::Udp { socket, .. } => SavedParcel::Udp(keeper.keep(socket)),
            }),
            returnable: self.returnable,
            listeners: self.listeners.clone(),
            withdrawn: self.withdrawn,
            over: self.over,
        }
    }

    /// The link that was written down.
    pub(in crate::engine) fn restore(
        saved: SavedNodeLink,
        worker: Worker,
        shared: &mut Shared,
    ) -> io::Result<Self> {
        let burden = Burden::default();
        let ledger = saved.ledger.try_map(|parcel| {
            io::Result::Ok(match parcel {
                SavedParcel::Connection(connection, give) => {
                    Parcel::Connection(connection.restore()?, give)
                }
                SavedParcel::Udp(socket) => {
                    Parcel::Udp { socket: socket.share(shared)?, _part: burden.add(SOCKET) }
                }
            })
        })?;
        if saved.outbox.descriptors().any(|number| ledger.get(number).is_none()) {
            return Err(io::Error::other("the state sends a descriptor that it does not have"));
        }
        let foreign = |kept: &Kept| Ok(Foreign::new(kept.take_over()?, Sender::Worker(worker)));
        let descriptors = saved.descriptors.iter().map(foreign);
        Ok(Self {
            id: saved.id,
            stream: Stream::from_end(saved.stream.take_over()?, worker),
            theirs: None,
            frames: saved.frames,
            descriptors: descriptors.collect::<io::Result<VecDeque<_>>>()?,
            primary: saved.primary,
            outbox: saved.outbox,
            ledger,
            burden,
            awaiting: Burden::default(),
            returnable: saved.returnable,
            opens: OPENS,
            listeners: saved.listeners,
            withdrawn: saved.withdrawn,
            watched: false,
            blocked: false,
            dropped: false,
            over: saved.over,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::mem;
    use std::net::{TcpListener, UdpSocket};
    use std::os::fd::{AsRawFd, OwnedFd};
    use std::rc::Rc;
    use std::time::Duration;

    use serde::de::DeserializeOwned;

    use super::*;
    use crate::engine::Connection;
    use crate::logic::Worker;
    use crate::logic::route::Returned;
    use crate::os::receive::Received;
    use crate::protocol::node::Cut;

    const WORKER: Worker = Worker { slot: 0, generation: 0 };

    /// Writes something down and reads it.
    fn copy<T: Serialize + DeserializeOwned>(state: &T) -> T {
        let bytes = rmp_serde::to_vec_named(state).expect("a state can be written");
        rmp_serde::from_slice(&bytes).expect("it can be read")
    }

    /// What another program makes of a link; this one has no part in it any more.
    fn move_link(link: NodeLink, shared: &mut Shared) -> io::Result<NodeLink> {
        let saved = copy(&link.save(&mut Keeper::default()));
        mem::forget(link);
        NodeLink::restore(saved, WORKER, shared)
    }

    fn connection() -> Connection {
        let socket = OwnedFd::from(TcpListener::bind("127.0.0.1:0").unwrap());
        let client = Some("[::1]:7".parse().unwrap());
        Connection { listener: Some(3), deaths: 1, ..Connection::new(socket, client) }
    }

    #[test]
    fn what_is_on_its_way_arrives_from_the_next_program() {
        let udp: Rc<OwnedFd> = Rc::new(UdpSocket::bind("127.0.0.1:0").unwrap().into());
        let mut link = NodeLink::new(7, WORKER).unwrap();
        let theirs = link.theirs.take().unwrap();
        link.frames.extend(b"\0\0\0\x04ha");
        link.primary.meet_preload(2);
        let number = link
            .ledger
            .enter(Parcel::Udp { socket: Rc::clone(&udp), _part: link.burden.add(SOCKET) }, None);
        link.outbox.push(*b"with it", Some(number));
        let mut shared = Shared::default();
        let mut link = move_link(link, &mut shared).unwrap();
        mem::forget(udp);
        assert_eq!((link.id, link.primary.has_preload()), (7, true));
        link.flush().unwrap();
        let theirs = Stream::from_end(theirs, WORKER);
        let mut buffer = [0; 64];
        let Received { len, descriptors, .. } = theirs.receive(&mut buffer).unwrap().unwrap();
        assert_eq!((&buffer[..len], descriptors.len()), (&b"with it"[..], 1));
        link.frames.extend(b"lf");
        let cut = link.frames.next_frame().unwrap();
        assert_eq!(cut, Some(Cut::Frame(b"\0\0\0\x04half".as_slice().into())));
    }

    #[test]
    fn a_frame_whose_descriptor_is_nowhere_is_an_error() {
        let mut link = NodeLink::new(1, WORKER).unwrap();
        link.outbox.push(*b"with what?", Some(5));
        assert!(move_link(link, &mut Shared::default()).is_err());
    }

    #[test]
    fn ports_and_resting_connections_are_those_of_before() {
        let mut node =
            Node::new(Time::default(), NodeConfig::default(), [0, 1].into(), None).unwrap();
        let udp: Rc<OwnedFd> = Rc::new(UdpSocket::bind("127.0.0.1:0").unwrap().into());
        let mut port = |name: &str, opened| {
            node.ports.insert(name.to_owned(), Port { opened, data: None });
        };
        port("tcp", Opened::Listeners(vec![4, 5]));
        port("udp", Opened::Udp(Rc::clone(&udp)));
        let until = Time::since_zero(Duration::from_millis(50));
        let back = Returned::Back(Worker { slot: 1, generation: 2 });
        let number = udp.as_raw_fd();
        node.resting.push(until, connection(), back);
        let saved = copy(&node.save(&mut Keeper::default()));
        mem::forget((node, udp));
        let mut shared = Shared::default();
        let now = Time::since_zero(Duration::from_secs(1));
        let node = Node::restore(now, NodeConfig::default(), None, saved, &mut shared).unwrap();
        assert_eq!(node.resting.ends(), Some(until));
        assert!(node.ports.has(1) && node.ports.has(5) && !node.ports.has(3));
        let Opened::Udp(udp) = &node.ports.get("udp").unwrap().opened else { panic!("no UDP") };
        assert_eq!(udp.as_raw_fd(), number);
    }
}
