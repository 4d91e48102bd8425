//! The state of the whole fleet, and the table of what moves it on.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::action::Outcome;
use crate::logic::time::Time;

/// From the second stop to KILL, and from giving up to KILL.
pub(super) const FAST_STOP: Duration = Duration::from_secs(1);
/// From the last KILL to finishing without the exits.
pub(super) const EXIT_WAIT: Duration = Duration::from_secs(2);
/// Workers get the last fifth of the grace, but at most this, between TERM and KILL.
const MAX_TERM_TO_KILL: Duration = Duration::from_secs(5);

/// The phase of the fleet. It only ever moves down this list.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) enum Phase {
    /// Every slot is to have a ready worker.
    Running,
    /// Asked to stop: waiting until no connection is open.
    Stopping {
        /// The last count of open connections, `None` before the first.
        open: Option<u64>,
        /// When TERM is sent although connections are open.
        end_at: Time,
        /// When KILL is sent.
        deadline: Time,
    },
    /// TERM is sent to all: waiting until all are gone.
    Terminating {
        /// How this is going to end.
        outcome: Outcome,
        /// Whether the next stop means KILL now.
        fast: bool,
        /// When KILL is sent.
        kill_at: Time,
    },
    /// KILL is sent to all: waiting until all are gone.
    Killing {
        /// How this is going to end.
        outcome: Outcome,
        /// When to leave without the exits.
        leave_at: Time,
    },
    /// Nothing is left to do.
    Done,
}

/// What a transition asks the fleet to do at once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Effect {
    /// The phase goes on.
    None,
    /// No starts and no new connections from now on; ready workers drain, starting ones end.
    Drain,
    /// For the log: the first count of connections that the stop waits for.
    Wait(u64),
    /// No starts and no new connections from now on; all workers end.
    GiveUp,
    /// TERM to all that had none.
    Terminate,
    /// The same, and say that the stop is now a fast one.
    FastStop,
    /// KILL to all.
    Kill,
    /// Leave.
    Finish(Outcome),
}

/// One method for each input; every phase answers each of them.
impl Phase {
    /// A stop was asked for, and may take this long.
    pub(super) fn stop(self, now: Time, grace: Duration) -> (Self, Effect) {
        match self {
            Self::Running => (Self::stopping(now, grace), Effect::Drain),
            Self::Stopping { deadline, .. } => (
                Self::terminating_fast(Outcome::Stopped, deadline.min(now + FAST_STOP)),
                Effect::FastStop,
            ),
            Self::Terminating { outcome, fast: false, kill_at } => {
                (Self::terminating_fast(outcome, kill_at.min(now + FAST_STOP)), Effect::FastStop)
            }
            Self::Terminating { outcome, fast: true, .. } => Self::killing(outcome, now),
            Self::Killing { .. } | Self::Done => (self, Effect::None),
        }
    }

    /// So many connections are open or held.
    pub(super) fn open(self, count: u64) -> (Self, Effect) {
        match self {
            Self::Stopping { deadline, .. } if count == 0 => {
                (Self::terminating(Outcome::Stopped, deadline), Effect::Terminate)
            }
            Self::Stopping { open, end_at, deadline } => (
                Self::Stopping { open: Some(count), end_at, deadline },
                if open.is_none() { Effect::Wait(count) } else { Effect::None },
            ),
            Self::Running | Self::Terminating { .. } | Self::Killing { .. } | Self::Done => {
                (self, Effect::None)
            }
        }
    }

    /// No worker was ever ready and a slot has failed too often.
    pub(super) fn give_up(self, now: Time) -> (Self, Effect) {
        match self {
            Self::Running => {
                (Self::terminating(Outcome::NeverReady, now + FAST_STOP), Effect::GiveUp)
            }
            Self::Stopping { .. }
            | Self::Terminating { .. }
            | Self::Killing { .. }
            | Self::Done => (self, Effect::None),
        }
    }

    /// No process is left and none is being started.
    pub(super) fn gone(self) -> (Self, Effect) {
        match self {
            Self::Stopping { .. } => (Self::Done, Effect::Finish(Outcome::Stopped)),
            Self::Terminating { outcome, .. } | Self::Killing { outcome, .. } => {
                (Self::Done, Effect::Finish(outcome))
            }
            Self::Running | Self::Done => (self, Effect::None),
        }
    }

    /// Time went by, no more.
    pub(super) fn tick(self, now: Time) -> (Self, Effect) {
        match self {
            Self::Stopping { end_at, deadline, .. } if end_at <= now => {
                (Self::terminating(Outcome::Stopped, deadline), Effect::Terminate)
            }
            Self::Terminating { outcome, kill_at, .. } if kill_at <= now => {
                Self::killing(outcome, now)
            }
            Self::Killing { outcome, leave_at } if leave_at <= now => {
                (Self::Done, Effect::Finish(outcome))
            }
            Self::Running
            | Self::Stopping { .. }
            | Self::Terminating { .. }
            | Self::Killing { .. }
            | Self::Done => (self, Effect::None),
        }
    }

    /// When time alone moves this phase on.
    pub(super) fn timeout(self) -> Option<Time> {
        match self {
            Self::Running | Self::Done => None,
            Self::Stopping { end_at, .. } => Some(end_at),
            Self::Terminating { kill_at, .. } => Some(kill_at),
            Self::Killing { leave_at, .. } => Some(leave_at),
        }
    }

