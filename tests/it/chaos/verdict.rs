//! What became of the requests: who failed, and whether a killed worker excuses it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Keys;
use super::deeds::Killed;
use super::load::{Failure, Load, Move};
use crate::support::ledger::{Book, Pickup};

/// A client whose worker was killed sees it within this time.
const SEEN: Duration = Duration::from_secs(5);

/// What became of the requests.
#[derive(Debug)]
pub(super) struct Verdict {
    sent: u64,
    answered: u64,
    /// Those that killed workers had picked up.
    excused: u64,
    /// Those that were nobody's fault but the supervisor's, and who had picked them up.
    failed: Vec<(Failure, Vec<Pickup>)>,
    /// Clients that left a worker which lived.
    moved: Vec<Move>,
}

impl Verdict {
    /// Judges a load that is over by what its workers have noted.
    pub(super) fn new(load: &Load, book: &Book, killed: &[Killed], keys: Keys) -> Self {
        let pickups = book.read();
        let failures = load.failed.lock().unwrap().clone();
        let all = failures.len();
        let found = failures.into_iter().map(|failure| {
            let its = failure.client.and_then(|client| pickups.get(&client));
            let during = failure.began..=failure.ended;
            let its = its.into_iter().flatten().filter(|pickup| during.contains(&pickup.at));
            let its = its.copied().collect();
            (failure, its)
        });
        // Node says that it has picked somebody up just before the app can note it, so that each
        // that is killed may have taken one with it that it had no time to note.
        let mut unnoted = if keys == Keys::None { killed.to_vec() } else { Vec::new() };
        let is_unexcused = |(failure, pickups): &(Failure, Vec<Pickup>)| match pickups.last() {
            Some(last) => !killed.iter().any(|killed| killed.took(Some(*last), failure)),
            None => {
                let one = unnoted.iter().position(|killed| killed.took(None, failure));
                one.map(|one| unnoted.swap_remove(one)).is_none()
            }
        };
        let failed: Vec<_> = found.filter(is_unexcused).collect();
        Self {
            sent: load.sent.load(Ordering::Relaxed),
            answered: load.answered.load(Ordering::Relaxed),
            excused: (all - failed.len()) as u64,
            failed,
            moved: load.moved.lock().unwrap().clone(),
        }
    }

    /// Nobody failed without an excuse, nobody moved, and nobody was forgotten.
    #[track_caller]
    pub(super) fn assert_right(&self) {
        assert!(self.failed.is_empty(), "{:#?}", self.failed);
        assert!(self.moved.is_empty(), "{:#?}", self.moved);
        assert!(self.answered > 0);
        assert_eq!(self.sent, self.answered + self.excused);
    }
}

impl Killed {
    /// Whether a client failed because this worker was killed, which had picked it up then: at this
    /// time, if that was noted.
    fn took(&self, pickup: Option<Pickup>, failure: &Failure) -> bool {
        let since = pickup.map_or(failure.began, |pickup| pickup.at);
        pickup.is_none_or(|pickup| pickup.pid == self.pid)
            && since <= self.still
            && self.after <= failure.ended
            && failure.ended.saturating_sub(self.before) < SEEN
    }
}
