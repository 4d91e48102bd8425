//! What the fleet has to tell a person.

use std::fmt;
use std::time::Duration;

use super::MAX_WORKERS;
use super::facts::Facts;
use super::failed::FailedStart;
use super::input::Exit;
use super::replacing::Replacing;
use crate::logic::Worker;

/// Something that a person wants in the log. `Display` is the line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// A start came to nothing.
    FailedStart {
        /// The worker that did not become ready.
        worker: Worker,
        /// Why not.
        why: FailedStart,
        /// The failed starts of this slot in a row, this one included; of all slots, as long as no worker
        /// has been ready.
        failed: u32,
        /// How many of them are allowed. `None` once any worker has been ready: then all are.
        allowed: Option<u32>,
    },
    /// A worker that was ready ended by itself.
    Exited {
        /// The worker.
        worker: Worker,
        /// How it ended.
        exit: Exit,
    },
    /// A worker said that it leaves, did not go and is being ended.
    LeaveTimeout {
        /// The worker.
        worker: Worker,
    },
    /// The slot of this worker rests before its next start.
    Restarting {
        /// The worker that is gone.
        worker: Worker,
        /// How long the slot rests.
        delay: Duration,
    },
    /// No worker was ever ready, and this slot tries next.
    Trying {
        /// Its number.
        slot: u16,
        /// How long after the one before.
        delay: Duration,
    },
    /// A worker was not ready in time and is being ended.
    BootTimeout {
        /// The worker.
        worker: Worker,
        /// The time it had.
        had: Duration,
    },
    /// No worker ever became ready: a slot had all the failed starts allowed.
    GaveUp {
        /// Why the last one failed.
        why: FailedStart,
        /// How many there were.
        failed: u32,
    },
    /// Something about a worker that another one replaces.
    Replacing(Replacing),
    /// A worker gave no sign of life and is being ended.
    Hung {
        /// The worker.
        worker: Worker,
        /// The time it had to answer.
        had: Duration,
    },
    /// There are more or fewer slots than before.
    Resized {
        /// So many from now on.
        workers: u16,
    },
    /// There are fewer slots than now when the restart has come to its end.
    ResizedLater {
        /// So many.
        workers: u16,
    },
    /// There cannot be more, or fewer, slots than this.
    NotResized {
        /// So many as before.
        workers: u16,
    },
    /// What was asked for is not done any more, since everything ends.
    TooLate(Refused),
    /// A stop began.
    Stopping {
        /// The time until KILL.
        grace: Duration,
    },
    /// The stop waits for connections: the first count since it began.
    Waiting {
        /// Open or held.
        open: u64,
    },
    /// A stop was asked for by several signals at once.
    DuplicateStop,
    /// The stop was asked for again: KILL comes soon.
    FastStop,
    /// A worker that was to end has not done so and gets KILL.
    KillTimeout {
        /// The worker.
        worker: Worker,
    },
    /// KILL goes to what is left.
    Killing {
        /// So many workers.
        workers: usize,
    },
    /// KILL was sent, but the exit never came.
    LeftBehind {
        /// The worker.
        worker: Worker,
    },
}

/// What is asked for in vain while everything ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refused {
    /// A rolling restart.
    Restart,
    /// More workers or fewer.
    Resize,
}

impl Event {
    /// What it is in a log for machines.
    pub fn facts(&self) -> Facts {
        match *self {
            Self::FailedStart { worker, why, failed, .. } => {
                Facts::trouble("worker_start_failed").worker(worker).count(failed).failed(why)
            }
            Self::Exited { worker, exit } => {
                Facts::trouble("worker_exited").worker(worker).exit(exit)
            }
            Self::LeaveTimeout { worker } => Facts::trouble("worker_leave_timeout").worker(worker),
            Self::KillTimeout { worker } => Facts::trouble("worker_stop_timeout").worker(worker),
            Self::BootTimeout { worker, had } => {
                Facts::trouble("worker_boot_timeout").worker(worker).timeout(had)
            }
            Self::Hung { worker, had } => {
                Facts::trouble("worker_unresponsive").worker(worker).timeout(had)
            }
            Self::LeftBehind { worker } => Facts::trouble("worker_unkillable").worker(worker),
            Self::Replacing(ref event) => event.facts(),
            Self::Restarting { worker, delay } => {
                Facts::info("worker_restart_scheduled").slot(worker.slot).delay(delay)
            }
            Self::Trying { slot, delay } => {
                Facts::info("worker_start_scheduled").slot(slot).delay(delay)
            }
            Self::GaveUp { why, failed } => Facts::trouble("gave_up").count(failed).failed(why),
            Self::Resized { workers } => Facts::info("scaled").count(workers),
            Self::ResizedLater { workers } => Facts::info("scale_deferred").count(workers),
            Self::NotResized { workers } => {
                Facts::info("scale_refused").count(workers).reason("limit")
            }
            Self::TooLate(Refused::Restart) => Facts::info("restart_refused").reason("stopping"),
            Self::TooLate(Refused::Resize) => Facts::info("scale_refused").reason("stopping"),
            Self::Stopping { grace } => Facts::info("stop_begun").timeout(grace),
            Self::Waiting { open } => Facts::info("stop_waiting").count(open),
            Self::DuplicateStop => Facts::info("stop_repeated"),
            Self::FastStop => Facts::info("stop_hurried"),
            Self::Killing { workers } => Facts::trouble("workers_killed").count(workers),
        }
    }
}

