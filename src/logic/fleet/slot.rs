//! The state of one slot, and the table of what is heard of its worker.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::backoff::Backoff;
use super::input::Exit;
use crate::logic::Worker;
use crate::logic::rng::Rng;
use crate::logic::time::Time;

/// A worker that was ready for this long has proved itself: its backoff starts over.
const STABLE: Duration = Duration::from_secs(60);
/// How long a worker that leaves has to exit by itself.
const LEAVING: Duration = Duration::from_secs(10);

/// A stable place for one worker after the other.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Slot {
    /// The present worker, or the last one.
    worker: Worker,
    /// The generation of the worker after it.
    next_generation: u32,
    /// Where the present worker stands.
    state: State,
    /// How long the slot rests between two workers.
    backoff: Backoff,
    /// Failed starts since a worker of this slot was last ready.
    failed: u32,
    /// The present worker has said that it leaves.
    leaves: bool,
}

/// Where the worker of a slot stands.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
enum State {
    /// No process and no start to come.
    Empty,
    /// No process, the next start comes.
    Resting {
        /// When it comes.
        until: Time,
    },
    /// A process was asked for.
    Spawning,
    /// The process exists, its `READY` is awaited.
    Booting {
        /// When it is late.
        until: Time,
    },
    /// It gets connections.
    Ready {
        /// When it said so.
        since: Time,
    },
    /// It wants no more connections, its exit is awaited.
    Leaving {
        /// When it gets TERM.
        until: Time,
    },
    /// TERM was sent, its exit is awaited.
    Ending {
        /// When it gets KILL, if it has a time of its own.
        kill_at: Option<Time>,
    },
    /// KILL was sent, its exit is awaited.
    Killed,
}

/// What is heard of the present worker of a slot.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum News {
    /// The process exists.
    Spawned,
    /// There is no process.
    SpawnFailed,
    /// It said `READY`.
    Ready,
    /// It wants no more connections and is about to exit.
    Leaving,
    /// It was reaped.
    Exited(Exit),
}

/// What the news mean.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Change {
    /// Nothing: they come too late or a second time.
    Nothing,
    /// There is a process.
    Born,
    /// It became ready.
    BecameReady,
    /// There never was a process; the slot is empty.
    NotBorn,
    /// It exited before it was ready; the slot is empty.
    DiedBooting(Exit),
    /// It wants no more connections.
    Leaves,
    /// It exited while it was ready; the slot is empty.
    DiedReady(Exit),
    /// It exited after it said that it leaves; the slot is empty.
    Left(Exit),
    /// It exited after TERM or KILL; the slot is empty.
    Ended,
}

/// What is due in a slot at some time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Due {
    /// Nothing yet.
    Nothing,
    /// The next start.
    Start,
    /// The end of a worker that was not ready in time.
    BootTimeout,
    /// The end of a worker that leaves and does not go.
    LeaveTimeout,
    /// KILL to a worker that TERM did not end.
    Kill,
}

impl Slot {
    /// A slot whose first worker is due at once.
    pub(super) fn new(number: u16, now: Time) -> Self {
        Self {
            worker: Worker { slot: number, generation: 0 },
            next_generation: 0,
            state: State::Resting { until: now },
            backoff: Backoff::default(),
            failed: 0,
            leaves: false,
        }
    }

    /// The present worker, or the last one.
    pub(super) fn worker(&self) -> Worker {
        self.worker
    }

    /// Whether the present worker may be given connections.
    pub(super) fn is_ready(&self) -> bool {
        matches!(self.state, State::Ready { .. })
    }

    /// Whether the present worker has said that it leaves.
    pub(super) fn leaves(&self) -> bool {
        self.leaves
    }

    /// Whether there is, or may soon be, a process that somebody has to wait for.
    pub(super) fn is_taken(&self) -> bool {
        match self.state {
            State::Empty | State::Resting { .. } => false,
            State::Spawning
            | State::Booting { .. }
            | State::Ready { .. }
            | State::Leaving { .. }
            | State::Ending { .. }
            | State::Killed => true,
        }
    }

