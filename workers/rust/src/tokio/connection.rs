//! A client's connection for tokio.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use ::tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use ::tokio::net::{TcpStream, UnixStream};

use crate::connection as blocking;
use crate::core::Open;

/// The socket of a connection, in non-blocking mode.
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
    /// Makes the socket non-blocking and gives it to the runtime; closed and counted on failure.
    pub(super) fn from_blocking(connection: blocking::Connection) -> io::Result<Self> {
        let (client, listener) = (connection.client(), connection.listener());
        let (stream, open) = connection.into_parts();
        stream.set_nonblocking(true)?;
        let stream = match stream {
            blocking::Stream::Tcp(stream) => Stream::Tcp(TcpStream::from_std(stream)?),
            blocking::Stream::Unix(stream) => Stream::Unix(UnixStream::from_std(stream)?),
        };
        Ok(Self { stream, client, listener, open })
    }

    pub(super) fn alone(stream: TcpStream, client: SocketAddr) -> Self {
        let stream = Stream::Tcp(stream);
        Self { stream, client: Some(client), listener: Some(0), open: Open::alone() }
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
    /// Takes the socket out of the runtime and makes it blocking again.
    pub(super) fn into_blocking(self) -> io::Result<blocking::Stream> {
        let stream = match self {
            Self::Tcp(stream) => blocking::Stream::Tcp(stream.into_std()?),
            Self::Unix(stream) => blocking::Stream::Unix(stream.into_std()?),
        };
        stream.set_nonblocking(false)?;
        Ok(stream)
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_write_vectored(context, buffers),
            Stream::Unix(stream) => Pin::new(stream).poll_write_vectored(context, buffers),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_flush(context),
            Stream::Unix(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
