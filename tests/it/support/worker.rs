//! The test worker: it speaks the channel by hand, so that the supervisor is tested against the
//! protocol and not against a library, and does what the path of a request says.
//!
//! | path | what it does |
//! |---|---|
//! | `/announce/ID` | announces the key before it answers |
//! | `/end/ID` | ends the key before it answers |
//! | `/hold` | answers with the head and keeps the connection until the client closes it |
//! | `/body` | reads the body and answers with its length and digest |
//! | `/tell/MESSAGE` | sends this message on the channel (`%` escapes), then answers |
//! | `/abuse/WHAT/COUNT` | misuses the channel, see `abuse.rs`, then answers |
//! | `/all` | reads everything to the client's end and answers with its length and digest |
//! | `/mirror` | sends back what comes after the head, as it comes |
//! | `/back` | gives the connection back once; whoever gets it answers |
//! | `/back/SLOT,SLOT` | as often as it is asked, if it lives in one of them; for `/back/all` always |
//! | `/next` | answers, waits for the client, and gives the connection back for its next request |
//! | `/bounce` | gives the connection back for its next request, which this is |
//! | `/orphans/N` | leaves so many processes behind, which end in all ways, then answers |
//! | `/exit/CODE` | exits before it answers |
//! | `/block` | answers, and the worker never reads its channel again |
//! | anything else | answers |
//!
//! `TEST_WORKER` in the environment is a list of words: `deaf` never says READY, `slow=MS` says it
//! late, `exit=CODE` exits at once, `fails=FILE` exits if there is such a file, `waits=FILE` begins when there is none
//! any more, `stubborn` ignores TERM and ABRT, `greet` speaks first, `early-back=N` gives back
//! connections before it is ready that it was never given, `early=ID` announces
//! the key before it is ready, `stays` lives on when its channel has ended, `raw` reads to the end and
//! answers with the length and digest of all bytes, `rests=MS` has slot 0 rest before each connection,
//! `storms=FILE` has slot 0 misuse its channel for as long as there is this file,
//! `polite` finishes after TERM what it has picked up. With `STICKY_TEST_LEDGER` it notes there
//! whom it picks up, see `ledger.rs`.

