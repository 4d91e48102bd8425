//! A connection that is kept open for one request after the other, each of which may belong to
//! another worker.
//!
//! The server reads through here. It gets no byte of a request before the whole head was looked at, so
//! that one which belongs elsewhere can go there with its connection, unread. For this it must be beyond
//! doubt where each request ends, and when its answer is written. As soon as it is not, or another
//! protocol begins, the connection is *free*: nobody looks any more, and it stays where it is.
//!
//! The first request was looked at by the supervisor, and what comes may not even be HTTP. Of that one
//! the server gets everything at once, as far as it cannot be the beginning of a second one.
//!
//! Nothing here reads or writes: ask [`Kept::may_read`], and tell what was seen, read and written.

mod answer;
mod body;
mod request;
#[cfg(test)]
mod tests;

use std::io::IoSlice;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use httparse::{EMPTY_HEADER, Response};

use self::answer::Answers;
use self::body::{Body, Chunked};
use self::request::Request;
use crate::head::{Growth, Head, MAX_HEAD};
use crate::keys::{Found, Keys};
use crate::owned::OwnedKeys;

/// What a server may read now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum MayRead {
    /// Everything.
    All,
    /// So many bytes and no more.
    UpTo(u64),
    /// Nothing before [`Kept::look`] has seen what is there.
    AfterALook,
    /// Nothing ever, as if the client had gone.
    Nothing,
}

/// What a look has shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Look {
    /// There is something to read: ask again.
    Read,
    /// More of the head is needed than is there.
    Incomplete,
    /// The next request belongs elsewhere, and an answer is not written yet.
    Unanswered,
    /// The next request belongs elsewhere: give the connection back.
    Elsewhere,
}

/// What is looked for, and what lives here.
pub(crate) struct Looking<'a> {
    pub(crate) keys: &'a Keys,
    pub(crate) owned: &'a Mutex<OwnedKeys>,
    pub(crate) now: Instant,
    /// Whether the client has an address.
    pub(crate) has_address: bool,
}

/// What is known of the requests on a connection and their answers.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// So many bytes were looked at and may be read.
    seen: u64,
    /// What comes behind them.
    next: Next,
    answers: Answers,
    /// The first request is let in.
    has_begun: bool,
    /// One that was let in had a key.
    has_key: bool,
}

/// What comes next of the requests.
#[derive(Debug)]
enum Next {
    /// A head. Of the first one, this much is read already; the next ones are looked at while they grow.
    Head(Vec<u8>, Growth),
    /// More of a body in chunks.
    Chunks(Chunked),
    /// Nothing that matters: no request follows the one whose answer is due.
    Last,
    /// Nobody looks.
    Free,
    /// The connection is not this worker's any more.
    Gone,
}

impl Default for Next {
    fn default() -> Self {
        Self::Head(Vec::new(), Growth::default())
    }
}

impl Kept {
    /// What the server may read now.
    pub(crate) fn may_read(&self) -> MayRead {
        match &self.next {
            Next::Gone => MayRead::Nothing,
            Next::Last | Next::Free => MayRead::All,
            Next::Head(..) | Next::Chunks(_) if self.seen > 0 => MayRead::UpTo(self.seen),
            Next::Head(..) | Next::Chunks(_) => MayRead::AfterALook,
        }
    }

    /// Looks at everything that is there, of which nothing is read. Call it when [`Self::may_read`]
    /// wants it and something is there. Without `may_wait` a request that belongs elsewhere is let
    /// in if an answer is not written yet.
    pub(crate) fn look(&mut self, bytes: &[u8], looking: &Looking<'_>, may_wait: bool) -> Look {
        match &mut self.next {
            Next::Last | Next::Free | Next::Gone => Look::Read,
            Next::Chunks(chunked) => {
                match chunked.take(bytes) {
                    Ok(taken) => self.seen = taken as u64,
                    Err(_) => self.next = Next::Free,
                }
                if matches!(self.next, Next::Chunks(Chunked::Over)) {
                    self.next = Next::default();
                }
                Look::Read
            }
            Next::Head(read, _) if !self.has_begun => {
                let read = std::mem::take(read);
                self.look_at_first(read, bytes, looking);
                Look::Read
            }
            Next::Head(_, growth) => {
                let new = bytes.get(growth.seen()..).unwrap_or_default();
                if growth.see(new) || self.answers.decide_what_follows() {
                    return self.look_at_next(bytes, looking, may_wait);
                }
                Look::Incomplete
            }
        }
    }

