//! A client's connection, blocking.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockaddrLike, SockaddrStorage, getsockname};

use crate::accepted::{Accepted, is_all, parts};
use crate::core::{Arrival, Open};
use crate::head::MAX_HEAD;
use crate::keepalive::{Kept, Look, MayRead};
use crate::patience::{self, SHORTEST};
use crate::peek::{self, Wait};
use crate::room::has_room;
use crate::session::wait_sent;

/// The socket of a connection, in blocking mode.
#[derive(Debug)]
pub enum Stream {
    /// A client of an IPv4 or IPv6 listener.
    Tcp(TcpStream),
    /// A client of a Unix listener.
    Unix(UnixStream),
}

/// A client's connection. Dropping it closes the socket and counts it as closed.
///
/// Reading from it looks at each request first, see [the crate's front page](crate#kept-connections).
#[derive(Debug)]
pub struct Connection {
    // The socket goes first when this is dropped, so that what is counted as closed is.
    stream: Stream,
    accepted: Accepted,
    /// What is known of its requests, if anybody asks.
    watched: Option<Box<Watched>>,
}

#[derive(Debug, Default)]
struct Watched {
    kept: Mutex<Kept>,
    /// Held by the thread that reads.
    reading: Mutex<()>,
}

impl Watched {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    /// Tells the family from the socket itself. When it is none that can be served, the socket is
    /// closed and counted.
    pub(crate) fn from_arrival(arrival: Arrival) -> io::Result<Self> {
        let Arrival { fd, accepted } = arrival;
        let watched = accepted.open.is_watched().then(Box::default);
        Ok(Self { stream: Stream::from_fd(fd)?, accepted, watched })
    }

    pub(crate) fn alone(stream: Stream, client: Option<SocketAddr>) -> Self {
        Self { stream, accepted: Accepted::alone(client), watched: None }
    }

    /// The client's address; none for a client of a Unix listener.
    pub fn client(&self) -> Option<SocketAddr> {
        self.accepted.client
    }

    /// The number of the listener, counted from 0 in the order of the supervisor's `--listen`.
    pub fn listener(&self) -> Option<u16> {
        self.accepted.listener
    }

    /// The socket, for its options and to shut it down. Read and write through the connection.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Takes the connection apart. Drop the [`Open`] when the socket is closed.
    ///
    /// Nobody looks at the requests that are read from the socket then.
    pub fn into_parts(self) -> (Stream, Open) {
        self.accepted.open.note_unwatched();
        (self.stream, self.accepted.open)
    }

    pub(crate) fn take_apart(self) -> (Stream, Accepted) {
        (self.stream, self.accepted)
    }

