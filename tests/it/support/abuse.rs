//! What a worker can do wrong with its channel, by name: `/abuse/NAME` in a request.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Write, pipe};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use std::{process, thread};

use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, setpgid};
use sendfd::SendWithFd;
use socket2::SockRef;
use sticky_run::logic::rng::Rng;

/// The most descriptors that one message can carry (`SCM_MAX_FD` of `unix(7)`).
const MOST_DESCRIPTORS: usize = 253;
/// Has each message come with a descriptor of whoever sent it (`unix(7)`).
const SO_PASSPIDFD: libc::c_int = 76;
/// So many sockets that are slow to close come at once.
const SLOW_AT_ONCE: usize = 10;
/// So often that is done, at most.
const MOST_SLOW: usize = 20;
/// Half a megabyte, and the most that is tried as one datagram.
const HALF_A_MEGABYTE: usize = 512 * 1024;

type Abuse = fn(&UnixDatagram, usize) -> io::Result<()>;

/// All that a worker can do wrong and go on, by name.
const ABUSES: [(&str, Abuse); 21] = [
    ("garbage", garbage),
    ("empty", |channel, count| repeat(channel, b"", count)),
    ("flood", |channel, count| {
        repeat(channel, &[&b"PONG "[..], &[b'x'; 1018], b"\n"].concat(), count)
    }),
    ("line", |channel, count| repeat(channel, &[b'x'; 1024], count)),
    ("giant", giant),
    ("sessions", sessions),
    ("closed", |channel, count| repeat(channel, b"CLOSED 4000000000\n", count)),
    ("back", |channel, count| repeat(channel, b"BACK\n", count)),
    ("back-file", |channel, count| back(channel, &File::open("/dev/null")?, count)),
    ("back-pipe", |channel, count| back(channel, &pipe()?.0, count)),
    ("back-listener", |channel, count| back(channel, &TcpListener::bind("127.0.0.1:0")?, count)),
    ("back-datagrams", |channel, count| back(channel, &connected_udp()?, count)),
    ("back-own", |channel, count| back(channel, &UnixStream::pair()?.0, count)),
    ("back-channel", |channel, count| back(channel, channel, count)),
    ("descriptors", descriptors),
    ("slow", slow),
    ("slow-back", slow_back),
    ("slow-within", slow_within),
    ("shut-write", |channel, _| channel.shutdown(Shutdown::Write)),
    ("shut-read", |channel, _| channel.shutdown(Shutdown::Read)),
    ("shut-both", |channel, _| channel.shutdown(Shutdown::Both)),
];
/// How often a worker looks whether it storms.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// One of so many of a storm shuts the channel down, or nothing else would be seen of it.
const RARE: u32 = 50;
/// So often something is done at once in a storm, at most.
const AT_ONCE: u32 = 2_000;

/// Misuses the channel in the way named; `count` times where that makes sense.
pub fn abuse(channel: &UnixDatagram, what: &str, count: usize) -> io::Result<()> {
    if what == "pidfd" {
        return ask_for_pidfds(channel);
    }
    // Not in a storm, which would fill the machine with processes.
    if what == "leave" {
        return leave_group();
    }
    let found = ABUSES.iter().find(|(name, _)| *name == what);
    let (_, abuse) = found.ok_or_else(|| io::Error::other(format!("no such abuse: {what}")))?;
    abuse(channel, count)
}

/// Misuses the channel in one way after the other for as long as there is this file, as the seed in it says.
pub fn storm(channel: &UnixDatagram, sign: &Path) {
    loop {
        let seed = fs::read_to_string(sign).ok().and_then(|text| text.parse::<u64>().ok());
        let Some(seed) = seed else {
            thread::sleep(LOOK_AGAIN);
            continue;
        };
        // The one that takes the place of this one does something else.
        let mut rng = Rng::new(seed ^ u64::from(process::id()));
        while sign.exists() {
            let (name, abuse) = ABUSES[rng.below(ABUSES.len() as u32) as usize];
            if name.starts_with("shut") && rng.below(RARE) > 0 {
                continue;
            }
            // It fails where the channel is shut down, and that ends the worker.
            _ = abuse(channel, rng.below(AT_ONCE) as usize);
        }
    }
}

/// Datagrams of random bytes and lengths; xorshift (Marsaglia, 2003) with a fixed seed.
fn garbage(channel: &UnixDatagram, count: usize) -> io::Result<()> {
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for _ in 0..count {
        let len = 1 + random() as usize % 1024;
        let bytes: Vec<u8> = (0..len).map(|_| random() as u8).collect();
        channel.send(&bytes)?;
    }
    Ok(())
}

/// Datagrams of half a megabyte, or as large as the kernel takes them.
fn giant(channel: &UnixDatagram, count: usize) -> io::Result<()> {
    let bytes = vec![b'x'; HALF_A_MEGABYTE];
    let mut len = bytes.len();
    while let Err(error) = channel.send(&bytes[..len]) {
        if len < 2 * 1024 {
            return Err(error);
        }
        len = len * 7 / 8;
    }
    repeat(channel, &bytes[..len], count)
}

