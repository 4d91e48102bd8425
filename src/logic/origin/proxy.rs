//! The header of the PROXY protocol, versions 1 (a line) and 2 (binary), as HAProxy's
//! `proxy-protocol.txt` has it.
//!
//! The frame is cut here: what it takes to tell one that is not whole from one that never will be,
//! and how long it is. The addresses in it are read by the crate `ppp`. Extensions of version 2 (TLVs)
//! are skipped, their checksum among them: the header comes from a trusted peer, over TCP.

use std::net::SocketAddr;

use ppp::{v1, v2};

/// No header is longer, in bytes; the length of version 2 would allow 64 KiB. nginx has the same limit.
pub const MAX_HEADER: usize = 4096;
/// The longest line of version 1, in bytes, with its end.
const MAX_LINE: usize = 107;
/// What version 1 begins with.
const LINE: &[u8] = b"PROXY ";
/// What version 2 begins with.
const SIGNATURE: &[u8] = v2::PROTOCOL_PREFIX;
/// The part of version 2 that is always there, with the length of the rest, in bytes.
const FIXED: usize = 16;

/// What the first bytes of a connection are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Header {
    /// The beginning of a header.
    Incomplete,
    /// A header of so many bytes. What comes after it is the client's.
    Whole(usize, Client),
    /// No header, whatever comes after it.
    Wrong(WrongHeader),
}

/// Whose connection it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Client {
    /// That of the peer itself, or it does not know either: its own address counts.
    Peer,
    /// Of this address.
    Address(SocketAddr),
    /// Of a Unix socket, so it has no address.
    Unix,
}

/// Why bytes are no header.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum WrongHeader {
    /// They begin otherwise.
    #[error("it begins otherwise")]
    Missing,
    /// It is longer than any may be.
    #[error("the header is too long")]
    TooLong,
    /// It cannot be read.
    #[error("the header is malformed")]
    Malformed,
}

/// Reads the header at the beginning of `bytes`, which hold at least [`MAX_HEADER`] of those that are
/// there.
pub fn read(bytes: &[u8]) -> Header {
    if begins(bytes, SIGNATURE) {
        read_binary(bytes)
    } else if begins(bytes, LINE) {
        read_line(bytes)
    } else {
        Header::Wrong(WrongHeader::Missing)
    }
}

/// Whether `bytes` begin with this, as far as they are there.
fn begins(bytes: &[u8], beginning: &[u8]) -> bool {
    bytes.starts_with(beginning) || beginning.starts_with(bytes)
}

fn read_line(bytes: &[u8]) -> Header {
    let most = &bytes[..bytes.len().min(MAX_LINE)];
    let Some(end) = most.windows(2).position(|pair| pair == b"\r\n") else {
        let full = most.len() == MAX_LINE;
        return if full { Header::Wrong(WrongHeader::TooLong) } else { Header::Incomplete };
    };
    let length = end + 2;
    let line = &bytes[..length];
    // Whatever stands after this word is to be ignored.
    if line.starts_with(b"PROXY UNKNOWN ") || line == b"PROXY UNKNOWN\r\n" {
        return Header::Whole(length, Client::Peer);
    }
    let client = v1::Header::try_from(line).ok().and_then(|header| match header.addresses {
        v1::Addresses::Tcp4(ip) => Some((ip.source_address, ip.source_port).into()),
        v1::Addresses::Tcp6(ip) => Some((ip.source_address, ip.source_port).into()),
        v1::Addresses::Unknown => None,
    });
    client.map_or(Header::Wrong(WrongHeader::Malformed), |client| {
        Header::Whole(length, Client::Address(client))
    })
}

