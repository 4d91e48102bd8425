//! The clients: many short connections, a bounded number at once, each from an address of its own.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use socket2::{Domain, Socket, Type};

use crate::clock;
use crate::sid::{Random, SID_LENGTH, sid};
use crate::supervisor::WORKERS;

/// About how many client addresses there are, over all threads.
const ADDRESSES: u32 = 10_000;
/// Every answer of the bench's worker is far shorter, in bytes.
const MAX_ANSWER: usize = 512;
/// How long a client waits for anything; longer is an error.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often a slot is asked for at most before the bench gives up on it.
const MAX_ASKS: u32 = 10_000;

/// What the clients ask.
#[derive(Clone, Copy, Debug)]
pub enum Requests<'a> {
    /// Engine.IO handshakes: no sid yet.
    Handshake,
    /// Polls with the sids 0 to `per_slot` of every slot, which have been announced.
    Known {
        /// How many sids of each slot, at least 1.
        per_slot: u32,
    },
    /// Polls with the sids of these sessions, at least one.
    Opened(&'a [Session]),
    /// A key that nobody has presented or announced before, wherever one can stand.
    MadeUp,
}

/// A session that a worker has opened.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Session {
    /// The slot of that worker.
    pub slot: u16,
    /// Its id.
    pub sid: String,
}

/// Which slot has to answer; another one is counted as astray.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stays {
    /// Any: there is no key.
    Anywhere,
    /// The slot that owns the sid.
    WithSid,
    /// The slot that answered this client address before.
    WithAddress,
}

/// A number of connections to make.
#[derive(Clone, Copy, Debug)]
pub struct Load<'a> {
    /// How many, over all threads.
    pub connections: u32,
    /// How many at once: threads, at least 1.
    pub at_once: u16,
    /// What they ask.
    pub requests: Requests<'a>,
    /// Who has to answer.
    pub stays: Stays,
    /// Each round picks other ones of the known sids.
    pub round: u16,
}

/// How it went.
#[derive(Debug, Default)]
#[must_use]
pub struct Outcome {
    /// Connections without a complete answer.
    pub errors: u32,
    /// The last error, for people.
    pub last_error: Option<io::Error>,
    /// Connections answered by a slot that should not have had them.
    pub astray: u32,
    /// From the first connection to the last answer.
    pub took: Duration,
}

/// What a worker of the bench answers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Answer {
    /// The slot it lives in.
    pub slot: u16,
    /// How many of its sids it has announced.
    pub announced: u32,
}

impl Load<'_> {
    /// Makes all the connections and returns when the last one is answered.
    pub fn run(&self, to: SocketAddrV4) -> Outcome {
        let begin = clock::now();
        let mut outcome = thread::scope(|scope| {
            let threads: Vec<_> = (0..self.at_once)
                .map(|number| scope.spawn(move || Client::new(*self, number).run(to)))
                .collect();
            let outcomes =
                threads.into_iter().map(|thread| thread.join().expect("no client panics"));
            outcomes.fold(Outcome::default(), Outcome::and)
        });
        outcome.took = begin.elapsed();
        outcome
    }
}

impl Outcome {
    /// Connections that failed or went astray.
    pub fn wrong(&self) -> u32 {
        self.errors + self.astray
    }

    /// An error that says what went wrong, if anything did.
    pub fn check(self) -> anyhow::Result<()> {
        match self.last_error {
            Some(error) => Err(error).context(format!("{} connections failed", self.errors)),
            None if self.astray > 0 => bail!("{} connections went astray", self.astray),
            None => Ok(()),
        }
    }

    fn and(self, other: Self) -> Self {
        Self {
            errors: self.errors + other.errors,
            last_error: other.last_error.or(self.last_error),
            astray: self.astray + other.astray,
            took: self.took.max(other.took),
        }
    }
}

/// One thread of the load, with client addresses that no other thread has.
struct Client<'a> {
    load: Load<'a>,
    number: u16,
    random: Random,
    /// By address of this thread: the slot that answered it first.
    slots: Vec<Option<u16>>,
}

