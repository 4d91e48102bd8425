//! What sticky-run costs, beside the floor: the least that any supervisor must do.
//!
//! - [`args`]: the command line.
//! - [`cost`]: CPU time per connection, the floor and sticky-run in turn.
//! - [`memory`]: bytes per announced sid, and the price of a lookup among a million.
//! - [`node`]: CPU time per connection of sticky-run and of the Node primaries, in turn.
//! - [`workers`]: CPU time per connection with few workers and with many, in turn.
//! - [`load`]: the clients. [`supervisor`]: a supervisor that is being measured.
//! - [`floor`] and [`worker`]: the two programs that run beside the driver, out of the same binary.
//!   `cargo run` builds one binary only, and the supervisors differ while their worker does not.
//! - [`clock`], [`fdpass`], [`sid`], [`spread`], [`syscalls`]: one small thing each.

pub mod args;
pub mod clock;
pub mod cost;
pub mod fdpass;
pub mod floor;
pub mod load;
pub mod memory;
pub mod node;
pub mod sid;
pub mod spread;
pub mod supervisor;
pub mod syscalls;
pub mod worker;
pub mod workers;
