//! Where the body of a message of HTTP/1.1 ends (RFC 9112, sections 6 and 7).
//!
//! A mistaken end would make a client's bytes a request, so whatever two readers could read in two
//! ways is [`Unclear`]: both headers or one of them twice, another coding than `chunked`, lines that
//! do not end in CR LF.

use httparse::Header;

/// More digits than the size of any chunk needs.
const MOST_DIGITS: u8 = 15;

/// Nobody can be sure where a message ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Unclear;

/// What is left of a body.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Body {
    /// So many bytes.
    Length(u64),
    /// Chunks, from here on.
    Chunked(Chunked),
}

/// Where in a chunked body.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Chunked {
    /// In the size of a chunk.
    Size { size: u64, digits: u8 },
    /// Behind the size, in what may follow it.
    Extension { size: u64 },
    /// Behind the CR of that line.
    SizeEnd { size: u64 },
    /// In a chunk, with so much of it to come.
    Data { left: u64 },
    /// Behind a chunk.
    DataEnd,
    /// Behind the CR there.
    DataEndLf,
    /// At the start of a line behind the last chunk.
    TrailerStart,
    /// In such a line.
    Trailer,
    /// Behind its CR.
    TrailerLf,
    /// Behind the CR of the empty line.
    LastLf,
    /// Behind everything.
    Over,
}

impl Body {
    /// What the headers of a message say of its body, if they say something.
    pub(super) fn told_by(headers: &[Header<'_>]) -> Result<Option<Self>, Unclear> {
        let mut told = None;
        for header in headers {
            let body = if header.name.eq_ignore_ascii_case("content-length") {
                Self::Length(length(header.value).ok_or(Unclear)?)
            } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
                let chunked = header.value.trim_ascii().eq_ignore_ascii_case(b"chunked");
                chunked.then(Self::chunked).ok_or(Unclear)?
            } else {
                continue;
            };
            if told.replace(body).is_some() {
                return Err(Unclear);
            }
        }
        Ok(told)
    }

    /// The beginning of a chunked one.
    pub(super) fn chunked() -> Self {
        Self::Chunked(Chunked::START)
    }

    /// Whether nothing of it is left.
    pub(super) fn is_over(&self) -> bool {
        matches!(self, Self::Length(0) | Self::Chunked(Chunked::Over))
    }

    /// Goes on over these bytes; returns how many of them belong to it.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<usize, Unclear> {
        match self {
            Self::Length(left) => Ok(take_of(left, bytes)),
            Self::Chunked(chunked) => chunked.take(bytes),
        }
    }
}

impl Chunked {
    const START: Self = Self::Size { size: 0, digits: 0 };

    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<usize, Unclear> {
        let mut taken = 0;
        while taken < bytes.len() && *self != Self::Over {
            if let Self::Data { left } = self {
                taken += take_of(left, &bytes[taken..]);
                if *left == 0 {
                    *self = Self::DataEnd;
                }
            } else {
                *self = self.step(bytes[taken])?;
                taken += 1;
            }
        }
        Ok(taken)
    }

    /// Where one byte leads that is not of a chunk's data.
    fn step(self, byte: u8) -> Result<Self, Unclear> {
        Ok(match (self, byte) {
            (Self::Size { size, digits }, _)
                if byte.is_ascii_hexdigit() && digits < MOST_DIGITS =>
            {
                let digit = char::from(byte).to_digit(16).map_or(0, u64::from);
                Self::Size { size: size << 4 | digit, digits: digits + 1 }
            }
            (Self::Size { size, digits: 1.. } | Self::Extension { size }, b'\r') => {
                Self::SizeEnd { size }
            }
            (Self::Size { size, digits: 1.. }, b';' | b' ' | b'\t') => Self::Extension { size },
            (Self::Extension { size }, _) if byte != b'\n' => Self::Extension { size },
            (Self::SizeEnd { size: 0 }, b'\n') => Self::TrailerStart,
            (Self::SizeEnd { size }, b'\n') => Self::Data { left: size },
            (Self::DataEnd, b'\r') => Self::DataEndLf,
            (Self::DataEndLf, b'\n') => Self::START,
            (Self::TrailerStart, b'\r') => Self::LastLf,
            (Self::Trailer, b'\r') => Self::TrailerLf,
            (Self::TrailerStart | Self::Trailer, _) if byte != b'\n' => Self::Trailer,
            (Self::TrailerLf, b'\n') => Self::TrailerStart,
            (Self::LastLf, b'\n') => Self::Over,
            (
                Self::Size { .. }
                | Self::Extension { .. }
                | Self::SizeEnd { .. }
                | Self::Data { .. }
                | Self::DataEnd
                | Self::DataEndLf
                | Self::TrailerStart
                | Self::Trailer
                | Self::TrailerLf
                | Self::LastLf
                | Self::Over,
                _,
            ) => return Err(Unclear),
        })
    }
}

