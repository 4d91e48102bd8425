//! Bodies of requests, as the test worker reads them (RFC 9112, sections 6 and 7).

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;

/// Reads the body of a request whose head and first bytes were read, and says what it was.
pub fn digest(stream: &mut TcpStream, head: &str, rest: Vec<u8>) -> io::Result<String> {
    let header = |name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    };
    if header("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue")) {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    let mut body = BufReader::new(io::Cursor::new(rest).chain(stream));
    let mut digest = Digest::default();
    if header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        while let size @ 1.. = chunk_size(&mut body)? {
            digest.take(&mut body, size)?;
            body.read_line(&mut String::new())?;
        }
    } else {
        let length = header("content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
        digest.take(&mut body, length)?;
    }
    Ok(digest.lines())
}

/// Reads everything up to the end of the connection, and says what it was.
pub fn digest_all(stream: &mut impl Read) -> io::Result<String> {
    let mut digest = Digest::default();
    let mut chunk = vec![0; 65536];
    loop {
        match stream.read(&mut chunk)? {
            0 => return Ok(digest.lines()),
            count => digest.add(&chunk[..count]),
        }
    }
}

fn chunk_size(body: &mut impl BufRead) -> io::Result<u64> {
    let mut line = String::new();
    body.read_line(&mut line)?;
    u64::from_str_radix(line.trim(), 16).map_err(io::Error::other)
}

/// FNV-1a (Fowler, Noll, Vo), 64 bits: any change of the bytes or of their order shows.
#[derive(Debug)]
pub struct Digest {
    /// The bytes so far.
    pub length: u64,
    /// Their hash.
    pub hash: u64,
}

impl Default for Digest {
    fn default() -> Self {
        Self { length: 0, hash: 0xCBF2_9CE4_8422_2325 }
    }
}

impl Digest {
    /// What the test worker answers about bytes with this digest.
    pub fn lines(&self) -> String {
        format!("length={}\ndigest={:016x}\n", self.length, self.hash)
    }

    /// Adds bytes.
    pub fn add(&mut self, bytes: &[u8]) {
        self.length += bytes.len() as u64;
        for byte in bytes {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3);
        }
    }

    fn take(&mut self, from: &mut impl Read, mut left: u64) -> io::Result<()> {
        let mut chunk = vec![0; 65536];
        while left > 0 {
            let most = chunk.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let count = from.read(&mut chunk[..most])?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.add(&chunk[..count]);
            left -= count as u64;
        }
        Ok(())
    }
}
