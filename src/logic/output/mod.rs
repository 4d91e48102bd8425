//! Lines on their way to standard output and error: those of the log, and what workers write, cut into
//! lines that say whose they are. They are bounded while there is no room for them.
//!
//! A line is written at once or not at all, so that lines of several workers never mix, whoever else
//! writes to the same pipe. The kernel promises this up to [`MAX_LINE`], so a longer line is
//! cut, and its further parts are marked.

mod buffer;
mod splitter;

use serde::{Deserialize, Serialize};
use serde_json::json;

pub use self::buffer::Buffer;
pub use self::splitter::LineSplitter;
use crate::logic::config::LogFormat;

/// The longest line that is written at once: `PIPE_BUF` of Linux (`pipe(7)`).
pub const MAX_LINE: usize = 4096;

/// One of the two streams of a worker.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// What the lines of one worker on one stream have in common, or those of the log.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Label {
    /// The slot of the worker; none for the log.
    pub slot: Option<u16>,
    /// Its process, to tell workers of one slot apart.
    pub pid: Option<i32>,
    /// Which stream.
    pub stream: Stream,
    /// How lines look.
    pub format: LogFormat,
    /// Whether the log is read by the journal, which has its own times and takes levels as numbers.
    pub journal: bool,
}

/// A line of a worker in the format `json`.
#[derive(Serialize)]
struct Object<'a> {
    timestamp: &'a str,
    level: &'a str,
    worker: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<i32>,
    stream: Stream,
    text: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    continued: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dropped: Option<u64>,
}

impl Label {
    /// Of the log, in this format.
    pub fn of_log(format: LogFormat, journal: bool) -> Self {
        Self { slot: None, pid: None, stream: Stream::Stderr, format, journal }
    }

    /// A line of a worker, with its end, that came at this time. `continued` says that it goes on where
    /// the one before was cut.
    fn line(&self, slot: u16, text: &[u8], time: &str, continued: bool) -> Vec<u8> {
        match self.format {
            LogFormat::Text => {
                let mark = if continued { "+" } else { "" };
                let mut line = format!("[{slot}{mark}] ").into_bytes();
                line.extend_from_slice(text);
                line.push(b'\n');
                line
            }
            LogFormat::Json => Self::object(Object {
                timestamp: time,
                level: "INFO",
                worker: slot,
                pid: self.pid,
                stream: self.stream,
                text: &String::from_utf8_lossy(text),
                continued: continued.then_some(true),
                dropped: None,
            }),
        }
    }

    /// The line that stands where so many are missing, the last of which came at this time.
    fn gap(&self, dropped: u64, time: &str) -> Vec<u8> {
        let Some(slot) = self.slot else {
            let text = format!("({dropped} log lines dropped)");
            return match self.format {
                LogFormat::Text if self.journal => format!("<4>{text}\n").into_bytes(),
                LogFormat::Text => format!("{text}\n").into_bytes(),
                LogFormat::Json => {
                    let gap = json!({ "timestamp": time, "level": "WARN", "message": text });
                    format!("{gap}\n").into_bytes()
                }
            };
        };
        let text = format!("({dropped} lines of worker {slot} dropped)");
        match self.format {
            LogFormat::Text => self.line(slot, text.as_bytes(), time, false),
            LogFormat::Json => Self::object(Object {
                timestamp: time,
                level: "WARN",
                worker: slot,
                pid: None,
                stream: self.stream,
                text: &text,
                continued: None,
                dropped: Some(dropped),
            }),
        }
    }

    fn object(object: Object<'_>) -> Vec<u8> {
        let mut line = serde_json::to_vec(&object).expect("numbers and texts can be written");
        line.push(b'\n');
        line
    }
}
