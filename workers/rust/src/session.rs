//! Announced sessions: keys that live on this worker.

use std::fmt;
use std::sync::Arc;

use crate::channel::Until;
use crate::core::{Core, key};
use crate::error::Error;
use crate::message::{FromWorker, Key};
use crate::outbox::{Flushed, Ticket};
use crate::patience;

/// Announces sessions from anywhere in the server; clones speak for the same worker.
///
/// In a server that runs alone every call succeeds and does nothing.
#[derive(Clone)]
pub struct Sessions {
    core: Option<Arc<Core>>,
}

impl Sessions {
    /// The sessions of a server without a supervisor.
    pub fn alone() -> Self {
        Self { core: None }
    }

    pub(crate) fn of(core: &Arc<Core>) -> Self {
        Self { core: Some(Arc::clone(core)) }
    }

    /// Tells the supervisor that the session with this id lives here, until the guard is dropped.
    ///
    /// Call it before the client can know the id: on return the message is in the kernel, and the
    /// supervisor reads it before it places a connection that carries the id. It waits while the
    /// channel is full, which a running supervisor ends soon, since it never waits for a worker.
    ///
    /// # Errors
    ///
    /// [`Error::KeyLength`] unless the id has 1 to 4096 bytes, [`Error::SupervisorGone`] at the end.
    pub fn session(&self, id: &str) -> Result<Session, Error> {
        let key = key(id)?;
        let (session, ticket) = Session::open(self.core.as_ref(), key)?;
        if let (Some(core), Some(ticket)) = (&self.core, ticket) {
            wait_sent(core, ticket)?;
        }
        Ok(session)
    }

    /// Like [`session`](Self::session) without a guard: the session lives until [`end`](Self::end).
    ///
    /// # Errors
    ///
    /// Those of [`session`](Self::session).
    pub fn announce(&self, id: &str) -> Result<(), Error> {
        self.session(id).map(Session::keep)
    }

    /// Tells the supervisor that the session with this id is over. Never waits: if the channel is
    /// full, it is said later, and before anything that is said after it.
    ///
    /// # Errors
    ///
    /// [`Error::KeyLength`] unless the id has 1 to 4096 bytes.
    pub fn end(&self, id: &str) -> Result<(), Error> {
        end(self.core.as_ref(), id)
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").field("alone", &self.core.is_none()).finish()
    }
}

/// Says that the session with this id is over.
pub(crate) fn end(core: Option<&Arc<Core>>, id: &str) -> Result<(), Error> {
    let key = key(id)?;
    core.map_or(Ok(()), |core| core.say(FromWorker::End(key)).map(drop))
}

/// A session that lives on this worker; dropping it says that the session is over.
#[must_use = "dropping it ends the session"]
pub struct Session {
    core: Option<Arc<Core>>,
    key: Key,
}

impl Session {
    /// Queues the announcement. The guard exists before the wait for it, so that a caller who gives
    /// up waiting takes the announcement back.
    pub(crate) fn open(
        core: Option<&Arc<Core>>,
        key: Key,
    ) -> Result<(Self, Option<Ticket>), Error> {
        let session = Self { core: core.map(Arc::clone), key };
        let say = |core: &Arc<Core>| core.say(FromWorker::Session(session.key.clone()));
        let ticket = session.core.as_ref().map(say).transpose()?;
        Ok((session, ticket))
    }

    /// Lets the session live on without the guard.
    pub fn keep(mut self) {
        self.core = None;
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(core) = &self.core
            && let Err(error) = core.say(FromWorker::End(self.key.clone()))
        {
            core.complain("end a session", &error);
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Session").field(&self.key).finish()
    }
}

/// Waits until the message of this ticket is in the kernel.
pub(crate) fn wait_sent(core: &Core, ticket: Ticket) -> Result<(), Error> {
    while !core.is_sent(ticket)? {
        match core.flush()? {
            Flushed::Everything => {}
            Flushed::Full => core
                .channel()
                .wait(Until::Writable, None)
                .map_err(Error::io("wait for room in the channel"))?,
            Flushed::Later => patience::sleep(patience::SHORTEST),
        }
    }
    Ok(())
}
