//! Standard error as a place for log lines that nobody has to read.
//!
//! The log must never stop the supervisor, so a line that there is no room for is dropped and
//! counted, and so is one that cannot be written at all. Workers share the descriptor, so it is not
//! made non-blocking; a line that is not longer than `PIPE_BUF` does not block a pipe that polls as
//! writable, and is not mixed with others (`pipe(7)`).

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tracing_subscriber::fmt::MakeWriter;

/// `PIPE_BUF` of Linux.
const LONGEST: usize = 4096;

/// Where log lines go. Each is written at once or not at all.
#[derive(Debug, Default)]
pub struct Stderr {
    dropped: AtomicU64,
}

/// The writer of one line.
#[derive(Debug)]
pub struct Line<'a>(&'a Stderr);

impl<'a> MakeWriter<'a> for Stderr {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(self)
    }
}

impl Write for Line<'_> {
    /// Takes the whole line, whatever becomes of it.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let stderr = &self.0;
        let dropped = stderr.dropped.swap(0, Ordering::Relaxed);
        let notice = format!("({dropped} log lines dropped)\n");
        if (dropped > 0 && write(notice.as_bytes()).is_err()) || write(line).is_err() {
            stderr.dropped.fetch_add(dropped + 1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes a line to standard error, unless that would block.
pub fn write(line: &[u8]) -> io::Result<()> {
    let stderr = io::stderr();
    let mut asked = [PollFd::new(&stderr, PollFlags::OUT)];
    if poll(&mut asked, Some(&Timespec::default()))? == 0 {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    let line =
        if line.len() > LONGEST { [&line[..LONGEST - 1], b"\n"].concat() } else { line.to_vec() };
    stderr.lock().write_all(&line)
}