    fn look_at_first(&mut self, read: Vec<u8>, bytes: &[u8], looking: &Looking<'_>) {
        let before = read.len();
        let joined = [&read, bytes].concat();
        match request::read(&joined) {
            Ok(Some(request)) => {
                let head = Head::new(&joined[..request.head], true);
                if let Found::Key(key) = looking.keys.find(&head, looking.has_address) {
                    let mut owned = looking.owned.lock().unwrap_or_else(PoisonError::into_inner);
                    owned.route(looking.now, &key);
                    self.has_key = true;
                }
                self.has_begun = true;
                self.let_in(&request, before);
            }
            Ok(None) if joined.len() < MAX_HEAD => {
                self.seen = bytes.len() as u64;
                self.next = Next::Head(joined, Growth::default());
            }
            Ok(None) | Err(_) => self.next = Next::Free,
        }
    }

    fn look_at_next(&mut self, bytes: &[u8], looking: &Looking<'_>, may_wait: bool) -> Look {
        let request = match request::read(bytes) {
            // To wait for their answers would be to wait for a server that may want to read first.
            _ if self.answers.are_many() => Err(body::Unclear),
            // Whether this is a request at all depends on an answer that is not there yet.
            _ if self.answers.decide_what_follows() => Err(body::Unclear),
            Ok(None) if bytes.len() < MAX_HEAD => return Look::Incomplete,
            other => other,
        };
        let Ok(request) = request else {
            self.next = Next::Free;
            return Look::Read;
        };
        let length = request.as_ref().map_or(bytes.len(), |request| request.head);
        let found = looking.keys.find(&Head::new(&bytes[..length], true), looking.has_address);
        if !self.stays(&found, looking) {
            if self.answers.are_complete() {
                return Look::Elsewhere;
            }
            if may_wait {
                return Look::Unanswered;
            }
        }
        self.has_key |= matches!(found, Found::Key(_));
        match &request {
            Some(request) => self.let_in(request, 0),
            None => self.next = Next::Free,
        }
        Look::Read
    }

    /// Whether a request of which this is known may come to this worker on this connection.
    fn stays(&self, found: &Found, looking: &Looking<'_>) -> bool {
        match found {
            Found::Key(key) => {
                let owned = looking.owned.lock().unwrap_or_else(PoisonError::into_inner);
                owned.has(looking.now, key)
            }
            // Every session begins where the supervisor wants it, not where a proxy has a connection.
            Found::Handshake => false,
            Found::Nothing => !self.has_key,
        }
    }

    /// The server may read this request, of whose head it has read this much before.
    fn let_in(&mut self, request: &Request, before: usize) {
        self.seen = (request.head - before) as u64;
        self.answers.expect(request.due);
        self.next = match request.body {
            _ if request.is_last => Next::Last,
            Body::Chunked(chunked) => Next::Chunks(chunked),
            Body::Length(length) => {
                self.seen = self.seen.saturating_add(length);
                Next::default()
            }
        };
    }

    /// The server has read so many of the bytes that it may.
    pub(crate) fn read(&mut self, count: usize) {
        self.seen = self.seen.saturating_sub(count as u64);
    }

    /// The keys in the heads of answers that these bytes, which are about to be written, complete. The client
    /// may come back with them as soon as they are written. Those that it has come with are known.
    pub(crate) fn gives_out(
        &self,
        buffers: &[IoSlice<'_>],
        looking: &Looking<'_>,
    ) -> Vec<Box<[u8]>> {
        match self.next {
            Next::Free | Next::Gone => return Vec::new(),
            Next::Head(..) | Next::Chunks(_) | Next::Last => {}
        }
        let mut given = Vec::new();
        for head in self.answers.heads_with(buffers) {
            let mut headers = vec![EMPTY_HEADER; request::lines(&head)];
            let mut answer = Response::new(&mut headers);
            if answer.parse(&head).is_ok() {
                given.extend(looking.keys.given_out(answer.headers));
            }
        }
        let mut owned = looking.owned.lock().unwrap_or_else(PoisonError::into_inner);
        given.retain(|key| !owned.has(looking.now, key));
        given.iter().for_each(|key| owned.route(looking.now, key));
        given
    }

    /// The server has written this. Returns whether nothing is due any more, so that a request which
    /// had to wait may be looked at again.
    pub(crate) fn wrote(&mut self, bytes: &[u8]) -> bool {
        match self.next {
            Next::Free | Next::Gone => return false,
            Next::Head(..) | Next::Chunks(_) | Next::Last => self.answers.wrote(bytes),
        }
        if self.answers.are_over() {
            self.next = Next::Free;
        }
        self.answers.are_over() || self.answers.are_complete()
    }

    /// Nobody looks any more.
    pub(crate) fn set_free(&mut self) {
        self.next = Next::Free;
    }

    /// The connection is not this worker's any more.
    pub(crate) fn leave(&mut self) {
        self.next = Next::Gone;
    }
}
