//! The state that an upgrade hands over, as bytes.
//!
//! It begins with a line that names its format. Within a format, fields may be added that have a
//! default, and fields that a reader does not know are skipped; everything else is a new format. A
//! program reads the formats from [`OLDEST`] to its own.

use std::str;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::engine::intake::SavedIntake;
use crate::engine::links::SavedHandoff;
use crate::engine::listeners::SavedListeners;
use crate::engine::notify::Reported;
use crate::engine::output::SavedOutput;
use crate::engine::workers::SavedWorkers;
use crate::logic::config::{Listen, WorkerConfig};
use crate::logic::core::SavedCore;
use crate::logic::fleet::Fleet;
use crate::logic::origin;
use crate::logic::route::mint::MintKey;
use crate::logic::route::{Router, SavedRouter};
use crate::os::closing::Sender;
use crate::os::kept::Kept;
use crate::os::limits::FileLimit;
use crate::os::signals::Inherited;
use crate::os::upgrade::StateFile;

/// What a state begins with, before the number of its format and the end of that line.
const HEADER: &[u8] = b"sticky-run state ";
/// The format that is written.
const FORMAT: u32 = 2;
/// The oldest format that is read.
const OLDEST: u32 = 2;
/// The longest first line.
const LONGEST_LINE: usize = 64;

/// Everything that goes over, by the numbers of its descriptors.
#[derive(Debug, Deserialize, Serialize)]
pub(in crate::engine) struct State<R> {
    /// The version of the program that wrote it, for the log.
    pub(in crate::engine) version: String,
    pub(in crate::engine) in_force: WorkerConfig,
    pub(in crate::engine) fleet: Fleet,
    pub(in crate::engine) router: R,
    pub(in crate::engine) core: SavedCore,
    pub(in crate::engine) listeners: SavedListeners,
    pub(in crate::engine) intake: SavedIntake,
    pub(in crate::engine) workers: SavedWorkers,
    pub(in crate::engine) links: SavedHandoff,
    pub(in crate::engine) output: SavedOutput,
    pub(in crate::engine) told: Reported,
    pub(in crate::engine) origins: origin::ProxyClients,
    pub(in crate::engine) mint: Option<MintKey>,
    pub(in crate::engine) signals: Inherited,
    pub(in crate::engine) file_limit: FileLimit,
    /// What awaits closing.
    #[serde(default)]
    pub(in crate::engine) unclosed: Vec<(Sender, Kept)>,
}

/// Why a state cannot be gone on from.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// It is something else.
    #[error("it is no state of sticky-run")]
    NotAState,
    /// Another version of the program wrote it, which is too far away.
    #[error(
        "its state has format {found}, and {} reads {OLDEST} to {FORMAT}: upgrade one release \
         after the other",
        env!("CARGO_PKG_VERSION")
    )]
    OtherFormat {
        /// Its format.
        found: u32,
    },
    /// It says something that makes no sense.
    #[error("its state cannot be read: {0}")]
    Broken(#[from] rmp_serde::decode::Error),
}

impl State<&Router> {
    /// Its bytes.
    pub(super) fn encode(&self) -> Result<Vec<u8>, rmp_serde::encode::Error> {
        let mut bytes = HEADER.to_vec();
        bytes.extend_from_slice(format!("{FORMAT}\n").as_bytes());
        let mut serializer = rmp_serde::Serializer::new(&mut bytes).with_struct_map();
        self.serialize(&mut serializer)?;
        Ok(bytes)
    }
}

impl State<SavedRouter> {
    /// The state in a file, which is not needed any more.
    pub(in crate::engine) fn read(mut file: StateFile) -> anyhow::Result<Self> {
        Ok(Self::decode(&file.read().context("cannot read the state")?)?)
    }

