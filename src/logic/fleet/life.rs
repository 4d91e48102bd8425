//! The state of one worker, and the table of what is heard of it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::input::{Exit, Wear};
use super::news::{Change, Due, News, Stage};
use super::pulse::Pulse;
use crate::logic::Worker;
use crate::logic::time::Time;

/// A worker that was ready for this long has proved itself.
const STABLE: Duration = Duration::from_secs(60);

/// One worker, from the wish for it to its exit.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Life {
    /// Who it is.
    pub(super) worker: Worker,
    /// When it was asked for.
    pub(super) since: Time,
    /// Where it stands.
    state: State,
    /// It gets no connection any more, and the engine knows.
    retired: bool,
    /// It has said that it leaves.
    leaves: bool,
    /// It drains or has drained.
    #[serde(default)]
    pub(super) withdrawn: bool,
    /// It was started by the rolling restart.
    #[serde(default)]
    pub(super) rolled: bool,
    /// It is to be replaced.
    #[serde(default)]
    pub(super) worn: Option<Wear>,
    /// When it is as old as it may be.
    #[serde(default)]
    pub(super) old_at: Option<Time>,
    /// Whether it answers, while somebody watches.
    #[serde(default)]
    pub(super) pulse: Option<Pulse>,
}

/// Where a worker stands.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
enum State {
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
    /// It gets connections of its own keys only.
    Draining {
        /// When it gets TERM at the latest.
        until: Option<Time>,
    },
    /// It was asked to end by itself, its exit is awaited.
    Closing {
        /// When it gets TERM.
        until: Time,
        /// When it gets KILL, if it has a time of its own.
        kill_at: Option<Time>,
    },
    /// It wants no more connections, its exit is awaited.
    Leaving {
        /// When it gets TERM.
        until: Time,
    },
    /// TERM or ABRT was sent, its exit is awaited.
    Ending {
        /// When it gets KILL, if it has a time of its own.
        kill_at: Option<Time>,
    },
    /// KILL was sent, its exit is awaited.
    Killed,
    /// There is no process and will be none.
    Gone,
}

impl Life {
    /// A worker that is asked for now.
    pub(super) fn new(worker: Worker, now: Time) -> Self {
        Self {
            worker,
            since: now,
            state: State::Spawning,
            retired: false,
            leaves: false,
            withdrawn: false,
            rolled: false,
            worn: None,
            old_at: None,
            pulse: None,
        }
    }

    /// What it is good for.
    pub(super) fn stage(&self) -> Stage {
        match self.state {
            State::Spawning => Stage::Spawning,
            State::Booting { .. } => Stage::Booting,
            State::Ready { .. } => Stage::Ready,
            State::Draining { .. } => Stage::Draining,
            State::Closing { .. }
            | State::Leaving { .. }
            | State::Ending { .. }
            | State::Killed
            | State::Gone => Stage::Outgoing,
        }
    }

    /// Whether it gets connections, be it those of its own keys only.
    pub(super) fn takes_connections(&self) -> bool {
        matches!(self.stage(), Stage::Ready | Stage::Draining)
    }

    /// Whether it may still become ready.
    pub(super) fn is_starting(&self) -> bool {
        matches!(self.stage(), Stage::Spawning | Stage::Booting)
    }

    /// Whether there is no process and will be none.
    pub(super) fn is_gone(&self) -> bool {
        self.state == State::Gone
    }

    /// Whether its successor is there and it has not had KILL yet.
    pub(super) fn is_draining(&self) -> bool {
        self.withdrawn && !matches!(self.state, State::Killed | State::Gone)
    }

    /// Whether it is ready, has been for long and is not worn.
    pub(super) fn has_proved_itself(&self, now: Time) -> bool {
        let is_stable = matches!(self.state, State::Ready { since } if now - since >= STABLE);
        is_stable && self.worn.is_none()
    }