impl From<Replacing> for Event {
    fn from(event: Replacing) -> Self {
        Self::Replacing(event)
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FailedStart { worker, why, failed, allowed: None } => {
                write!(f, "{worker} {why}; failed starts in a row: {failed}")
            }
            Self::FailedStart { worker, why, failed, allowed: Some(allowed) } => {
                write!(f, "{worker} {why}; failed start {failed} of {allowed}")
            }
            Self::Exited { worker, exit } => write!(f, "{worker} exited unexpectedly ({exit})"),
            Self::Replacing(event) => event.fmt(f),
            Self::Hung { worker, had } => {
                write!(f, "{worker} did not answer the watchdog within {had:?}: sending ABRT")
            }
            Self::Resized { workers } => write!(f, "scaled to {}", count_of(workers, "worker")),
            Self::ResizedLater { workers } => {
                write!(f, "scaling to {} when the restart is done", count_of(workers, "worker"))
            }
            Self::NotResized { workers } => {
                write!(
                    f,
                    "not scaled: still {}, from 1 to {MAX_WORKERS} are possible",
                    count_of(workers, "worker")
                )
            }
            Self::TooLate(Refused::Restart) => f.write_str("restart refused: stopping"),
            Self::TooLate(Refused::Resize) => f.write_str("not scaled: stopping"),
            Self::LeaveTimeout { worker } => {
                write!(f, "{worker} has disconnected but did not exit: sending TERM")
            }
            Self::Restarting { worker, delay } => {
                write!(f, "{worker} restarts in {} ms", delay.as_millis())
            }
            Self::Trying { slot, delay } => {
                write!(f, "starting worker {slot} in {} ms", delay.as_millis())
            }
            Self::BootTimeout { worker, had } => {
                write!(f, "{worker} was not ready within {had:?}: sending TERM; {HOW_TO_BE_READY}")
            }
            Self::GaveUp { why, failed } => {
                write!(
                    f,
                    "no worker ever became ready: giving up after {failed} starts, the last one {why}"
                )
            }
            Self::Stopping { grace } => {
                write!(
                    f,
                    "stopping: open connections have {grace:?} at most; a second signal stops at once"
                )
            }
            Self::Waiting { open } => {
                write!(f, "stopping: waiting for {}", count_of(open, "connection"))
            }
            Self::DuplicateStop => f.write_str("stopping: both signals count as one request"),
            Self::FastStop => f.write_str("stopping at once: a second signal came"),
            Self::KillTimeout { worker } => {
                write!(f, "{worker} did not exit in time: sending KILL")
            }
            Self::Killing { workers } => {
                write!(f, "{} did not exit in time: sending KILL", count_of(workers, "worker"))
            }
            Self::LeftBehind { worker } => {
                write!(f, "{worker} is still there after KILL: leaving it behind; {WHERE_IT_HANGS}")
            }
        }
    }
}

/// So many of these, as text.
pub(super) fn count_of(count: impl fmt::Display, what: &str) -> String {
    let count = count.to_string();
    let plural = if count == "1" { "" } else { "s" };
    format!("{count} {what}{plural}")
}

/// What to do about a boot timeout.
const HOW_TO_BE_READY: &str = "it has to send READY on its channel, or to listen if it is Node, or needs a longer --boot-timeout";
/// What to do about a process that survives KILL.
const WHERE_IT_HANGS: &str = "it is in uninterruptible sleep, see its state in /proc";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_that_says_what_and_where() {
        let worker = Worker { slot: 2, generation: 4 };
        let why = FailedStart::Exited(Exit::Code(1));
        let first = Event::FailedStart { worker, why, failed: 3, allowed: Some(5) };
        assert_eq!(
            first.to_string(),
            "worker 2 exited before it was ready (exit code 1); failed start 3 of 5"
        );
        let later =
            Event::FailedStart { worker, why: FailedStart::NotInTime, failed: 7, allowed: None };
        assert_eq!(later.to_string(), "worker 2 was not ready in time; failed starts in a row: 7");
        let gave_up = Event::GaveUp { why, failed: 5 };
        assert_eq!(
            gave_up.to_string(),
            "no worker ever became ready: giving up after 5 starts, the last one exited before it was \
             ready (exit code 1)"
        );
        let restarting = Event::Restarting { worker, delay: Duration::from_micros(104_900) };
        assert_eq!(restarting.to_string(), "worker 2 restarts in 104 ms");
        let late = Event::BootTimeout { worker, had: Duration::from_secs(60) };
        assert_eq!(
            late.to_string(),
            "worker 2 was not ready within 60s: sending TERM; it has to send READY on its channel, or \
             to listen if it is Node, or needs a longer --boot-timeout"
        );
    }
}