    /// The state with these bytes.
    fn decode(bytes: &[u8]) -> Result<Self, StateError> {
        let rest = bytes.strip_prefix(HEADER).ok_or(StateError::NotAState)?;
        let end = rest.iter().take(LONGEST_LINE).position(|byte| *byte == b'\n');
        let (number, rest) = rest.split_at(end.ok_or(StateError::NotAState)?);
        let found = str::from_utf8(number).ok().and_then(|number| number.parse().ok());
        match found.ok_or(StateError::NotAState)? {
            OLDEST..=FORMAT => Ok(rmp_serde::from_slice(&rest[1..])?),
            found => Err(StateError::OtherFormat { found }),
        }
    }

    /// What the user had it listen on.
    pub(in crate::engine) fn asked(&self) -> impl Iterator<Item = &Listen> {
        self.listeners.asked()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    use super::*;
    use crate::logic::capacity::QueueLimits;
    use crate::logic::fleet::{FleetConfig, Input};
    use crate::logic::route::{Balance, RouteConfig};
    use crate::logic::time::Time;

    fn saved<T: DeserializeOwned>(value: Value) -> T {
        serde_json::from_value(value).expect("it is what it is to be")
    }

    /// The bytes of a supervisor with two workers, one of them live.
    fn bytes() -> Vec<u8> {
        let now = Time::since_zero(Duration::from_secs(7));
        let config = FleetConfig { workers: 2, ..FleetConfig::default() };
        let mut fleet = Fleet::new(now, config);
        fleet.handle(now, Input::More);
        let queues = QueueLimits { stalled: 8, reading: 64 };
        let route = RouteConfig {
            keys: "sid,ip".parse().expect("these are keys"),
            balance: Balance::LeastConnection,
            hash_seed: 0,
            workers: 2,
            max_sessions: 10,
            session_idle: Duration::from_secs(60),
            max_keys: 10,
            key_idle: Duration::from_secs(60),
            in_flight: 4,
            leeway: 1,
            max_open: None,
            stall_timeout: Duration::from_secs(5),
            all_listeners: true,
            mint: None,
        };
        let worker = json!({ "slot": 1, "generation": 3 });
        let live = json!([{ "worker": worker, "pid": 77 }]);
        let nothing = json!({ "lines": [], "shares": {}, "used": 0 });
        let program = json!({ "Unix": b"a" });
        let command = json!({
            "program": program, "arguments": [program], "directory": null, "environment": [],
        });
        let state = State {
            version: "0.0.1".to_owned(),
            in_force: saved(
                json!({ "flags": [], "command": command, "node": null, "workers": 2, "account": null }),
            ),
            fleet,
            router: &Router::new(now, route, queues, (1, 2), 3),
            listeners: saved(json!({ "listeners": [], "next": 2, "requested": {
                "is_needed": false, "ports": { "named": [], "ports": {} }, "serving": [],
                "look_at": null, "elsewhere": [], "is_guess_said": false,
            } })),
            core: saved(json!({
                "held": [], "returns": { "counts": {} }, "workers": [], "listeners": [],
                "drains": [worker],
            })),
            intake: saved(json!({ "sockets": [], "last": 9 })),
            workers: saved(json!({ "live": live, "started": true })),
            links: saved(json!({ "Native": {
                "charge": 768, "channels": [[worker, { "ours": 7, "theirs": 8 }]],
                "recovery": { "abandoned": [], "unrelieved": [worker] },
            } })),
            output: saved(json!({ "pipes": [], "ending": [], "unwritten": [nothing, nothing] })),
            told: Reported::default(),
            origins: origin::ProxyClients::default(),
            mint: None,
            signals: saved(json!({ "blocked": 1, "ignored": 2 })),
            file_limit: saved(json!({ "soft": 1024, "hard": 4096 })),
            unclosed: saved(json!([[{ "Worker": worker }, 9], [{ "User": 1000 }, 10]])),
        };
        state.encode().expect("it can be written")
    }

    /// Where the first line ends.
    fn end_of_line(bytes: &[u8]) -> usize {
        1 + bytes.iter().position(|byte| *byte == b'\n').expect("a state has a first line")
    }

    /// Where this name of a field stands as the first of its struct. Before it is the number of fields,
    /// in the lowest bits of a byte (`fixmap` and `map 16` of MessagePack).
    fn first_field(bytes: &[u8], name: &str) -> usize {
        let text = [&[0xA0 | u8::try_from(name.len()).unwrap()], name.as_bytes()].concat();
        let mut places = bytes.windows(text.len()).enumerate();
        places.find(|(_, window)| *window == text).expect("there is such a field").0
    }

    fn decode(bytes: &[u8]) -> Result<State<SavedRouter>, StateError> {
        State::decode(bytes)
    }

    #[test]
    fn a_state_is_read_as_it_was_written() {
        let state = decode(&bytes()).unwrap();
        assert_eq!((state.version.as_str(), state.fleet.size()), ("0.0.1", 3));
        assert_eq!(state.asked().count(), 0);
        let text = format!("{:?}", state.workers);
        assert!(text.contains("pid: 77"), "{text}");
        assert_eq!(state.unclosed.len(), 2);
    }

    #[test]
    fn fields_that_a_newer_program_added_are_skipped() {
        let older = bytes();
        let mut newer = older.clone();
        let news = json!({ "news": [1, { "a": null }] });
        // Without the byte that says that it is a struct of one field.
        let news = &rmp_serde::to_vec(&news).unwrap()[1..];
        for name in ["version", "config", "live", "blocked", "ours", "soft", "flags"] {
            let at = first_field(&newer, name);
            newer[at - 1] += 1;
            newer.splice(at..at, news.iter().copied());
        }
        let [older, newer] = [older, newer].map(|bytes| format!("{:?}", decode(&bytes).unwrap()));
        assert_eq!(newer, older);
    }

    #[test]
    fn a_field_that_an_older_program_did_not_write_has_its_default() {
        let mut older = bytes();
        // The last field of all.
        let unclosed = first_field(&older, "unclosed");
        let first = first_field(&older, "version");
        older[first - 1] -= 1;
        older.truncate(unclosed);
        assert!(decode(&older).unwrap().unclosed.is_empty());
    }

    #[test]
    fn another_format_is_named_whether_it_is_older_or_newer() {
        let bytes = bytes();
        let rest = &bytes[end_of_line(&bytes)..];
        for format in [OLDEST - 1, FORMAT + 1, u32::MAX] {
            let other = [HEADER, format.to_string().as_bytes(), b"\n", rest].concat();
            let error = decode(&other).unwrap_err();
            assert!(matches!(error, StateError::OtherFormat { found } if found == format));
            assert!(error.to_string().starts_with(&format!("its state has format {format}, and ")));
        }
    }

    #[test]
    fn what_does_not_begin_with_the_line_of_a_state_is_none() {
        let longest = [HEADER, &[b'1'; 100], b"\n"].concat();
        let texts: [&[u8]; 8] = [
            b"",
            b"sticky-run state",
            HEADER,
            b"sticky-run state 2",
            b"sticky-run state \n",
            b"sticky-run state -1\n",
            b"sticky-run state 4294967296\n",
            &longest,
        ];
        for text in texts {
            assert!(matches!(decode(text), Err(StateError::NotAState)), "{text:?}");
        }
    }

    #[test]
    fn a_state_that_ends_too_early_is_broken() {
        let bytes = bytes();
        for length in end_of_line(&bytes)..bytes.len() {
            assert!(matches!(decode(&bytes[..length]), Err(StateError::Broken(_))), "{length}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_whatever_end_the_program(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            has_line in any::<bool>(),
        ) {
            let line: &[u8] = if has_line { b"sticky-run state 2\n" } else { b"" };
            prop_assert!(decode(&[line, &bytes].concat()).is_err());
        }

        #[test]
        fn no_change_of_a_state_ends_the_program(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        ) {
            let mut bytes = bytes();
            for (index, byte) in changes {
                let at = index.index(bytes.len());
                bytes[at] = byte;
            }
            // It may still be one.
            _ = decode(&bytes);
        }
    }
}
