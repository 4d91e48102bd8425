//! Clients: every request on a connection of its own, counted, and looked at in the end.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::support::client::{connect_from, read_reply};
use crate::support::ledger::now;
use crate::support::proc::Process;
use crate::support::{Answer, pause};

/// Requests of a session between the one that begins it and the one that ends it.
const PER_SESSION: u32 = 8;
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
pub(super) struct Move {
    pub(super) from: Process,
    #[expect(dead_code, reason = "it is shown")]
    to: Process,
    /// When the answer of the second was there.
    #[expect(dead_code, reason = "it is shown")]
    at: Duration,
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

    /// A client without a key, which comes again and again.
    pub(super) fn strangers(&self, source: Ipv4Addr) {
        while !self.over.load(Ordering::Relaxed) {
            self.ask(source, "/");
            pause();
        }
    }

    /// A client that keeps its connection for a while after the answer.
    pub(super) fn holders(&self, source: Ipv4Addr) {
        while !self.over.load(Ordering::Relaxed) {
            let mut request = self.begin(source, "/hold");
            request.keeps = true;
            self.finish(request);
        }
    }

    /// A client with one session after the other, each in the worker that began it.
    pub(super) fn sessions(&self, source: Ipv4Addr) {
        for number in 0_u64.. {
            if self.over.load(Ordering::Relaxed) {
                return;
            }
            let id = format!("{source}-{number}");
            let Some(first) = self.ask(source, &format!("/announce/{id}")) else { continue };
            let again = (0..PER_SESSION).map(|_| format!("/?sid={id}"));
            let mut all = again.chain([format!("/end/{id}?sid={id}")]);
            let home = Process::of(first.pid);
            // A session ends with its worker.
            let _ = all.try_for_each(|path| {
                let answer = self.ask(source, &path)?;
                pause();
                self.is_at_home(home, answer.pid).then_some(())
            });
        }
    }

    /// A client whose address is its key.
    pub(super) fn neighbour(&self, source: Ipv4Addr) {
        let mut home = None;
        while !self.over.load(Ordering::Relaxed) {
            if let Some(Answer { pid, .. }) = self.ask(source, "/")
                && !home.is_some_and(|home| self.is_at_home(home, pid))
            {
                home = Some(Process::of(pid));
            }
            pause();
        }
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

    fn begin(&self, source: Ipv4Addr, path: &str) -> Request {
        self.sent.fetch_add(1, Ordering::Relaxed);
        let (began, path) = (now(), path.to_owned());
        let stream = send(source.into(), self.address, &path);
        Request { stream, path, began, keeps: false }
    }

    fn finish(&self, Request { stream, path, began, keeps }: Request) -> Option<Answer> {
        let client = stream.as_ref().ok().and_then(|stream| stream.local_addr().ok());
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

    /// Whether a client was answered by the worker that it belongs to.
    fn is_at_home(&self, home: Process, answered: i32) -> bool {
        if home.pid != answered && home.lives() {
            let moved = Move { from: home, to: Process::of(answered), at: now() };
            self.moved.lock().unwrap().push(moved);
        }
        home.pid == answered
    }
}

/// A request whose answer is awaited.
struct Request {
    stream: io::Result<TcpStream>,
    path: String,
    began: Duration,
    /// Its connection is to stay open for [`KEPT`] after the answer.
    keeps: bool,
}

/// Sees that the connection stays open.
fn keep(stream: &mut TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(KEPT))?;
    match stream.read(&mut [0]) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        Err(error) => Err(error),
        Ok(_) => Err(io::Error::other("the worker closed it")),
    }
}

fn send(source: IpAddr, address: SocketAddr, path: &str) -> io::Result<TcpStream> {
    let mut stream = connect_from(source, address)?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")?;
    Ok(stream)
}
