//! The flags about proxies in front of the supervisor.

use clap::ValueEnum;

use crate::logic::origin::{ForwardedHeader, Peers};

/// The flags about proxies.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Behind a proxy")]
pub(in crate::cli) struct ProxyArgs {
    /// Expect a PROXY protocol header on every connection of a peer in --trust
    ///
    /// Both versions are supported. The header is read and removed; its client is the one that --by ip
    /// means, that CONN reports in sticky-run-channel(7) and that the log shows. A trusted peer that
    /// sends no header, an invalid one or one of more than 4096 bytes (107 in version 1) is
    /// disconnected; it must arrive within --head-timeout. A header without a client (UNKNOWN, LOCAL)
    /// means the peer itself. TLVs are ignored.
    ///
    /// Connections of other peers are not parsed: if one sends a header, the worker gets it like any
    /// bytes.
    ///
    /// The peer of the socket itself is still the proxy, so in a Node worker socket.remoteAddress is
    /// the proxy's. Let the proxy set X-Forwarded-For for it.
    #[arg(long, env = "STICKY_PROXY_PROTOCOL", hide_env_values = true)]
    pub(in crate::cli) proxy_protocol: bool,

    /// Trusted proxies: an address, a network such as 10.0.0.0/8 or fd00::/8, or "unix" for all peers
    /// on Unix sockets; can be given several times [default: nobody]
    ///
    /// With --by ip, the client of a request from a trusted peer is taken from X-Forwarded-For: the
    /// rightmost address there that is not itself in --trust. Whatever a client puts into that header is
    /// further left and is ignored, and so is the header of any other peer. Where an address is missing
    /// or invalid ("unknown", a made-up name), the address to its right is the client. At most 32
    /// addresses are looked at.
    ///
    /// The first request of a connection decides for the whole connection, so the proxy must not send
    /// requests of several clients over one. CONN does not report this address to workers, and the key
    /// of --by header:x-forwarded-for is the unparsed text. In the variable, several are separated by
    /// commas.
    #[arg(
        long,
        value_name = "PEERS",
        env = "STICKY_TRUST",
        hide_env_values = true,
        value_delimiter = ','
    )]
    pub(in crate::cli) trust: Vec<Peers>,

    /// The header in which the peers in --trust report their clients
    ///
    /// Only one is used: a proxy that sets one of them passes the other on as the client sent it. With
    /// "none", --by ip does not wait for a request, which servers that speak first need.
    #[arg(
        long,
        value_name = "HEADER",
        env = "STICKY_FORWARDED_HEADER",
        hide_env_values = true,
        default_value = "x-forwarded-for"
    )]
    pub(in crate::cli) forwarded_header: ForwardedArg,
}

/// The headers that name clients, by name.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(in crate::cli) enum ForwardedArg {
    /// A list of addresses
    XForwardedFor,
    /// RFC 7239
    Forwarded,
    /// None of them
    None,
}

impl From<ForwardedArg> for ForwardedHeader {
    fn from(header: ForwardedArg) -> Self {
        match header {
            ForwardedArg::XForwardedFor => Self::XForwardedFor,
            ForwardedArg::Forwarded => Self::Forwarded,
            ForwardedArg::None => Self::None,
        }
    }
}
