//! Polite clients: every request on a connection of its own, counted, and judged in the end.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::KEY_IDLE;
use crate::support::client::{connect_from, read_reply};
use crate::support::ledger::now;
use crate::support::proc::Process;
use crate::support::{Answer, pause, uninterrupted};

/// How often somebody comes who has a key.
const VISITS: usize = 10;
/// How long a connection is kept after the answer.
const KEPT: Duration = Duration::from_millis(300);
/// So many clients of a flood ask at once.
const FLOOD: u32 = 64;

/// What all clients have seen.
#[derive(Debug)]
pub(super) struct Load {
    address: SocketAddr,
    over: AtomicBool,
    /// Requests that were begun.
    pub(super) sent: AtomicU64,
    /// Those that were answered.
    pub(super) answered: AtomicU64,
    /// Those that were not.
    pub(super) failed: Mutex<Vec<Failure>>,
    /// Clients that were answered by another worker than the one before, which lived.
    pub(super) moved: Mutex<Vec<Move>>,
}

/// A request that was not answered.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    /// Where its client had its end; none if it never was connected.
    pub(super) client: Option<SocketAddr>,
    /// What it asked for.
    #[expect(dead_code, reason = "it is shown")]
    path: String,
    /// When it began, on the clock of the ledger.
    pub(super) began: Duration,
    /// When it failed.
    pub(super) ended: Duration,
    /// How.
    #[expect(dead_code, reason = "it is shown")]
    error: String,
}

/// A client was answered by one worker, and then by another one.
#[derive(Clone, Copy, Debug)]
#[expect(dead_code, reason = "it is shown")]
pub(super) struct Move {
    client: Ipv4Addr,
    from: Process,
    to: Process,
    /// When it began to ask the first, and when the answer of the second was there.
    time: (Duration, Duration),
}

/// The end of a load.
#[derive(Debug)]
pub(super) struct Ending<'load>(&'load AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Load {
    /// No client yet, of a server at this address.
    pub(super) fn new(address: SocketAddr) -> Self {
        Self {
            address,
            over: AtomicBool::new(false),
            sent: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            failed: Mutex::default(),
            moved: Mutex::default(),
        }
    }

    /// Where the server is.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets all clients end after what they are doing, when it is dropped.
    pub(super) fn ending(&self) -> Ending<'_> {
        Ending(&self.over)
    }

    /// Clients without a key, one after the other.
    pub(super) fn strangers(&self, network: u8) {
        self.until_over(network, |source| {
            self.ask(source, "/");
            pause();
        });
    }

    /// Clients that keep their connection for a while after the answer.
    pub(super) fn holders(&self, network: u8) {
        self.until_over(network, |source| {
            let mut request = self.begin(source, "/hold");
            request.keeps = true;
            self.finish(request);
        });
    }

    /// Clients with a session each.
    pub(super) fn sessions(&self, network: u8) {
        self.until_over(network, |source| {
            let again = (0..VISITS).map(|_| format!("/?sid={source}"));
            let first = [format!("/announce/{source}")].into_iter();
            self.stay(source, first.chain(again).chain([format!("/end/{source}?sid={source}")]));
        });
    }

    /// Clients whose address is their key.
    pub(super) fn neighbours(&self, network: u8) {
        self.until_over(network, |source| {
            self.stay(source, (0..VISITS).map(|_| "/".to_owned()));
        });
    }

    /// Many at once.
    pub(super) fn flood(&self, source: Ipv4Addr, path: &str) {
        let begun = (0..FLOOD).map(|_| self.begin(source, path));
        for request in begun.collect::<Vec<_>>() {
            self.finish(request);
        }
    }

    /// One request.
    pub(super) fn ask(&self, source: Ipv4Addr, path: &str) -> Option<Answer> {
        self.finish(self.begin(source, path))
    }

    /// One client after the other, each with an address of its own.
    fn until_over(&self, network: u8, client: impl Fn(Ipv4Addr)) {
        let numbers = (0..=u16::MAX).cycle().take_while(|_| !self.over.load(Ordering::Relaxed));
        numbers.for_each(|number| client(source(network, number)));
    }

    /// One client that asks for all this, one after the other, and belongs to whoever answers first.
    fn stay(&self, source: Ipv4Addr, paths: impl Iterator<Item = String>) {
        let mut home: Option<(Process, Duration)> = None;
        for path in paths {
            let began = now();
            // Whoever was not answered may have no home any more.
            let Some(answer) = self.ask(source, &path) else { return };
            let worker = Process::of(answer.pid);
            if let Some((home, since)) = home
                && home.pid != worker.pid
            {
                let time = (since, now());
                // On a busy machine the key may have been idle for too long.
                if home.lives() && time.1 - since < KEY_IDLE {
                    let moved = Move { client: source, from: home, to: worker, time };
                    self.moved.lock().unwrap().push(moved);
                }
                return;
            }
            home = Some((worker, began));
            pause();
        }
    }

    fn begin(&self, source: Ipv4Addr, path: &str) -> Request {
        self.sent.fetch_add(1, Ordering::Relaxed);
        let (began, path) = (now(), path.to_owned());
        let stream = connect_from(source.into(), self.address);
        let client = stream.as_ref().ok().and_then(|stream| stream.local_addr().ok());
        let stream = stream.and_then(|stream| send(stream, &path));
        Request { client, stream, path, began, keeps: false }
    }

    fn finish(&self, Request { client, stream, path, began, keeps }: Request) -> Option<Answer> {
        let answer = stream.and_then(|mut stream| {
            let answer = read_reply(&mut stream)?;
            if keeps {
                keep(&mut stream)?;
            }
            Ok(answer)
        });
        match answer {
            Ok(answer) => {
                self.answered.fetch_add(1, Ordering::Relaxed);
                Some(answer)
            }
            Err(error) => {
                let error = error.to_string();
                let failure = Failure { client, path, began, ended: now(), error };
                self.failed.lock().unwrap().push(failure);
                None
            }
        }
    }
}

/// A request whose answer is awaited.
struct Request {
    client: Option<SocketAddr>,
    /// Its connection, or why there is none any more.
    stream: io::Result<TcpStream>,
    path: String,
    began: Duration,
    /// Its connection is to stay open for [`KEPT`] after the answer.
    keeps: bool,
}

/// An address of this machine: one of many in the network `127.network.0.0`.
pub(super) fn source(network: u8, number: u16) -> Ipv4Addr {
    let [high, low] = number.to_be_bytes();
    Ipv4Addr::new(127, network, high, low)
}

/// Sees that the connection stays open.
fn keep(stream: &mut TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(KEPT))?;
    match uninterrupted(|| stream.read(&mut [0])) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        Err(error) => Err(error),
        Ok(_) => Err(io::Error::other("the worker closed it")),
    }
}

fn send(mut stream: TcpStream, path: &str) -> io::Result<TcpStream> {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")?;
    Ok(stream)
}