    fn stopping(now: Time, grace: Duration) -> Self {
        let last_fifth = (grace / 5).min(MAX_TERM_TO_KILL);
        Self::Stopping { open: None, end_at: now + (grace - last_fifth), deadline: now + grace }
    }

    fn terminating(outcome: Outcome, kill_at: Time) -> Self {
        Self::Terminating { outcome, fast: false, kill_at }
    }

    fn terminating_fast(outcome: Outcome, kill_at: Time) -> Self {
        Self::Terminating { outcome, fast: true, kill_at }
    }

    fn killing(outcome: Outcome, now: Time) -> (Self, Effect) {
        (Self::Killing { outcome, leave_at: now + EXIT_WAIT }, Effect::Kill)
    }
}

#[cfg(test)]
mod tests {
    use super::Outcome::{NeverReady, Stopped};
    use super::*;

    const GRACE: Duration = Duration::from_secs(25);

    /// Milliseconds after the clock's zero.
    fn at(millis: u64) -> Time {
        Time::since_zero(Duration::from_millis(millis))
    }

    /// Checks what a phase makes of stop, open 3, open 0, give up, gone and a tick, all at 10 s.
    /// `None` means that nothing happens.
    fn check(phase: Phase, answers: [Option<(Phase, Effect)>; 6]) {
        let now = at(10_000);
        let given = [
            phase.stop(now, GRACE),
            phase.open(3),
            phase.open(0),
            phase.give_up(now),
            phase.gone(),
            phase.tick(now),
        ];
        let expected = answers.map(|answer| answer.unwrap_or((phase, Effect::None)));
        assert_eq!(given, expected, "{phase:?}");
    }

    fn stopping(open: Option<u64>, end_at: u64, deadline: u64) -> Phase {
        Phase::Stopping { open, end_at: at(end_at), deadline: at(deadline) }
    }

    fn ending(outcome: Outcome, hurried: bool, kill_at: u64) -> Phase {
        Phase::Terminating { outcome, fast: hurried, kill_at: at(kill_at) }
    }

    fn killing(outcome: Outcome, leave_at: u64) -> Phase {
        Phase::Killing { outcome, leave_at: at(leave_at) }
    }

    #[test]
    fn running_and_done_answer_every_push() {
        let stop = Some((stopping(None, 30_000, 35_000), Effect::Drain));
        let give_up = Some((ending(NeverReady, false, 11_000), Effect::GiveUp));
        check(Phase::Running, [stop, None, None, give_up, None, None]);
        check(Phase::Done, [None; 6]);
    }

    #[test]
    fn stopping_answers_every_push() {
        let hurry = Some((ending(Stopped, true, 11_000), Effect::FastStop));
        let end = Some((ending(Stopped, false, 25_000), Effect::Terminate));
        let finish = Some((Phase::Done, Effect::Finish(Stopped)));
        let first = Some((stopping(Some(3), 20_000, 25_000), Effect::Wait(3)));
        check(stopping(None, 20_000, 25_000), [hurry, first, end, None, finish, None]);
        let again = Some((stopping(Some(3), 20_000, 25_000), Effect::None));
        check(stopping(Some(9), 20_000, 25_000), [hurry, again, end, None, finish, None]);
        let over = Some((stopping(Some(3), 10_000, 25_000), Effect::None));
        check(stopping(Some(9), 10_000, 25_000), [hurry, over, end, None, finish, end]);
        let last = Some((ending(Stopped, true, 10_400), Effect::FastStop));
        let soon = Some((ending(Stopped, false, 10_400), Effect::Terminate));
        let open = Some((stopping(Some(3), 10_300, 10_400), Effect::None));
        check(stopping(Some(9), 10_300, 10_400), [last, open, soon, None, finish, None]);
    }

    #[test]
    fn ending_answers_every_push() {
        for outcome in [Stopped, NeverReady] {
            let finish = Some((Phase::Done, Effect::Finish(outcome)));
            let kill = Some((killing(outcome, 12_000), Effect::Kill));
            let hurry = |kill_at| Some((ending(outcome, true, kill_at), Effect::FastStop));
            let calm = |kill_at| ending(outcome, false, kill_at);
            check(calm(15_000), [hurry(11_000), None, None, None, finish, None]);
            check(calm(10_500), [hurry(10_500), None, None, None, finish, None]);
            check(calm(10_000), [hurry(10_000), None, None, None, finish, kill]);
            check(ending(outcome, true, 10_500), [kill, None, None, None, finish, None]);
        }
    }

    #[test]
    fn killing_answers_every_push() {
        for outcome in [Stopped, NeverReady] {
            let finish = Some((Phase::Done, Effect::Finish(outcome)));
            check(killing(outcome, 10_001), [None, None, None, None, finish, None]);
            check(killing(outcome, 10_000), [None, None, None, None, finish, finish]);
        }
    }

    #[test]
    fn term_takes_the_last_fifth_of_the_grace_and_at_most_five_seconds() {
        for (grace, end_at) in [(0, 0), (1_000, 800), (25_000, 20_000), (600_000, 595_000)] {
            let stopping = Phase::stopping(at(0), Duration::from_millis(grace));
            assert_eq!(stopping.timeout(), Some(at(end_at)), "grace of {grace} ms");
        }
    }
}
