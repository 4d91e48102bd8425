//! The worker of the bench: the native protocol as cheaply as one thread can speak it.
//!
//! It serves one connection after the other: reads the request, writes a fixed answer that says
//! which slot it lives in and how many sids it has announced, and closes. `GET /announce?n=N`
//! announces the slot's own sids ([`crate::sid`]) before it answers, until there are N.

use std::env;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, send};
use sticky_worker::message::{FromWorker, Key, MAX_MESSAGE};

use crate::clock;
use crate::fdpass::{self, Wait};
use crate::sid::sid;

/// The longest that finished connections go unreported (design: 10 ms at the latest).
const REPORT_AFTER: Duration = Duration::from_millis(10);
/// The longest request of the bench, in bytes.
const MAX_REQUEST: usize = 4096;

/// Serves until the channel ends. Errors when not started by a supervisor, or when the channel fails.
pub fn run() -> anyhow::Result<()> {
    let mut worker = Worker::from_env()?;
    worker.say(&FromWorker::Ready).context("cannot say READY")?;
    loop {
        match worker.next_message().context("the channel failed")? {
            Message::Connection(connection) => worker.serve(connection)?,
            Message::Ping => worker.say(&FromWorker::Pong)?,
            Message::Other => {}
            Message::End => return Ok(()),
        }
    }
}

/// What can come over the channel, as far as it matters here.
enum Message {
    Connection(OwnedFd),
    Ping,
    Other,
    /// The supervisor is gone.
    End,
}

struct Worker {
    /// The worker's end; blocking, as the protocol wants it.
    channel: OwnedFd,
    slot: u16,
    /// How many of the slot's sids the supervisor has been told.
    announced: u32,
    /// The whole answer to every request, made anew when `announced` changes.
    answer: String,
    /// Finished connections that the supervisor has not been told.
    closed: u32,
    /// When the first of them finished, or when telling was last tried.
    closed_since: Instant,
}

impl Worker {
    #[expect(unsafe_code, reason = "the channel is inherited as a number")]
    fn from_env() -> anyhow::Result<Self> {
        let number: RawFd = variable("STICKY_CHANNEL")?;
        ensure!(number > 2, "STICKY_CHANNEL={number} is no channel");
        // SAFETY: the supervisor has opened this descriptor for this process, which has opened
        // nothing of its own yet; the inode is compared before anything is read or written.
        let channel = File::from(unsafe { OwnedFd::from_raw_fd(number) });
        let inode = channel.metadata().context("the channel is not open")?.ino();
        ensure!(inode == variable("STICKY_CHANNEL_INODE")?, "fd {number} is not the channel");
        let slot = variable("STICKY_WORKER_ID")?;
        Ok(Self {
            channel: channel.into(),
            slot,
            announced: 0,
            answer: answer(slot, 0),
            closed: 0,
            closed_since: clock::now(),
        })
    }

    /// The next message. Before it sleeps, it reports.
    fn next_message(&mut self) -> io::Result<Message> {
        let mut buffer = [0; MAX_MESSAGE];
        let received = match fdpass::receive(&self.channel, &mut buffer, Wait::No) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.report_closed()?;
                fdpass::receive(&self.channel, &mut buffer, Wait::Yes)
            }
            other => other,
        };
        let (size, passed) = match received {
            // A supervisor that is killed leaves messages unread, and the end is a reset (unix(7)).
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                return Ok(Message::End);
            }
            other => other?,
        };
        Ok(match passed {
            Some(connection) => Message::Connection(connection),
            None if size == 0 => Message::End,
            None if buffer.starts_with(b"PING") => Message::Ping,
            None => Message::Other,
        })
    }

    /// Serves one connection. A client that fails costs a line on stderr; only the channel's errors
    /// are returned.
    fn serve(&mut self, connection: OwnedFd) -> io::Result<()> {
        let mut connection = TcpStream::from(connection);
        let mut request = [0; MAX_REQUEST];
        match read_request(&mut connection, &mut request) {
            Ok(request) => {
                if let Some(count) = wanted_sids(request) {
                    self.announce_up_to(count)?;
                }
                if let Err(error) = connection.write_all(self.answer.as_bytes()) {
                    eprintln!("worker {}: cannot answer: {error}", self.slot);
                }
            }
            Err(error) => eprintln!("worker {}: cannot read a request: {error}", self.slot),
        }
        drop(connection);
        self.count_closed()
    }

    fn announce_up_to(&mut self, count: u32) -> io::Result<()> {
        for index in self.announced..count {
            let key = Key::new(sid(self.slot, index)).expect("a sid is 20 bytes long");
            self.say(&FromWorker::Session(key))?;
            self.announced = index + 1;
        }
        self.answer = answer(self.slot, self.announced);
        Ok(())
    }

    fn count_closed(&mut self) -> io::Result<()> {
        let now = clock::now();
        if self.closed == 0 {
            self.closed_since = now;
        }
        self.closed += 1;
        if now.duration_since(self.closed_since) < REPORT_AFTER {
            return Ok(());
        }
        self.closed_since = now;
        self.report_closed()
    }

    /// Reports what is unreported, unless the channel is full: then it stays in the sum, for the
    /// floor never reads and must not stop its workers by that.
    fn report_closed(&mut self) -> io::Result<()> {
        if self.closed == 0 {
            return Ok(());
        }
        let message = FromWorker::Closed(self.closed).encode();
        match self.send(&message, MsgFlags::MSG_DONTWAIT) {
            Ok(()) => self.closed = 0,
            Err(Errno::EAGAIN) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn say(&self, message: &FromWorker) -> io::Result<()> {
        Ok(self.send(&message.encode(), MsgFlags::empty())?)
    }

    fn send(&self, message: &[u8], flags: MsgFlags) -> nix::Result<()> {
        send(self.channel.as_raw_fd(), message, flags | MsgFlags::MSG_NOSIGNAL).map(drop)
    }
}

#[expect(clippy::disallowed_methods, reason = "a worker learns its channel from its environment")]
fn variable<T: FromStr>(name: &str) -> anyhow::Result<T> {
    env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .with_context(|| format!("{name} is not set or not a number, is a supervisor there?"))
}

/// Reads up to the empty line that ends the head of a request.
fn read_request<'a>(from: &mut TcpStream, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
    let mut filled = 0;
    while !buffer[..filled].ends_with(b"\r\n\r\n") {
        match from.read(&mut buffer[filled..])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            size => filled += size,
        }
    }
    Ok(&buffer[..filled])
}

/// The N of `GET /announce?n=N`.
fn wanted_sids(request: &[u8]) -> Option<u32> {
    let digits = request.strip_prefix(b"GET /announce?n=")?.split(|byte| *byte == b' ').next()?;
    str::from_utf8(digits).ok()?.parse().ok()
}

fn answer(slot: u16, announced: u32) -> String {
    let body = format!("{slot} {announced}\n");
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_announce_path_announces() {
        assert_eq!(wanted_sids(b"GET /announce?n=500000 HTTP/1.1\r\n\r\n"), Some(500_000));
        assert_eq!(wanted_sids(b"GET /?n=5 HTTP/1.1\r\n\r\n"), None);
        assert_eq!(wanted_sids(b"GET /announce?n=many HTTP/1.1\r\n\r\n"), None);
    }
}
