//! Lines for which there is no room yet, on their way to one of our own streams.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::{Label, MAX_LINE};

/// The bytes that may wait, of all workers.
const MOST: usize = 1024 * 1024;
/// Those of the log.
const MOST_OF_LOG: usize = 128 * 1024;

/// Whose lines: those of a slot, or the log.
type Whose = Option<u16>;

/// The lines that wait to be written, whole, in order; where there were too many, a line says how many are
/// missing.
///
/// What waits of one worker is at most a quarter of what is free, so that whoever floods it leaves room to the
/// others. The log has room of its own.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Buffer {
    lines: VecDeque<Line>,
    shares: BTreeMap<Whose, Share>,
    /// What the lines of workers cost, in bytes.
    used: usize,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct Line {
    whose: Whose,
    /// So many lines are missing, and this one says so; 0 for every other.
    missing: u64,
    /// With its end.
    #[serde(with = "serde_bytes")]
    text: Vec<u8>,
}

/// What waits of one worker on one stream, or of the log.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Share {
    label: Label,
    /// What its lines cost, in bytes.
    used: usize,
    /// The lines that are missing after them.
    dropped: u64,
    /// When the last line came.
    time: String,
    /// The last attempt to write has failed, so that there is none until another line comes.
    fails: bool,
}

impl Buffer {
    /// Nothing waits.
    pub const fn new() -> Self {
        Self { lines: VecDeque::new(), shares: BTreeMap::new(), used: 0 }
    }

    /// Whether nothing is to be written.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.gap().is_none()
    }

    /// Whether lines of this slot, or of the log, would be dropped. After one was dropped, others are until there
    /// is some more room, so that there are few gaps.
    pub fn is_full(&self, whose: Option<u16>) -> bool {
        let Some(share) = self.shares.get(&whose) else { return false };
        let most = if whose.is_some() { MOST.saturating_sub(self.used) / 4 } else { MOST_OF_LOG };
        share.used >= if share.dropped > 0 { most / 2 } else { most }
    }

    /// Adds a line that came at this time, or drops it if there are too many.
    pub fn push(&mut self, label: Label, text: &[u8], time: &str) {
        let whose = label.slot;
        let label = Label { pid: None, ..label };
        let new = || Share { label, used: 0, dropped: 0, time: String::new(), fails: false };
        let share = self.shares.entry(whose).or_insert_with(new);
        time.clone_into(&mut share.time);
        share.fails = false;
        if self.is_full(whose) {
            self.share(whose).dropped += 1;
        } else {
            self.say_gap(whose);
            self.add(Line { whose, missing: 0, text: text.to_vec() });
        }
    }

    /// The next whole lines that can be written at once, and how many they are; none when nothing waits.
    pub fn batch(&mut self) -> Option<(Vec<u8>, usize)> {
        if self.lines.is_empty() {
            self.say_gap(self.gap()?);
        }
        let (mut batch, mut count) = (Vec::new(), 0);
        for line in &self.lines {
            if count > 0 && batch.len() + line.text.len() > MAX_LINE {
                break;
            }
            batch.extend_from_slice(&line.text);
            count += 1;
        }
        Some((batch, count))
    }

    /// The first so many lines have been written, or can never be.
    pub fn done(&mut self, count: usize, is_written: bool) {
        for line in self.lines.drain(..count).collect::<Vec<_>>() {
            self.used -= line.whose.map_or(0, |_| line.cost());
            let share = self.share(line.whose);
            share.used -= line.cost();
            if !is_written {
                // One that stands for others stands for nothing else.
                share.dropped += line.missing.max(1);
                share.fails = true;
            }
        }
    }

    /// Adds what waited in another program.
    pub fn restore(&mut self, before: Self) {
        for (whose, share) in before.shares {
            let new = Share { used: 0, dropped: 0, ..share.clone() };
            self.shares.entry(whose).or_insert(new).dropped += share.dropped;
        }
        for line in before.lines {
            if self.shares.contains_key(&line.whose) {
                self.add(line);
            }
        }
    }

    fn add(&mut self, line: Line) {
        self.used += line.whose.map_or(0, |_| line.cost());
        self.share(line.whose).used += line.cost();
        self.lines.push_back(line);
    }

    /// Says how many lines are missing of this slot, or of the log, if any are.
    fn say_gap(&mut self, whose: Whose) {
        let share = self.share(whose);
        let missing = std::mem::take(&mut share.dropped);
        if missing > 0 {
            let text = share.label.gap(missing, &share.time);
            self.add(Line { whose, missing, text });
        }
    }

    /// Of whom something is missing that is to be said.
    fn gap(&self) -> Option<Whose> {
        let gap = self.shares.iter().find(|(_, share)| share.dropped > 0 && !share.fails);
        gap.map(|(whose, _)| *whose)
    }

    fn share(&mut self, whose: Whose) -> &mut Share {
        self.shares.get_mut(&whose).expect("who has lines has a share")
    }
}

