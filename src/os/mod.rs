//! The first floor, towards the kernel: one facility a file, no decisions.
//!
//! Only here stands unsafe code, and only here the clock is read.

pub mod account;
pub mod capabilities;
pub mod clock;
pub mod closing;
mod descendants;
pub mod errors;
pub mod exposed;
pub mod fdpass;
pub mod file;
pub mod journal;
pub mod kept;
pub mod limits;
pub mod listen;
pub mod memory;
pub mod notify;
mod null;
pub mod peek;
pub mod pipe;
pub mod random;
pub mod reap;
pub mod receive;
pub mod rights;
pub mod scratch;
pub mod signals;
pub mod spawn;
pub mod standard;
pub mod stderr;
pub mod stream;
pub mod terminal;
pub mod upgrade;
