//! The floors of sticky-run, as a library for its own tests and benches. No stable API.

pub mod logic;
