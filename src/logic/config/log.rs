//! What the log and the output of workers look like.

use serde::{Deserialize, Serialize};

/// How lines look.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// What becomes of the standard output and error of workers.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct OutputConfig {
    /// Whether lines say whose they are; if not, workers inherit ours.
    pub prefix: bool,
    /// How such lines look.
    pub format: LogFormat,
}
