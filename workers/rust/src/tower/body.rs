//! The body of an answer: what was looked at, then the rest of it.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use ::bytes::Buf;
use ::http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::packet::{self, Look, OpenPacket};
use super::table::Held;
use crate::message::MAX_KEY;

/// An open packet is found within this many bytes or not at all.
const LIMIT: usize = MAX_KEY + 4096;

pin_project! {
    /// The body of an answer that went through the layer, unchanged.
    pub struct Body<B: HttpBody> {
        // Frames that were read to find the open packet.
        seen: VecDeque<Result<Frame<B::Data>, B::Error>>,
        #[pin]
        rest: Rest<B>,
        // Keeps the session in use until the answer is out.
        held: Option<Held>,
    }
}

pin_project! {
    #[project = RestOf]
    enum Rest<B> {
        Plain { #[pin] body: B },
        Boxed { body: Pin<Box<B>> },
    }
}

impl<B: HttpBody> Body<B> {
    pub(super) fn plain(body: B, held: Option<Held>) -> Self {
        Self { seen: VecDeque::new(), rest: Rest::Plain { body }, held }
    }

    pub(super) fn holding(self, held: Option<Held>) -> Self {
        Self { held, ..self }
    }
}

/// Reads as much of a body as shows whether it is an open packet.
pub(super) async fn look<B: HttpBody>(body: B) -> (Option<OpenPacket>, Body<B>) {
    let mut body = Box::pin(body);
    let mut seen = VecDeque::new();
    let mut bytes = Vec::new();
    let found = loop {
        match poll_fn(|context| body.as_mut().poll_frame(context)).await {
            None => break None,
            Some(Err(error)) => {
                seen.push_back(Err(error));
                break None;
            }
            Some(Ok(frame)) => {
                // The bodies of HTTP servers come in contiguous pieces, so this is all of it.
                bytes.extend_from_slice(frame.data_ref().map_or(&[], Buf::chunk));
                seen.push_back(Ok(frame));
            }
        }
        match packet::look(&bytes) {
            Look::Open(open) => break Some(open),
            Look::Incomplete if bytes.len() < LIMIT => {}
            Look::Incomplete | Look::Other => break None,
        }
    };
    (found, Body { seen, rest: Rest::Boxed { body }, held: None })
}

impl<B: HttpBody> HttpBody for Body<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        if let Some(frame) = this.seen.pop_front() {
            return Poll::Ready(Some(frame));
        }
        match this.rest.project() {
            RestOf::Plain { body } => body.poll_frame(context),
            RestOf::Boxed { body } => body.as_mut().poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.seen.is_empty() && self.rest.get().is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let length = |frame: &Result<Frame<B::Data>, _>| {
            frame.as_ref().ok().and_then(Frame::data_ref).map_or(0, Buf::remaining)
        };
        let seen = self.seen.iter().map(length).sum::<usize>() as u64;
        let rest = self.rest.get().size_hint();
        let mut hint = SizeHint::new();
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(seen));
        }
        hint.set_lower(rest.lower().saturating_add(seen));
        hint
    }
}

impl<B: HttpBody> Rest<B> {
    fn get(&self) -> &B {
        match self {
            Self::Plain { body } => body,
            Self::Boxed { body } => body,
        }
    }
}
