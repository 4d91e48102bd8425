//! Announced sessions for tokio.

use std::fmt;
use std::sync::Arc;

use super::link::{Link, wait_sent};
use crate::core::{Core, key};
use crate::error::Error;
use crate::session::{self, Session};

/// Announces sessions from anywhere in the server; clones speak for the same worker.
///
/// In a server that runs alone every call succeeds and does nothing.
#[derive(Clone)]
pub struct Sessions {
    link: Option<Arc<Link>>,
}

impl Sessions {
    /// The sessions of a server without a supervisor.
    pub fn alone() -> Self {
        Self { link: None }
    }

    pub(super) fn of(link: &Arc<Link>) -> Self {
        Self { link: Some(Arc::clone(link)) }
    }

    fn core(&self) -> Option<&Arc<Core>> {
        self.link.as_ref().map(|link| link.core())
    }

    /// Whether connections that are kept open are taken care of, or there is only one worker.
    #[cfg(feature = "tower")]
    pub(crate) fn may_keep_connections(&self) -> bool {
        self.link.as_ref().is_none_or(|link| link.core().is_watching())
    }

    /// Tells the supervisor that the session with this id lives here, until the guard is dropped.
    ///
    /// Await it before the client can know the id: on return the message is in the kernel, and the
    /// supervisor reads it before it places a connection that carries the id. It waits while the
    /// channel is full; cancelled then, it leaves no session behind.
    ///
    /// # Errors
    ///
    /// [`Error::KeyLength`] unless the id has 1 to 4096 bytes, [`Error::SupervisorGone`] at the end.
    pub async fn session(&self, id: &str) -> Result<Session, Error> {
        let (session, ticket) = Session::open(self.core(), key(id)?)?;
        if let (Some(link), Some(ticket)) = (&self.link, ticket) {
            wait_sent(link, ticket).await?;
        }
        Ok(session)
    }

    /// Like [`session`](Self::session) without a guard: the session lives until [`end`](Self::end).
    ///
    /// # Errors
    ///
    /// Those of [`session`](Self::session).
    pub async fn announce(&self, id: &str) -> Result<(), Error> {
        self.session(id).await.map(Session::keep)
    }

    /// Tells the supervisor that the session with this id is over. Never waits: if the channel is
    /// full, it is said later, and before anything that is said after it.
    ///
    /// # Errors
    ///
    /// [`Error::KeyLength`] unless the id has 1 to 4096 bytes.
    pub fn end(&self, id: &str) -> Result<(), Error> {
        session::end(self.core(), id)
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").field("alone", &self.link.is_none()).finish()
    }
}
