//! The open packet in the body of a handshake's answer.
//!
//! Engine.IO 4 sends `0{"sid":"..."}`, Engine.IO 3 the same with its length before it (`97:0{...}`),
//! or as `\0`, the digits as bytes, `\xff`. The object is flat, so it ends at the first brace.

use std::time::Duration;

use crate::message::Key;

/// The longest length that may stand before the packet, in bytes.
const MAX_PREFIX: usize = 12;
/// What the protocol's own documents name for a server that says nothing.
const PING_INTERVAL: u64 = 25_000;
const PING_TIMEOUT: u64 = 20_000;

/// What an open packet tells.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct OpenPacket {
    /// The session id, fit to be a key.
    pub(super) sid: String,
    /// After this time without a request the server has closed the session.
    pub(super) idle: Duration,
}

/// What the first bytes of a body are.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Look {
    /// An open packet.
    Open(OpenPacket),
    /// Perhaps its beginning.
    Incomplete,
    /// Something else.
    Other,
}

pub(super) fn look(bytes: &[u8]) -> Look {
    let prefix = &bytes[..bytes.len().min(MAX_PREFIX + 2)];
    let start = prefix.windows(2).position(|two| two == b"0{");
    let of_length = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b':' | 0..=9 | 0xFF);
    if !prefix[..start.unwrap_or(prefix.len())].iter().all(of_length) {
        return Look::Other;
    }
    let Some(start) = start else {
        return if bytes.len() > MAX_PREFIX { Look::Other } else { Look::Incomplete };
    };
    // Without its length before it, `40{"sid"` is what a Socket.IO server says later.
    if start > 0 && !matches!(bytes[start - 1], b':' | 0xFF) {
        return Look::Other;
    }
    let object = &bytes[start + 1..];
    let Some(end) = object.iter().position(|byte| *byte == b'}') else {
        return Look::Incomplete;
    };
    str::from_utf8(&object[..=end]).ok().and_then(read).map_or(Look::Other, Look::Open)
}

fn read(object: &str) -> Option<OpenPacket> {
    let sid = value(object, "\"sid\"")?.strip_prefix('"')?;
    let sid = &sid[..sid.find('"')?];
    // No server puts an escape into an id; one that did would not be read rightly here.
    if sid.contains('\\') {
        return None;
    }
    Key::new(sid)?;
    let milliseconds = |name| {
        let digits = value(object, name)?;
        let end = digits.find(|letter: char| !letter.is_ascii_digit())?;
        digits[..end].parse::<u64>().ok()
    };
    let interval = milliseconds("\"pingInterval\"").unwrap_or(PING_INTERVAL);
    let timeout = milliseconds("\"pingTimeout\"").unwrap_or(PING_TIMEOUT);
    let idle = Duration::from_millis(interval.saturating_add(timeout));
    Some(OpenPacket { sid: sid.into(), idle })
}

/// What stands behind a quoted name and its colon.
fn value<'a>(object: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = object.split_once(name)?;
    rest.trim_start().strip_prefix(':').map(str::trim_start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::MAX_KEY;

    const OBJECT: &str = r#"{"sid":"a-_9","upgrades":["websocket"],"pingInterval":300,"pingTimeout":200,"maxPayload":100000}"#;

    fn open(sid: &str, idle: u64) -> Look {
        Look::Open(OpenPacket { sid: sid.into(), idle: Duration::from_millis(idle) })
    }

    #[test]
    fn the_open_packet_is_found_in_all_its_forms() {
        assert_eq!(look(format!("0{OBJECT}").as_bytes()), open("a-_9", 500));
        assert_eq!(look(format!("97:0{OBJECT}2:40").as_bytes()), open("a-_9", 500));
        let binary = [b"\x00\x09\x07\xff0".as_slice(), OBJECT.as_bytes()].concat();
        assert_eq!(look(&binary), open("a-_9", 500));
        assert_eq!(look(br#"0{ "sid" : "x" }"#), open("x", 45_000));
    }

    #[test]
    fn every_beginning_is_incomplete() {
        let whole = format!("97:0{OBJECT}");
        for end in 0..whole.len() {
            assert_eq!(look(&whole.as_bytes()[..end]), Look::Incomplete, "at {end}");
        }
    }

    #[test]
    fn other_bodies_are_told_at_once() {
        for other in [
            r#"{"code":1}"#,
            "<html>",
            "40{\"sid\":\"a\"}x",
            r#"0{"sid":7}"#,
            r#"0{"sid":""}"#,
            r#"0{"sid":"a\"b"}"#,
            "0123456789012345",
        ] {
            assert_eq!(look(other.as_bytes()), Look::Other, "{other}");
        }
        let long = format!(r#"0{{"sid":"{}"}}"#, "x".repeat(MAX_KEY + 1));
        assert_eq!(look(long.as_bytes()), Look::Other);
    }
}
