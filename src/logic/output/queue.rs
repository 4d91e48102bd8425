//! Lines for which there is no room yet.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::{LONGEST, Label};

/// The bytes that may wait.
const MOST: usize = 256 * 1024;

/// The lines of one stream that wait to be written, whole, in order; where there were too many, a
/// line says how many are missing.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Queue {
    label: Label,
    /// Lines with their ends.
    waiting: Vec<u8>,
    /// Which of these lines stand for missing ones.
    gaps: VecDeque<Gap>,
    /// The lines that are missing after them.
    dropped: u64,
    /// When the last line came.
    #[serde(default)]
    time: String,
    /// The last attempt to write has failed, so that there is none until another line comes.
    #[serde(skip)]
    fails: bool,
}

/// A line that stands for missing ones.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
struct Gap {
    /// Where it ends in what waits.
    end: usize,
    missing: u64,
}

impl Queue {
    /// Nothing waits.
    pub fn new(label: Label) -> Self {
        Self {
            label,
            waiting: Vec::new(),
            gaps: VecDeque::new(),
            dropped: 0,
            time: String::new(),
            fails: false,
        }
    }

    /// What all lines have in common.
    pub fn label(&self) -> Label {
        self.label
    }

    /// Whether there is something to write.
    pub fn has_lines(&self) -> bool {
        !self.waiting.is_empty() || (self.dropped > 0 && !self.fails)
    }

    /// Whether lines would be dropped. After one was dropped, others are until half of what may
    /// wait is free, so that there are few gaps.
    pub fn is_full(&self) -> bool {
        let most = if self.dropped > 0 { MOST / 2 } else { MOST };
        self.waiting.len() >= most
    }

    /// Adds a line that came at this time, or drops it if there are too many.
    pub fn push(&mut self, line: &[u8], time: &str) {
        time.clone_into(&mut self.time);
        self.fails = false;
        if self.is_full() {
            self.dropped += 1;
            return;
        }
        self.say_gap();
        self.waiting.extend_from_slice(line);
    }

    /// So many lines are missing that were dropped before.
    pub fn miss(&mut self, dropped: u64) {
        self.dropped += dropped;
    }

    /// How many lines are missing or wait.
    pub fn unwritten(&self) -> u64 {
        let lines = memchr::memchr_iter(b'\n', &self.waiting).count() as u64;
        lines + self.gaps.iter().map(|gap| gap.missing - 1).sum::<u64>() + self.dropped
    }

    /// The next whole lines that can be written at once; no bytes when nothing waits.
    pub fn batch(&mut self) -> &[u8] {
        if self.waiting.is_empty() {
            self.say_gap();
        }
        let fitting = &self.waiting[..self.waiting.len().min(LONGEST)];
        let end = memchr::memrchr(b'\n', fitting).map_or(0, |last| last + 1);
        &self.waiting[..end]
    }

    /// So many bytes of [`Queue::batch`] have been written.
    pub fn written(&mut self, len: usize) {
        self.take(len);
    }

    /// So many bytes of [`Queue::batch`] can never be written.
    pub fn lost(&mut self, len: usize) {
        let lines = memchr::memchr_iter(b'\n', &self.waiting[..len]).count() as u64;
        // A gap stands for more than itself.
        let missing: u64 = self.take(len).iter().map(|gap| gap.missing - 1).sum();
        self.dropped += lines + missing;
        self.fails = true;
    }

    /// Takes so many bytes away, and returns the gaps among them.
    fn take(&mut self, len: usize) -> Vec<Gap> {
        self.waiting.drain(..len);
        if self.waiting.is_empty() {
            self.waiting = Vec::new();
        }
        let past = self.gaps.iter().take_while(|gap| gap.end <= len).count();
        let taken = self.gaps.drain(..past).collect();
        for gap in &mut self.gaps {
            gap.end -= len;
        }
        taken
    }

    fn say_gap(&mut self) {
        if self.dropped > 0 {
            let missing = std::mem::take(&mut self.dropped);
            self.waiting.extend_from_slice(&self.label.gap(missing, &self.time));
            self.gaps.push_back(Gap { end: self.waiting.len(), missing });
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::logic::config::LogFormat;
    use crate::logic::output::Stream;

    fn queue() -> Queue {
        Queue::new(Label {
            slot: Some(2),
            pid: None,
            stream: Stream::Stdout,
            format: LogFormat::Text,
            journal: false,
        })
    }

    /// Everything that waits, written.
    fn all(queue: &mut Queue) -> String {
        let mut all = Vec::new();
        loop {
            let next = queue.batch().to_vec();
            if next.is_empty() {
                return String::from_utf8(all).unwrap();
            }
            assert!(next.len() <= LONGEST && next.ends_with(b"\n"));
            queue.written(next.len());
            all.extend(next);
        }
    }

    #[test]
    fn lines_come_out_whole_and_in_order_as_many_as_fit_at_once() {
        let mut queue = queue();
        let lines: Vec<_> = (0..900).map(|number| format!("[2] {number}\n")).collect();
        for line in &lines {
            queue.push(line.as_bytes(), "");
        }
        assert!(queue.batch().len() > LONGEST - 16);
        assert_eq!(all(&mut queue), lines.concat());
        assert!(!queue.has_lines());
    }

    #[test]
    fn too_many_are_dropped_and_the_gap_says_how_many() {
        let mut queue = queue();
        let line = [&[b'x'; 1023][..], b"\n"].concat();
        for _ in 0..MOST / line.len() + 9 {
            queue.push(&line, "");
        }
        // A little room is not enough, so that there are few gaps.
        let len = queue.batch().len();
        queue.written(len);
        assert!(queue.is_full());
        queue.push(&line, "");
        let said = all(&mut queue);
        assert!(said.ends_with("(10 lines of worker 2 dropped)\n"), "{said}");
        queue.push(b"[2] again\n", "");
        assert_eq!(all(&mut queue), "[2] again\n");
    }

    #[test]
    fn what_is_missing_in_the_log_is_said_in_its_format() {
        let gap = |format, journal| {
            let mut queue = Queue::new(Label::of_log(format, journal));
            queue.push(b"a line\n", "now");
            queue.lost(7);
            queue.miss(2);
            all(&mut queue)
        };
        assert_eq!(gap(LogFormat::Text, false), "(3 log lines dropped)\n");
        assert_eq!(gap(LogFormat::Text, true), "<4>(3 log lines dropped)\n");
        let json: serde_json::Value = serde_json::from_str(&gap(LogFormat::Json, false)).unwrap();
        let whole = json!({
            "timestamp": "now", "level": "WARN", "message": "(3 log lines dropped)",
        });
        assert_eq!(json, whole);
    }

    #[test]
    fn what_cannot_be_written_is_counted_once_gaps_included() {
        let mut queue = queue();
        for attempt in 1..=3 {
            queue.push(b"[2] a\n", "");
            queue.push(b"[2] b\n", "");
            let len = queue.batch().len();
            queue.lost(len);
            assert_eq!((queue.unwritten(), queue.gaps.len()), (2 * attempt, 0));
        }
        assert_eq!(all(&mut queue), "[2] (6 lines of worker 2 dropped)\n");
    }
}
