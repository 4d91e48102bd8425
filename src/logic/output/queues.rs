//! All that waits for one of our own streams: the log and the output of each slot take turns.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};

use super::{Label, Queue};

/// Whose lines: those of a slot, or the log.
type Whose = Option<u16>;

/// The queues of one stream.
#[derive(Debug, Default)]
pub struct Queues {
    queues: BTreeMap<Whose, Queue>,
    /// Who had the last turn.
    last: Whose,
}

impl Queues {
    /// Nothing waits.
    pub const fn new() -> Self {
        Self { queues: BTreeMap::new(), last: None }
    }

    /// The lines of this label.
    pub fn of(&mut self, label: Label) -> &mut Queue {
        self.queues.entry(label.slot).or_insert_with(|| Queue::new(Label { pid: None, ..label }))
    }

    /// Whether lines of this slot would be dropped.
    pub fn is_full(&self, slot: u16) -> bool {
        self.queues.get(&Some(slot)).is_some_and(Queue::is_full)
    }

    /// Whose turn it is, and the lines to write at once, if anything waits.
    pub fn turn(&mut self) -> Option<(Whose, &[u8])> {
        let after = self.queues.range((Excluded(self.last), Unbounded));
        let whole = after.chain(self.queues.range(..=self.last));
        let (whose, _) = whole.into_iter().find(|(_, queue)| queue.has_lines())?;
        self.last = *whose;
        let whose = *whose;
        Some((whose, self.queues.get_mut(&whose)?.batch()))
    }

    /// So many bytes of what was next have been written, or can never be.
    pub fn done(&mut self, whose: Whose, len: usize, is_written: bool) {
        let Some(queue) = self.queues.get_mut(&whose) else { return };
        if is_written {
            queue.written(len);
        } else {
            queue.lost(len);
        }
    }

    /// Whether nothing waits.
    pub fn are_empty(&self) -> bool {
        self.queues.values().all(|queue| !queue.has_lines())
    }

    /// What waits or is missing of workers.
    pub fn of_workers(&self) -> impl Iterator<Item = &Queue> {
        self.queues.iter().filter(|(whose, _)| whose.is_some()).map(|(_, queue)| queue)
    }

    /// How many lines of the log wait or are missing.
    pub fn unlogged(&self) -> u64 {
        self.queues.get(&None).map_or(0, Queue::unwritten)
    }

    /// Goes on with what waited.
    pub fn restore(&mut self, queue: Queue) {
        self.queues.insert(queue.label().slot, queue);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::config::LogFormat;
    use crate::logic::output::Stream;

    #[test]
    fn all_take_turns_whoever_has_most_to_say() {
        let mut queues = Queues::new();
        let log = Label::of_log(LogFormat::Text, false);
        let label = |slot| Label { slot, stream: Stream::Stderr, ..log };
        for whose in [None, Some(1), Some(3)] {
            for _ in 0..2_000 {
                queues.of(label(whose)).push(b"a line\n", "");
            }
        }
        let mut turns = Vec::new();
        while let Some((whose, batch)) = queues.turn() {
            let len = batch.len();
            turns.push(whose);
            queues.done(whose, len, true);
        }
        let round = [Some(1), Some(3), None];
        assert!(turns.chunks(3).all(|turn| turn == round), "{turns:?}");
        assert!(queues.are_empty());
    }

    #[test]
    fn what_cannot_be_written_is_not_tried_for_ever() {
        let mut queues = Queues::new();
        let log = Label::of_log(LogFormat::Text, false);
        queues.of(log).push(b"a line\n", "");
        let (whose, batch) = queues.turn().unwrap();
        let len = batch.len();
        queues.done(whose, len, false);
        assert!(queues.turn().is_none() && queues.unlogged() == 1);
        queues.of(log).push(b"another\n", "");
        let said = queues.turn().map(|(_, batch)| batch.to_vec());
        assert_eq!(said.unwrap(), b"(1 log lines dropped)\nanother\n");
    }
}
