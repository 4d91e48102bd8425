//! Origin: where a connection or a request really comes from, when proxies stand before the supervisor.
//!
//! A proxy can say who its client is in two ways. `proxy` reads the header of the PROXY protocol, which
//! comes before the bytes of the client and tells about the whole connection. `forwarded` reads the
//! headers `X-Forwarded-For` and `Forwarded`, which tell about one request. `trust` says whose word
//! counts: anybody can send such headers, so that of everybody else is not even looked at.
//! `told` remembers what PROXY headers said, for connections that come back from workers.

mod forwarded;
pub mod proxy;
mod proxy_clients;
mod trust;

pub use self::forwarded::ForwardedHeader;
pub use self::proxy_clients::ProxyClients;
pub use self::trust::{Peers, Trust, WrongPeers};