fn sessions(channel: &UnixDatagram, count: usize) -> io::Result<()> {
    for number in 0..count {
        channel.send(format!("SESSION made-up-{number}\n").as_bytes())?;
    }
    Ok(())
}

fn descriptors(channel: &UnixDatagram, count: usize) -> io::Result<()> {
    let file = File::open("/dev/null")?;
    for _ in 0..count {
        channel.send_with_fd(b"PONG\n", &[file.as_raw_fd(); MOST_DESCRIPTORS])?;
    }
    Ok(())
}

/// Asks for more than what it is sent, and then stands still.
#[expect(unsafe_code, reason = "no crate knows this option")]
fn ask_for_pidfds(channel: &UnixDatagram) -> io::Result<()> {
    let on: libc::c_int = 1;
    let size = size_of_val(&on) as libc::socklen_t;
    let fd = channel.as_raw_fd();
    let on = (&raw const on).cast();
    // SAFETY: the option takes an int, and `on` is one.
    let set = unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, SO_PASSPIDFD, on, size) };
    if set != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(kill(Pid::this(), Signal::SIGSTOP)?)
}

/// Sockets that are slow to close, several in each message.
fn slow(channel: &UnixDatagram, count: usize) -> io::Result<()> {
    for _ in 0..count.min(MOST_SLOW) {
        let sockets = (0..SLOW_AT_ONCE).map(|_| slow_to_close()).collect::<io::Result<Vec<_>>>()?;
        let numbers: Vec<_> = sockets.iter().map(AsRawFd::as_raw_fd).collect();
        channel.send_with_fd(b"PONG\n", &numbers)?;
        leave(sockets);
    }
    Ok(())
}

/// As connections that come back, whose clients say nothing.
fn slow_back(channel: &UnixDatagram, count: usize) -> io::Result<()> {
    for _ in 0..count.min(MOST_SLOW) {
        let socket = slow_to_close()?;
        back(channel, &socket, 1)?;
        leave(socket);
    }
    Ok(())
}

/// Within Unix sockets, unread.
fn slow_within(channel: &UnixDatagram, count: usize) -> io::Result<()> {
    for _ in 0..count.min(MOST_SLOW) {
        let (ours, theirs) = UnixStream::pair()?;
        let socket = slow_to_close()?;
        theirs.send_with_fd(b"x", &[socket.as_raw_fd()])?;
        channel.send_with_fd(b"PONG\n", &[ours.as_raw_fd()])?;
        leave((ours, socket));
    }
    Ok(())
}

/// A socket whose last close takes a minute: it has unsent bytes, and its client reads nothing.
pub fn slow_to_close() -> io::Result<TcpStream> {
    static CLIENTS: Mutex<VecDeque<TcpStream>> = Mutex::new(VecDeque::new());
    let listener = TcpListener::bind("127.0.0.1:0")?;
    SockRef::from(&listener).set_send_buffer_size(4096)?;
    let client = TcpStream::connect(listener.local_addr()?)?;
    SockRef::from(&client).set_recv_buffer_size(4096)?;
    let (mut server, _) = listener.accept()?;
    SockRef::from(&server).set_linger(Some(Duration::from_secs(60)))?;
    server.set_nonblocking(true)?;
    while server.write(&[0; 65536]).is_ok() {}
    let mut clients = CLIENTS.lock().unwrap_or_else(PoisonError::into_inner);
    clients.push_back(client);
    if clients.len() > MOST_SLOW * SLOW_AT_ONCE {
        clients.pop_front();
    }
    Ok(server)
}

/// Closes what somebody else has too by now, and may be the first to close.
fn leave(sockets: impl Send + 'static) {
    thread::spawn(|| drop(sockets));
}

fn back(channel: &UnixDatagram, what: &impl AsFd, count: usize) -> io::Result<()> {
    for _ in 0..count {
        channel.send_with_fd(b"BACK\n", &[what.as_fd().as_raw_fd()])?;
    }
    Ok(())
}

/// Leaves the worker's process group for that of a child, and starts another one in a session of its own.
fn leave_group() -> io::Result<()> {
    let child = Command::new("sleep").arg("100").process_group(0).spawn()?;
    let group = i32::try_from(child.id()).map_err(io::Error::other)?;
    setpgid(Pid::from_raw(0), Pid::from_raw(group))?;
    Command::new("setsid").args(["sleep", "100"]).spawn()?;
    Ok(())
}

fn connected_udp() -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(socket.local_addr()?)?;
    Ok(socket)
}

fn repeat(channel: &UnixDatagram, message: &[u8], count: usize) -> io::Result<()> {
    (0..count).try_for_each(|_| channel.send(message).map(drop))
}
