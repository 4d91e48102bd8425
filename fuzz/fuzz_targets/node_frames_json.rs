//! Any bytes as what a Node worker says: `cargo +nightly fuzz run node_frames_json`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sticky_run::protocol::node::{Cut, Frames, FromNode, Serialization::Json};

fuzz_target!(|bytes: &[u8]| {
    // Without the framing, so that the fuzzer need not find lengths and newlines first.
    FromNode::parse(Json, bytes);
    let mut frames = Frames::new(Json);
    for chunk in bytes.chunks(7) {
        frames.extend(chunk);
        while let Ok(Some(Cut::Frame(frame))) = frames.next_frame() {
            FromNode::parse(Json, &frame);
        }
    }
});