    /// Takes in what is heard of it. One that leaves by itself has `leaving` to exit.
    pub(super) fn hear(
        &mut self,
        now: Time,
        news: News,
        boot_timeout: Duration,
        leaving: Duration,
    ) -> Change {
        let (state, change) = match (self.state, news) {
            (State::Spawning, News::Spawned) => {
                (State::Booting { until: now + boot_timeout }, Change::Born)
            }
            (State::Spawning, News::SpawnFailed) => (State::Gone, Change::NotBorn),
            // A worker that speaks exists, whoever tells first.
            (State::Spawning | State::Booting { .. }, News::Ready) => {
                (State::Ready { since: now }, Change::BecameReady)
            }
            (State::Spawning | State::Booting { .. }, News::Exited(exit)) => {
                (State::Gone, Change::DiedBooting(exit))
            }
            (State::Ready { .. } | State::Draining { .. }, News::Exited(exit)) => {
                (State::Gone, Change::DiedReady(exit))
            }
            (State::Ready { .. } | State::Draining { .. }, News::Leaving) => {
                self.leaves = true;
                self.pulse = None;
                (State::Leaving { until: now + leaving }, Change::Leaves)
            }
            (
                State::Closing { .. }
                | State::Leaving { .. }
                | State::Ending { .. }
                | State::Killed,
                News::Exited(exit),
            ) => (State::Gone, self.ended(exit)),
            (
                State::Gone,
                News::Spawned
                | News::SpawnFailed
                | News::Ready
                | News::Leaving
                | News::Exited(_),
            )
            // One that leaves before it was ready still has its boot timeout to go.
            | (State::Spawning, News::Leaving)
            | (State::Booting { .. }, News::Spawned | News::SpawnFailed | News::Leaving)
            | (
                State::Ready { .. } | State::Draining { .. },
                News::Spawned | News::SpawnFailed | News::Ready,
            )
            | (
                State::Closing { .. }
                | State::Leaving { .. }
                | State::Ending { .. }
                | State::Killed,
                News::Spawned | News::SpawnFailed | News::Ready | News::Leaving,
            ) => (self.state, Change::Nothing),
        };
        self.state = state;
        change
    }

    /// What its exit means after it was to end.
    fn ended(&self, exit: Exit) -> Change {
        match (self.leaves, self.withdrawn) {
            (true, _) => Change::Left(exit),
            (false, true) => Change::Drained(exit),
            (false, false) => Change::Ended,
        }
    }

    /// What is due by now. It stays due until it is done.
    pub(super) fn due(&self, now: Time) -> Option<Due> {
        let (at, due) = match self.state {
            State::Booting { until } => (Some(until), Due::BootTimeout),
            State::Ready { .. } => (self.old_at, Due::TooOld),
            State::Draining { until } => (until, Due::DrainTimeout),
            State::Closing { until, kill_at } => (Some(until), Due::CloseTimeout(kill_at)),
            State::Leaving { until } => (Some(until), Due::LeaveTimeout),
            State::Ending { kill_at } => (kill_at, Due::Kill),
            State::Spawning | State::Killed | State::Gone => return None,
        };
        at.filter(|at| *at <= now).map(|_| due)
    }

    /// When something is due next.
    pub(super) fn timeout(&self) -> Option<Time> {
        let own = match self.state {
            State::Booting { until } | State::Closing { until, .. } | State::Leaving { until } => {
                Some(until)
            }
            State::Ready { .. } => self.old_at,
            State::Draining { until } => until,
            State::Ending { kill_at } => kill_at,
            State::Spawning | State::Killed | State::Gone => None,
        };
        own.into_iter().chain(self.pulse.as_ref().map(Pulse::timeout)).min()
    }

    /// Lets a ready one drain.
    pub(super) fn withdraw(&mut self, until: Option<Time>) {
        self.state = State::Draining { until };
        self.withdrawn = true;
        self.worn = None;
        self.old_at = None;
    }

    /// Takes away the times that do not count while everything stops.
    pub(super) fn settle(&mut self) {
        self.pulse = None;
        self.old_at = None;
        if let State::Draining { until } = &mut self.state {
            *until = None;
        }
    }

    /// Notes that it gets no connection any more. Returns whether that has to be told.
    pub(super) fn retire(&mut self) -> bool {
        !std::mem::replace(&mut self.retired, true)
    }

    /// Notes that it was asked to end by itself. Returns whether it has to be: it takes connections.
    pub(super) fn close(&mut self, until: Time, kill_at: Option<Time>) -> bool {
        let asks = self.takes_connections();
        if asks {
            self.state = State::Closing { until, kill_at };
            self.pulse = None;
            self.old_at = None;
        }
        asks
    }

    /// The time of its KILL, if it was asked to end by itself.
    pub(super) fn asked(&self) -> Option<Option<Time>> {
        match self.state {
            State::Closing { kill_at, .. } => Some(kill_at),
            State::Spawning
            | State::Booting { .. }
            | State::Ready { .. }
            | State::Draining { .. }
            | State::Leaving { .. }
            | State::Ending { .. }
            | State::Killed
            | State::Gone => None,
        }
    }