/// Digits and nothing else, as RFC 9110 section 8.6 wants.
fn length(value: &[u8]) -> Option<u64> {
    let value = value.trim_ascii();
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    str::from_utf8(value).ok().filter(|_| digits)?.parse().ok()
}

/// Takes as many of the bytes as are left, and says how many.
fn take_of(left: &mut u64, bytes: &[u8]) -> usize {
    let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
    *left -= taken as u64;
    taken
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn told(headers: &[(&'static str, &'static str)]) -> Result<Option<Body>, Unclear> {
        let header =
            |(name, value): &(&'static str, &'static str)| Header { name, value: value.as_bytes() };
        Body::told_by(&headers.iter().map(header).collect::<Vec<_>>())
    }

    #[test]
    fn a_body_is_told_by_one_header_or_it_is_unclear() {
        assert_eq!(told(&[("Host", "a")]), Ok(None));
        assert_eq!(told(&[("content-LENGTH", " 17 ")]), Ok(Some(Body::Length(17))));
        assert_eq!(told(&[("Transfer-Encoding", "Chunked")]), Ok(Some(Body::chunked())));
        for unclear in [
            &[("Content-Length", "+1")][..],
            &[("Content-Length", "")],
            &[("Content-Length", "1, 1")],
            &[("Content-Length", "0x1")],
            &[("Content-Length", "99999999999999999999")],
            &[("Content-Length", "1"), ("Content-Length", "1")],
            &[("Content-Length", "1"), ("Transfer-Encoding", "chunked")],
            &[("Transfer-Encoding", "chunked"), ("Content-Length", "1")],
            &[("Transfer-Encoding", "chunked"), ("Transfer-Encoding", "chunked")],
            &[("Transfer-Encoding", "gzip, chunked")],
            &[("Transfer-Encoding", "xchunked")],
            &[("Transfer-Encoding", "identity")],
        ] {
            assert_eq!(told(unclear), Err(Unclear), "{unclear:?}");
        }
    }

    fn end_of(bytes: &[u8]) -> Result<(usize, bool), Unclear> {
        let mut body = Body::chunked();
        body.take(bytes).map(|taken| (taken, body.is_over()))
    }

    #[test]
    fn chunks_end_behind_the_empty_line() {
        for body in [
            "0\r\n\r\n",
            "5\r\nhello\r\n0\r\n\r\n",
            "5;name=\"value; 0\"\r\nhe\r\no\r\n000\r\n\r\n",
            "A \r\n0\r\n\r\n0\r\n\r\n\r\n0;x\r\nOne: 1\r\nTwo:\r\n\r\n",
        ] {
            let next = format!("{body}GET / HTTP/1.1\r\n");
            assert_eq!(end_of(next.as_bytes()), Ok((body.len(), true)), "{body:?}");
        }
        assert_eq!(end_of(b"5\r\nhel"), Ok((6, false)));
    }

    #[test]
    fn chunks_that_can_be_read_in_two_ways_are_unclear() {
        for body in [
            "5\nhello\r\n",
            "\r\n",
            ";x\r\n",
            "5;x\n",
            "5\r\r\n",
            "-5\r\n",
            "0x5\r\n",
            "5\r\nhelloo\r\n",
            "5\r\nhello\n",
            "0\r\nA: b\n\r\n",
            "0\r\n\n",
            "1000000000000000\r\n",
        ] {
            assert_eq!(end_of(body.as_bytes()), Err(Unclear), "{body:?}");
        }
    }

    proptest! {
        #[test]
        fn the_end_is_the_same_however_the_bytes_are_cut(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..5),
            cuts in prop::collection::vec(1_usize..20, 1..60),
        ) {
            let mut bytes = Vec::new();
            for chunk in &chunks {
                bytes.extend(format!("{:x}\r\n", chunk.len()).bytes());
                bytes.extend(chunk);
                bytes.extend(b"\r\n");
            }
            bytes.extend(b"0\r\n\r\n");
            let end = bytes.len();
            bytes.extend(b"0\r\n\r\nGET");
            let (mut body, mut at) = (Body::chunked(), 0);
            for cut in cuts.iter().cycle() {
                if body.is_over() {
                    break;
                }
                let part = &bytes[at..bytes.len().min(at + cut)];
                at += body.take(part).unwrap();
            }
            prop_assert_eq!(at, end);
        }

        #[test]
        fn no_bytes_are_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let mut body = Body::chunked();
            if let Ok(taken) = body.take(&bytes) {
                prop_assert!(taken == bytes.len() || body.is_over());
            }
        }
    }
}