    /// Takes in what is heard of the present worker.
    pub(super) fn hear(&mut self, now: Time, news: News, boot_timeout: Duration) -> Change {
        let (state, change) = match (self.state, news) {
            (State::Spawning, News::Spawned) => {
                (State::Booting { until: now + boot_timeout }, Change::Born)
            }
            (State::Spawning, News::SpawnFailed) => (State::Empty, Change::NotBorn),
            // A worker that speaks exists, whoever tells first.
            (State::Spawning | State::Booting { .. }, News::Ready) => {
                self.failed = 0;
                (State::Ready { since: now }, Change::BecameReady)
            }
            (State::Spawning | State::Booting { .. }, News::Exited(exit)) => {
                (State::Empty, Change::DiedBooting(exit))
            }
            (State::Ready { since }, News::Exited(exit)) => {
                self.proved_itself(now, since);
                (State::Empty, Change::DiedReady(exit))
            }
            (State::Ready { since }, News::Leaving) => {
                self.proved_itself(now, since);
                self.leaves = true;
                (State::Leaving { until: now + LEAVING }, Change::Leaves)
            }
            (
                State::Leaving { .. } | State::Ending { .. } | State::Killed,
                News::Exited(exit),
            ) => (State::Empty, if self.leaves { Change::Left(exit) } else { Change::Ended }),
            (
                State::Empty | State::Resting { .. },
                News::Spawned
                | News::SpawnFailed
                | News::Ready
                | News::Leaving
                | News::Exited(_),
            )
            // One that leaves before it was ready still has its boot timeout to go.
            | (State::Spawning, News::Leaving)
            | (State::Booting { .. }, News::Spawned | News::SpawnFailed | News::Leaving)
            | (State::Ready { .. }, News::Spawned | News::SpawnFailed | News::Ready)
            | (
                State::Leaving { .. } | State::Ending { .. } | State::Killed,
                News::Spawned | News::SpawnFailed | News::Ready | News::Leaving,
            ) => (self.state, Change::Nothing),
        };
        self.state = state;
        change
    }

    /// What is due by now. It stays due until it is done.
    pub(super) fn due(&self, now: Time) -> Due {
        match self.state {
            State::Resting { until } if until <= now => Due::Start,
            State::Booting { until } if until <= now => Due::BootTimeout,
            State::Leaving { until } if until <= now => Due::LeaveTimeout,
            State::Ending { kill_at: Some(at) } if at <= now => Due::Kill,
            State::Empty
            | State::Resting { .. }
            | State::Spawning
            | State::Booting { .. }
            | State::Ready { .. }
            | State::Leaving { .. }
            | State::Ending { .. }
            | State::Killed => Due::Nothing,
        }
    }

    /// When something is due next.
    pub(super) fn timeout(&self) -> Option<Time> {
        match self.state {
            State::Resting { until } | State::Booting { until } | State::Leaving { until } => {
                Some(until)
            }
            State::Ending { kill_at } => kill_at,
            State::Empty | State::Spawning | State::Ready { .. } | State::Killed => None,
        }
    }

    /// Makes room for the next worker and says which one to spawn.
    pub(super) fn start(&mut self) -> Worker {
        self.worker.generation = self.next_generation;
        self.next_generation = self.next_generation.wrapping_add(1);
        self.state = State::Spawning;
        self.leaves = false;
        self.worker
    }

    /// Lets the slot rest until its next start, and says how long.
    pub(super) fn rest(&mut self, now: Time, rng: &mut Rng) -> Duration {
        let rest = self.backoff.next(rng);
        self.state = State::Resting { until: now + rest };
        rest
    }

    /// Takes back a start that nobody has carried out.
    pub(super) fn take_back(&mut self) {
        self.state = State::Empty;
    }

    /// Counts a failed start and returns how many there were since a worker was last ready.
    pub(super) fn failed_start(&mut self) -> u32 {
        self.failed = self.failed.saturating_add(1);
        self.failed
    }

    /// Gives up the next start, if the slot rests.
    pub(super) fn stay_empty(&mut self) {
        match self.state {
            State::Resting { .. } => self.state = State::Empty,
            State::Empty
            | State::Spawning
            | State::Booting { .. }
            | State::Ready { .. }
            | State::Leaving { .. }
            | State::Ending { .. }
            | State::Killed => {}
        }
    }

    /// Notes TERM. Returns whether it has to be sent: the process exists and had none.
    pub(super) fn end(&mut self, kill_at: Option<Time>) -> bool {
        match self.state {
            State::Booting { .. } | State::Ready { .. } | State::Leaving { .. } => {
                self.state = State::Ending { kill_at };
                true
            }
            State::Empty
            | State::Resting { .. }
            | State::Spawning
            | State::Ending { .. }
            | State::Killed => false,
        }
    }

