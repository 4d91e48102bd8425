//! The listener for `axum::serve`.
//!
//! [`crate::tokio::Listener`] is one. Its accept returns no errors, as axum wants: what passes is
//! waited for, and after the end of the supervisor it waits for ever, so give `axum::serve` a
//! graceful shutdown that [`gone`](crate::tokio::Listener::gone) starts, and not
//! [`draining`](crate::tokio::Listener::draining): every rolling restart has the former workers
//! drain, and one that shuts down at once ends the sessions that it could still have served.
//!
//! The supervisor sends SIGTERM when no connection is open, or when the time to drain or the grace
//! nears its end. A server that wants to finish its last answers then starts its shutdown by SIGTERM as
//! well, as the example `chat` in the repository does.
//!
//! ```no_run
//! use axum::{Router, extract::ConnectInfo, routing::get};
//! use sticky_worker::axum::ClientAddr;
//!
//! # async fn serve() -> Result<(), Box<dyn std::error::Error>> {
//! let listener = sticky_worker::tokio::Listener::from_env_or_bind("127.0.0.1:3000")?;
//! let gone = listener.gone();
//! let hello = |ConnectInfo(client): ConnectInfo<ClientAddr>| async move { client.to_string() };
//! let app = Router::new().route("/", get(hello));
//! axum::serve(listener, app.into_make_service_with_connect_info::<ClientAddr>())
//!     .with_graceful_shutdown(gone)
//!     .await?;
//! # Ok(())
//! # }
//! ```

use std::fmt;
use std::future::pending;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use ::axum::extract::connect_info::Connected;
use ::axum::serve::{IncomingStream, ListenerExt, TapIo};
use ::tokio::time::sleep;

use crate::patience::say;
use crate::tokio::{Connection, Listener};

/// After an error of the channel or the listening socket that no wait is known to mend.
const AFTER_AN_ERROR: Duration = Duration::from_secs(1);

/// A client's address, for `ConnectInfo<ClientAddr>`.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum ClientAddr {
    /// A client over the network.
    Inet(SocketAddr),
    /// A client of a Unix listener.
    Unix,
}

/// A [`Listener`] whose clients have a plain [`SocketAddr`]; see [`Listener::with_socket_addr`].
#[derive(Debug)]
pub struct SocketAddrListener(Listener);

impl Listener {
    /// For services that want `ConnectInfo<SocketAddr>`, as they have it from axum's own listener. A
    /// client of a Unix listener has the address `0.0.0.0:0` there.
    pub fn with_socket_addr(self) -> TapIo<SocketAddrListener, fn(&mut Connection)> {
        // axum gives a plain address only for its own types, of which this is the one that wraps.
        SocketAddrListener(self).tap_io(|_| {})
    }

    async fn accept_always(&self) -> Connection {
        loop {
            match self.accept().await {
                Ok(Some(connection)) => return connection,
                Ok(None) => pending().await,
                Err(error) => {
                    say(&format!("{error}, will try again"));
                    sleep(AFTER_AN_ERROR).await;
                }
            }
        }
    }

    fn bound_addr(&self) -> io::Result<SocketAddr> {
        let supervised = "under sticky-run the supervisor has the listening sockets";
        let unsupported = || Err(io::Error::new(io::ErrorKind::Unsupported, supervised));
        self.local_addr().unwrap_or_else(unsupported)
    }
}

impl ::axum::serve::Listener for Listener {
    type Io = Connection;
    type Addr = ClientAddr;

    async fn accept(&mut self) -> (Connection, ClientAddr) {
        let connection = self.accept_always().await;
        let client = connection.client().map_or(ClientAddr::Unix, ClientAddr::Inet);
        (connection, client)
    }

    fn local_addr(&self) -> io::Result<ClientAddr> {
        self.bound_addr().map(ClientAddr::Inet)
    }
}

impl ::axum::serve::Listener for SocketAddrListener {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let connection = self.0.accept_always().await;
        let unspecified = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        let client = connection.client().unwrap_or(unspecified);
        (connection, client)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.bound_addr()
    }
}

impl Connected<IncomingStream<'_, Listener>> for ClientAddr {
    fn connect_info(stream: IncomingStream<'_, Listener>) -> Self {
        *stream.remote_addr()
    }
}

impl fmt::Display for ClientAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => address.fmt(f),
            Self::Unix => f.write_str("a Unix socket"),
        }
    }
}