impl Line {
    /// What it takes of the room.
    fn cost(&self) -> usize {
        size_of::<Self>() + self.text.len()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::logic::config::LogFormat;
    use crate::logic::output::Stream;

    fn label(slot: u16) -> Label {
        let log = Label::of_log(LogFormat::Text, false);
        Label { slot: Some(slot), stream: Stream::Stdout, ..log }
    }

    /// Everything that waits, written.
    fn all(buffer: &mut Buffer) -> String {
        let mut all = Vec::new();
        while let Some((batch, count)) = buffer.batch() {
            assert!(batch.len() <= MAX_LINE && batch.ends_with(b"\n"));
            buffer.done(count, true);
            all.extend(batch);
        }
        assert!(buffer.is_empty() && buffer.used == 0);
        String::from_utf8(all).unwrap()
    }

    /// So many lines of a kibibyte.
    fn flood(buffer: &mut Buffer, slot: u16, lines: usize) {
        let line = [&[b'x'; 1023][..], b"\n"].concat();
        (0..lines).for_each(|_| buffer.push(label(slot), &line, ""));
    }

    #[test]
    fn lines_come_out_whole_and_in_order_as_many_as_fit_at_once() {
        let mut buffer = Buffer::new();
        let lines: Vec<_> = (0..900).map(|number| format!("[2] {number}\n")).collect();
        for line in &lines {
            buffer.push(label(2), line.as_bytes(), "");
        }
        assert!(buffer.batch().unwrap().0.len() > MAX_LINE - 16);
        assert_eq!(all(&mut buffer), lines.concat());
    }

    #[test]
    fn too_many_are_dropped_and_the_gap_says_how_many() {
        let mut buffer = Buffer::new();
        flood(&mut buffer, 2, 1000);
        // A little room is not enough, so that there are few gaps.
        let (_, count) = buffer.batch().unwrap();
        buffer.done(count, true);
        assert!(buffer.is_full(Some(2)));
        let waiting = buffer.lines.len() + count;
        assert!(waiting * 1024 < MOST / 4, "{waiting}");
        let said = all(&mut buffer);
        let gap = format!("({} lines of worker 2 dropped)\n", 1000 - waiting);
        assert!(said.ends_with(&gap), "{gap}");
        buffer.push(label(2), b"[2] again\n", "");
        assert_eq!(all(&mut buffer), "[2] again\n");
    }

    #[test]
    fn whoever_floods_it_leaves_room_to_the_others() {
        let mut buffer = Buffer::new();
        for slot in 0..9 {
            flood(&mut buffer, slot, 1000);
            assert!(buffer.used <= MOST, "{}", buffer.used);
        }
        buffer.push(Label::of_log(LogFormat::Text, false), b"a line of the log\n", "");
        buffer.push(label(9), b"[9] a line\n", "");
        assert!(all(&mut buffer).contains("a line of the log\n[9] a line\n"));
    }

    #[test]
    fn what_is_missing_in_the_log_is_said_in_its_format() {
        let gap = |format, journal| {
            let mut buffer = Buffer::new();
            buffer.push(Label::of_log(format, journal), b"a line\n", "now");
            buffer.done(1, false);
            assert!(buffer.is_empty() && buffer.batch().is_none(), "it is not tried for ever");
            buffer.push(Label::of_log(format, journal), b"another\n", "now");
            all(&mut buffer)
        };
        assert_eq!(gap(LogFormat::Text, false), "(1 log lines dropped)\nanother\n");
        assert_eq!(gap(LogFormat::Text, true), "<4>(1 log lines dropped)\nanother\n");
        let said = gap(LogFormat::Json, false);
        let json: serde_json::Value = serde_json::from_str(said.lines().next().unwrap()).unwrap();
        let whole = json!({
            "timestamp": "now", "level": "WARN", "message": "(1 log lines dropped)",
        });
        assert_eq!(json, whole);
    }

    #[test]
    fn what_cannot_be_written_is_counted_once_gaps_included_also_by_the_next_program() {
        let mut buffer = Buffer::new();
        for attempt in 1..=3 {
            buffer.push(label(2), b"[2] a\n", "");
            buffer.push(label(2), b"[2] b\n", "");
            let (_, count) = buffer.batch().unwrap();
            buffer.done(count, false);
            assert_eq!(buffer.shares[&Some(2)].dropped, 2 * attempt);
        }
        buffer.push(label(3), b"[3] a\n", "");
        let saved = rmp_serde::to_vec_named(&buffer).unwrap();
        let mut next = Buffer::new();
        next.push(label(2), b"[2] c\n", "");
        next.restore(rmp_serde::from_slice(&saved).unwrap());
        assert_eq!(all(&mut next), "[2] c\n[3] a\n[2] (6 lines of worker 2 dropped)\n");
    }
}
