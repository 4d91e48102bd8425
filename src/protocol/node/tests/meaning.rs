use serde_json::{Value, json};

use super::super::{
    Adapter, AddressType, FromNode, MAX_ADAPTER, MAX_HANDED_BACK, MAX_NAME, Query, ServerKind,
};
use super::{bytes_of_hex, plain};

/// Expects this meaning of this message, whatever stands around.
fn expect(message: Value, meaning: FromNode) {
    let found = FromNode::parse(&plain::encode(&message));
    assert_eq!(found, meaning, "{message}");
    let mut more = message.clone();
    if let Some(fields) = more.as_object_mut() {
        // These keys are the first and the last, as serde_json sorts them.
        fields.insert("!".into(), json!({"cmd": "NODE_CLUSTER", "act": ["online"], "ack": 1}));
        fields.insert("~".into(), json!([{"seq": 1}, "x".repeat(5000), null, 0.5]));
        let found = FromNode::parse(&plain::encode(&more));
        assert_eq!(found, meaning, "{more}");
    }
}

fn key(text: &str) -> Box<[u8]> {
    text.as_bytes().into()
}

#[test]
fn the_cluster_protocol_is_understood() {
    let cluster = |mut fields: Value| {
        fields["cmd"] = json!("NODE_CLUSTER");
        fields
    };
    expect(cluster(json!({"act": "online", "seq": 0})), FromNode::Online);
    expect(cluster(json!({"act": "listening", "seq": 2, "port": 1})), FromNode::Listening);
    expect(cluster(json!({"act": "close", "key": "é€"})), FromNode::Close { key: "é€".into() });
    let exit = FromNode::ExitedAfterDisconnect { seq: 7 };
    expect(cluster(json!({"act": "exitedAfterDisconnect", "seq": 7})), exit);
    let reply = |accepted| FromNode::Reply { ack: 300, accepted };
    expect(cluster(json!({"ack": 300, "accepted": true, "seq": 3})), reply(Some(true)));
    expect(cluster(json!({"ack": 300, "accepted": false})), reply(Some(false)));
    expect(cluster(json!({"ack": 300, "act": "online", "accepted": 1})), reply(None));
    for incomplete in [
        json!({"act": "close"}),
        json!({"act": "close", "key": 17}),
        json!({"act": "exitedAfterDisconnect"}),
        json!({"act": "queryServer", "port": 1}),
        json!({"act": "queryServer", "seq": -1}),
        json!({"act": "queryServer", "seq": 0.5}),
        json!({"act": "queryServer", "seq": 4294967296u64}),
        json!({"act": "newAct", "seq": 1}),
        json!({"ack": null, "act": null}),
        json!({}),
    ] {
        expect(cluster(incomplete), FromNode::OtherInternal);
    }
}

#[test]
fn a_query_lives_with_wrong_fields() {
    let query = |fields: Value, change: fn(&mut Query)| {
        let mut message = json!({"cmd": "NODE_CLUSTER", "act": "queryServer", "seq": 1});
        message.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let mut expected = Query {
            seq: 1,
            address: None,
            port: None,
            kind: AddressType::Other,
            fd: None,
            flags: 0,
            backlog: 0,
            readable_all: false,
            writable_all: false,
            index: 0,
            data: None,
            server: None,
        };
        change(&mut expected);
        expect(message, FromNode::Query(expected));
    };
    query(json!({}), |_| {});
    query(json!({"port": 65536, "fd": "1", "flags": {}, "backlog": false, "index": []}), |_| {});
    query(json!({"port": "53", "backlog": -1, "data": null, "sticky": "smtp"}), |query| {
        query.port = Some(53);
    });
    query(json!({"addressType": 6, "address": 1, "fd": -1, "index": 3}), |query| {
        query.kind = AddressType::V6;
        query.index = 3;
    });
    query(json!({"addressType": 4, "sticky": "http"}), |query| {
        query.kind = AddressType::Any;
        query.server = Some(ServerKind::Http);
    });
    query(json!({"addressType": -1, "sticky": "tcp"}), |query| {
        query.server = Some(ServerKind::Tcp);
    });
    query(json!({"addressType": "udp4", "sticky": "tls"}), |query| {
        query.kind = AddressType::Udp4;
        query.server = Some(ServerKind::Tls);
    });
}

