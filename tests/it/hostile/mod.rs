//! Nobody outside and no worker inside can stop the supervisor: each kind of attacker, with honest
//! clients beside.

/// What Node workers can make the supervisor keep.
mod bounds;
/// Clients of the network.
mod client;
/// Local clients that send descriptors along.
mod descriptors;
/// Another user of this machine.
mod local;
/// Workers with the handoff `channel` that misuse it.
mod native;
/// Node workers that misuse their channel.
mod node;
/// All of it at random, for long.
mod storm;
/// A worker and the terminal of whoever started the supervisor.
mod terminal;