    /// Notes KILL. Returns whether it has to be sent: the process exists and had none.
    pub(super) fn kill(&mut self) -> bool {
        match self.state {
            State::Booting { .. }
            | State::Ready { .. }
            | State::Leaving { .. }
            | State::Ending { .. } => {
                self.state = State::Killed;
                true
            }
            State::Empty | State::Resting { .. } | State::Spawning | State::Killed => false,
        }
    }

    /// The worker ends its time as a ready one: a long one resets the backoff.
    fn proved_itself(&mut self, now: Time, since: Time) {
        if now - since >= STABLE {
            self.backoff.reset();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT: Duration = Duration::from_secs(60);

    /// Seconds after the clock's zero.
    fn at(seconds: u64) -> Time {
        Time::since_zero(Duration::from_secs(seconds))
    }

    fn slot(state: State) -> Slot {
        Slot { state, ..Slot::new(0, at(0)) }
    }

    /// One slot in each state.
    fn states() -> [State; 8] {
        [
            State::Empty,
            State::Resting { until: at(1) },
            State::Spawning,
            State::Booting { until: at(1) },
            State::Ready { since: at(0) },
            State::Leaving { until: at(1) },
            State::Ending { kill_at: Some(at(1)) },
            State::Killed,
        ]
    }

    #[test]
    fn every_state_answers_every_news() {
        use Change::{BecameReady, Born, DiedBooting, DiedReady, Ended, Leaves, NotBorn, Nothing};
        let exit = Exit::Code(0);
        let booting = Some(State::Booting { until: at(70) });
        let ready = Some(State::Ready { since: at(10) });
        let empty = Some(State::Empty);
        let ignored = (None, Nothing);
        let leaving = Some(State::Leaving { until: at(20) });
        // What each state makes of spawned, spawn failed, ready, leaving and exited. `None`: it
        // stays.
        let died = (empty, DiedBooting(exit));
        let table = [
            [ignored; 5],
            [ignored; 5],
            [(booting, Born), (empty, NotBorn), (ready, BecameReady), ignored, died],
            [ignored, ignored, (ready, BecameReady), ignored, died],
            [ignored, ignored, ignored, (leaving, Leaves), (empty, DiedReady(exit))],
            [ignored, ignored, ignored, ignored, (empty, Ended)],
            [ignored, ignored, ignored, ignored, (empty, Ended)],
            [ignored, ignored, ignored, ignored, (empty, Ended)],
        ];
        let news =
            [News::Spawned, News::SpawnFailed, News::Ready, News::Leaving, News::Exited(exit)];
        for (state, answers) in states().into_iter().zip(table) {
            for (news, (after, change)) in news.into_iter().zip(answers) {
                let mut slot = slot(state);
                assert_eq!(slot.hear(at(10), news, BOOT), change, "{state:?} at {news:?}");
                assert_eq!(slot.state, after.unwrap_or(state), "{state:?} at {news:?}");
            }
        }
    }

    #[test]
    fn every_state_answers_time_and_orders() {
        use Due::{BootTimeout, Kill, LeaveTimeout, Nothing, Start};
        let due = [Nothing, Start, Nothing, BootTimeout, Nothing, LeaveTimeout, Kill, Nothing];
        let ends = [false, false, false, true, true, true, false, false];
        let kills = [false, false, false, true, true, true, true, false];
        let taken = [false, false, true, true, true, true, true, true];
        for (index, state) in states().into_iter().enumerate() {
            let slot = slot(state);
            assert_eq!(slot.due(at(1)), due[index], "{state:?}");
            assert_eq!(slot.due(at(0)), Nothing, "{state:?}");
            assert_eq!(slot.timeout().is_some(), due[index] != Nothing, "{state:?}");
            assert_eq!(slot.is_taken(), taken[index], "{state:?}");
            assert_eq!(slot.clone().end(None), ends[index], "{state:?}");
            assert_eq!(slot.clone().kill(), kills[index], "{state:?}");
            let mut left = slot.clone();
            left.stay_empty();
            let empty = matches!(state, State::Resting { .. });
            assert_eq!(left.state, if empty { State::Empty } else { state });
        }
    }

    #[test]
    fn only_a_stable_minute_resets_the_backoff() {
        for (until, reset) in [(59, false), (60, true)] {
            let mut slot = slot(State::Ready { since: at(0) });
            slot.backoff.next(&mut Rng::new(1));
            slot.hear(at(until), News::Exited(Exit::Code(1)), BOOT);
            assert_eq!(slot.backoff == Backoff::default(), reset, "after {until} s");
        }
    }
}
