//! Any bytes as the beginning of a connection: `cargo +nightly fuzz run request_head`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sticky_run::logic::route::head::Head;

fuzz_target!(|bytes: &[u8]| {
    for last in [false, true] {
        let head = Head::new(bytes, last);
        head.protocol();
        head.query("sid");
        head.header("x-key");
        head.cookie("session");
    }
});
