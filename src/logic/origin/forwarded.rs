//! The hops of a request, from the headers `X-Forwarded-For` and `Forwarded` (RFC 7239).
//!
//! They are read from the right, where our own proxies have written. Nothing that a client puts into
//! the left part, such as a quote that is never closed, changes how the right part is read; a parser
//! that begins on the left cannot promise that.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

/// More proxies than this stand before nobody's server.
const MAX_HOPS: usize = 32;

/// The header in which trusted proxies name their clients. One alone: a proxy that writes one of them
/// passes the other on as its client has made it up.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`, a list of addresses.
    #[default]
    XForwardedFor,
    /// `Forwarded`, RFC 7239.
    Forwarded,
    /// Neither of them.
    None,
}

impl ForwardedHeader {
    /// Its name, in lower case.
    pub(super) fn name(self) -> Option<&'static str> {
        match self {
            Self::XForwardedFor => Some("x-forwarded-for"),
            Self::Forwarded => Some("forwarded"),
            Self::None => None,
        }
    }
}

/// The hops of a request, the last one first; `None` is one whose address is not told. `lines` are the
/// values of all headers of this name, in order.
pub(super) fn hops(
    header: ForwardedHeader,
    lines: &[&[u8]],
) -> impl Iterator<Item = Option<IpAddr>> {
    let elements = lines.iter().rev().flat_map(|line| FromTheRight::new(line, b','));
    // Empty elements of a list mean nothing (RFC 9110, section 5.6.1).
    let elements = elements.map(<[u8]>::trim_ascii).filter(|element| !element.is_empty());
    elements.take(MAX_HOPS).map(move |element| match header {
        ForwardedHeader::XForwardedFor => node(element),
        ForwardedHeader::Forwarded => forwarded_for(element),
        ForwardedHeader::None => None,
    })
}

/// The address in an element such as `for="[2001:db8::1]:4711";proto=https`.
fn forwarded_for(element: &[u8]) -> Option<IpAddr> {
    let mut values = FromTheRight::new(element, b';').filter_map(|pair| {
        let equals = pair.iter().position(|byte| *byte == b'=')?;
        let (name, value) = pair.split_at(equals);
        name.trim_ascii().eq_ignore_ascii_case(b"for").then(|| value[1..].trim_ascii())
    });
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let quoted = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
    // No address needs a `\` escape, so what has one names nobody.
    node(quoted.unwrap_or(value))
}

/// An address, perhaps with a port: the `node` of RFC 7239, section 6, and an IPv6 address without
/// brackets, as `X-Forwarded-For` has them.
fn node(text: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(text).ok()?;
    if let Some(rest) = text.strip_prefix('[') {
        let (ip, port) = rest.split_once(']')?;
        let named = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        return ip.parse().ok().filter(|_| named).map(|ip: Ipv6Addr| ip.into());
    }
    match text.rsplit_once(':') {
        Some((ip, port)) if !ip.contains(':') => {
            ip.parse().ok().filter(|_| is_port(port)).map(|ip: Ipv4Addr| ip.into())
        }
        Some(_) | None => text.parse().ok(),
    }
}

/// A number, or a name that begins with `_`.
fn is_port(text: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    match text.strip_prefix('_') {
        Some(name) => !name.is_empty() && name.bytes().all(legal),
        None => text.parse::<u16>().is_ok(),
    }
}

/// The parts of a text, the last one first; a separator inside quotes separates nothing.
struct FromTheRight<'a> {
    rest: Option<&'a [u8]>,
    separator: u8,
}

impl<'a> FromTheRight<'a> {
    fn new(text: &'a [u8], separator: u8) -> Self {
        Self { rest: Some(text), separator }
    }
}

impl<'a> Iterator for FromTheRight<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let text = self.rest.take()?;
        let mut quoted = false;
        for (at, byte) in text.iter().enumerate().rev() {
            if *byte == b'"' && !is_escaped(&text[..at]) {
                quoted = !quoted;
            }
            if *byte == self.separator && !quoted {
                self.rest = Some(&text[..at]);
                return Some(&text[at + 1..]);
            }
        }
        Some(text)
    }
}

