//! Node's own channel, the one between the primary and the workers of its `cluster`.
//!
//! It is a byte stream (`NODE_CHANNEL_FD`), so a frame has to be found first: [`Frames`] cuts what was
//! read into whole frames and leaves them as they stood, for some are relayed to other workers as
//! they are. [`FromNode::parse`] then says what a frame means to us. It reads the top level only
//! (`fields.rs`), skips every other value, and takes what it cannot understand for a message of the
//! app. `v8` knows the syntax: every Node that is supported speaks serialization `advanced`, and what it
//! cannot say, `json` cannot either. [`ToNode::encode`] makes the supervisor's frames, with `writer.rs`.
//!
//! A message is *internal* if its `cmd` is longer than `NODE_` and begins with it; the app never sees
//! those. All others belong to the app or to a package that it uses. The protocol is not documented;
//! the sources are Node's `lib/internal/child_process.js`, `lib/internal/child_process/serialization.js`
//! and `lib/internal/cluster/`, and what real Nodes sent (`captured/`).
//!
//! What is kept of a conversation can be written down in the middle of it, and read in another process.

mod bytes;
mod field;
mod fields;
mod frames;
mod from_node;
mod ledger;
mod outbox;
mod primary;
#[cfg(test)]
mod tests;
mod to_node;
mod v8;
mod writer;

pub use frames::{Cut, Frames, MAX_FRAME, MOST_WHOLE, TooLong};
pub use from_node::{
    Adapter, AddressType, Data, FromNode, MAX_ADAPTER, MAX_HANDED_BACK, MAX_NAME, Query, ServerKind,
};
pub use ledger::Ledger;
pub use outbox::Outbox;
pub use primary::{Package, Primary, Target};
pub use to_node::{PackageMessage, Sockname, ToNode};
