//! What there is to tell of workers that others replace.

use std::fmt;
use std::time::Duration;

use super::event::count_of;
use super::facts::Facts;
use super::failed::FailedStart;
use super::input::{Exit, Limit};
use crate::logic::Worker;

/// Something about a worker that another one replaces. `Display` is the line in the log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Replacing {
    /// A rolling restart began.
    RestartBegan {
        /// So many workers are to be replaced.
        workers: usize,
        /// The one before it had not come to its end.
        anew: bool,
    },
    /// A rolling restart stands still: as many workers drain as may.
    Waits {
        /// So many.
        draining: usize,
        /// How long each may take, `None` for ever.
        time: Option<Duration>,
    },
    /// A rolling restart came to its end.
    Restarted {
        /// So many workers are ready and new.
        workers: usize,
    },
    /// The workers that a rolling restart has replaced have all ended.
    RestartOver {
        /// So many were replaced.
        workers: usize,
    },
    /// A rolling restart came to nothing: the workers that were not replaced yet go on.
    RestartFailed {
        /// The successor that did not become ready.
        worker: Worker,
        /// Why not.
        why: FailedStart,
        /// So many workers go on as before.
        left: usize,
    },
    /// A worker is to be replaced for a reason of its own.
    Recycling {
        /// The worker.
        worker: Worker,
        /// The reason.
        limit: Limit,
    },
    /// A worker is to be replaced by a limit that may be too low for any.
    RecyclingEarly {
        /// The worker.
        worker: Worker,
        /// Which of its limits.
        limit: Limit,
        /// Its successor starts after this time.
        delay: Duration,
        /// No worker had reached a limit so soon since the configuration was read.
        first: bool,
    },
    /// The successor of a worn worker came to nothing.
    RecyclingFailed {
        /// The successor.
        worker: Worker,
        /// Why it did.
        why: FailedStart,
        /// The next one comes after this time.
        delay: Duration,
    },
    /// A worker drains: its successor is ready or its slot is gone.
    Draining {
        /// The worker.
        worker: Worker,
        /// How long it may take, `None` for ever.
        time: Option<Duration>,
    },
    /// A draining worker still had connections or keys after its time and is being ended.
    DrainTimeout {
        /// The worker.
        worker: Worker,
    },
    /// A worker ended that had drained, or had no more time for it.
    Drained {
        /// The worker.
        worker: Worker,
        /// How it ended.
        exit: Exit,
    },
    /// A draining worker ended by itself.
    ExitedDraining {
        /// The worker.
        worker: Worker,
        /// How it ended.
        exit: Exit,
    },
}

impl Replacing {
    pub(super) fn facts(&self) -> Facts {
        match *self {
            Self::RestartBegan { workers, .. } => Facts::info("restart_begun").count(workers),
            Self::Waits { draining, time } => {
                // Without a time it may never go on.
                let is_trouble = time.is_none();
                Facts { is_trouble, ..Facts::info("restart_waiting").count(draining).timeout(time) }
            }
            Self::Restarted { workers } => Facts::info("restart_done").count(workers),
            Self::RestartOver { workers } => Facts::info("restart_drained").count(workers),
            Self::RestartFailed { worker, why, left } => {
                Facts::trouble("restart_failed").worker(worker).count(left).failed(why)
            }
            Self::Recycling { worker, limit } => {
                Facts::info("worker_recycled").worker(worker).reason(limit.name())
            }
            Self::RecyclingEarly { worker, limit, delay, first } => {
                let facts = Facts::info("worker_recycle_delayed").worker(worker).delay(delay);
                Facts { is_trouble: first, ..facts.reason(limit.name()) }
            }
            Self::RecyclingFailed { worker, why, delay } => {
                Facts::trouble("worker_recycle_failed").worker(worker).failed(why).delay(delay)
            }
            Self::Draining { worker, time } => {
                Facts::info("worker_draining").worker(worker).timeout(time)
            }
            Self::DrainTimeout { worker } => Facts::trouble("worker_drain_timeout").worker(worker),
            Self::Drained { worker, exit } => {
                Facts::info("worker_retired").worker(worker).exit(exit)
            }
            Self::ExitedDraining { worker, exit } => {
                let is_trouble = exit != Exit::Code(0);
                let facts = Facts::info("draining_worker_exited").worker(worker).exit(exit);
                Facts { is_trouble, ..facts }
            }
        }
    }
}

