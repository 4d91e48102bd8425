//! A client's connection, blocking.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockaddrLike, SockaddrStorage, getsockname};

use crate::core::{Arrival, Open};

/// The socket of a connection, in blocking mode.
#[derive(Debug)]
pub enum Stream {
    /// A client of an IPv4 or IPv6 listener.
    Tcp(TcpStream),
    /// A client of a Unix listener.
    Unix(UnixStream),
}

/// A client's connection. Dropping it closes the socket and counts it as closed.
#[derive(Debug)]
pub struct Connection {
    // The socket goes first when this is dropped, so that what is counted as closed is.
    stream: Stream,
    client: Option<SocketAddr>,
    listener: Option<u16>,
    open: Open,
}

impl Connection {
    /// Tells the family from the socket itself. When it is none that can be served, the socket is
    /// closed and counted.
    pub(crate) fn from_arrival(arrival: Arrival) -> io::Result<Self> {
        let Arrival { fd, client, listener, open } = arrival;
        Ok(Self { stream: Stream::from_fd(fd)?, client, listener, open })
    }

    pub(crate) fn alone(stream: Stream, client: Option<SocketAddr>) -> Self {
        Self { stream, client, listener: Some(0), open: Open::alone() }
    }

    /// The client's address; none for a client of a Unix listener.
    pub fn client(&self) -> Option<SocketAddr> {
        self.client
    }

    /// The number of the listener, counted from 0 in the order of the supervisor's `--listen`.
    pub fn listener(&self) -> Option<u16> {
        self.listener
    }

    /// The socket.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Takes the connection apart. Drop the [`Open`] when the socket is closed.
    pub fn into_parts(self) -> (Stream, Open) {
        (self.stream, self.open)
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
macro_rules! by_stream {
    ($($kind:ty),*) => {$(
        impl Read for $kind {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                (&self.stream).read(buffer)
            }

            fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
                (&self.stream).read_vectored(buffers)
            }
        }

        impl Write for $kind {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                (&self.stream).write(bytes)
            }

            fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
                (&self.stream).write_vectored(buffers)
            }

            fn flush(&mut self) -> io::Result<()> {
                (&self.stream).flush()
            }
        }
    )*};
}

by_stream!(Connection, &Connection);
