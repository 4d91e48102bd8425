//! What workers write to their standard output and error, on its way to ours: cut into lines that say
//! whose they are, and bounded while there is no room for them.
//!
//! A line is written at once or not at all, so that lines of several workers never mix, whoever else
//! writes to the same pipe. The kernel promises this up to [`LONGEST`], so a longer line is
//! cut, and its further parts are marked.

mod cutter;
mod queue;

use serde::{Deserialize, Serialize};

pub use self::cutter::Cutter;
pub use self::queue::Queue;
use crate::logic::config::LogFormat;

/// The longest line that is written at once: `PIPE_BUF` of Linux (`pipe(7)`).
pub const LONGEST: usize = 4096;

/// One of the two streams of a worker.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// What the lines of one stream have in common.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Label {
    /// The slot of the worker.
    pub slot: u16,
    /// Which stream.
    pub stream: Stream,
    /// How lines look.
    pub format: LogFormat,
}

/// A line in the format `json`.
#[derive(Serialize)]
struct Object<'a> {
    worker: u16,
    stream: Stream,
    text: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    continued: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dropped: Option<u64>,
}

impl Label {
    /// A line with its end. `continued` says that it goes on where the one before was cut.
    fn line(&self, text: &[u8], continued: bool) -> Vec<u8> {
        match self.format {
            LogFormat::Text => {
                let mark = if continued { "+" } else { "" };
                let mut line = format!("[{}{mark}] ", self.slot).into_bytes();
                line.extend_from_slice(text);
                line.push(b'\n');
                line
            }
            LogFormat::Json => {
                self.object(&String::from_utf8_lossy(text), continued.then_some(true), None)
            }
        }
    }

    /// The line that stands where so many are missing.
    fn gap(&self, dropped: u64) -> Vec<u8> {
        let text = format!("({dropped} lines of worker {} dropped)", self.slot);
        match self.format {
            LogFormat::Text => self.line(text.as_bytes(), false),
            LogFormat::Json => self.object(&text, None, Some(dropped)),
        }
    }

    fn object(&self, text: &str, continued: Option<bool>, dropped: Option<u64>) -> Vec<u8> {
        let Self { slot: worker, stream, format: _ } = *self;
        let object = Object { worker, stream, text, continued, dropped };
        let mut line = serde_json::to_vec(&object).expect("numbers and texts can be written");
        line.push(b'\n');
        line
    }
}
