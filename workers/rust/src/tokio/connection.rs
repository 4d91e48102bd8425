//! A client's connection for tokio.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use ::tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use ::tokio::net::{TcpStream, UnixStream};

use crate::accepted::{Accepted, is_all, parts};
use crate::connection as blocking;
use crate::core::Open;
use crate::keepalive::{Kept, Look, MayRead};
use crate::outbox::Ticket;
use crate::peek::{self, Wait};

/// The socket of a connection, in non-blocking mode.
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
    kept: Kept,
    /// Who reads, while the next request waits for an answer to be written.
    reader: Option<Waker>,
    /// What has to be said before more is written.
    announced: Option<Ticket>,
}

impl Connection {
    /// Makes the socket non-blocking and gives it to the runtime; closed and counted on failure.
    pub(super) fn from_blocking(connection: blocking::Connection) -> io::Result<Self> {
        let (stream, accepted) = connection.take_apart();
        stream.set_nonblocking(true)?;
        let stream = match stream {
            blocking::Stream::Tcp(stream) => Stream::Tcp(TcpStream::from_std(stream)?),
            blocking::Stream::Unix(stream) => Stream::Unix(UnixStream::from_std(stream)?),
        };
        let watched = accepted.open.is_watched().then(Box::default);
        Ok(Self { stream, accepted, watched })
    }

    pub(super) fn alone(stream: TcpStream, client: SocketAddr) -> Self {
        let (stream, accepted) = (Stream::Tcp(stream), Accepted::alone(Some(client)));
        Self { stream, accepted, watched: None }
    }

    /// The client's address; none for a client of a Unix listener.
    pub fn client(&self) -> Option<SocketAddr> {
        self.accepted.client
    }

    /// The number of the listener, counted from 0 in the order of the supervisor's `--listen`.
    pub fn listener(&self) -> Option<u16> {
        self.accepted.listener
    }

    /// The socket, for its options. Read and write through the connection.
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

    pub(super) fn take_apart(self) -> (Stream, Open) {
        (self.stream, self.accepted.open)
    }

    fn may_read(&self) -> MayRead {
        self.watched.as_ref().map_or(MayRead::All, |watched| watched.kept.may_read())
    }

    /// Looks at what is there.
    fn poll_look(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Look>> {
        let Some(Watched { kept, .. }) = self.watched.as_deref_mut() else {
            return Poll::Ready(Ok(Look::Read));
        };
        loop {
            ready!(self.stream.poll_read_ready(context))?;
            let fd = self.stream.as_fd();
            let look = self.stream.try_read_with(|| {
                let (look, count) = peek::peek(&fd, Wait::Never, |bytes| {
                    (self.accepted.look(kept, bytes, true), bytes.len())
                })?;
                match look {
                    Look::Incomplete if is_all(&fd, count) => kept.set_free(),
                    Look::Incomplete => return Err(io::ErrorKind::WouldBlock.into()),
                    Look::Read | Look::Unanswered | Look::Elsewhere => {}
                }
                Ok(look)
            });
            match look {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                look => return Poll::Ready(look),
            }
        }
    }

    /// Announces what is about to be given out, before the client can know it.
    fn poll_announce(&mut self, context: &mut Context<'_>, buffers: &[IoSlice<'_>]) -> Poll<()> {
        let Some(watched) = self.watched.as_deref_mut() else { return Poll::Ready(()) };
        if watched.announced.is_none() {
            let announced = self.accepted.announce(&watched.kept, buffers);
            watched.announced = announced.map(|(_, ticket)| ticket);
        }
        match watched.announced {
            // The channel is full, which the supervisor ends at once.
            Some(ticket) if self.accepted.open.is_to_be_sent(ticket) => {
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Some(_) | None => {
                watched.announced = None;
                Poll::Ready(())
            }
        }
    }

    /// The server has written this.
    fn wrote(&mut self, bytes: &[u8]) {
        if let Some(watched) = self.watched.as_deref_mut()
            && watched.kept.wrote(bytes)
            && let Some(reader) = watched.reader.take()
        {
            reader.wake();
        }
    }

    /// Nothing can be written to a connection that has left.
    fn check_here(&self) -> io::Result<()> {
        match self.may_read() {
            MayRead::Nothing => Err(io::ErrorKind::BrokenPipe.into()),
            MayRead::All | MayRead::UpTo(_) | MayRead::AfterALook => Ok(()),
        }
    }
}

impl Stream {
    fn poll_read_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_read_ready(context),
            Self::Unix(stream) => stream.poll_read_ready(context),
        }
    }

    /// Does what would block if nothing could be read.
    fn try_read_with<T>(&self, read: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        match self {
            Self::Tcp(stream) => stream.try_io(Interest::READABLE, read),
            Self::Unix(stream) => stream.try_io(Interest::READABLE, read),
        }
    }

    fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }

    /// Reads no more than so many bytes, and says how many it were.
    fn poll_read_some(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
        most: u64,
    ) -> Poll<io::Result<usize>> {
        let mut part = buffer.take(usize::try_from(most).unwrap_or(usize::MAX));
        ready!(self.poll_read(context, &mut part))?;
        let count = part.filled().len();
        advance(buffer, count);
        Poll::Ready(Ok(count))
    }
}

/// Counts bytes that were read into a part of the buffer.
#[expect(unsafe_code, reason = "the buffer cannot see what its part was filled with")]
fn advance(buffer: &mut ReadBuf<'_>, count: usize) {
    // SAFETY: the part began where this one is filled up to, and had so many bytes filled.
    unsafe { buffer.assume_init(count) };
    buffer.advance(count);
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
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
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            match this.may_read() {
                MayRead::All => return this.stream.poll_read(context, buffer),
                MayRead::Nothing => return Poll::Ready(Ok(())),
                MayRead::UpTo(most) => {
                    let count = ready!(this.stream.poll_read_some(context, buffer, most))?;
                    if let Some(watched) = &mut this.watched {
                        watched.kept.read(count);
                    }
                    return Poll::Ready(Ok(()));
                }
                MayRead::AfterALook => {}
            }
            let look = ready!(this.poll_look(context))?;
            let Some(watched) = &mut this.watched else { continue };
            match look {
                Look::Read | Look::Incomplete => {}
                Look::Unanswered => {
                    watched.reader = Some(context.waker().clone());
                    return Poll::Pending;
                }
                Look::Elsewhere => {
                    watched.kept.leave();
                    this.accepted.open.give_back(&this.stream);
                }
            }
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.check_here()?;
        ready!(this.poll_announce(context, &[IoSlice::new(bytes)]));
        let count = ready!(match &mut this.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
        })?;
        this.wrote(&bytes[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.check_here()?;
        ready!(this.poll_announce(context, buffers));
        let count = ready!(match &mut this.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_write_vectored(context, buffers),
            Stream::Unix(stream) => Pin::new(stream).poll_write_vectored(context, buffers),
        })?;
        parts(buffers, count).for_each(|part| this.wrote(part));
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What was written is in the kernel.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.check_here().is_err() {
            return Poll::Ready(Ok(()));
        }
        if let Some(watched) = &mut this.watched {
            watched.kept.set_free();
            watched.reader.take().into_iter().for_each(Waker::wake);
        }
        match &mut this.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
