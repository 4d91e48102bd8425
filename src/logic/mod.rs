//! The ground floor: decisions.
//!
//! No input or output, no clock, no randomness of its own. `now`, seeds and facts are arguments,
//! actions are return values, and all state is plain data.

pub mod batching;
pub mod capacity;
pub mod config;
pub mod core;
pub mod escape;
pub mod fleet;
pub mod inspect;
pub mod origin;
pub mod output;
pub mod quota;
pub mod recycle;
pub mod rng;
pub mod route;
pub mod servers;
pub mod throttle;
pub mod time;

use std::fmt;

use serde::{Deserialize, Serialize};

/// One process in a slot. Its successor in the same slot has the next generation.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Worker {
    /// The stable place, counted from 0.
    pub slot: u16,
    /// How many workers the slot had before this one.
    pub generation: u32,
}

impl fmt::Display for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "worker {}", self.slot)
    }
}
