//! Where the configuration comes from, for the loop that wants it anew.

use std::fmt::Debug;

use crate::logic::config::Config;

/// Reads what the supervisor is asked to do.
pub trait Source: Debug {
    /// Reads it anew. An error is one line for the log, and leaves everything as it is.
    fn read(&mut self) -> anyhow::Result<Config>;
}