fn read_binary(bytes: &[u8]) -> Header {
    let Some(fixed) = bytes.first_chunk::<FIXED>() else { return Header::Incomplete };
    let [.., version_and_command, family_and_protocol, high, low] = *fixed;
    let length = FIXED + usize::from(u16::from_be_bytes([high, low]));
    if length > MAX_HEADER {
        return Header::Wrong(WrongHeader::TooLong);
    }
    let Some(header) = bytes.get(..length) else { return Header::Incomplete };
    // LOCAL, a connection of the proxy's own: whatever stands in the rest is to be ignored.
    if version_and_command == 0x20 {
        return Header::Whole(length, Client::Peer);
    }
    // Only both or neither of family and protocol may be unspecified.
    let mixed = (family_and_protocol >> 4 == 0) != (family_and_protocol & 0xF == 0);
    match v2::Header::try_from(header) {
        Ok(header) if !mixed => Header::Whole(length, client(&header.addresses)),
        Ok(_) | Err(_) => Header::Wrong(WrongHeader::Malformed),
    }
}

fn client(addresses: &v2::Addresses) -> Client {
    match addresses {
        v2::Addresses::Unspecified => Client::Peer,
        v2::Addresses::IPv4(ip) => Client::Address((ip.source_address, ip.source_port).into()),
        v2::Addresses::IPv6(ip) => Client::Address((ip.source_address, ip.source_port).into()),
        v2::Addresses::Unix(_) => Client::Unix,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MISSING: Header = Header::Wrong(WrongHeader::Missing);
    const TOO_LONG: Header = Header::Wrong(WrongHeader::TooLong);
    const MALFORMED: Header = Header::Wrong(WrongHeader::Malformed);

    fn address(text: &str) -> Client {
        Client::Address(text.parse().unwrap())
    }

    /// A header of version 2.
    fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[command, family], &length, rest].concat()
    }

    /// Headers of all kinds that there are, and whose connections they announce.
    fn good() -> Vec<(Vec<u8>, Client)> {
        let v4 = [192, 0, 2, 7, 10, 0, 0, 1, 0x12, 0x67, 0, 80];
        let mut v6 = [0; 36];
        v6[..2].copy_from_slice(&[0x20, 0x01]);
        v6[15] = 7;
        v6[32..34].copy_from_slice(&[0x12, 0x67]);
        let tlvs = [&v4[..], &[0x04, 0, 3, 0, 0, 0, 0x03, 0, 4, 1, 2, 3, 4]].concat();
        let longest = [&v4[..], &vec![0xA5; MAX_HEADER - FIXED - v4.len()]].concat();
        let line = |text: &str| format!("PROXY {text}\r\n").into_bytes();
        let long = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
        vec![
            (line("TCP4 192.0.2.7 10.0.0.1 4711 80"), address("192.0.2.7:4711")),
            (line("TCP6 2001::7 ::1 4711 80"), address("[2001::7]:4711")),
            (line(&format!("TCP6 {long} {long} 65535 65535")), address(&format!("[{long}]:65535"))),
            (line("UNKNOWN"), Client::Peer),
            (line(&format!("UNKNOWN {long} {long} 65535 65535")), Client::Peer),
            (line("UNKNOWN a b c d e f g \r h"), Client::Peer),
            (binary(0x21, 0x11, &v4), address("192.0.2.7:4711")),
            (binary(0x21, 0x12, &v4), address("192.0.2.7:4711")),
            (binary(0x21, 0x21, &v6), address("[2001::7]:4711")),
            (binary(0x21, 0x11, &tlvs), address("192.0.2.7:4711")),
            (binary(0x21, 0x11, &longest), address("192.0.2.7:4711")),
            (binary(0x21, 0x31, &[0; 216]), Client::Unix),
            (binary(0x21, 0x00, &[]), Client::Peer),
            (binary(0x21, 0x00, &v4), Client::Peer),
            (binary(0x20, 0x00, &[]), Client::Peer),
            (binary(0x20, 0x11, &v4), Client::Peer),
            (binary(0x20, 0xFF, &[1]), Client::Peer),
        ]
    }

    #[test]
    fn every_kind_of_header_is_read_and_ends_where_it_ends() {
        for (header, client) in good() {
            assert_eq!(read(&header), Header::Whole(header.len(), client));
            for after in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\r\n", b"PROXY ", SIGNATURE, b"\0"] {
                let bytes = [&header, after].concat();
                assert_eq!(read(&bytes), Header::Whole(header.len(), client));
            }
        }
    }

    #[test]
    fn every_part_of_a_header_is_the_beginning_of_one() {
        for (header, _) in good() {
            for end in 0..header.len() {
                assert_eq!(read(&header[..end]), Header::Incomplete, "{end} bytes of {header:?}");
            }
        }
    }

    #[test]
    fn what_begins_otherwise_is_none_at_once() {
        for bytes in [
            &b"GET / HTTP/1.1"[..],
            b"PROXx",
            b"proxy ",
            b"PROXYTCP4",
            b"\x16\x03",
            b"\r\n\r\nG",
            b"Q",
        ] {
            assert_eq!(read(bytes), MISSING, "{bytes:?}");
        }
    }

    #[test]
    fn lines_that_say_nothing_are_malformed() {
        for text in [
            "TCP4 192.0.2.7 10.0.0.1 4711",
            "TCP4 192.0.2.7 10.0.0.1 4711 80 1",
            "TCP4 192.0.2.7 10.0.0.1 4711 80 ",
            "TCP4 2001::7 ::1 4711 80",
            "TCP6 192.0.2.7 10.0.0.1 4711 80",
            "TCP4 192.0.2.7 10.0.0.1 65536 80",
            "TCP4 192.0.2.7 10.0.0.1 -1 80",
            "TCP4  192.0.2.7 10.0.0.1 4711 80",
            "TCP5 192.0.2.7 10.0.0.1 4711 80",
            "UNKNOWNX",
            "",
            "TCP4 192.0.2.7 10.0.0.1 4711 80\n",
            "TCP4 192.0.2.7\r10.0.0.1 4711 80",
            "TCP4 192.0.2.7 10.0.0.1 \u{e9} 80",
            "TCP4 0192.0.2.7 10.0.0.1 4711 80",
        ] {
            assert_eq!(read(format!("PROXY {text}\r\n").as_bytes()), MALFORMED, "{text}");
        }
    }

    #[test]
    fn binary_headers_that_say_nothing_are_malformed() {
        let v4 = [192, 0, 2, 7, 10, 0, 0, 1, 0x12, 0x67, 0, 80];
        for (command, family) in [
            (0x11, 0x11),
            (0x31, 0x11),
            (0x22, 0x11),
            (0x01, 0x11),
            (0x21, 0x41),
            (0x21, 0x13),
            (0x21, 0x10),
            (0x21, 0x01),
        ] {
            assert_eq!(read(&binary(command, family, &v4)), MALFORMED, "{command:x} {family:x}");
        }
        assert_eq!(read(&binary(0x21, 0x11, &v4[..11])), MALFORMED);
        assert_eq!(read(&binary(0x21, 0x21, &v4)), MALFORMED);
        assert_eq!(read(&binary(0x21, 0x31, &[0; 215])), MALFORMED);
    }

    #[test]
    fn headers_that_are_too_long_are_known_before_they_end() {
        let line = [LINE, b"UNKNOWN ", &[b'a'; 200], b"\r\n"].concat();
        assert_eq!(read(&line), TOO_LONG);
        assert_eq!(read(&line[..MAX_LINE]), TOO_LONG);
        assert_eq!(read(&line[..MAX_LINE - 1]), Header::Incomplete);
        for length in [MAX_HEADER - FIXED + 1, usize::from(u16::MAX)] {
            assert_eq!(read(&binary(0x21, 0x11, &vec![0; length])[..FIXED]), TOO_LONG);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered_and_more_bytes_never_take_an_answer_back(
            bytes in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..40).boxed(),
                "PROXY (TCP4|TCP6|UNKNOWN)[ -~\r\n]{0,110}".prop_map(String::into_bytes).boxed(),
                prop::collection::vec(any::<u8>(), 4..60)
                    .prop_map(|rest| [SIGNATURE, &rest].concat()).boxed(),
            ],
            cut in any::<prop::sample::Index>(),
        ) {
            let part = read(&bytes[..cut.index(bytes.len() + 1)]);
            let whole = read(&bytes);
            prop_assert!(part == Header::Incomplete || part == whole);
            if let Header::Whole(length, _) = whole {
                prop_assert!(length <= bytes.len());
            }
        }
    }
}
