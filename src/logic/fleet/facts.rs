//! What a machine wants to know of an event: its name in the log, and numbers.

use std::time::Duration;

use super::failed::FailedStart;
use super::input::Exit;
use crate::logic::Worker;

/// The event's fields in the log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Facts {
    /// Its name, which stays when the line is worded otherwise.
    pub name: &'static str,
    /// Whether something went wrong.
    pub is_trouble: bool,
    /// The slot that it is about.
    pub slot: Option<u16>,
    /// The worker that it is about, if that has or had a process.
    pub worker: Option<Worker>,
    /// How many workers, connections or failed starts it names.
    pub count: Option<u64>,
    /// Why, in a word.
    pub reason: Option<&'static str>,
    /// How the worker ended.
    pub exit: Option<Exit>,
    /// The time until what is announced.
    pub delay: Option<Duration>,
    /// The time that there is, or was.
    pub timeout: Option<Duration>,
}

impl Facts {
    pub(super) const fn info(name: &'static str) -> Self {
        Self {
            name,
            is_trouble: false,
            slot: None,
            worker: None,
            count: None,
            reason: None,
            exit: None,
            delay: None,
            timeout: None,
        }
    }

    pub(super) const fn trouble(name: &'static str) -> Self {
        Self { is_trouble: true, ..Self::info(name) }
    }

    pub(super) fn slot(self, slot: u16) -> Self {
        Self { slot: Some(slot), ..self }
    }

    pub(super) fn worker(self, worker: Worker) -> Self {
        Self { worker: Some(worker), ..self.slot(worker.slot) }
    }

    pub(super) fn count(self, count: impl TryInto<u64>) -> Self {
        Self { count: count.try_into().ok(), ..self }
    }

    pub(super) fn reason(self, reason: &'static str) -> Self {
        Self { reason: Some(reason), ..self }
    }

    pub(super) fn exit(self, exit: Exit) -> Self {
        Self { exit: Some(exit), ..self }
    }

    pub(super) fn failed(self, why: FailedStart) -> Self {
        match why {
            FailedStart::NoProcess => self.reason("not_started"),
            FailedStart::Exited(exit) => self.reason("exited").exit(exit),
            FailedStart::NotInTime => self.reason("timeout"),
        }
    }

    pub(super) fn delay(self, delay: Duration) -> Self {
        Self { delay: Some(delay), ..self }
    }

    pub(super) fn timeout(self, timeout: impl Into<Option<Duration>>) -> Self {
        Self { timeout: timeout.into(), ..self }
    }
}