/// Whether what comes after this text is escaped by its end.
fn is_escaped(text: &[u8]) -> bool {
    text.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The hops as text, `-` for one that is not told.
    fn list(header: ForwardedHeader, lines: &[&str]) -> String {
        let lines: Vec<_> = lines.iter().map(|line| line.as_bytes()).collect();
        let hops = hops(header, &lines).map(|hop| hop.map_or("-".to_owned(), |ip| ip.to_string()));
        hops.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn x_forwarded_for_lists_addresses_of_both_families_with_and_without_ports() {
        let list = |lines: &[&str]| list(ForwardedHeader::XForwardedFor, lines);
        assert_eq!(list(&["192.0.2.1, 192.0.2.2:80,192.0.2.3"]), "192.0.2.3 192.0.2.2 192.0.2.1");
        assert_eq!(
            list(&["2001:db8::1, [2001:db8::2], [2001:db8::3]:80"]),
            "2001:db8::3 2001:db8::2 2001:db8::1"
        );
        assert_eq!(list(&["::ffff:192.0.2.1"]), "::ffff:192.0.2.1");
        // Several lines are one list, and empty elements mean nothing.
        assert_eq!(list(&["192.0.2.1", ", ,", "192.0.2.2,"]), "192.0.2.2 192.0.2.1");
        assert_eq!(list(&[]), "");
    }

    #[test]
    fn what_is_no_address_tells_nothing() {
        for text in [
            "unknown",
            "_hidden",
            "localhost",
            "192.0.2.256",
            "192.0.2.1:",
            "192.0.2.1:65536",
            "192.0.2.1:80:80",
            "192.0.2",
            "192.0.2.1/24",
            "[192.0.2.1]",
            "[2001:db8::1",
            "2001:db8::1]",
            "[2001:db8::1]80",
            "[2001:db8::1]:",
            "[2001:db8::1%1]",
            "fe80::1%eth0",
            "for=192.0.2.1",
            "192.0.2.1 x",
            "\u{e9}",
            "\"",
        ] {
            assert_eq!(list(ForwardedHeader::XForwardedFor, &[text]), "-", "{text}");
        }
    }

    #[test]
    fn forwarded_has_names_quotes_and_other_parameters() {
        let list = |lines: &[&str]| list(ForwardedHeader::Forwarded, lines);
        assert_eq!(list(&["for=192.0.2.43"]), "192.0.2.43");
        assert_eq!(list(&["For=\"[2001:db8:cafe::17]:4711\""]), "2001:db8:cafe::17");
        assert_eq!(list(&["for=192.0.2.60;proto=http;by=203.0.113.43"]), "192.0.2.60");
        assert_eq!(list(&["by=203.0.113.43 ; FOR = \"192.0.2.60:_x-1\""]), "192.0.2.60");
        assert_eq!(list(&["for=192.0.2.43, for=198.51.100.17"]), "198.51.100.17 192.0.2.43");
        assert_eq!(
            list(&["for=192.0.2.43;ext=\"a,b;for=6.6.6.6\\\",\", for=192.0.2.1"]),
            "192.0.2.1 192.0.2.43"
        );
        assert_eq!(list(&["for=unknown", "for=_hidden", "for=\"_SEVKISEK\""]), "- - -");
        assert_eq!(list(&["proto=http", "for=192.0.2.1;for=192.0.2.2", "192.0.2.1"]), "- - -");
        assert_eq!(list(&["for=\"192.0.2.1", "for=192.0.2.1\"", "for=\"192.0.2\\.1\""]), "- - -");
    }

    #[test]
    fn only_so_many_hops_are_looked_at() {
        let long = "192.0.2.1,".repeat(10_000);
        assert_eq!(hops(ForwardedHeader::XForwardedFor, &[long.as_bytes()]).count(), MAX_HOPS);
    }

    proptest! {
        #[test]
        fn nothing_that_a_client_sends_changes_what_our_proxy_adds(
            forged in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..60).boxed(),
                "[\",;\\\\=for.0-9 \\[\\]]{0,40}".prop_map(String::into_bytes).boxed(),
            ],
        ) {
            let written = [
                (ForwardedHeader::XForwardedFor, "192.0.2.7"),
                (ForwardedHeader::XForwardedFor, "192.0.2.7:4711"),
                (ForwardedHeader::Forwarded, "for=192.0.2.7"),
                (ForwardedHeader::Forwarded, "for=\"192.0.2.7:4711\";host=\"a,b;c\""),
            ];
            for (header, element) in written {
                let line = [&forged, &b", "[..], element.as_bytes()].concat();
                let first = hops(header, &[&line]).next();
                prop_assert_eq!(first, Some(Some(IpAddr::from([192, 0, 2, 7]))));
                // As a line of its own, too.
                let first = hops(header, &[&forged, element.as_bytes()]).next();
                prop_assert_eq!(first, Some(Some(IpAddr::from([192, 0, 2, 7]))));
            }
        }
    }
}
