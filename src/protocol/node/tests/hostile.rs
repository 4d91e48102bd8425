use std::rc::Rc;

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::{Cut, Frames, FromNode, ToNode};
use super::{bytes_of_hex, captured, plain};

/// Reads a stream as the engine does.
fn hear(chunks: impl Iterator<Item: AsRef<[u8]>>) -> Vec<Rc<[u8]>> {
    let mut frames = Frames::default();
    let mut heard = Vec::new();
    for chunk in chunks {
        frames.extend(chunk.as_ref());
        while let Ok(Some(Cut::Frame(frame))) = frames.next_frame() {
            FromNode::parse(&frame);
            heard.push(frame);
        }
    }
    heard
}

/// A frame of this payload after the header.
fn frame(payload: &[u8]) -> Vec<u8> {
    [&[0, 0, 0, 0, 0xFF, 0x0F], payload].concat()
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        ".{0,9}".prop_map(Value::from),
        Just(json!("NODE_CLUSTER")),
    ];
    leaf.prop_recursive(5, 60, 6, |inner| {
        let name = prop_oneof![".{0,3}", Just("cmd".into()), Just("act".into())];
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::from),
            vec((name, inner), 0..6).prop_map(|fields| fields.into_iter().collect()),
        ]
    })
}

#[test]
fn real_frames_are_found_however_they_are_cut() {
    let all: Vec<_> = captured().map(|(_, frame)| frame).collect();
    let stream = all.concat();
    assert!(hear(stream.chunks(1)).iter().map(|frame| &**frame).eq(&all));
    for cut in 0..stream.len() {
        let (first, second) = stream.split_at(cut);
        let mut frames = Frames::default();
        frames.extend(first);
        let before = std::iter::from_fn(|| frames.next_frame().unwrap()).count();
        frames.extend(second);
        let after = std::iter::from_fn(|| frames.next_frame().unwrap()).count();
        assert_eq!(before + after, all.len());
    }
}

#[test]
fn every_byte_of_a_real_frame_may_be_another() {
    for (_, frame) in captured().filter(|(_, frame)| frame.len() < 300) {
        for place in 0..frame.len() {
            let mut frame = frame.clone();
            for other in [0, 0xFF, frame[place] ^ 1, frame[place].wrapping_add(1), b'o', b'A', b'^']
            {
                frame[place] = other;
                FromNode::parse(&frame);
            }
            FromNode::parse(&frame[..place]);
        }
    }
}

#[test]
fn nothing_nests_too_deep_for_the_stack() {
    const DEPTH: usize = 1_000_000;
    for opening in ["6f220161", "4101", "3b", "27", "7263", "5c01", "6101 220161"] {
        let frame = frame(&bytes_of_hex(opening).repeat(DEPTH));
        assert_eq!(FromNode::parse(&frame), FromNode::User, "{opening}");
    }
}

#[test]
fn what_v8_can_read_is_read_and_deeper_is_not() {
    let nested = |depth: usize| {
        let opening = "5c01 6f 220161".repeat(depth / 2);
        let payload = format!("6f 220161 {opening} 30 {}", "7b01".repeat(depth / 2));
        FromNode::parse(&frame(&bytes_of_hex(&format!(
            "{payload} 2203636d64 22064e4f44455f58 7b02"
        ))))
    };
    assert_eq!(nested(1500), FromNode::OtherInternal);
    assert_eq!(nested(1502), FromNode::User);
}

proptest! {
    #[test]
    fn any_bytes_are_something(bytes in vec(any::<u8>(), 0..300)) {
        FromNode::parse(&bytes);
        hear(bytes.chunks(7));
        FromNode::parse(&frame(&bytes));
        FromNode::parse(&frame(&[b"o".as_slice(), &bytes].concat()));
    }

    #[test]
    fn any_tags_are_something(
        tags in vec(proptest::sample::select(&b"oA a;'{$@:,\"cSIUN0_-TFZ^Ryxnzs\\BV~rmsc.\0\x01\x02"[..]), 0..200),
    ) {
        FromNode::parse(&frame(&[b"o\"\x03cmd".as_slice(), &tags].concat()));
    }

    #[test]
    fn a_real_frame_with_many_wrong_bytes_is_something(
        which in 0usize..50,
        wrong in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let (_, mut frame) = captured().nth(which).unwrap();
        for (place, byte) in &wrong {
            *place.get_mut(&mut frame) = *byte;
        }
        FromNode::parse(&frame);
    }

    #[test]
    fn any_value_is_skipped_exactly(before in any_value(), after in any_value()) {
        let message = json!({"a": before, "cmd": "NODE_CLUSTER", "act": "close", "key": "k", "z": after});
        let found = FromNode::parse(&plain::encode(&message));
        prop_assert_eq!(found, FromNode::Close { key: "k".into() });
    }

    #[test]
    fn any_key_goes_there_and_back(key in ".*", seq: u32, ack: u32) {
        let frame = ToNode::NewConn { seq, key: &key }.encode();
        prop_assert_eq!(hear(frame.chunks(3)).len(), 1);
        let message = plain::decode(&frame);
        prop_assert_eq!(&message["msg"]["key"], &json!(key));
        prop_assert_eq!(&message["msg"]["seq"], &json!(seq));
        let ack = ToNode::Ack { ack, seq }.encode();
        let FromNode::Reply { ack: found, .. } = FromNode::parse(&ack) else {
            panic!("no reply");
        };
        prop_assert_eq!(json!(found), plain::decode(&ack)["ack"].clone());
    }
}
