//! The sessions that the layer has announced, and when they end.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use ::tokio::time::{Instant, interval};

use super::packet::OpenPacket;
use crate::error::Error;
use crate::session::Session;
use crate::tokio::Sessions;

/// How often ended sessions are looked for; also what a server's timer may be late.
const SWEEP: Duration = Duration::from_secs(5);

pub(super) struct Table {
    sessions: Sessions,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    live: HashMap<Box<str>, Live>,
    /// Whether a task looks for ended sessions.
    swept: bool,
}

struct Live {
    /// Shared with everything that keeps the session in use.
    used: Arc<Used>,
    /// The unused time after which it is over.
    idle: Duration,
    /// Says so when it is dropped.
    _session: Session,
}

/// When a session was last in use.
struct Used(Mutex<Instant>);

/// Keeps a session in use: a request that is being answered, or one that the server keeps.
pub(super) struct Held(Arc<Used>);

impl Table {
    pub(super) fn new(sessions: Sessions) -> Self {
        Self { sessions, state: Mutex::default() }
    }

    /// Whether connections may be kept open.
    pub(super) fn may_keep_connections(&self) -> bool {
        self.sessions.may_keep_connections()
    }

    pub(super) fn find(&self, id: &str) -> Option<Held> {
        self.lock().live.get(id).map(|live| Held(Arc::clone(&live.used)))
    }

    /// Announces the session and remembers what keeps it in use.
    pub(super) async fn announce(
        self: &Arc<Self>,
        open: &OpenPacket,
        held: &Held,
    ) -> Result<(), Error> {
        let session = self.sessions.session(&open.sid).await?;
        let used = Arc::clone(&held.0);
        let live = Live { used, idle: open.idle + SWEEP, _session: session };
        let mut state = self.lock();
        state.live.insert(open.sid.as_str().into(), live);
        if !state.swept {
            state.swept = true;
            ::tokio::spawn(sweep(Arc::downgrade(self)));
        }
        Ok(())
    }

    /// Ends what is over; whether sessions are left.
    fn end_unused(&self, now: Instant) -> bool {
        let mut state = self.lock();
        state.live.retain(|_, live| {
            // Nobody can start to use it meanwhile: that takes this lock.
            if Arc::strong_count(&live.used) > 1 {
                live.used.touch(now);
            }
            now.duration_since(live.used.last()) < live.idle
        });
        state.swept = !state.live.is_empty();
        state.swept
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends sessions until none is left or the layer is gone.
async fn sweep(table: Weak<Table>) {
    let mut ticks = interval(SWEEP);
    loop {
        let now = ticks.tick().await;
        let Some(table) = table.upgrade() else { return };
        if !table.end_unused(now) {
            return;
        }
    }
}

impl Held {
    /// For a session that is not known yet.
    pub(super) fn new() -> Self {
        Self(Arc::new(Used(Mutex::new(Instant::now()))))
    }
}

impl Clone for Held {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.touch(Instant::now());
    }
}

impl Used {
    fn touch(&self, now: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    fn last(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("live", &self.lock().live.len()).finish_non_exhaustive()
    }
}
