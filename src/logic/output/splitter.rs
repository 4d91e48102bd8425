//! Bytes to lines.

use serde::{Deserialize, Serialize};

use super::{Label, MAX_LINE};
use crate::logic::config::LogFormat;

/// More than anything that stands around the text of a line, in any format.
const AROUND: usize = 224;
/// The room for the text of a line.
const ROOM: usize = MAX_LINE - AROUND;

/// Cuts what one worker writes into lines.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct LineSplitter {
    label: Label,
    /// The line whose end has not come yet.
    partial: Vec<u8>,
    /// Whether its first part was said already.
    continued: bool,
}

impl LineSplitter {
    /// Nothing was written yet.
    pub fn new(label: Label) -> Self {
        Self { label, partial: Vec::new(), continued: false }
    }

    /// What all lines have in common.
    pub fn label(&self) -> Label {
        self.label
    }

    /// The worker wrote these bytes by this time; `emit` gets the lines that are complete now.
    pub fn push(&mut self, bytes: &[u8], time: &str, mut emit: impl FnMut(Vec<u8>)) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.partial.extend_from_slice(piece.strip_suffix(b"\n").unwrap_or(piece));
            self.split_long_line(time, &mut emit);
            if piece.ends_with(b"\n") {
                emit(self.line(&self.partial, time));
                self.partial.clear();
                self.continued = false;
            }
        }
    }

    /// The worker will write no more; `emit` gets a last line that has no end.
    pub fn finish(&mut self, time: &str, emit: impl FnOnce(Vec<u8>)) {
        if !self.partial.is_empty() {
            emit(self.line(&self.partial, time));
        }
        self.partial = Vec::new();
        self.continued = false;
    }

    fn line(&self, text: &[u8], time: &str) -> Vec<u8> {
        let slot = self.label.slot.expect("only what workers write is cut");
        self.label.line(slot, text, time, self.continued)
    }

    fn split_long_line(&mut self, time: &str, emit: &mut impl FnMut(Vec<u8>)) {
        let mut said = 0;
        loop {
            let rest = &self.partial[said..];
            let fitting = fitting(self.label.format, rest);
            if fitting == rest.len() {
                break;
            }
            emit(self.line(&rest[..fitting], time));
            self.continued = true;
            said += fitting;
        }
        self.partial.drain(..said);
    }
}

/// How many of these bytes fit into a line. Characters are not cut.
fn fitting(format: LogFormat, bytes: &[u8]) -> usize {
    /// `\u0000` instead of one byte.
    const LONGEST_ESCAPE: usize = 6;
    let most = match format {
        LogFormat::Text => bytes.len(),
        LogFormat::Json => bytes.len() * LONGEST_ESCAPE,
    };
    if most <= ROOM {
        return bytes.len();
    }
    let (mut taken, mut room) = (0, ROOM);
    for chunk in bytes.utf8_chunks() {
        let valid = chunk.valid().chars().map(|char| (char.len_utf8(), cost(format, char)));
        let invalid = chunk.invalid().len();
        let replaced = match format {
            LogFormat::Text => invalid,
            LogFormat::Json => char::REPLACEMENT_CHARACTER.len_utf8(),
        };
        for (len, cost) in valid.chain((invalid > 0).then_some((invalid, replaced))) {
            let Some(left) = room.checked_sub(cost) else { return taken };
            room = left;
            taken += len;
        }
    }
    taken
}

