//! What goes over the channel between the supervisor and a worker: bytes to messages and back.
//!
//! One folder per handoff; no sockets, no clock, no decisions. The native codec is not here: the
//! worker's side shares it, see [`sticky_worker::message`].

pub mod node;
