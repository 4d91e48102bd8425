//! The worker's side of sticky-run.

pub mod message;