impl fmt::Display for Replacing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RestartBegan { workers, anew: false } => {
                write!(f, "restarting {}", count_of(workers, "worker"))
            }
            Self::RestartBegan { workers, anew: true } => {
                write!(f, "restarting {} from the beginning", count_of(workers, "worker"))
            }
            Self::Waits { draining, time } => {
                write!(
                    f,
                    "restart waiting for one of {} to exit",
                    count_of(draining, "draining worker")
                )?;
                write!(f, "; raise --max-draining or set a shorter --drain-timeout (now ")?;
                match time {
                    Some(time) => write!(f, "{time:?})"),
                    None => f.write_str("none)"),
                }
            }
            Self::Restarted { workers } => write!(f, "restarted {}", count_of(workers, "worker")),
            Self::RestartOver { workers } => {
                write!(
                    f,
                    "restart complete: all previous workers have exited, {} took over",
                    count_of(workers, "worker")
                )
            }
            Self::RestartFailed { worker, why, left } => {
                write!(f, "restart failed: the successor of {worker} {why}; ")?;
                write!(f, "still running as before: {}; ", count_of(left, "worker"))?;
                f.write_str("fix the command and send HUP")
            }
            Self::Recycling { worker, limit } => write!(f, "{worker} is being recycled: {limit}"),
            Self::RecyclingEarly { worker, limit, delay, first } => {
                write!(f, "{worker} will be recycled in {} ms: {limit}", delay.as_millis())?;
                if *first {
                    write!(f, " within a minute; the delay doubles each time; ")?;
                    write!(f, "raise {}", limit.flag())?;
                }
                Ok(())
            }
            Self::RecyclingFailed { worker, why, delay } => {
                write!(f, "the successor of {worker} {why}; the old one keeps running, ")?;
                write!(f, "next attempt in {} ms", delay.as_millis())
            }
            Self::Draining { worker, time: Some(time) } => {
                write!(f, "previous {worker} is draining, for {time:?} at most")
            }
            Self::Draining { worker, time: None } => write!(f, "previous {worker} is draining"),
            Self::DrainTimeout { worker } => {
                write!(f, "previous {worker} did not drain in time: stopping it")
            }
            Self::Drained { worker, exit } => write!(f, "previous {worker} exited ({exit})"),
            Self::ExitedDraining { worker, exit } => {
                write!(f, "previous {worker} exited before it had drained ({exit})")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_that_says_what_goes_on_and_what_to_do() {
        let worker = Worker { slot: 2, generation: 4 };
        let why = FailedStart::Exited(Exit::Code(1));
        assert_eq!(
            Replacing::RestartFailed { worker, why, left: 3 }.to_string(),
            "restart failed: the successor of worker 2 exited before it was ready (exit code 1); still \
             running as before: 3 workers; fix the command and send HUP"
        );
        assert_eq!(
            Replacing::Recycling { worker, limit: Limit::Memory }.to_string(),
            "worker 2 is being recycled: it reached --max-memory"
        );
        assert_eq!(
            Replacing::Waits { draining: 2, time: None }.to_string(),
            "restart waiting for one of 2 draining workers to exit; raise --max-draining or set a \
             shorter --drain-timeout (now none)"
        );
        assert_eq!(
            Replacing::Draining { worker, time: Some(Duration::from_secs(30)) }.to_string(),
            "previous worker 2 is draining, for 30s at most"
        );
    }
}
