use std::collections::VecDeque;

use proptest::collection::vec;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::super::{Adapter, Data, Frames, FromNode, Ledger, Outbox, Package, Primary, Query};
use crate::logic::quota::Quota;

use super::plain;

/// All that is kept of a conversation with one worker.
#[derive(Deserialize, Serialize)]
struct Conversation {
    primary: Primary,
    ledger: Ledger<u32>,
    outbox: Outbox,
    frames: Frames,
}

/// Something that happens in it.
#[derive(Clone, Debug)]
enum Step {
    Say(usize),
    SayAtOnce(usize),
    Send(usize, u32),
    Write(usize),
    Arrived,
    Taken,
    Lost,
    Answered(u32),
    Read(Vec<u8>),
    Serve(u8, Vec<u32>),
    Close(u8),
    Package(bool),
    Count,
    Adapter(Option<u8>),
    Boot,
}

impl Conversation {
    fn new() -> Self {
        Self {
            primary: Primary::default(),
            ledger: Ledger::default(),
            outbox: Outbox::default(),
            frames: Frames::default(),
        }
    }

    /// Does it, and says all that can be seen of it.
    fn go(&mut self, step: Step) -> String {
        match step {
            Step::Say(length) => self.outbox.push(vec![1; length], None),
            Step::SayAtOnce(length) => {
                self.outbox.answer_at_once(vec![2; length], &Quota::default())
            }
            Step::Send(length, payload) => {
                let seq = (payload % 2 == 0).then(|| self.primary.seq());
                let number = self.ledger.enter(payload, seq);
                self.outbox.push(vec![3; length], Some(number));
            }
            Step::Write(most) => {
                let count = self.outbox.next().map_or(0, |piece| piece.bytes.len().min(most));
                self.outbox.wrote(count);
            }
            Step::Arrived => {
                self.outbox.acknowledged();
                return format!("{:?}", self.ledger.acknowledged());
            }
            Step::Taken => return format!("{:?}", self.ledger.taken()),
            Step::Lost => return format!("{:?}", self.ledger.lost()),
            Step::Answered(seq) => return format!("{:?}", self.ledger.answered(seq)),
            Step::Read(bytes) => {
                self.frames.extend(&bytes);
                return format!("{:?}", self.frames.next_frame());
            }
            Step::Serve(key, listeners) => self.primary.serve(&key.to_string(), listeners),
            Step::Close(key) => return format!("{:?}", self.primary.close(&key.to_string())),
            Step::Package(named) => {
                let message = named.then(|| "its own".to_owned());
                let package = Package::new("sticky-cluster", message);
                self.primary.use_package(package.expect("it is known"));
            }
            Step::Count => self.primary.meet_preload(2),
            Step::Adapter(uid) => {
                let uid = uid.map(|uid| uid.to_string());
                let nsp = Some("/".to_owned());
                let adapter = Adapter { uid, nsp, requester_uid: None, kind: None };
                self.primary.note_adapter(&adapter);
            }
            Step::Boot => self.primary.boot(),
        }
        let (outbox, primary) = (&self.outbox, &self.primary);
        let next = outbox.next().map(|piece| (piece.bytes.len(), piece.descriptor));
        let descriptors: Vec<_> = outbox.descriptors().collect();
        let payloads: Vec<_> = self.ledger.payloads().collect();
        let targets: Vec<_> = (0..4).map(|listener| primary.target(listener)).collect();
        format!(
            "{next:?} {} {descriptors:?} {payloads:?} {targets:?} {:?} {}",
            outbox.cost(),
            primary.farewell(7),
            primary.has_preload(),
        )
    }
}

fn step() -> impl Strategy<Value = Step> {
    // From nothing to more than the barrier of the outbox.
    let length = || prop_oneof![1usize..9, Just(40_000)];
    prop_oneof![
        length().prop_map(Step::Say),
        length().prop_map(Step::SayAtOnce),
        (length(), any::<u32>()).prop_map(|(length, payload)| Step::Send(length, payload)),
        prop_oneof![1usize..9, Just(100_000)].prop_map(Step::Write),
        Just(Step::Arrived),
        Just(Step::Taken),
        Just(Step::Lost),
        (0u32..9).prop_map(Step::Answered),
        vec(prop_oneof![Just(0u8), 0u8..9], 0..40).prop_map(Step::Read),
        (0u8..3, vec(0u32..4, 0..3)).prop_map(|(key, listeners)| Step::Serve(key, listeners)),
        (0u8..3).prop_map(Step::Close),
        any::<bool>().prop_map(Step::Package),
        Just(Step::Count),
        proptest::option::of(0u8..9).prop_map(Step::Adapter),
        Just(Step::Boot),
    ]
}

