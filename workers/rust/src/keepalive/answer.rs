//! The answers on a connection: whether all that are due are written.

use std::collections::VecDeque;
use std::io::IoSlice;

use httparse::{EMPTY_HEADER, Response, Status};

use super::body::{Body, Unclear};
use super::request::{Due, is_last, lines};

/// A longer head of an answer is not read.
const MAX_HEAD: usize = 64 * 1024;

/// So many requests without their whole answer are remembered. Most clients wait for one before they send
/// another.
const MOST_DUE: usize = 256;

/// What was written, and what is still due.
#[derive(Clone, Debug, Default)]
pub(super) struct Answers {
    /// Requests without their whole answer, oldest first.
    due: VecDeque<Due>,
    state: State,
    /// The body of the oldest was asked for.
    continued: bool,
}

#[derive(Clone, Debug)]
enum State {
    /// In a head, of which this much was written.
    Head(Vec<u8>),
    /// In a body.
    Body(Body),
    /// No other answer follows, or nobody knows where it would begin.
    Over,
}

impl Default for State {
    fn default() -> Self {
        Self::Head(Vec::new())
    }
}

impl Answers {
    /// A request was let in.
    pub(super) fn expect(&mut self, due: Due) {
        self.due.push_back(due);
    }

    /// Whether these are as many as are remembered.
    pub(super) fn are_many(&self) -> bool {
        self.due.len() >= MOST_DUE
    }

    /// Whether every request has its whole answer.
    pub(super) fn are_complete(&self) -> bool {
        self.due.is_empty() && matches!(&self.state, State::Head(written) if written.is_empty())
    }

    /// Whether no other answer follows, or nobody knows where it would begin.
    pub(super) fn are_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// Whether what follows the last request depends on its answer.
    pub(super) fn decide_what_follows(&self) -> bool {
        self.due.back().is_some_and(|due| due.may_upgrade)
    }

    /// The heads of answers that these bytes will complete, in order.
    pub(super) fn heads_with(&self, buffers: &[IoSlice<'_>]) -> Vec<Vec<u8>> {
        let (mut ahead, mut heads) = (self.clone(), Vec::new());
        for buffer in buffers {
            ahead.go_over(buffer, |head| heads.push(head.to_vec()));
        }
        heads
    }

    /// The server has written this.
    pub(super) fn wrote(&mut self, bytes: &[u8]) {
        self.go_over(bytes, |_| {});
    }

    /// Reads on, and tells of each head that is complete.
    fn go_over(&mut self, mut bytes: &[u8], mut see: impl FnMut(&[u8])) {
        while !bytes.is_empty() {
            match self.go_on(bytes, &mut see) {
                Ok(taken) => bytes = &bytes[taken..],
                Err(Unclear) => {
                    self.state = State::Over;
                    return;
                }
            }
        }
    }

    fn go_on(&mut self, bytes: &[u8], see: impl FnMut(&[u8])) -> Result<usize, Unclear> {
        match &mut self.state {
            State::Over => Ok(bytes.len()),
            State::Body(body) => {
                let taken = body.take(bytes)?;
                if body.is_over() {
                    self.state = State::default();
                }
                Ok(taken)
            }
            State::Head(written) if written.is_empty() => match self.take_head(bytes, see)? {
                Some(length) => Ok(length),
                None => {
                    self.state = State::Head(bytes.to_vec());
                    Ok(bytes.len())
                }
            },
            State::Head(written) => {
                let before = written.len();
                let mut whole = std::mem::take(written);
                whole.extend_from_slice(bytes);
                match self.take_head(&whole, see)? {
                    // An earlier look has found that the head does not end in what was there then.
                    Some(length) => Ok(length.saturating_sub(before)),
                    None if whole.len() > MAX_HEAD => Err(Unclear),
                    None => {
                        self.state = State::Head(whole);
                        Ok(bytes.len())
                    }
                }
            }
        }
    }

    /// Reads a head, if it is whole, and says how long it is.
    fn take_head(
        &mut self,
        bytes: &[u8],
        mut see: impl FnMut(&[u8]),
    ) -> Result<Option<usize>, Unclear> {
        // A long body may be there as well.
        let bytes = end_of(bytes).map_or(bytes, |end| &bytes[..end]);
        let mut headers = vec![EMPTY_HEADER; lines(bytes)];
        let mut answer = Response::new(&mut headers);
        let Status::Complete(length) = answer.parse(bytes).map_err(|_| Unclear)? else {
            return Ok(None);
        };
        see(&bytes[..length]);
        let due = *self.due.front().ok_or(Unclear)?;
        let body = match answer.code {
            Some(101) | None => return Err(Unclear),
            Some(100..200) => {
                self.continued |= answer.code == Some(100);
                self.state = State::default();
                return Ok(Some(length));
            }
            Some(204 | 304) => Body::Length(0),
            Some(_) if due.is_to_head => Body::Length(0),
            // Without a length, it ends with the connection.
            Some(_) => Body::told_by(answer.headers)?.ok_or(Unclear)?,
        };
        // A client that was not asked for its body may send it or not.
        let body_is_open = due.expects && !self.continued;
        if body_is_open || is_last(answer.version, answer.headers) {
            return Err(Unclear);
        }
        self.due.pop_front();
        self.continued = false;
        self.state = if body.is_over() { State::default() } else { State::Body(body) };
        Ok(Some(length))
    }
}

/// Where a head ends, which ends in an empty line.
fn end_of(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|start| start + 4)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PLAIN: Due = Due { is_to_head: false, may_upgrade: false, expects: false };

