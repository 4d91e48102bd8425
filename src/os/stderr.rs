//! The log on standard error, which never waits for a reader: a line that there is no room for is dropped
//! and counted, and so is one that cannot be written at all.

use std::io::{self, Write};

use serde_json::{Map, Value};
use tracing_subscriber::fmt::MakeWriter;

use super::standard;
use crate::logic::config::LogFormat;
use crate::logic::escape::EscapedJson;
use crate::logic::output::{Label, MAX_LINE};

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

/// Where log lines go.
#[derive(Debug)]
pub struct Stderr {
    layout: Layout,
}

/// The writer of one line.
#[derive(Debug)]
pub struct Line(Layout);

impl Stderr {
    /// For lines of this layout.
    pub fn new(layout: Layout) -> Self {
        Self { layout }
    }
}

impl MakeWriter<'_> for Stderr {
    type Writer = Line;

    fn make_writer(&self) -> Line {
        Line(self.layout)
    }
}

impl Write for Line {
    /// Takes the whole line, whatever becomes of it.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        say(line, self.0);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes a line of this layout to standard error. What JSON does not escape and a terminal obeys is
/// escaped here.
pub fn say(line: &[u8], layout: Layout) {
    let line = match (layout, str::from_utf8(line)) {
        (Layout::Json, Ok(line)) => format!("{}\n", EscapedJson(line.trim_end())).into_bytes(),
        _ => line.to_vec(),
    };
    let line = shortened(line, layout);
    standard::say(layout.label(), &[&line], time(&line, layout));
}

impl Layout {
    fn label(self) -> Label {
        let format = match self {
            Self::Text | Self::Journal => LogFormat::Text,
            Self::Json => LogFormat::Json,
        };
        Label::of_log(format, self == Self::Journal)
    }
}

/// The time that a line has for machines, which is the first that it says.
fn time(line: &[u8], layout: Layout) -> &str {
    let time = || str::from_utf8(line.split(|byte| *byte == b'"').nth(3)?).ok();
    if layout == Layout::Json { time().unwrap_or_default() } else { "" }
}

/// A line that can be written at once.
fn shortened(line: Vec<u8>, layout: Layout) -> Vec<u8> {
    if line.len() <= MAX_LINE {
        return line;
    }
    match layout {
        Layout::Text | Layout::Journal => {
            let text = str::from_utf8(&line);
            let end = text.map_or(MAX_LINE - 1, |text| text.floor_char_boundary(MAX_LINE - 1));
            [&line[..end], b"\n"].concat()
        }
        Layout::Json => {
            let mut object: Map<_, _> = serde_json::from_slice(&line).unwrap_or_default();
            let mut text = String::from_utf8(line).unwrap_or_default();
            while text.len() > MAX_LINE && shorten(&mut object, text.len() - MAX_LINE) {
                text = format!("{}\n", EscapedJson(&Value::Object(object.clone()).to_string()));
            }
            text.into_bytes()
        }
    }
}

/// Takes so many bytes from the longest text in it, or half of that, since each byte of it takes one or
/// more of the line. Whether there was any.
fn shorten(object: &mut Map<String, Value>, too_many: usize) -> bool {
    let texts = object.values_mut().filter_map(|value| match value {
        Value::String(text) => Some(text),
        _ => None,
    });
    let Some(text) = texts.max_by_key(|text| text.len()) else { return false };
    let kept = text.len() - too_many.min(text.len().div_ceil(2));
    let shorter = kept < text.len();
    text.truncate(text.floor_char_boundary(kept));
    shorter
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_long_line_is_shortened_and_stays_what_it_is() {
        let text = shortened(vec![b'x'; MAX_LINE + 5], Layout::Text);
        assert_eq!((text.len(), text.last()), (MAX_LINE, Some(&b'\n')));
        // The journal does not show what is not text.
        for layout in [Layout::Text, Layout::Journal] {
            let text = shortened("ä".repeat(MAX_LINE).into_bytes(), layout);
            assert!(text.len() <= MAX_LINE && str::from_utf8(&text).is_ok());
        }
        let message = "\"ä\n".repeat(3000);
        let line = json!({ "timestamp": "now", "message": message, "error": message, "worker": 7 });
        let line = shortened(format!("{line}\n").into_bytes(), Layout::Json);
        assert!(line.len() <= MAX_LINE && line.ends_with(b"\n"));
        let object: Map<_, _> = serde_json::from_slice(&line).unwrap();
        assert_eq!((&object["timestamp"], &object["worker"]), (&json!("now"), &json!(7)));
        for text in [&object["message"], &object["error"]] {
            assert!(message.starts_with(text.as_str().unwrap()));
        }
        assert_eq!(time(br#"{"timestamp":"now","level":"INFO"}"#, Layout::Json), "now");
    }
}
