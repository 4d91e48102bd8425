use super::super::{AddressType, FromNode, Query};
use super::captured;

fn named(name: &str) -> FromNode {
    let (_, frame) = captured().find(|(found, _)| *found == name).unwrap();
    FromNode::parse(&frame)
}

fn query(seq: u32, address: Option<&str>, port: Option<u16>, kind: AddressType) -> Query {
    let address = address.map(str::to_owned);
    let (fd, flags, backlog, index) = (None, 0, 0, 0);
    let (readable_all, writable_all, data, server) = (false, false, None, None);
    Query {
        seq,
        address,
        port,
        kind,
        fd,
        flags,
        backlog,
        readable_all,
        writable_all,
        index,
        data,
        server,
    }
}

#[test]
fn every_kind_of_value_is_skipped_exactly() {
    let mut seen = 0;
    for (name, frame) in captured().filter(|(name, _)| name.starts_with("value ")) {
        let found = FromNode::parse(&frame);
        assert_eq!(found, FromNode::Close { key: "k".into() }, "{name}");
        seen += 1;
    }
    assert_eq!(seen, 46);
}

#[test]
fn what_is_no_object_is_a_message_of_the_app() {
    let user = captured().filter(|(name, _)| name.starts_with("user "));
    let found = user.map(|(_, frame)| FromNode::parse(&frame));
    assert!(found.eq([const { FromNode::User }; 5]));
}

#[test]
fn node_says_that_it_is_online() {
    assert_eq!(named("online"), FromNode::Online);
}

#[test]
fn node_asks_for_every_kind_of_listener() {
    let any = query(1, None, Some(3000), AddressType::Any);
    let port0 = query(2, None, Some(0), AddressType::Any);
    let ipv4 = query(3, Some("127.0.0.1"), Some(3001), AddressType::V4);
    let ipv6 = query(4, Some("::1"), Some(3002), AddressType::V6);
    let unix = query(5, Some("/tmp/a.sock"), None, AddressType::Unix);
    let descriptor = query(6, None, None, AddressType::Other);
    let udp4 = query(8, Some("0.0.0.0"), Some(5353), AddressType::Udp4);
    let udp6 = query(9, Some("::1"), Some(5354), AddressType::Udp6);
    let expect = |name, query| {
        let name = format!("listen {name}");
        assert_eq!(named(&name), FromNode::Query(query),);
    };
    expect("any", any.clone());
    expect("port0", port0.clone());
    expect("ipv4", Query { backlog: 17, ..ipv4.clone() });
    expect("ipv6only", Query { flags: 1, ..ipv6.clone() });
    expect("unix", unix.clone());
    expect("descriptor", Query { fd: Some(9), ..descriptor.clone() });
    expect("udp4", udp4.clone());
    expect("udp6", udp6.clone());
}

#[test]
fn the_ticket_keys_of_https_are_kept_as_they_are() {
    let FromNode::Query(Query { data: Some(data), .. }) = named("listen https") else {
        panic!("no data");
    };
    let data = str::from_utf8(data.as_bytes()).unwrap();
    let keys = data.strip_prefix("o\"\nticketKeys\"`").unwrap().strip_suffix("{\u{1}").unwrap();
    assert_eq!(keys.len(), 96);
}