#[test]
fn handles_are_unwrapped_once() {
    let handle = |inner| json!({"cmd": "NODE_HANDLE", "type": "net.Socket", "msg": inner});
    let boxed = |inner| FromNode::Handle(Box::new(inner));
    expect(handle(json!({"hello": 1})), boxed(FromNode::User));
    expect(handle(json!("text")), boxed(FromNode::User));
    expect(handle(json!(["NODE_HANDLE"])), boxed(FromNode::User));
    expect(json!({"cmd": "NODE_HANDLE"}), boxed(FromNode::User));
    expect(handle(handle(json!({}))), boxed(FromNode::OtherInternal));
    let handback = |head| json!({"cmd": "NODE_STICKY", "act": "handback", "head": head});
    let back = boxed(FromNode::Handback { head: b"GET\0\xFF".into() });
    expect(handle(handback("R0VUAP8=")), back);
    expect(handle(handback("R0VU!")), boxed(FromNode::OtherInternal));
    expect(json!({"cmd": "NODE_HANDLE_ACK"}), FromNode::HandleAck);
    expect(json!({"cmd": "NODE_HANDLE_NACK"}), FromNode::HandleNack);
}

#[test]
fn sockets_of_the_workers_own_servers_are_asked_about() {
    let key = || "k:1".to_owned();
    let ask = |cmd: &str| json!({"cmd": cmd, "key": "k:1"});
    expect(ask("NODE_SOCKET_NOTIFY_CLOSE"), FromNode::SocketNotifyClose { key: key() });
    expect(ask("NODE_SOCKET_GET_COUNT"), FromNode::SocketGetCount { key: key() });
    expect(json!({"cmd": "NODE_SOCKET_GET_COUNT"}), FromNode::OtherInternal);
}

#[test]
fn the_preload_is_understood() {
    let says = |mut fields: Value| {
        fields["cmd"] = json!("NODE_STICKY");
        fields
    };
    expect(says(json!({"act": "hello", "version": 1})), FromNode::Hello { version: 1 });
    let package = |message| FromNode::Package { name: "sticky-cluster".into(), message };
    expect(says(json!({"act": "package", "name": "sticky-cluster"})), package(None));
    let named = json!({"act": "package", "name": "sticky-cluster", "message": "p:connection"});
    expect(says(named), package(Some("p:connection".into())));
    expect(says(json!({"act": "session", "key": "sid"})), FromNode::Session { key: key("sid") });
    expect(says(json!({"act": "end", "key": "sid"})), FromNode::End { key: key("sid") });
    expect(says(json!({"act": "closed", "count": 3})), FromNode::Closed { count: 3 });
    expect(
        says(json!({"act": "taken", "count": 2, "closed": 1})),
        FromNode::Taken { count: 2, closed: 1 },
    );
    expect(
        says(json!({"act": "unheard", "name": "a", "message": "{}"})),
        FromNode::Unheard { name: "a".to_owned(), message: "{}".to_owned() },
    );
    expect(says(json!({"act": "quiet"})), FromNode::Quiet);
    expect(says(json!({"act": "handles-term"})), FromNode::HandlesTerm);
    expect(says(json!({"act": "busy"})), FromNode::Busy);
    expect(says(json!({"act": "pong"})), FromNode::Pong);
    for wrong in [
        json!({"act": "session", "key": ""}),
        json!({"act": "hello"}),
        json!({"act": "closed", "count": "3"}),
        json!({"act": "dance"}),
    ] {
        expect(says(wrong), FromNode::OtherInternal);
    }
}

#[test]
fn the_packages_are_understood() {
    let said = |kind: &str, data: Value| json!({"type": kind, "data": data});
    expect(said("sticky:connection", json!("sid")), FromNode::Session { key: key("sid") });
    expect(said("sticky:disconnection", json!("sid")), FromNode::End { key: key("sid") });
    expect(said("sticky:connection", json!({})), FromNode::User);
    expect(json!({"type": "close"}), FromNode::StickySessionClose);
    expect(
        json!({"source": "_sio_adapter", "type": 4, "uid": "u", "nsp": "/", "requesterUid": "r"}),
        FromNode::Adapter(Adapter {
            uid: Some("u".into()),
            nsp: Some("/".into()),
            requester_uid: Some("r".into()),
            kind: Some(4),
        }),
    );
    let unknown = Adapter { uid: None, nsp: None, requester_uid: None, kind: None };
    expect(json!({"source": "_sio_adapter"}), FromNode::Adapter(unknown));
}

#[test]
fn only_a_long_enough_prefix_makes_a_message_internal() {
    expect(json!({"cmd": "NODE_X"}), FromNode::OtherInternal);
    expect(json!({"cmd": "NODE_"}), FromNode::User);
    expect(json!({"cmd": "node_cluster", "act": "online"}), FromNode::User);
    expect(json!({"cmd": 1, "type": "close"}), FromNode::StickySessionClose);
    expect(json!({"cmd": "NODE_X", "type": "close"}), FromNode::OtherInternal);
    expect(json!(null), FromNode::User);
}

