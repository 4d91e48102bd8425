//! Clients that do all that a client can do wrong, one after the other, as a seed says.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sendfd::SendWithFd;
use socket2::SockRef;
use sticky_run::logic::rng::Rng;

use crate::support::abuse::slow_to_close;

/// So many connections a client keeps, at most; the oldest ends for a new one.
const KEPT: usize = 100;
/// An answer is read for so long; what a client does meanwhile is not worth more.
const PATIENCE: Duration = Duration::from_millis(50);
/// Longer than any head may be.
const TOO_LONG: usize = 70_000;
/// So many descriptors are sent along, each slow to close.
const DESCRIPTORS: usize = 20;

/// Where it connects.
#[derive(Clone, Debug)]
enum Target {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// A client that is rude.
#[derive(Debug)]
pub(super) struct Rude {
    rng: Rng,
    target: Target,
    kept: VecDeque<TcpStream>,
}

impl Rude {
    pub(super) fn over_tcp(seed: u64, address: SocketAddr) -> Self {
        Self::new(seed, Target::Tcp(address))
    }

    pub(super) fn over_unix(seed: u64, path: &Path) -> Self {
        Self::new(seed, Target::Unix(path.to_owned()))
    }

    fn new(seed: u64, target: Target) -> Self {
        Self { rng: Rng::new(seed), target, kept: VecDeque::new() }
    }

    /// Is rude until it is over.
    pub(super) fn rage(mut self, over: &AtomicBool) {
        while !over.load(Ordering::Relaxed) {
            // That the supervisor defends itself is what is expected.
            _ = self.act();
        }
    }

    fn act(&mut self) -> io::Result<()> {
        let mut stream = self.connect()?;
        let number = self.rng.bits();
        let whole = format!("GET /{number} HTTP/1.1\r\nHost: x\r\nCookie: stay={number}\r\n\r\n");
        match self.rng.below(12) {
            0 => {}
            1 => reset(&stream)?,
            2 => stream.write_all(&self.garbage())?,
            3 => {
                let cut = self.rng.below(whole.len() as u32) as usize;
                stream.write_all(&whole.as_bytes()[..cut])?;
            }
            4 => {
                stream.write_all(whole.as_bytes())?;
                reset(&stream)?;
            }
            5 => stream
                .write_all(&[b"GET / HTTP/1.1\r\nX: ".as_slice(), &[b'x'; TOO_LONG]].concat())?,
            6 => {
                stream.set_nodelay(true)?;
                for byte in whole.bytes() {
                    stream.write_all(&[byte])?;
                }
                self.listen(&mut stream);
            }
            7 => {
                stream.write_all(whole.repeat(50).as_bytes())?;
                self.listen(&mut stream);
            }
            8 => {
                stream.write_all(whole.as_bytes())?;
                stream.shutdown(std::net::Shutdown::Write)?;
                self.listen(&mut stream);
            }
            9 => {
                stream.write_all(b"PROXY TCP4 1.2.3.4 5.6.7.8 9 10\r\n")?;
                stream.write_all(&self.garbage())?;
            }
            10 => self.send_more(&mut stream, &whole)?,
            _ => {
                let long = "k".repeat(self.rng.below(8_000) as usize);
                let head = format!("GET / HTTP/1.1\r\nCookie: stay={long}\r\n\r\n");
                stream.write_all(head.as_bytes())?;
                self.listen(&mut stream);
            }
        }
        self.keep(stream);
        Ok(())
    }

    fn connect(&self) -> io::Result<TcpStream> {
        match &self.target {
            Target::Tcp(address) => TcpStream::connect(address),
            // A TcpStream reads and writes a Unix socket as well.
            Target::Unix(path) => Ok(OwnedFd::from(UnixStream::connect(path)?).into()),
        }
    }

    /// Sends what goes beside the bytes: urgent data, or descriptors that take long to close.
    fn send_more(&mut self, stream: &mut TcpStream, head: &str) -> io::Result<()> {
        match self.target {
            Target::Tcp(_) => {
                SockRef::from(&*stream).send_out_of_band(b"!")?;
                stream.write_all(head.as_bytes())
            }
            Target::Unix(_) => {
                let slow = (0..DESCRIPTORS).map(|_| slow_to_close());
                let slow: Vec<_> = slow.collect::<Result<_, _>>()?;
                let numbers: Vec<_> = slow.iter().map(AsRawFd::as_raw_fd).collect();
                let cut = self.rng.below(head.len() as u32) as usize + 1;
                let stream = UnixStream::from(OwnedFd::from(stream.try_clone()?));
                let sent = stream.send_with_fd(&head.as_bytes()[..cut], &numbers);
                if sent.is_err() {
                    // Nobody else has them, since the kernel refuses them: they must not keep this one.
                    let mut slow = slow.iter().map(SockRef::from);
                    slow.try_for_each(|socket| socket.set_linger(None))?;
                }
                sent.map(drop)
            }
        }
    }

    fn garbage(&mut self) -> Vec<u8> {
        let length = 1 + self.rng.below(2_000);
        (0..length).map(|_| self.rng.below(256) as u8).collect()
    }

    /// Reads an answer, if it comes soon.
    fn listen(&self, stream: &mut TcpStream) {
        let mut answer = [0; 1024];
        _ = stream.set_read_timeout(Some(PATIENCE)).and_then(|()| stream.read(&mut answer));
    }

    /// Keeps a connection until there are too many.
    fn keep(&mut self, stream: TcpStream) {
        self.kept.push_back(stream);
        if self.kept.len() > KEPT {
            self.kept.pop_front();
        }
    }
}

/// Has the connection end with a reset.
fn reset(stream: &TcpStream) -> io::Result<()> {
    SockRef::from(stream).set_linger(Some(Duration::ZERO))
}
