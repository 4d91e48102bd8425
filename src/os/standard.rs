//! Standard output and error as places for lines that nobody has to read.
//!
//! They must never stop the supervisor, so nothing is written where it would have to wait.
//! Others share these descriptors, so they are not made non-blocking; what is not longer than
//! `PIPE_BUF` does not block a pipe that polls as writable, and is not mixed with others (`pipe(7)`).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use nix::errno::Errno;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::logic::output::{LONGEST, Stream};

/// Writes to standard output or error at once, or fails: `WouldBlock` is about room, other errors are
/// those of `write(2)`. Only the first [`LONGEST`] bytes are written.
pub fn write(to: Stream, bytes: &[u8]) -> io::Result<()> {
    match to {
        Stream::Stdout => write_to(io::stdout().as_fd(), bytes),
        Stream::Stderr => write_to(io::stderr().as_fd(), bytes),
    }
}

/// The number of the descriptor.
pub fn number(of: Stream) -> RawFd {
    match of {
        Stream::Stdout => io::stdout().as_raw_fd(),
        Stream::Stderr => io::stderr().as_raw_fd(),
    }
}

fn write_to(place: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<()> {
    let mut asked = [PollFd::new(&place, PollFlags::OUT)];
    if poll(&mut asked, Some(&Timespec::default()))? == 0 {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    let mut rest = &bytes[..bytes.len().min(LONGEST)];
    while !rest.is_empty() {
        match nix::unistd::write(place, rest) {
            Ok(written) => rest = &rest[written..],
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}