#[test]
fn unreadable_values_make_a_frame_a_message_of_the_app() {
    // cmd NODE_X, then `a` with a value in hex, then the end of the object with its number of fields.
    let with = |value: &str| {
        let payload = format!("ff0f 6f 2203636d64 22064e4f44455f58 220161 {value} 7b02");
        let payload = bytes_of_hex(&payload);
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        FromNode::parse(&[&length, payload.as_slice()].concat())
    };
    for good in ["30", "0000 30", "4101 2d 24 00 01", "5c01 6f7b00", "5e00", "42026f7b"] {
        assert_eq!(with(good), FromNode::OtherInternal, "{good}");
    }
    let bad = [
        ("an unknown tag", "21"),
        ("a count that is wrong", "6f7b01"),
        ("a length that is wrong", "4101 30 24 00 02"),
        ("a key without a value", "6f 220161 7b00"),
        ("a key that is an object", "6f 6f7b00 30 7b01"),
        ("a reference to what comes later", "5e02"),
        ("a number that does not end", "49ffffffffff01"),
        ("more bytes than there are", "22ffffffff0f"),
        ("more elements than there are", "41ffffffff0f 30"),
        ("an object that was transferred", "7400"),
        ("a view that is not Node's own object", "4200 56 42 00 00 00"),
        ("a hole outside of an array", "2d"),
        ("half a character", "630161"),
        ("an error of an unknown kind", "725a2e"),
        ("a buffer larger than its limit", "7e0201 0000"),
        ("a host object of another kind", "5c02 30"),
    ];
    for (why, value) in bad {
        assert_eq!(with(value), FromNode::User, "{why}");
    }
}

#[test]
fn data_with_references_keeps_what_has_none() {
    let data = |hex: &str| {
        let query =
            "ff0f 6f 2203636d64 220c4e4f44455f434c5553544552 2203616374 220b7175657279536572766572";
        let payload = bytes_of_hex(&format!("{query} 2203736571 4902 220464617461 {hex} 7b04"));
        let frame = [&[0; 4], payload.as_slice()].concat();
        match FromNode::parse(&frame) {
            FromNode::Query(query) => query.data.map(|data| data.as_bytes().to_vec()),
            other => panic!("{other:?}"),
        }
    };
    let bytes = |hex| Some(bytes_of_hex(hex));
    assert_eq!(data("6f 220161 2202ffff 7b01"), bytes("6f 220161 2202ffff 7b01"));
    assert_eq!(
        data("6f 220161 5e00 220162 54 220163 410 15e00 240001 7b03"),
        bytes("6f 220162 54 7b01")
    );
    assert_eq!(data("4101 5e00 240001"), None);
    assert_eq!(data("5f"), None);
    assert_eq!(data("0030"), None);
}

#[test]
fn what_no_worker_has_to_say_is_too_long() {
    let long = "x".repeat(MAX_NAME);
    for (cmd, field) in [
        ("NODE_CLUSTER", "address"),
        ("NODE_CLUSTER", "data"),
        ("NODE_CLUSTER", "key"),
        ("NODE_SOCKET_GET_COUNT", "key"),
        ("NODE_SOCKET_NOTIFY_CLOSE", "key"),
        ("NODE_STICKY", "name"),
        ("NODE_STICKY", "message"),
    ] {
        let message = json!({"cmd": cmd, "act": "queryServer", "seq": 1, field: long});
        expect(message, FromNode::TooLong(field, MAX_NAME));
    }
    let handback = json!({"cmd": "NODE_STICKY", "act": "handback", "head": "A".repeat(400_000)});
    let handle = json!({"cmd": "NODE_HANDLE", "msg": handback});
    expect(handle, FromNode::TooLong("head", MAX_HANDED_BACK));
    // What is not Node's own may be as long as it likes.
    expect(json!({"cmd": "NODE_X", "data": long, "key": long}), FromNode::OtherInternal);
    let session = json!({"cmd": "NODE_STICKY", "act": "session", "key": long});
    expect(session, FromNode::Session { key: key(&long) });
    let nsp = "/".repeat(MAX_ADAPTER);
    let adapter = |uid: &str| json!({"source": "_sio_adapter", "uid": uid, "nsp": nsp, "type": 3});
    expect(adapter(&long), FromNode::User);
    let uid = Some("u".to_owned());
    let known = Adapter { uid, nsp: None, requester_uid: None, kind: Some(3) };
    expect(adapter("u"), FromNode::Adapter(known));
}
