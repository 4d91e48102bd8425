//! The same interface for tokio.
//!
//! Everything here belongs to the runtime in which it was made, which needs its IO and time drivers.
//! Connections arrive in blocking mode and are made non-blocking here; the channel itself stays as it
//! is, since the supervisor shares its open file description.
//!
//! ```no_run
//! use tokio::io::AsyncWriteExt;
//!
//! # async fn serve() -> Result<(), sticky_worker::Error> {
//! let listener = sticky_worker::tokio::Listener::from_env_or_bind("127.0.0.1:3000")?;
//! while let Some(mut connection) = listener.accept().await? {
//!     tokio::spawn(async move {
//!         if let Err(error) = connection.write_all(b"hello\n").await {
//!             eprintln!("cannot answer {:?}: {error}", connection.client());
//!         }
//!     });
//! }
//! # Ok(())
//! # }
//! ```

mod connection;
mod link;
mod listener;
mod session;
mod worker;

pub use connection::{Connection, Stream};
pub use listener::{Alone, Listener};
pub use session::Sessions;
pub use worker::Worker;
