//! The worker's side of sticky-run: receive connections from the supervisor instead of accepting them.
//!
//! ```no_run
//! use std::io::Write;
//!
//! # fn main() -> Result<(), sticky_worker::Error> {
//! // The channel under sticky-run; alone, a listening socket of its own.
//! let listener = sticky_worker::Listener::from_env_or_bind("127.0.0.1:3000")?;
//! while let Some(mut connection) = listener.accept()? {
//!     let client = connection.client();
//!     if let Err(error) = writeln!(connection, "hello {client:?}") {
//!         eprintln!("cannot answer {client:?}: {error}");
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! What a server has to do, and what is done for it:
//!
//! - Accept when it can serve: the first accept tells the supervisor `READY`.
//! - Announce a session *before* the answer that tells a client its id ([`Sessions`]); from then on
//!   every connection with this id comes here.
//! - Drop each [`Connection`] when it is done. Closed connections are counted by themselves and told
//!   within 10 ms.
//! - Stop when accept returns `None`: the supervisor is gone. A drain needs nothing from a server that
//!   keeps no idle connections: the supervisor ends it with SIGTERM when its last one is closed.
//!
//! Features: `tokio` for the same interface with `.await`, `axum` for a listener that `axum::serve`
//! accepts, `tower` for a layer that announces the sessions of an Engine.IO server.
//!
//! The protocol below is `sticky-run-channel(7)`; [`message`] is its codec.

#[doc(hidden)]
pub mod head;
pub mod message;

mod channel;
mod coalesce;
mod connection;
mod core;
mod environment;
mod error;
mod listener;
mod outbox;
mod patience;
mod session;
mod worker;

#[cfg(feature = "axum")]
pub mod axum;
#[cfg(feature = "tokio")]
pub mod tokio;
#[cfg(feature = "tower")]
pub mod tower;

pub use connection::{Connection, Stream};
pub use core::Open;
pub use error::{EnvironmentError, Error};
pub use listener::{Alone, Listener};
pub use session::{Session, Sessions};
pub use worker::Worker;
