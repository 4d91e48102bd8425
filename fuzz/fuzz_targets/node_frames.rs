//! Any bytes as what a Node worker says: `cargo +nightly fuzz run node_frames`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sticky_run::protocol::node::{Cut, Frames, FromNode};

fuzz_target!(|bytes: &[u8]| {
    // Without the framing, so that the fuzzer need not find lengths first.
    FromNode::parse(bytes);
    let mut frames = Frames::default();
    for chunk in bytes.chunks(7) {
        frames.extend(chunk);
        while let Ok(Some(Cut::Frame(frame))) = frames.next_frame() {
            FromNode::parse(&frame);
        }
    }
});
