//! Any bytes as the beginning of a connection: `cargo +nightly fuzz run request_head`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sticky_run::logic::route::head::{Growth, Head};

fuzz_target!(|bytes: &[u8]| {
    let mut growth = Growth::default();
    bytes.chunks(7).for_each(|new| _ = growth.see(new));
    assert_eq!(growth.seen(), bytes.len());
    for last in [false, true] {
        let head = Head::new(bytes, last);
        head.protocol();
        head.query("sid");
        head.header("x-key");
        head.cookie("session");
    }
});