    /// Notes TERM or ABRT. Returns whether it has to be sent: the process exists and had none.
    pub(super) fn end(&mut self, kill_at: Option<Time>) -> bool {
        match self.state {
            State::Booting { .. }
            | State::Ready { .. }
            | State::Draining { .. }
            | State::Closing { .. }
            | State::Leaving { .. } => {
                self.state = State::Ending { kill_at };
                self.pulse = None;
                true
            }
            State::Spawning | State::Ending { .. } | State::Killed | State::Gone => false,
        }
    }

    /// Notes KILL. Returns whether it has to be sent: the process exists and had none.
    pub(super) fn kill(&mut self) -> bool {
        match self.state {
            State::Booting { .. }
            | State::Ready { .. }
            | State::Draining { .. }
            | State::Closing { .. }
            | State::Leaving { .. }
            | State::Ending { .. } => {
                self.state = State::Killed;
                self.pulse = None;
                true
            }
            State::Spawning | State::Killed | State::Gone => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT: Duration = Duration::from_secs(60);
    const LEAVING: Duration = Duration::from_secs(7);

    /// Seconds after the clock's zero.
    fn at(seconds: u64) -> Time {
        Time::since_zero(Duration::from_secs(seconds))
    }

    fn life(state: State) -> Life {
        Life { state, ..Life::new(Worker { slot: 0, generation: 0 }, at(0)) }
    }

    fn states() -> [State; 9] {
        [
            State::Gone,
            State::Spawning,
            State::Booting { until: at(1) },
            State::Ready { since: at(0) },
            State::Draining { until: Some(at(1)) },
            State::Closing { until: at(1), kill_at: Some(at(2)) },
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
        let gone = Some(State::Gone);
        let ignored = (None, Nothing);
        let leaves = (Some(State::Leaving { until: at(17) }), Leaves);
        // What each state makes of spawned, spawn failed, ready, leaving and exited. `None`: it
        // stays.
        let died = (gone, DiedBooting(exit));
        let died_ready = (gone, DiedReady(exit));
        let table = [
            [ignored; 5],
            [(booting, Born), (gone, NotBorn), (ready, BecameReady), ignored, died],
            [ignored, ignored, (ready, BecameReady), ignored, died],
            [ignored, ignored, ignored, leaves, died_ready],
            [ignored, ignored, ignored, leaves, died_ready],
            [ignored, ignored, ignored, ignored, (gone, Ended)],
            [ignored, ignored, ignored, ignored, (gone, Ended)],
            [ignored, ignored, ignored, ignored, (gone, Ended)],
            [ignored, ignored, ignored, ignored, (gone, Ended)],
        ];
        let news =
            [News::Spawned, News::SpawnFailed, News::Ready, News::Leaving, News::Exited(exit)];
        for (state, answers) in states().into_iter().zip(table) {
            for (news, (after, change)) in news.into_iter().zip(answers) {
                let mut life = life(state);
                assert_eq!(life.hear(at(10), news, BOOT, LEAVING), change, "{state:?} at {news:?}");
                assert_eq!(life.state, after.unwrap_or(state), "{state:?} at {news:?}");
            }
        }
    }

    #[test]
    fn every_state_answers_time_and_orders() {
        use Due::{BootTimeout, CloseTimeout, DrainTimeout, Kill, LeaveTimeout};
        let due = [
            None,
            None,
            Some(BootTimeout),
            None,
            Some(DrainTimeout),
            Some(CloseTimeout(Some(at(2)))),
            Some(LeaveTimeout),
            Some(Kill),
            None,
        ];
        let ends = [false, false, true, true, true, true, true, false, false];
        let kills = [false, false, true, true, true, true, true, true, false];
        let closes = [false, false, false, true, true, false, false, false, false];
        for (index, state) in states().into_iter().enumerate() {
            let life = life(state);
            assert_eq!(life.due(at(1)), due[index], "{state:?}");
            assert_eq!(life.due(at(0)), None, "{state:?}");
            assert_eq!(life.timeout().is_some(), due[index].is_some(), "{state:?}");
            assert_eq!(life.clone().end(None), ends[index], "{state:?}");
            assert_eq!(life.clone().close(at(1), None), closes[index], "{state:?}");
            assert_eq!(life.clone().kill(), kills[index], "{state:?}");
        }
    }

    #[test]
    fn a_stable_minute_proves_a_ready_worker() {
        for (until, proved) in [(59, false), (60, true)] {
            let life = life(State::Ready { since: at(0) });
            assert_eq!(life.has_proved_itself(at(until)), proved, "after {until} s");
        }
        assert!(!life(State::Booting { until: at(0) }).has_proved_itself(at(100)));
    }
}
