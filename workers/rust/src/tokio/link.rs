//! The channel in a runtime, shared by a worker and its sessions.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;

use ::tokio::io::unix::AsyncFd;
use ::tokio::sync::watch;
use ::tokio::time::sleep;

use crate::core::Core;
use crate::error::Error;
use crate::outbox::{Flushed, Ticket};
use crate::patience::SHORTEST;

/// The channel in a runtime.
pub(super) struct Link {
    fd: AsyncFd<Registered>,
    phase: watch::Sender<Phase>,
}

/// The channel as the runtime's poller sees it.
pub(super) struct Registered(Arc<Core>);

impl AsRawFd for Registered {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl AsFd for Registered {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.channel().as_fd()
    }
}

/// How far the supervisor has come with this worker.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Phase {
    Serving,
    Draining,
    Gone,
}

impl Link {
    pub(super) fn new(core: Arc<Core>) -> io::Result<Self> {
        let (phase, _) = watch::channel(Phase::Serving);
        Ok(Self { fd: register(core)?, phase })
    }

    pub(super) fn core(&self) -> &Arc<Core> {
        &self.fd.get_ref().0
    }

    pub(super) fn fd(&self) -> &AsyncFd<Registered> {
        &self.fd
    }

    pub(super) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    pub(super) fn enter(&self, phase: Phase) {
        self.phase.send_if_modified(|now| {
            let later = phase > *now;
            *now = phase.max(*now);
            later
        });
    }

    pub(super) fn reached(
        self: &Arc<Self>,
        phase: Phase,
    ) -> impl Future<Output = ()> + Send + 'static {
        let mut changes = self.phase.subscribe();
        // The link lives as long as somebody waits, so that the wait cannot end by its drop.
        let link = Arc::clone(self);
        async move {
            let reached = changes.wait_for(|now| *now >= phase).await.map(drop);
            reached.expect("the sender is in the link, which is held here");
            drop(link);
        }
    }
}

/// Waits until the message of this ticket is in the kernel.
pub(super) async fn wait_sent(link: &Link, ticket: Ticket) -> Result<(), Error> {
    while !link.core().is_sent(ticket)? {
        let mut writable = link.fd().writable().await.map_err(Error::io("poll"))?;
        match link.core().flush()? {
            Flushed::Everything => {}
            Flushed::Full => writable.clear_ready(),
            Flushed::Later => sleep(SHORTEST).await,
        }
    }
    Ok(())
}

#[expect(unsafe_code, reason = "the runtime asks for a promise about the descriptor")]
fn register(core: Arc<Core>) -> io::Result<AsyncFd<Registered>> {
    // SAFETY: the descriptor is owned by the core, always the same one, and open as long as the core
    // that moves in here.
    unsafe { AsyncFd::register(Registered(core)) }.map_err(io::Error::from)
}