    /// Reads as many bytes as may be read now, with a call that is told how many.
    fn read_some(&self, read: impl FnOnce(usize) -> io::Result<usize>) -> io::Result<usize> {
        let Some(watched) = &self.watched else { return read(usize::MAX) };
        let _turn = watched.reading.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let may_read = watched.kept().may_read();
            match may_read {
                MayRead::All => return read(usize::MAX),
                MayRead::Nothing => return Ok(0),
                MayRead::UpTo(most) => {
                    let count = read(usize::try_from(most).unwrap_or(usize::MAX))?;
                    watched.kept().read(count);
                    return Ok(count);
                }
                MayRead::AfterALook => self.look(watched)?,
            }
        }
    }

    /// Waits until something is there, and looks at it.
    fn look(&self, watched: &Watched) -> io::Result<()> {
        let (look, count) = peek::peek(&self.stream, Wait::ForAnything, |bytes| {
            // A thread that waited here for an answer to be written could be the one to write it.
            (self.accepted.look(&mut watched.kept(), bytes, false), bytes.len())
        })?;
        match look {
            Look::Read | Look::Unanswered => Ok(()),
            Look::Incomplete => self.wait_for_more(watched, count),
            Look::Elsewhere => {
                watched.kept().leave();
                self.leave()
            }
        }
    }

    /// Waits until more than so many bytes are there.
    fn wait_for_more(&self, watched: &Watched, count: usize) -> io::Result<()> {
        if !has_room(&self.stream, count, MAX_HEAD) {
            watched.kept().set_free();
            return Ok(());
        }
        if !peek::is_blocking(&self.stream)? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let (start, timeout) = (patience::now(), self.stream.read_timeout()?);
        while peek::peek(&self.stream, Wait::ForMoreThan(count), <[u8]>::len)? <= count {
            if is_all(&self.stream, count) {
                watched.kept().set_free();
                break;
            }
            if timeout.is_some_and(|timeout| start.elapsed() >= timeout) {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            // A Unix socket does not wait for more when something is there.
            patience::sleep(SHORTEST);
        }
        Ok(())
    }

    /// Gives the connection back. The server, which is told that the client has gone, may still do
    /// something to its socket.
    fn leave(&self) -> io::Result<()> {
        let dead_end = peek::dead_end()?;
        self.accepted.open.give_back(&self.stream);
        peek::replace(&self.stream, dead_end)
    }

    /// Announces what is about to be given out, before the client can know it.
    fn announce(&self, buffers: &[IoSlice<'_>]) {
        let Some(watched) = &self.watched else { return };
        let announced = self.accepted.announce(&watched.kept(), buffers);
        // A client is answered also when there is no supervisor any more.
        if let Some((core, ticket)) = announced
            && let Err(error) = wait_sent(core, ticket)
        {
            core.complain("announce a key", &error);
        }
    }

    fn wrote(&self, bytes: &[u8]) {
        if let Some(watched) = &self.watched {
            watched.kept().wrote(bytes);
        }
    }
}

impl Stream {
    fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        let address = getsockname::<SockaddrStorage>(fd.as_raw_fd())?;
        match address.family() {
            Some(AddressFamily::Inet | AddressFamily::Inet6) => Ok(Self::Tcp(fd.into())),
            Some(AddressFamily::Unix) => Ok(Self::Unix(fd.into())),
            _ => Err(Errno::EAFNOSUPPORT.into()),
        }
    }

    /// Makes the socket blocking or not, as `set_nonblocking` of the standard library's sockets.
    ///
    /// # Errors
    ///
    /// Those of `ioctl(2)`.
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_nonblocking(nonblocking),
            Self::Unix(stream) => stream.set_nonblocking(nonblocking),
        }
    }

    /// Limits how long a read waits; `None` for ever.
    ///
    /// # Errors
    ///
    /// Those of `setsockopt(2)`, and `InvalidInput` for a time of zero.
    pub fn set_read_timeout(&self, time: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_read_timeout(time),
            Self::Unix(stream) => stream.set_read_timeout(time),
        }
    }

    fn read_timeout(&self) -> io::Result<Option<Duration>> {
        match self {
            Self::Tcp(stream) => stream.read_timeout(),
            Self::Unix(stream) => stream.read_timeout(),
        }
    }

    /// Limits how long a write waits; `None` for ever.
    ///
    /// # Errors
    ///
    /// Those of [`set_read_timeout`](Self::set_read_timeout).
    pub fn set_write_timeout(&self, time: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_write_timeout(time),
            Self::Unix(stream) => stream.set_write_timeout(time),
        }
    }

    /// Ends one or both directions.
    ///
    /// # Errors
    ///
    /// Those of `shutdown(2)`.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.shutdown(how),
            Self::Unix(stream) => stream.shutdown(how),
        }
    }

    pub(crate) fn into_fd(self) -> OwnedFd {
        match self {
            Self::Tcp(stream) => stream.into(),
            Self::Unix(stream) => stream.into(),
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

impl Read for &Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => (&*stream).read(buffer),
            Stream::Unix(stream) => (&*stream).read(buffer),
        }
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => (&*stream).read_vectored(buffers),
            Stream::Unix(stream) => (&*stream).read_vectored(buffers),
        }
    }
}

impl Write for &Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => (&*stream).write(bytes),
            Stream::Unix(stream) => (&*stream).write(bytes),
        }
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => (&*stream).write_vectored(buffers),
            Stream::Unix(stream) => (&*stream).write_vectored(buffers),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads and writes by reference, so that one connection can be read and written at once.
impl Read for &Connection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = buffer.len();
        self.read_some(|most| (&self.stream).read(&mut buffer[..length.min(most)]))
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let length = buffers.iter().map(|buffer| buffer.len()).sum();
        self.read_some(|most| match buffers.iter_mut().find(|buffer| !buffer.is_empty()) {
            Some(first) if most < length => {
                let length = first.len().min(most);
                (&self.stream).read(&mut first[..length])
            }
            _ => (&self.stream).read_vectored(buffers),
        })
    }
}

impl Write for &Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.announce(&[IoSlice::new(bytes)]);
        let count = (&self.stream).write(bytes)?;
        self.wrote(&bytes[..count]);
        Ok(count)
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        self.announce(buffers);
        let count = (&self.stream).write_vectored(buffers)?;
        parts(buffers, count).for_each(|part| self.wrote(part));
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        (&self.stream).flush()
    }
}

impl Read for Connection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buffer)
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        (&*self).read_vectored(buffers)
    }
}

impl Write for Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self).write(bytes)
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        (&*self).write_vectored(buffers)
    }

    fn flush(&mut self) -> io::Result<()> {
        (&*self).flush()
    }
}
