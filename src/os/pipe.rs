//! Pipes that workers write to, `pipe(7)`.

use std::io::{self, PipeReader, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::{Mode, fchmod};

/// The supervisor's end of a pipe. Reading never waits.
#[derive(Debug)]
pub struct Pipe(PipeReader);

/// What one read brought.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PipeRead {
    /// So many bytes.
    Bytes(usize),
    /// Nothing for now.
    Nothing,
    /// Nothing ever again.
    End,
}

impl Pipe {
    /// A new pipe and the end that a worker inherits; writing to that one waits for room. Errors are
    /// those of `pipe2(2)`.
    pub fn new() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = io::pipe()?;
        fcntl(&ours, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        // Programs open /dev/stdout, and a worker may be another user than the supervisor.
        fchmod(&theirs, Mode::from_bits_truncate(0o622))?;
        Ok((Self(ours), theirs.into()))
    }

    /// Goes on with the supervisor's end of a pipe from before an upgrade.
    pub fn resumed(ours: OwnedFd) -> Self {
        Self(ours.into())
    }

    /// Reads what is there. A pipe that cannot be read any more has ended.
    pub fn read(&mut self, into: &mut [u8]) -> PipeRead {
        loop {
            return match self.0.read(into) {
                Ok(0) => PipeRead::End,
                Ok(len) => PipeRead::Bytes(len),
                Err(error) => match Errno::from_raw(error.raw_os_error().unwrap_or(0)) {
                    Errno::EINTR => continue,
                    Errno::EAGAIN => PipeRead::Nothing,
                    _ => PipeRead::End,
                },
            };
        }
    }
}

impl AsFd for Pipe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Pipe {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