impl<'a> Client<'a> {
    fn new(load: Load<'a>, number: u16) -> Self {
        let slots = vec![None; addresses_of_a_thread(load.at_once) as usize];
        let seed = (u64::from(load.round) << 16) | u64::from(number);
        Self { load, number, random: Random::new(seed), slots }
    }

    fn run(mut self, to: SocketAddrV4) -> Outcome {
        let mut outcome = Outcome::default();
        let (threads, number) = (u32::from(self.load.at_once), u32::from(self.number));
        let share = (self.load.connections + threads - 1 - number) / threads;
        let mut path = String::new();
        for turn in 0..share as usize {
            let mine = turn % self.slots.len();
            let owner = self.choose(&mut path);
            let from = address(number + threads * mine as u32);
            let answered = match self.load.requests {
                Requests::MadeUp => {
                    let key = sid(number as u16, self.random.next() as u32);
                    ask_with_key(from, to, &key)
                }
                Requests::Handshake | Requests::Known { .. } | Requests::Opened(_) => {
                    ask(from, to, &path)
                }
            };
            match answered {
                Ok(Answer { slot, .. }) => {
                    outcome.astray += u32::from(self.astray(mine, owner, slot))
                }
                Err(error) => {
                    outcome.errors += 1;
                    outcome.last_error = Some(error);
                }
            }
        }
        outcome
    }

    /// Writes the next path and says which slot owns its sid.
    fn choose(&mut self, path: &mut String) -> Option<u16> {
        path.clear();
        path.push_str("/socket.io/?EIO=4&transport=polling");
        let mut add = |sid: &str| {
            path.push_str("&sid=");
            path.push_str(sid);
        };
        match self.load.requests {
            Requests::Handshake | Requests::MadeUp => None,
            Requests::Known { per_slot } => {
                let slot = self.random.below(WORKERS.into()) as u16;
                add(&sid(slot, self.random.below(per_slot)));
                Some(slot)
            }
            Requests::Opened(sessions) => {
                let count = u32::try_from(sessions.len()).expect("nobody opens so many");
                let session = &sessions[self.random.below(count) as usize];
                add(&session.sid);
                Some(session.slot)
            }
        }
    }

    fn astray(&mut self, mine: usize, owner: Option<u16>, slot: u16) -> bool {
        match self.load.stays {
            Stays::Anywhere => false,
            Stays::WithSid => owner.is_some_and(|owner| owner != slot),
            Stays::WithAddress => *self.slots[mine].get_or_insert(slot) != slot,
        }
    }
}

/// Has every slot announce its first `per_slot` sids. With 0, it waits until every slot has
/// answered. Errors when a request fails or a slot never answers.
pub fn announce(to: SocketAddrV4, per_slot: u32) -> anyhow::Result<()> {
    let path = format!("/announce?n={per_slot}");
    let mut answered = [false; WORKERS as usize];
    for turn in 0..MAX_ASKS {
        let answer = ask(address(ADDRESSES + MAX_ASKS + turn), to, &path)
            .with_context(|| format!("no answer from {to} to GET {path}"))?;
        let slot =
            answered.get_mut(usize::from(answer.slot)).context("a slot that is not there")?;
        *slot |= answer.announced >= per_slot;
        if answered.iter().all(|done| *done) {
            return Ok(());
        }
    }
    bail!("not every slot answered in {MAX_ASKS} requests")
}

/// Opens sessions, one handshake after the other, each answered with a new sid. The workers of the
/// Node bench do that. Errors when a handshake fails.
pub fn open_sessions(to: SocketAddrV4, count: u32) -> anyhow::Result<Vec<Session>> {
    let open = |turn| {
        let answer = exchange(address(turn % ADDRESSES), to, "/handshake", "")?;
        parse_session(&answer).ok_or_else(not_an_answer)
    };
    let sessions: io::Result<_> = (0..count).map(open).collect();
    sessions.with_context(|| format!("cannot open {count} sessions at {to}"))
}

/// One request on a connection of its own. Errors when the answer is not that of the bench's worker.
pub fn ask(from: Ipv4Addr, to: SocketAddrV4, path: &str) -> io::Result<Answer> {
    parse(&exchange(from, to, path, "")?).ok_or_else(not_an_answer)
}

