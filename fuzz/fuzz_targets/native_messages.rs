//! Any bytes as a message of the native channel: `cargo +nightly fuzz run native_messages`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sticky_worker::message::{FromWorker, MAX_MESSAGE, ToWorker};

fuzz_target!(|bytes: &[u8]| {
    // What is understood is understood again after it was written.
    if let Ok(Some(message)) = FromWorker::parse(bytes) {
        assert_eq!(FromWorker::parse(&message.encode()), Ok(Some(message)));
    }
    if let Ok(Some(message)) = ToWorker::parse(bytes) {
        let mut buffer = [0; MAX_MESSAGE];
        assert_eq!(ToWorker::parse(message.encode(&mut buffer)), Ok(Some(message)));
    }
});