    /// Whether the answers to these are complete after these bytes, and whether they are over.
    fn after(due: &[Due], bytes: &str) -> (bool, bool) {
        let mut whole = Answers::default();
        due.iter().for_each(|due| whole.expect(*due));
        let mut cut = Answers::default();
        due.iter().for_each(|due| cut.expect(*due));
        whole.wrote(bytes.as_bytes());
        bytes.as_bytes().chunks(1).for_each(|byte| cut.wrote(byte));
        assert_eq!(whole.are_complete(), cut.are_complete(), "{bytes:?}");
        assert_eq!(whole.are_over(), cut.are_over(), "{bytes:?}");
        (whole.are_complete(), whole.are_over())
    }

    #[test]
    fn an_answer_is_complete_with_its_last_byte() {
        for answer in [
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nA: b\r\n\r\n",
            "HTTP/1.1 204 No Content\r\n\r\n",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n",
        ] {
            assert_eq!(after(&[PLAIN], answer), (true, false), "{answer:?}");
            assert_eq!(after(&[PLAIN], &answer[..answer.len() - 1]), (false, false), "{answer:?}");
            assert_eq!(after(&[PLAIN, PLAIN], answer), (false, false));
            assert_eq!(after(&[PLAIN, PLAIN], &answer.repeat(2)), (true, false));
        }
        let head = Due { is_to_head: true, ..PLAIN };
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n";
        assert_eq!(after(&[head], answer), (true, false));
    }

    #[test]
    fn after_some_answers_nothing_is_known() {
        for answer in [
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\nuntil the end",
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi",
            "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
            "220 mail.example.org\r\n",
            "hello",
        ] {
            assert_eq!(after(&[PLAIN], answer), (false, true), "{answer:?}");
        }
        let expects = Due { expects: true, ..PLAIN };
        let answer = "HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(after(&[expects], answer), (false, true));
        let continued = format!("HTTP/1.1 100 Continue\r\n\r\n{answer}");
        assert_eq!(after(&[expects], &continued), (true, false));
        assert_eq!(after(&[], "HTTP/1.1 408 Slow\r\nContent-Length: 0\r\n\r\n"), (false, true));
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut answers = Answers::default();
            answers.expect(PLAIN);
            answers.wrote(&bytes);
            prop_assert!(!answers.are_complete());
        }
    }
}