/// The bytes that a character takes in a line.
fn cost(format: LogFormat, char: char) -> usize {
    match (format, char) {
        (LogFormat::Json, '"' | '\\' | '\u{8}' | '\u{c}' | '\n' | '\r' | '\t') => 2,
        (LogFormat::Json, '\0'..='\u{1f}') => 6,
        (LogFormat::Text | LogFormat::Json, char) => char.len_utf8(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::logic::output::Stream;

    const TIME: &str = "2026-11-28T05:36:13.123456Z";

    fn splitter(format: LogFormat) -> LineSplitter {
        LineSplitter::new(Label {
            slot: Some(7),
            pid: Some(i32::MAX),
            stream: Stream::Stderr,
            format,
            journal: false,
        })
    }

    /// The lines that come out of these pieces, the last one without an end included.
    fn cut(format: LogFormat, pieces: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut splitter = splitter(format);
        let mut lines = Vec::new();
        for piece in pieces {
            splitter.push(piece, TIME, |line| lines.push(line));
        }
        splitter.finish(TIME, |line| lines.push(line));
        lines
    }

    fn text(pieces: &[&[u8]]) -> String {
        String::from_utf8(cut(LogFormat::Text, pieces).concat()).unwrap()
    }

    #[test]
    fn a_line_comes_whole_however_it_was_written() {
        assert_eq!(
            text(&[b"one\ntw", b"o", b"\n\nthr", b"ee"]),
            "[7] one\n[7] two\n[7] \n[7] three\n"
        );
        assert_eq!(text(&[b"", b"\n"]), "[7] \n");
        assert_eq!(text(&[]), "");
    }

    #[test]
    fn bytes_that_are_no_text_stay_as_they_are_or_are_marked_in_json() {
        let lines = cut(LogFormat::Text, &[b"a\xff\0b\n"]);
        assert_eq!(lines, [b"[7] a\xff\0b\n"]);
        let lines = cut(LogFormat::Json, &[b"a\xff\0b\n"]);
        let expected = "{\"timestamp\":\"2026-11-28T05:36:13.123456Z\",\"level\":\"INFO\",\"worker\":7,\
                        \"pid\":2147483647,\"stream\":\"stderr\",\"text\":\"a\u{fffd}\\u0000b\"}\n";
        assert_eq!(lines, [expected.as_bytes()]);
    }

    #[test]
    fn a_long_line_is_cut_between_characters_and_its_parts_are_marked() {
        let long = "ä".repeat(MAX_LINE);
        let lines = cut(LogFormat::Text, &[long.as_bytes(), b"\nshort\n"]);
        let lines: Vec<_> =
            lines.into_iter().map(|line| String::from_utf8(line).unwrap()).collect();
        assert!(lines[0].starts_with("[7] ä") && lines[1].starts_with("[7+] ä"), "{lines:?}");
        assert_eq!(lines.last().unwrap(), "[7] short\n");
        let parts = lines[..lines.len() - 1].iter().map(|line| line.split_once("] ").unwrap().1);
        assert_eq!(parts.map(str::trim_end).collect::<String>(), long);
    }

    /// Bytes of every kind and runs of those that are special, enough for several lines.
    fn written() -> impl Strategy<Value = Vec<u8>> {
        let special = ["\0", "\"", "€", "€\n", "x"].map(|text| text.as_bytes().to_vec());
        let special = prop::sample::select(special.to_vec());
        let bytes = prop_oneof![prop::collection::vec(any::<u8>(), 1..60), special];
        let part = (bytes, 1_usize..3000);
        let parts = prop::collection::vec(part, 0..4);
        parts.prop_map(|parts| {
            parts
                .into_iter()
                .flat_map(|(bytes, times)| bytes.repeat(times.min(9000 / bytes.len())))
                .collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn no_line_is_too_long_and_nothing_is_lost(bytes in written(), step in 1_usize..9_000) {
            let pieces: Vec<_> = bytes.chunks(step).collect();
            let mut back = Vec::new();
            for line in cut(LogFormat::Text, &pieces) {
                prop_assert!(line.len() <= MAX_LINE);
                let (line, is_first) = match line.strip_prefix(b"[7] ") {
                    Some(rest) => (rest, true),
                    None => (line.strip_prefix(b"[7+] ").unwrap(), false),
                };
                if !is_first {
                    back.pop();
                }
                back.extend_from_slice(line);
            }
            if !bytes.ends_with(b"\n") {
                back.pop();
            }
            prop_assert_eq!(back, bytes);
        }

        #[test]
        fn every_line_of_json_can_be_read_and_says_the_text(
            bytes in written(),
            step in 1_usize..9_000,
        ) {
            let pieces: Vec<_> = bytes.chunks(step).collect();
            let mut back = String::new();
            for line in cut(LogFormat::Json, &pieces) {
                prop_assert!(line.len() <= MAX_LINE);
                let object: Value = serde_json::from_slice(&line).unwrap();
                if object["continued"] == true {
                    back.pop();
                }
                back.push_str(object["text"].as_str().unwrap());
                back.push('\n');
            }
            if !bytes.is_empty() && !bytes.ends_with(b"\n") {
                back.pop();
            }
            prop_assert_eq!(back, String::from_utf8_lossy(&bytes));
        }
    }
}
