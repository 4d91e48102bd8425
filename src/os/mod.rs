//! The first floor, towards the kernel: one facility a file, no decisions.
//!
//! Only here stands unsafe code, and only here the clock and the environment are read.

pub mod clock;
pub mod fdpass;
pub mod limits;
pub mod listen;
pub mod peek;
pub mod reap;
pub mod signals;
pub mod spawn;
