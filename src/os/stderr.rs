//! The log on standard error: a line that there is no room for is dropped and counted, and so is one
//! that cannot be written at all.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Map, Value, json};
use tracing::Level;
use tracing_subscriber::fmt::MakeWriter;

use super::{journal, standard};
use crate::logic::output::{LONGEST, Stream};

/// How lines look where they go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Layout {
    /// Text for people.
    Text,
    /// Text for the journal, with a priority instead of a time and a level.
    Journal,
    /// One JSON object each.
    Json,
}

/// Where log lines go. Each is written at once or not at all.
#[derive(Debug)]
pub struct Stderr {
    layout: Layout,
    dropped: AtomicU64,
}

/// The writer of one line.
#[derive(Debug)]
pub struct Line<'a>(&'a Stderr);

impl Stderr {
    /// For lines of this layout.
    pub fn new(layout: Layout) -> Self {
        Self { layout, dropped: AtomicU64::new(0) }
    }

    /// The line that stands where so many are missing, before this one.
    fn gap(&self, dropped: u64, before: &[u8]) -> Vec<u8> {
        let message = format!("({dropped} log lines dropped)");
        match self.layout {
            Layout::Text => format!("{message}\n").into_bytes(),
            Layout::Journal => journal::entry(Level::WARN, &message).into_bytes(),
            Layout::Json => {
                let before: Map<_, _> = serde_json::from_slice(before).unwrap_or_default();
                let timestamp = before.get(TIMESTAMP);
                let gap = json!({ TIMESTAMP: timestamp, "level": "WARN", MESSAGE: message });
                format!("{gap}\n").into_bytes()
            }
        }
    }
}

impl<'a> MakeWriter<'a> for Stderr {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(self)
    }
}

impl Write for Line<'_> {
    /// Takes the whole line, whatever becomes of it.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let stderr = &self.0;
        let dropped = stderr.dropped.swap(0, Ordering::Relaxed);
        let gap = (dropped > 0).then(|| stderr.gap(dropped, line));
        if gap.is_some_and(|gap| write(&gap).is_err())
            || write(&shortened(line, stderr.layout)).is_err()
        {
            stderr.dropped.fetch_add(dropped + 1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes a line of this layout to standard error, unless that would block.
pub fn say(line: &str, layout: Layout) {
    // If nobody can read it, the exit code has to do.
    _ = write(&shortened(line.as_bytes(), layout));
}

fn write(line: &[u8]) -> io::Result<()> {
    standard::write(Stream::Stderr, line)
}

/// The names that the format gives to these fields.
const MESSAGE: &str = "message";
const TIMESTAMP: &str = "timestamp";

/// A line that can be written at once.
fn shortened(line: &[u8], layout: Layout) -> Vec<u8> {
    if line.len() <= LONGEST {
        return line.to_vec();
    }
    match layout {
        Layout::Text | Layout::Journal => {
            let text = str::from_utf8(line);
            let end = text.map_or(LONGEST - 1, |text| text.floor_char_boundary(LONGEST - 1));
            [&line[..end], b"\n"].concat()
        }
        Layout::Json => {
            let mut object: Map<_, _> = serde_json::from_slice(line).unwrap_or_default();
            if let Some(Value::String(message)) = object.get_mut(MESSAGE) {
                // Each byte of it takes one or more of the line.
                let too_many = line.len() - LONGEST;
                message
                    .truncate(message.floor_char_boundary(message.len().saturating_sub(too_many)));
            }
            format!("{}\n", Value::Object(object)).into_bytes()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_is_shortened_and_stays_what_it_is() {
        let text = shortened(&[b'x'; LONGEST + 5], Layout::Text);
        assert_eq!((text.len(), text.last()), (LONGEST, Some(&b'\n')));
        // The journal does not show what is not text.
        for layout in [Layout::Text, Layout::Journal] {
            let text = shortened("ä".repeat(LONGEST).as_bytes(), layout);
            assert!(text.len() <= LONGEST && str::from_utf8(&text).is_ok());
        }
        let message = "\"ä\n".repeat(3000);
        let line = json!({ TIMESTAMP: "now", "level": "INFO", MESSAGE: message, "worker": 7 });
        let line = shortened(format!("{line}\n").as_bytes(), Layout::Json);
        assert!(line.len() <= LONGEST && line.ends_with(b"\n"));
        let object: Map<_, _> = serde_json::from_slice(&line).unwrap();
        assert_eq!((&object[TIMESTAMP], &object["worker"]), (&json!("now"), &json!(7)));
        assert!(message.starts_with(object[MESSAGE].as_str().unwrap()));
    }

    #[test]
    fn what_is_missing_is_said_in_the_layout_of_the_log() {
        let gap = Stderr::new(Layout::Json).gap(3, br#"{"timestamp":"now"}"#);
        let object: Map<_, _> = serde_json::from_slice(&gap).unwrap();
        assert_eq!(
            (&object[TIMESTAMP], &object[MESSAGE]),
            (&json!("now"), &json!("(3 log lines dropped)"))
        );
        let gap = Stderr::new(Layout::Text).gap(3, b"INFO line");
        assert_eq!(gap, b"(3 log lines dropped)\n");
        let gap = Stderr::new(Layout::Journal).gap(3, b"<6>line");
        assert_eq!(gap, b"<4>(3 log lines dropped)\n");
    }
}
