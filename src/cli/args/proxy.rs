//! What proxies before the supervisor tell about their clients.

use clap::ValueEnum;

use crate::logic::origin::{ForwardedHeader, Peers};

/// The flags about proxies.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Behind a proxy")]
pub(in crate::cli) struct ProxyArgs {
    /// Every connection of a peer in --trust begins with a header of the PROXY protocol
    ///
    /// Both versions are understood. The header is read and removed; the worker gets the connection as
    /// if it had come from the client that it names, which is also what --by ip means, what CONN tells
    /// in sticky-run-channel(7) and what the log shows. A trusted peer that sends none, a broken one or
    /// one of more than 4096 bytes (107 in version 1) is disconnected; it has --head-timeout from the
    /// beginning. A header that names nobody (UNKNOWN, LOCAL) means the peer itself. TLVs are ignored.
    ///
    /// Other peers are served as ever: if one sends a header, the worker gets that like any bytes.
    ///
    /// The socket itself still has the proxy for its peer, so in a Node worker socket.remoteAddress is
    /// the proxy's. Let the proxy set X-Forwarded-For for it.
    #[arg(long, env = "STICKY_PROXY_PROTOCOL", hide_env_values = true)]
    pub(in crate::cli) proxy_protocol: bool,

    /// The peers that are proxies, so that their word about clients counts: an address, a network such
    /// as 10.0.0.0/8 or fd00::/8, or "unix" for all peers on Unix sockets; can be given several times
    /// [default: nobody]
    ///
    /// With --by ip, a request of such a peer is from the client that its X-Forwarded-For names: the
    /// rightmost address there that is not itself in --trust. What a client writes into that header
    /// stands further left and counts for nothing, and so does the header of any other peer. Where an
    /// address is missing or unreadable ("unknown", a made-up name), the last one before it is the client.
    /// At most 32 addresses are looked at.
    ///
    /// The first request of a connection decides for all of it, so the proxy must not send requests of
    /// several clients over one. It is not what CONN tells to a worker, nor the key of
    /// --by header:x-forwarded-for, which is the text as it stands. In the variable, commas stand between
    /// several.
    #[arg(
        long,
        value_name = "PEERS",
        env = "STICKY_TRUST",
        hide_env_values = true,
        value_delimiter = ','
    )]
    pub(in crate::cli) trust: Vec<Peers>,

    /// The header in which the peers in --trust name their clients
    ///
    /// Only one counts: a proxy that writes one of them passes the other on as the client has made it
    /// up. With "none", --by ip does not wait for a request, as servers need that speak first.
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
