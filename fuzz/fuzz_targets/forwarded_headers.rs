//! Any bytes as what clients put into headers that proxies add to:
//! `cargo +nightly fuzz run forwarded_headers`.
#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use sticky_run::logic::origin::{ForwardedHeader, Trust};

fuzz_target!(|bytes: &[u8]| {
    let peers = ["10.0.0.0/8", "fd00::/8", "unix"].map(|peers| peers.parse().unwrap());
    let proxy = IpAddr::from([10, 0, 0, 1]);
    let client = IpAddr::from([192, 0, 2, 7]);
    let forms = [
        (ForwardedHeader::XForwardedFor, "192.0.2.7:4711"),
        (ForwardedHeader::Forwarded, "for=\"192.0.2.7:4711\";host=\"a,b;c\""),
    ];
    for (header, element) in forms {
        let trust = Trust::new(peers.to_vec(), header);
        let lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
        trust.origin(Some(proxy), &lines);
        trust.origin(None, &lines);
        // The client, which is not trusted, changes nothing of what the proxy says about it.
        let line = [bytes, b", ", element.as_bytes()].concat();
        assert_eq!(trust.origin(Some(proxy), &[&line]), Some(client));
        assert_eq!(trust.origin(Some(client), &[&line]), Some(client));
    }
});