use std::collections::HashMap;
use std::env;
use std::fs::{self, Permissions};
use std::io::{self, IoSliceMut, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use sendfd::SendWithFd;
use signal_hook::iterator::Signals;
use tempfile::TempDir;

use super::ledger::Ledger;

/// The variable that turns the test binary into a worker.
const SWITCH: &str = "STICKY_RUN_TEST_WORKER";

/// The command that runs the test binary as a worker.
pub fn command() -> Vec<String> {
    let binary = env::current_exe().expect("the test binary has a path");
    let words = ["env", &format!("{SWITCH}=1"), binary.to_str().expect("its path is text")];
    let words = words.into_iter().chain(["--exact", "support::worker::main", "--nocapture"]);
    words.map(str::to_owned).collect()
}

/// The same, of a copy that everybody may execute; the directory of the tests may be private.
pub fn public_command() -> (TempDir, Vec<String>) {
    let directory = TempDir::new().expect("a directory of our own");
    let everybody = Permissions::from_mode(0o755);
    fs::set_permissions(directory.path(), everybody).expect("it is ours");
    let own = env::current_exe().expect("the test binary has a path");
    let copy = directory.path().join("worker");
    fs::copy(&own, &copy).expect("there is room for a copy");
    let mut command = command();
    for word in command.iter_mut().filter(|word| own.as_os_str() == word.as_str()) {
        copy.to_str().expect("its path is text").clone_into(word);
    }
    (directory, command)
}

/// Not a test but the worker, when the supervisor runs this binary.
#[test]
fn main() {
    if env::var_os(SWITCH).is_some() {
        // The harness around it has threads of its own and would print its verdict.
        process::exit(Worker::new().run());
    }
}

struct Worker {
    channel: UnixDatagram,
    slot: u16,
    traits: HashMap<String, String>,
    accepted: AtomicU32,
    gave_back: AtomicBool,
    /// Whether it stands still.
    blocked: AtomicBool,
    /// How many connections are open. Who picks one up holds this, and who ends politely.
    open: Mutex<usize>,
    ledger: Option<Ledger>,
}

impl Worker {
    fn new() -> Self {
        let number = |name: &str| env::var(name).ok().and_then(|text| text.parse::<i32>().ok());
        let fd: RawFd = number("STICKY_CHANNEL").expect("the supervisor has set it");
        let words = env::var("TEST_WORKER").unwrap_or_default();
        let traits =
            words.split_whitespace().map(|word| word.split_once('=').unwrap_or((word, "")));
        let traits = traits.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self {
            channel: UnixDatagram::from(own(fd)),
            slot: u16::try_from(number("STICKY_WORKER_ID").unwrap()).unwrap(),
            traits: traits.collect(),
            accepted: AtomicU32::new(0),
            gave_back: AtomicBool::new(false),
            blocked: AtomicBool::new(false),
            open: Mutex::new(0),
            ledger: Ledger::from_environment(),
        }
    }

    fn run(self) -> i32 {
        if let Some(code) = self.traits.get("exit") {
            return code.parse().unwrap();
        }
        let worker = Arc::new(self);
        worker.get_ready();
        while let Some((message, socket)) = worker.receive() {
            while worker.blocked.load(Ordering::Relaxed) {
                thread::park();
            }
            if message == "PING\n" {
                worker.channel.send(b"PONG\n").ok();
            }
            let Some(socket) = socket else { continue };
            worker.rest();
            let worker = Arc::clone(&worker);
            worker.accepted.fetch_add(1, Ordering::Relaxed);
            thread::spawn(move || {
                worker.serve(&message, socket);
                *worker.open() -= 1;
            });
        }
        while worker.traits.contains_key("stays") {
            thread::park();
        }
        0
    }

    /// Everything before the first connection.
    fn get_ready(self: &Arc<Self>) {
        if self.traits.contains_key("stubborn") {
            for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGABRT] {
                signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false))).unwrap();
            }
        }
        if self.is_given("fails") {
            process::exit(3);
        }
        while self.is_given("waits") {
            super::pause();
        }
        if self.traits.contains_key("polite") {
            self.end_politely();
        }
        if let Some(millis) = self.traits.get("slow") {
            thread::sleep(Duration::from_millis(millis.parse().unwrap()));
        }
        if let Some(key) = self.traits.get("early") {
            self.channel.send(format!("SESSION {key}\n").as_bytes()).unwrap();
        }
        if let Some(count) = self.traits.get("early-back") {
            super::abuse::abuse(&self.channel, "back-own", count.parse().unwrap()).unwrap();
        }
        if !self.traits.contains_key("deaf") {
            self.channel.send(b"READY\n").unwrap();
        }
        if self.slot == 0 && self.traits.contains_key("storms") {
            let worker = Arc::clone(self);
            thread::spawn(move || {
                super::abuse::storm(&worker.channel, Path::new(&worker.traits["storms"]))
            });
        }
    }

    /// Exits after TERM, as soon as nothing is open.
    fn end_politely(self: &Arc<Self>) {
        let mut signals = Signals::new([signal_hook::consts::SIGTERM]).unwrap();
        let worker = Arc::clone(self);
        thread::spawn(move || {
            signals.forever().next();
            loop {
                let open = worker.open();
                if *open == 0 {
                    process::exit(0);
                }
                drop(open);
                super::pause();
            }
        });
    }

    fn open(&self) -> MutexGuard<'_, usize> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is the file that a trait names.
    fn is_given(&self, name: &str) -> bool {
        self.traits.get(name).is_some_and(|path| Path::new(path).exists())
    }

    /// Takes its time before it serves a connection, and so before it picks up the next one.
    fn rest(&self) {
        if self.slot == 0
            && let Some(millis) = self.traits.get("rests")
        {
            thread::sleep(Duration::from_millis(millis.parse().unwrap()));
        }
    }

    /// The next message; none when the supervisor is gone.
    fn receive(&self) -> Option<(String, Option<OwnedFd>)> {
        loop {
            let mut readable = [PollFd::new(self.channel.as_fd(), PollFlags::POLLIN)];
            match poll(&mut readable, PollTimeout::NONE) {
                Ok(_) => {}
                Err(Errno::EINTR) => continue,
                Err(_) => return None,
            }
            // Without a free number for it, a connection would be lost with its message.
            if self.channel.try_clone().is_err() {
                super::pause();
                continue;
            }
            let mut open = self.open();
            let noted = self.ledger.as_ref().map(|ledger| ledger.note_next(&self.channel));
            match self.pick_up() {
                Ok((message, socket)) => {
                    // The supervisor may have taken back what was noted.
                    if let Some(ledger) = &self.ledger
                        && noted.is_some_and(|noted| noted != message)
                    {
                        ledger.note(&message);
                    }
                    *open += usize::from(socket.is_some());
                    return (!message.is_empty()).then_some((message, socket));
                }
                Err(Errno::EAGAIN) => {}
                Err(_) => return None,
            }
        }
    }

    fn pick_up(&self) -> nix::Result<(String, Option<OwnedFd>)> {
        let mut bytes = [0; 1024];
        let mut control = nix::cmsg_space!([RawFd; 1]);
        let (len, socket) = {
            let mut into = [IoSliceMut::new(&mut bytes)];
            let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
            let fd = self.channel.as_raw_fd();
            let received = recvmsg::<()>(fd, &mut into, Some(&mut control), flags)?;
            let fds = received.cmsgs()?.find_map(|message| match message {
                ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
                _ => None,
            });
            (received.bytes, fds.map(own))
        };
        Ok((String::from_utf8_lossy(&bytes[..len]).into_owned(), socket))
    }

    fn serve(&self, message: &str, socket: OwnedFd) {
        // A TcpStream reads and writes a Unix socket as well.
        let mut stream = TcpStream::from(socket);
        if self.traits.contains_key("greet") {
            stream.write_all(self.answer(message, "").as_bytes()).ok();
        } else if let Some(back) = self.converse(message, &mut stream).unwrap_or(None) {
            self.channel.send_with_fd(back, &[stream.as_raw_fd()]).unwrap();
            return;
        }
        // Told first, so that a client that saw the end knows that the supervisor can know it.
        self.channel.send(b"CLOSED 1\n").ok();
        drop(stream);
    }

    /// Serves one request. Returns what to say if the connection is to be given back.
    fn converse(&self, message: &str, stream: &mut TcpStream) -> io::Result<Option<&'static [u8]>> {
        let mut peeked = [0; 1024];
        let seen = stream.peek(&mut peeked)?;
        let first = String::from_utf8_lossy(&peeked[..seen]).into_owned();
        if self.is_returned(&first) {
            return Ok(Some(b"BACK\n"));
        }
        if first.starts_with("GET /bounce") {
            return Ok(Some(b"BACK next=1\n"));
        }
        if self.traits.contains_key("raw") {
            let all = super::worker_body::digest_all(stream)?;
            return stream.write_all(self.answer(message, &all).as_bytes()).map(|()| None);
        }
        let (head, rest) = read_head(stream)?;
        let path = head.split(' ').nth(1).unwrap_or_default();
        let mut parts = path.split('?').next().unwrap_or_default().splitn(3, '/').skip(1);
        let (verb, argument) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let mut more = String::new();
        match verb {
            "announce" => _ = self.channel.send(format!("SESSION {argument}\n").as_bytes())?,
            "end" => _ = self.channel.send(format!("END {argument}\n").as_bytes())?,
            "tell" => self.tell(argument)?,
            "abuse" => self.abuse(argument)?,
            "all" => {
                let before = io::Cursor::new([head.as_bytes(), &rest].concat());
                more = super::worker_body::digest_all(&mut before.chain(&mut *stream))?;
            }
            "mirror" => {
                // Whoever waits for the rest of a piece would wait for a timer else.
                stream.set_nodelay(true)?;
                stream.write_all(&rest)?;
                return io::copy(&mut stream.try_clone()?, stream).map(|_| None);
            }
            "orphans" => super::orphans::leave(argument.parse().unwrap_or(1)),
            "block" => self.blocked.store(true, Ordering::Relaxed),
            "exit" => process::exit(argument.parse().unwrap_or(1)),
            "body" => more = super::worker_body::digest(stream, &head, rest)?,
            _ => {}
        }
        stream.write_all(self.answer(message, &more).as_bytes())?;
        if verb == "hold" {
            stream.flush()?;
            while stream.read(&mut peeked)? > 0 {}
        }
        if verb == "next" {
            // Whether it is a request, the end or a reset is the supervisor's to see.
            stream.peek(&mut peeked).ok();
            return Ok(Some(b"BACK next=1\n"));
        }
        Ok(None)
    }

    /// Whether the first line asks that this worker gives the connection back.
    fn is_returned(&self, first: &str) -> bool {
        let path = first.split(' ').nth(1).and_then(|target| target.split('?').next());
        match path.and_then(|path| path.strip_prefix("/back")) {
            Some("") => !self.gave_back.swap(true, Ordering::Relaxed),
            Some("/all") => true,
            Some(slots) => slots[1..].split(',').any(|slot| slot == self.slot.to_string()),
            None => false,
        }
    }

    fn tell(&self, escaped: &str) -> io::Result<()> {
        let message: Vec<u8> = percent_encoding::percent_decode_str(escaped).collect();
        self.channel.send(&message).map(drop)
    }

    fn abuse(&self, argument: &str) -> io::Result<()> {
        let (what, count) = argument.split_once('/').unwrap_or((argument, "1"));
        let count = count.parse().map_err(io::Error::other)?;
        super::abuse::abuse(&self.channel, what, count)
    }

    fn answer(&self, message: &str, more: &str) -> String {
        let body = format!(
            "slot={}\npid={}\naccepted={}\nmessage={}\n{more}",
            self.slot,
            process::id(),
            self.accepted.load(Ordering::Relaxed),
            message.trim_end(),
        );
        format!(
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }
}

/// Reads to the end of the head; returns it and what came after.
fn read_head(stream: &mut TcpStream) -> io::Result<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 65536];
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let rest = bytes.split_off(end + 4);
            return Ok((String::from_utf8_lossy(&bytes).into_owned(), rest));
        }
        match stream.read(&mut chunk)? {
            0 => return Ok((String::from_utf8_lossy(&bytes).into_owned(), Vec::new())),
            count => bytes.extend_from_slice(&chunk[..count]),
        }
    }
}

#[expect(unsafe_code, reason = "the supervisor says which descriptor is the channel")]
fn own(fd: RawFd) -> OwnedFd {
    // SAFETY: nobody else in this process owns the channel or a descriptor that just came over it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
