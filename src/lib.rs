//! The floors of sticky-run, as a library for its own tests and benches. No stable API.
//!
//! From the roof down: [`cli`] turns words into a configuration, [`engine`] is the one loop, [`os`]
//! talks to the kernel, [`protocol`] turns bytes into messages, and [`logic`] decides. A floor uses those
//! below it, never those above.

pub mod cli;
pub mod engine;
pub mod logic;
pub mod os;
pub mod protocol;
