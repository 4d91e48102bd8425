//! Any bytes as a header of the PROXY protocol: `cargo +nightly fuzz run proxy_header`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sticky_run::logic::origin::proxy::{Header, MAX_HEADER, read};

fuzz_target!(|bytes: &[u8]| {
    let whole = read(bytes);
    if let Header::Whole(length, _) = whole {
        assert!(length <= bytes.len().min(MAX_HEADER));
        assert_eq!(read(&bytes[..length]), whole);
        assert_eq!(read(&bytes[..length - 1]), Header::Incomplete);
    }
    // More bytes never take an answer back.
    let part = read(&bytes[..bytes.len() / 2]);
    assert!(part == Header::Incomplete || part == whole);
});
