//! The same interface for tokio.
//!
//! Everything here belongs to the runtime in which it was made, which needs its IO and time drivers.
//! Connections arrive in blocking mode and are made non-blocking here; the channel itself stays as it
//! is, since the supervisor shares its open file description.

mod connection;
mod listener;
mod session;
mod worker;

pub use connection::{Connection, Stream};
pub use listener::{Alone, Listener};
pub use session::Sessions;
pub use worker::Worker;
