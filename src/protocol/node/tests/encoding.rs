use std::net::SocketAddr;

use serde_json::{Value, json};

use super::super::{Data, FromNode, PackageMessage, Query, Sockname, ToNode};
use super::{bytes_of_hex, plain};

/// Expects this value of this message.
fn expect(message: ToNode<'_>, value: Value) {
    assert_eq!(plain::decode(&message.encode()), value);
}

fn sockname(address: &str) -> Option<Sockname> {
    Some(Sockname::from(address.parse::<SocketAddr>().unwrap()))
}

/// Data as a worker sent it.
fn data(value: Value) -> Data {
    let query = json!({"cmd": "NODE_CLUSTER", "act": "queryServer", "seq": 1, "data": value});
    match FromNode::parse(&plain::encode(&query)) {
        FromNode::Query(Query { data: Some(data), .. }) => data,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_frames_are_those_of_the_trace() {
    let payload = |message: ToNode<'_>| message.encode()[4..].to_vec();
    let (key, data) = ("k", None);
    let grant = ToNode::Grant { ack: 1, seq: 0, key, data, sockname: sockname("[::]:3000") };
    assert_eq!(
        payload(grant),
        [
            &b"\xFF\x0Do\"\x03cmd\"\x0CNODE_CLUSTER\"\x05errno0\"\x03key\"\x01k\"\x03ackI\x02\"\x04data0"[..],
            b"\"\x08socknameo\"\x07address\"\x02::\"\x06family\"\x04IPv6\"\x04portI\xF0\x2E{\x03",
            b"\"\x03seqI\x00{\x07",
        ]
        .concat()
    );
    assert_eq!(
        payload(ToNode::NewConn { seq: 1, key }),
        [
            &b"\xFF\x0Do\"\x03cmd\"\x0BNODE_HANDLE\"\x04type\"\x0Anet.Native\"\x03msg"[..],
            b"o\"\x03cmd\"\x0CNODE_CLUSTER\"\x03act\"\x07newconn\"\x03key\"\x01k\"\x03seqI\x02{\x04{\x03",
        ]
        .concat()
    );
    assert_eq!(
        payload(ToNode::Package(PackageMessage::Connection)),
        [
            &b"\xFF\x0Do\"\x03cmd\"\x0BNODE_HANDLE\"\x04type\"\x0Anet.Socket\"\x03msg"[..],
            b"o\"\x04type\"\x11sticky:connection\"\x04data\"\x00{\x02{\x03",
        ]
        .concat()
    );
    assert_eq!(payload(ToNode::HandleAck), b"\xFF\x0Do\"\x03cmd\"\x0FNODE_HANDLE_ACK{\x01");
    // The `online` of the trace with another act, and version 13 for 15.
    let disconnect = bytes_of_hex(concat!(
        "00000030 ff0d 6f 2203636d64 220c4e4f44455f434c5553544552 ",
        "2203616374 220a646973636f6e6e656374 2203736571 4900 7b03",
    ));
    assert_eq!(ToNode::Disconnect { seq: 0 }.encode(), disconnect);
}

#[test]
fn queries_are_answered() {
    let answer = |mut fields: Value| {
        let rest = json!({"cmd": "NODE_CLUSTER", "key": "é€", "ack": 300, "seq": 4294967295u32});
        fields.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        fields
    };
    let (ack, seq, key, data) = (300, u32::MAX, "é€", None);
    let grant = |sockname| ToNode::Grant { ack, seq, key, data, sockname };
    expect(grant(None), answer(json!({"errno": null, "data": null})));
    let named = json!({"address": "127.0.0.1", "family": "IPv4", "port": 65535});
    let named = answer(json!({"errno": null, "data": null, "sockname": named}));
    expect(grant(sockname("127.0.0.1:65535")), named);
    let refuse = ToNode::Refuse { ack, seq, key, errno: 98, data };
    expect(refuse, answer(json!({"errno": -98, "data": null})));
    let udp = answer(json!({"errno": 0, "data": null}));
    let udp = json!({"cmd": "NODE_HANDLE", "type": "dgram.Native", "msg": udp});
    expect(ToNode::GrantUdp { ack, seq, key, data }, udp);
}

#[test]
fn data_comes_back_as_it_was() {
    let value = json!({"ticketKeys": "ab".repeat(48), "more": [null, "\u{1F600}", {"a": "\n"}]});
    let data = data(value.clone());
    let (ack, seq, key, sockname) = (1, 2, "k", None);
    let grant = ToNode::Grant { ack, seq, key, data: Some(&data), sockname }.encode();
    let in_place = grant.windows(data.as_bytes().len()).any(|bytes| bytes == data.as_bytes());
    assert!(in_place);
    // Read as a message of a worker, its fields stand where they should.
    let reply = FromNode::Reply { ack: 1, accepted: None };
    assert_eq!(FromNode::parse(&grant), reply);
}

#[test]
fn everything_else_is_said() {
    let cluster = |mut fields: Value| {
        fields["cmd"] = json!("NODE_CLUSTER");
        fields
    };
    let handle = |kind, msg| json!({"cmd": "NODE_HANDLE", "type": kind, "msg": msg});
    let key = "0:3000:4:-1";
    let new = cluster(json!({"act": "newconn", "key": key, "seq": 9}));
    expect(ToNode::NewConn { seq: 9, key }, handle("net.Native", new));
    expect(ToNode::Ack { ack: 5, seq: 6 }, cluster(json!({"ack": 5, "seq": 6})));
    expect(ToNode::Disconnect { seq: 6 }, cluster(json!({"act": "disconnect", "seq": 6})));
    expect(ToNode::HandleAck, json!({"cmd": "NODE_HANDLE_ACK"}));
    expect(ToNode::HandleNack, json!({"cmd": "NODE_HANDLE_NACK"}));
    expect(ToNode::AllClosed { key }, json!({"cmd": "NODE_SOCKET_ALL_CLOSED", "key": key}));
    let count = json!({"cmd": "NODE_SOCKET_COUNT", "key": key, "count": 0});
    expect(ToNode::SocketCount { key, count: 0 }, count);
    let package = json!({"type": "sticky:connection", "data": ""});
    expect(ToNode::Package(PackageMessage::Connection), handle("net.Socket", package));
    let text = "\"quoted\" \\ \n \u{1} connection";
    expect(ToNode::Package(PackageMessage::Text(text)), handle("net.Socket", json!(text)));
    let conn = |server: Value, port: Value| json!({"cmd": "NODE_STICKY", "act": "conn", "head": "R0VUAP8=", "server": server, "port": port});
    let head = b"GET\0\xFF";
    let port = Some(3000);
    let to_port = ToNode::Conn { head, server: None, port };
    expect(to_port, handle("net.Socket", conn(json!(null), json!(3000))));
    let to_server = ToNode::Conn { head, server: Some(key), port: None };
    expect(to_server, handle("net.Socket", conn(json!(key), json!(null))));
    let preload = |act: &str| json!({"cmd": "NODE_STICKY", "act": act});
    expect(ToNode::SoftDrain, preload("drain"));
    expect(ToNode::Close { at_once: false }, preload("close"));
    expect(ToNode::Close { at_once: true }, preload("close-now"));
    expect(ToNode::Ping, preload("ping"));
    let close = json!({"source": "_sio_adapter", "type": 13, "uid": "u", "nsp": "/"});
    expect(ToNode::AdapterClose { uid: "u", nsp: "/" }, close);
    let gone = json!({"source": "_sio_adapter", "type": 3, "data": 2147483648u32});
    expect(ToNode::AdapterGone { id: 2147483648 }, gone);
}
