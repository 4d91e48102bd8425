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
//! # Kept connections
//!
//! Browsers and proxies send one request after the other over a connection, and each may belong to
//! another worker. So a [`Connection`] looks at every request of HTTP/1 before the server reads it (one
//! `recv(2)` with `MSG_PEEK`), by the keys that the supervisor places connections by. If a key lives elsewhere, or
//! nobody knows yet where, the connection goes back to the supervisor with its bytes unread, as soon as the
//! answers before are written, and the server sees the end of file. The first request of Engine.IO sessions
//! is placed anew as well, and one without a key behind one with a key. What lives here is what the server has announced,
//! and what the supervisor has sent here in the last ten seconds.
//!
//! With `--by cookie:NAME` and `header:NAME`, what an answer of HTTP/1 gives out in `Set-Cookie` or in that header is
//! announced before it is written, so a login or the session of an MCP server needs no code. The supervisor
//! forgets such a key after `--session-idle`.
//!
//! A server has to do nothing for this but to read and write through the connection. From a socket
//! that it has taken out ([`Connection::into_parts`]) and behind TLS nobody sees requests: answer with `Connection: close`
//! there, wherever a client may send requests of several sessions. The same is so under a
//! sticky-run that does not set `STICKY_CHANNEL_KEYS`. After an upgrade, behind a request whose end is not beyond doubt,
//! and in any other protocol, a connection stays where it is.
//!
//! Features: `tokio` for the same interface with `.await`, `axum` for a listener that `axum::serve`
//! accepts, `tower` for a layer that announces the sessions of an Engine.IO server.
//!
//! The protocol below is `sticky-run-channel(7)`; [`message`] is its codec.

#[doc(hidden)]
pub mod head;
#[doc(hidden)]
pub mod keys;
pub mod message;
#[doc(hidden)]
pub mod room;

mod accepted;
mod channel;
mod coalesce;
mod connection;
mod core;
mod environment;
mod error;
mod keepalive;
mod listener;
mod outbox;
mod owned;
mod patience;
mod peek;
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