fn write(conversation: &impl Serialize) -> Vec<u8> {
    rmp_serde::to_vec_named(conversation).expect("it can be written")
}

/// Everything that happens in a conversation that may be wrong.
fn go_on(mut conversation: Conversation, steps: Vec<Step>) {
    for step in steps {
        conversation.go(step);
    }
}

#[test]
fn data_goes_there_and_back() {
    let message = json!({"cmd": "NODE_CLUSTER", "act": "queryServer", "seq": 1, "data": {"a": 1}});
    let frame = plain::encode(&message);
    let FromNode::Query(Query { data: Some(data), .. }) = FromNode::parse(&frame) else {
        panic!("no data");
    };
    assert_eq!(rmp_serde::from_slice::<Data>(&write(&data)).unwrap(), data);
}

#[test]
fn what_a_later_version_adds_and_an_earlier_one_lacks_is_no_error() {
    let primary: Primary = rmp_serde::from_slice(&write(&json!({"seq": 5, "later": 1}))).unwrap();
    assert_eq!(
        format!("{primary:?}"),
        format!("{:?}", {
            let mut expected = Primary::default();
            (0..5).for_each(|_| _ = expected.seq());
            expected
        })
    );
}

#[test]
fn a_frame_that_is_written_already_is_an_error() {
    let outbox = |written: usize| {
        let frame = json!({"bytes": [1, 2], "written": written, "descriptor": null});
        let state = json!({"frames": [frame], "plain": 0, "unacknowledged": 0});
        rmp_serde::from_slice::<Outbox>(&write(&state))
            .map(|outbox| outbox.next().map(|piece| piece.bytes.len()))
    };
    assert_eq!(outbox(1).unwrap(), Some(1));
    assert!(outbox(2).is_err() && outbox(3).is_err());
}

proptest! {
    #[test]
    fn a_conversation_goes_on_as_it_was(
        before in vec(step(), 0..60),
        after in vec(step(), 0..60),
    ) {
        let mut first = Conversation::new();
        for step in before {
            first.go(step);
        }
        let mut second: Conversation = rmp_serde::from_slice(&write(&first)).unwrap();
        for step in after {
            prop_assert_eq!(first.go(step.clone()), second.go(step));
        }
        prop_assert_eq!(write(&first), write(&second));
    }

    #[test]
    fn a_wrong_state_is_an_error_or_goes_on(
        before in vec(step(), 0..30),
        after in vec(step(), 0..30),
        wrong in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        end in any::<prop::sample::Index>(),
    ) {
        let mut conversation = Conversation::new();
        for step in before {
            conversation.go(step);
        }
        let mut bytes = write(&conversation);
        assert!(rmp_serde::from_slice::<Conversation>(&bytes[..end.index(bytes.len())]).is_err());
        for (place, byte) in wrong {
            *place.get_mut(&mut bytes) = byte;
        }
        if let Ok(conversation) = rmp_serde::from_slice(&bytes) {
            go_on(conversation, after);
        }
    }

    #[test]
    fn any_bytes_are_an_error(bytes in vec(any::<u8>(), 0..200)) {
        prop_assert!(rmp_serde::from_slice::<Conversation>(&bytes).is_err());
    }
}

#[test]
fn a_ledger_of_something_else_has_the_same_numbers() {
    let mut ledger = Ledger::default();
    ledger.enter(1, Some(5));
    ledger.enter(2, None);
    let texts = ledger.map(u32::to_string);
    let mut back = texts.try_map(|text| text.parse::<u32>()).unwrap();
    assert_eq!((back.answered(5), back.taken(), back.taken()), (Some(1), Ok(None), Ok(Some(2))));
    let wrong = ledger.map(|_| "x").try_map(|text| text.parse::<u32>());
    assert!(wrong.is_err());
    let expected: VecDeque<_> = [1, 2].into();
    assert!(ledger.into_payloads().eq(expected));
}
