//! The ledger: descriptors in flight to one worker, kept until they have arrived.
//!
//! Node acknowledges them in the order in which they were sent (`NODE_HANDLE_ACK`). A connection for
//! one of its servers is also answered by number, with whether the server took it, and is kept until
//! then.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

/// What was sent to one worker with a descriptor, the first sent first.
#[derive(Debug, Deserialize, Serialize)]
pub struct Ledger<T> {
    payloads: BTreeMap<u64, T>,
    next: u64,
    /// Those that were not acknowledged, and the number under which they will be answered.
    unacknowledged: VecDeque<(u64, Option<u32>)>,
    /// Those that were not answered, by the number under which they will be.
    unanswered: BTreeMap<u32, u64>,
}

impl<T> Default for Ledger<T> {
    fn default() -> Self {
        Self {
            payloads: BTreeMap::new(),
            next: 0,
            unacknowledged: VecDeque::new(),
            unanswered: BTreeMap::new(),
        }
    }
}

impl<T> Ledger<T> {
    /// Enters something that is about to be sent, and returns its number here. `seq` is the number
    /// under which it will be answered, if it will.
    pub fn enter(&mut self, payload: T, seq: Option<u32>) -> u64 {
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        self.payloads.insert(number, payload);
        self.unacknowledged.push_back((number, seq));
        if let Some(seq) = seq {
            self.unanswered.insert(seq, number);
        }
        number
    }

    /// What has this number.
    pub fn get(&self, number: u64) -> Option<&T> {
        self.payloads.get(&number)
    }

    /// A ledger of what `change` makes of everything that is not settled.
    pub fn map<U>(&self, mut change: impl FnMut(&T) -> U) -> Ledger<U> {
        let payloads = self.payloads.iter().map(|(number, payload)| (*number, change(payload)));
        Ledger {
            payloads: payloads.collect(),
            next: self.next,
            unacknowledged: self.unacknowledged.clone(),
            unanswered: self.unanswered.clone(),
        }
    }

    /// All that is not settled.
    pub fn payloads(&self) -> impl Iterator<Item = &T> {
        self.payloads.values()
    }

    /// How many are not settled.
    pub fn unacknowledged(&self) -> usize {
        self.payloads.len()
    }

    /// The oldest one has arrived. Returns it if it is settled by that; an error when nothing was
    /// sent that could have arrived.
    pub fn acknowledged(&mut self) -> Result<Option<T>, NothingSent> {
        let (number, seq) = self.unacknowledged.pop_front().ok_or(NothingSent)?;
        Ok(if seq.is_none() { self.payloads.remove(&number) } else { None })
    }

    /// The oldest one has arrived and was taken, whether or not that would have been answered.
    /// Returns it.
    pub fn taken(&mut self) -> Result<Option<T>, NothingSent> {
        let (number, seq) = self.unacknowledged.pop_front().ok_or(NothingSent)?;
        if let Some(seq) = seq {
            self.unanswered.remove(&seq);
        }
        Ok(self.payloads.remove(&number))
    }

    /// The oldest one has not arrived, only its message. Returns it.
    pub fn lost(&mut self) -> Result<Option<T>, NothingSent> {
        self.taken()
    }

    /// The one with this `seq` was answered. Returns it.
    pub fn answered(&mut self, seq: u32) -> Option<T> {
        let number = self.unanswered.remove(&seq)?;
        self.payloads.remove(&number)
    }

    /// A ledger of what `change` makes of everything that is not settled. Stops at the first error.
    pub fn try_map<U, E>(self, mut change: impl FnMut(T) -> Result<U, E>) -> Result<Ledger<U>, E> {
        let Self { payloads, next, unacknowledged, unanswered } = self;
        let payloads = payloads.into_iter().map(|(number, payload)| Ok((number, change(payload)?)));
        Ok(Ledger {
            payloads: payloads.collect::<Result<_, _>>()?,
            next,
            unacknowledged,
            unanswered,
        })
    }

    /// All that is not settled, for the day when the worker is gone.
    pub fn into_payloads(self) -> impl Iterator<Item = T> {
        self.payloads.into_values()
    }
}

/// A worker acknowledged something although nothing was sent to it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("it acknowledged a descriptor that was never sent")]
pub struct NothingSent;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_answered_is_kept_until_the_answer() {
        let mut ledger = Ledger::default();
        ledger.enter("first", Some(7));
        let second = ledger.enter("second", Some(9));
        assert_eq!(ledger.acknowledged(), Ok(None));
        assert_eq!(ledger.acknowledged(), Ok(None));
        assert_eq!(ledger.answered(7), Some("first"));
        assert_eq!(ledger.answered(7), None);
        assert_eq!(ledger.get(second), Some(&"second"));
        assert_eq!(ledger.into_payloads().collect::<Vec<_>>(), ["second"]);
    }

    #[test]
    fn what_is_only_acknowledged_is_settled_by_that_in_the_order_of_sending() {
        let mut ledger = Ledger::default();
        ledger.enter("first", None);
        ledger.enter("second", Some(1));
        ledger.enter("third", None);
        assert_eq!(ledger.acknowledged(), Ok(Some("first")));
        assert_eq!(ledger.lost(), Ok(Some("second")));
        assert_eq!(ledger.answered(1), None);
        assert_eq!(ledger.acknowledged(), Ok(Some("third")));
        assert_eq!(ledger.acknowledged(), Err(NothingSent));
        assert_eq!(ledger.payloads().count(), 0);
    }

    #[test]
    fn what_is_taken_needs_no_answer() {
        let mut ledger = Ledger::default();
        ledger.enter("first", Some(1));
        ledger.enter("second", None);
        assert_eq!(ledger.taken(), Ok(Some("first")));
        assert_eq!(ledger.answered(1), None);
        assert_eq!(ledger.taken(), Ok(Some("second")));
        assert_eq!(ledger.taken(), Err(NothingSent));
    }
}
