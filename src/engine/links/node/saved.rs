//! The handoff `node` in a state, for an upgrade in place.

use std::collections::VecDeque;
use std::io;

use serde::{Deserialize, Serialize};

use super::query::SOCKET;
use super::send::{Resting, SavedResting};
use super::{Node, NodeLink, Payload, launch};
use crate::engine::connection::SavedConnection;
use crate::logic::Worker;
use crate::logic::config::{Account, NodeConfig};
use crate::logic::quota::Quota;
use crate::logic::route::Reason;
use crate::logic::time::Time;
use crate::os::closing::{Foreign, Sender};
use crate::os::kept::{Keeper, Kept, Shared};
use crate::os::scratch::{Place, Scratch};
use crate::os::stream::Stream;
use crate::protocol::node::{Frames, Ledger, Outbox, Primary};

/// What all links share, in a state.
#[derive(Debug, Deserialize, Serialize)]
pub(in crate::engine) struct SavedNode {
    /// Where the preload is.
    preload: Option<Place>,
    /// What holds the lock on that.
    #[serde(default)]
    preload_lock: Option<Kept>,
    links: Vec<(Worker, SavedNodeLink)>,
    resting: SavedResting,
}

/// A link in a state.
#[derive(Debug, Deserialize, Serialize)]
struct SavedNodeLink {
    id: u32,
    stream: Kept,
    frames: Frames,
    descriptors: Vec<Kept>,
    primary: Primary,
    outbox: Outbox,
    ledger: Ledger<SavedPayload>,
    #[serde(default = "uncounted")]
    returnable: u64,
    over: bool,
}

/// An earlier program did not count what a worker may give back.
fn uncounted() -> u64 {
    u32::MAX.into()
}

#[derive(Debug, Deserialize, Serialize)]
enum SavedPayload {
    Connection(SavedConnection, Reason),
    Udp(Kept),
}

impl Node {
    /// Writes it down.
    pub(super) fn write_down(&self, keeper: &mut Keeper) -> SavedNode {
        let links = self.links.iter().map(|(worker, link)| (*worker, link.save(keeper))).collect();
        SavedNode {
            preload: self.preload.as_ref().map(|scratch| scratch.place().clone()),
            preload_lock: self.preload.as_ref().and_then(Scratch::lock).map(|it| keeper.keep(it)),
            links,
            resting: self.resting.save(keeper),
        }
    }

    /// Goes on with what was written down.
    pub(in crate::engine::links) fn restore(
        now: Time,
        config: NodeConfig,
        account: Option<Account>,
        saved: SavedNode,
        shared: &mut Shared,
    ) -> io::Result<Self> {
        let SavedNode { preload, preload_lock, links, resting } = saved;
        // Workers that were started with it need it to their end, and so do their own children.
        let needed = preload.is_some() || config.preload.is_some();
        let held = preload_lock.map(|lock| lock.take_over()).transpose()?;
        let place = preload.unwrap_or_default();
        let preload = needed.then(|| Scratch::restore(launch::PRELOAD, account, place, held));
        let links = links.into_iter();
        let links =
            links.map(|(worker, link)| Ok((worker, NodeLink::restore(link, worker, shared)?)));
        Ok(Self {
            links: links.collect::<io::Result<_>>()?,
            // What no channel had room for may have room now, and what the router had widened is
            // made narrow again.
            retry_at: Some(now),
            wide: true,
            ..Self::with(now, config, preload, Resting::restore(resting)?)
        })
    }
}

impl NodeLink {
    /// Writes it down.
    fn save(&self, keeper: &mut Keeper) -> SavedNodeLink {
        SavedNodeLink {
            id: self.id,
            stream: keeper.keep(&self.stream),
            frames: self.frames.clone(),
            descriptors: self.descriptors.iter().map(|fd| keeper.keep(fd)).collect(),
            primary: self.primary.clone(),
            outbox: self.outbox.clone(),
            ledger: self.ledger.map(|payload| match payload {
                Payload::Connection(connection, reason) => {
                    SavedPayload::Connection(connection.save(keeper), *reason)
                }
                Payload::Udp { socket, .. } => SavedPayload::Udp(keeper.keep(socket)),
            }),
            returnable: self.returnable,
            over: self.over,
        }
    }

    /// The link that was written down.
    fn restore(saved: SavedNodeLink, worker: Worker, shared: &mut Shared) -> io::Result<Self> {
        let quota = Quota::default();
        let ledger = saved.ledger.try_map(|payload| {
            io::Result::Ok(match payload {
                SavedPayload::Connection(connection, reason) => {
                    Payload::Connection(connection.restore()?, reason)
                }
                SavedPayload::Udp(socket) => {
                    Payload::Udp { socket: socket.share(shared)?, _part: quota.charge(SOCKET) }
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
            quota,
            awaiting: Quota::default(),
            returnable: saved.returnable,
            watched: false,
            blocked: false,
            dropped: false,
            over: saved.over,
            is_ended: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::mem;
    use std::net::{TcpListener, UdpSocket};
    use std::os::fd::OwnedFd;
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
        let number = link.ledger.enter(
            Payload::Udp { socket: Rc::clone(&udp), _part: link.quota.charge(SOCKET) },
            None,
        );
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
    fn resting_connections_are_those_of_before() {
        let mut node = Node::new(Time::default(), NodeConfig::default(), None).unwrap();
        let until = Time::since_zero(Duration::from_millis(50));
        let back = Returned::Back(Worker { slot: 1, generation: 2 });
        node.resting.push(until, WORKER, connection(), back);
        let saved = copy(&node.write_down(&mut Keeper::default()));
        mem::forget(node);
        let mut shared = Shared::default();
        let now = Time::since_zero(Duration::from_secs(1));
        let node = Node::restore(now, NodeConfig::default(), None, saved, &mut shared).unwrap();
        assert_eq!(node.resting.ends(), Some(until));
    }
}