/// One request with this key as its sid, the query parameter, header and cookie `key`.
fn ask_with_key(from: Ipv4Addr, to: SocketAddrV4, key: &str) -> io::Result<Answer> {
    let path = format!("/socket.io/?EIO=4&transport=polling&key={key}&sid={key}");
    let headers = format!("Key: {key}\r\nCookie: key={key}\r\n");
    parse(&exchange(from, to, &path, &headers)?).ok_or_else(not_an_answer)
}

/// All bytes that answer one request on a connection of its own.
fn exchange(from: Ipv4Addr, to: SocketAddrV4, path: &str, headers: &str) -> io::Result<Vec<u8>> {
    let mut socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    // The worker closes first. A reset in return leaves nothing behind in TIME_WAIT on either side,
    // so that the tenth round finds the kernel's tables as the first one did.
    socket.set_linger(Some(Duration::ZERO))?;
    socket.bind(&SocketAddrV4::new(from, 0).into())?;
    socket.connect(&to.into())?;
    let mut request = String::with_capacity(256);
    write!(
        request,
        "GET {path} HTTP/1.1\r\nHost: {to}\r\nUser-Agent: sticky-bench\r\nAccept: */*\r\n\
         {headers}Connection: close\r\n\r\n"
    )
    .expect("a string takes everything");
    socket.write_all(request.as_bytes())?;
    let mut buffer = [0; MAX_ANSWER];
    let mut filled = 0;
    while filled < buffer.len() {
        match socket.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(size) => filled += size,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(buffer[..filled].to_vec())
}

fn not_an_answer() -> io::Error {
    io::Error::other("not an answer of the bench's worker")
}

/// An odd number: with an even one, two workers that just take turns would look sticky.
fn addresses_of_a_thread(threads: u16) -> u32 {
    ADDRESSES.div_ceil(threads.into()) | 1
}

/// The client address number `index`; 127.0.0.0/16 is left to the servers.
fn address(index: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(127, 1, 0, 0).to_bits() + index)
}

fn parse(answer: &[u8]) -> Option<Answer> {
    let (slot, announced) = words(answer)?;
    Some(Answer { slot, announced: announced.parse().ok()? })
}

fn parse_session(answer: &[u8]) -> Option<Session> {
    let (slot, sid) = words(answer)?;
    (sid.len() == SID_LENGTH).then(|| Session { slot, sid: sid.to_owned() })
}

/// The two words of a complete answer: the slot that gave it, and what else it says.
fn words(answer: &[u8]) -> Option<(u16, &str)> {
    let text = str::from_utf8(answer).ok()?.strip_prefix("HTTP/1.1 200 OK\r\n")?;
    let (_, body) = text.split_once("\r\n\r\n")?;
    let (slot, word) = body.strip_suffix('\n')?.split_once(' ')?;
    Some((slot.parse().ok()?, word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_thread_has_the_address_of_another_or_of_an_announcement() {
        let most = (1..=4096).map(|threads| u32::from(threads) * addresses_of_a_thread(threads));
        assert!(most.max() < Some(ADDRESSES + MAX_ASKS));
        assert_eq!(address(0), Ipv4Addr::new(127, 1, 0, 0));
        assert_eq!(address(258), Ipv4Addr::new(127, 1, 1, 2));
    }

    #[test]
    fn half_an_answer_is_none() {
        let whole = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n1 7\n";
        assert_eq!(parse(whole.as_bytes()), Some(Answer { slot: 1, announced: 7 }));
        for cut in 0..whole.len() {
            assert_eq!(parse(&whole.as_bytes()[..cut]), None);
        }
        let opened = "HTTP/1.1 200 OK\r\nDate: now\r\n\r\n0 AAAAAAAAAAAAAAAAAAAA\n";
        let session = Session { slot: 0, sid: "A".repeat(20) };
        assert_eq!(parse_session(opened.as_bytes()), Some(session));
        assert_eq!(parse(opened.as_bytes()), None, "a sid is not a number");
        assert_eq!(parse_session(whole.as_bytes()), None, "nor the other way round");
    }
}
