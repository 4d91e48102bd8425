//! The floor: the least that any supervisor must do for a connection.
//!
//! It accepts, peeks, sends the socket to the next worker in turn and closes it: four system calls,
//! no memory, no look at the bytes, no event loop. It starts its workers as sticky-run does, so that
//! the same worker runs under both; but it reads nothing after their `READY`, restarts nobody and
//! ends with the first error.

use std::fs::File;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::process::{Child, Command};

use anyhow::{Context, ensure};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, socketpair};
use sticky_worker::message::PROTOCOL;

use crate::args::Floor;
use crate::fdpass;

/// How much of a request the floor looks at, in bytes.
const PEEKED: usize = 4096;
/// For how long the kernel keeps a connection that says nothing, in seconds (tcp(7)).
const DEFER_ACCEPT: i32 = 10;

/// Serves until it is killed. Errors when it cannot start, or when a channel or the listener fails.
pub fn run(floor: &Floor) -> anyhow::Result<()> {
    let listener = TcpListener::bind(floor.listen)
        .with_context(|| format!("cannot listen on {}, is it in use?", floor.listen))?;
    defer_accept(&listener).context("cannot set TCP_DEFER_ACCEPT")?;
    let workers = (0..floor.workers)
        .map(|slot| spawn(floor, slot))
        .collect::<anyhow::Result<Vec<FloorWorker>>>()?;
    eprintln!("listening on {}", listener.local_addr()?);
    serve(&listener, &workers).context("the floor cannot go on")
}

fn serve(listener: &TcpListener, workers: &[FloorWorker]) -> io::Result<()> {
    let mut head = [0; PEEKED];
    for worker in workers.iter().cycle() {
        let (connection, client) = listener.accept()?;
        connection.peek(&mut head)?;
        let mut line = [0; 96];
        fdpass::send(&worker.channel, conn(client, &mut line)?, &connection)?;
    }
    Ok(())
}

/// The message that goes with a connection.
fn conn(client: SocketAddr, line: &mut [u8]) -> io::Result<&[u8]> {
    let room = line.len();
    let mut rest = &mut *line;
    writeln!(rest, "CONN client={client} listener=0")?;
    let written = room - rest.len();
    Ok(&line[..written])
}

/// A worker that the floor has started.
#[derive(Debug)]
pub struct FloorWorker {
    /// The supervisor's end of its channel. Closed, it makes the worker stop.
    pub channel: OwnedFd,
    /// The process, for those who wait for its end; the floor does not.
    pub process: Child,
}

/// Starts one worker and waits until it is ready. Errors when it does not run or says something else.
pub fn spawn(floor: &Floor, slot: u16) -> anyhow::Result<FloorWorker> {
    let (ours, theirs) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::empty())
            .context("cannot make a channel")?;
    fcntl(&ours, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).context("cannot keep a channel private")?;
    let theirs = File::from(theirs);
    let (program, arguments) = floor.command.split_first().context("no command for the worker")?;
    let process = Command::new(program)
        .args(arguments)
        .env("STICKY_CHANNEL", theirs.as_raw_fd().to_string())
        .env("STICKY_CHANNEL_INODE", theirs.metadata()?.ino().to_string())
        .env("STICKY_PROTOCOL", PROTOCOL.to_string())
        .env("STICKY_WORKER_ID", slot.to_string())
        .env("STICKY_WORKERS", floor.workers.to_string())
        .spawn()
        .with_context(|| format!("cannot run {program}"))?;
    // With the worker's end closed here, a worker that dies at once is an end of file.
    drop(theirs);
    let mut message = [0; 64];
    let size = recv(ours.as_raw_fd(), &mut message, MsgFlags::empty())?;
    ensure!(message[..size].starts_with(b"READY"), "worker {slot} did not say READY");
    Ok(FloorWorker { channel: ours, process })
}

#[expect(unsafe_code, reason = "neither std nor nix nor socket2 sets TCP_DEFER_ACCEPT")]
fn defer_accept(listener: &TcpListener) -> io::Result<()> {
    let seconds = DEFER_ACCEPT;
    // SAFETY: the pointer leads to a local of the length that stands beside it.
    let result = unsafe {
        libc::setsockopt(
            listener.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_DEFER_ACCEPT,
            (&raw const seconds).cast(),
            size_of_val(&seconds) as libc::socklen_t,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_is_the_one_of_the_protocol() {
        let mut line = [0; 96];
        let text = conn("127.255.255.254:65535".parse().unwrap(), &mut line).unwrap();
        assert_eq!(text, b"CONN client=127.255.255.254:65535 listener=0\n");
    }
}
