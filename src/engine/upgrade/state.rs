//! The state that an upgrade hands over, as bytes.
//!
//! It begins with a line that names its format. Within a format, fields may be added that have a
//! default, and fields that a reader does not know are skipped; everything else is a new format. A
//! program reads its own format and the one before.

use std::str;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::engine::accept::SavedListeners;
use crate::engine::connection::SavedConnection;
use crate::engine::handoff::SavedHandoff;
use crate::engine::native::SavedNative;
use crate::engine::node::SavedNode;
use crate::engine::notify::Told;
use crate::engine::output::SavedOutput;
use crate::engine::pending::SavedPending;
use crate::engine::workers::SavedWorkers;
use crate::logic::config::{InForce, Listen};
use crate::logic::fleet::Fleet;
use crate::logic::origin;
use crate::logic::route::mint::MintKey;
use crate::logic::route::{Conn, Router, SavedRouter};
use crate::os::limits::FileLimit;
use crate::os::signals::Inherited;
use crate::os::upgrade::StateFile;

/// What a state begins with, before the number of its format and the end of that line.
const HEADER: &[u8] = b"sticky-run state ";
/// The format that is written.
const FORMAT: u32 = 1;
/// The oldest format that is read.
const OLDEST: u32 = 1;
/// The longest first line.
const LONGEST_LINE: usize = 64;

/// Everything that goes over, by the numbers of its descriptors.
#[derive(Debug, Deserialize, Serialize)]
pub(in crate::engine) struct State<R> {
    /// The version of the program that wrote it, for the log.
    pub(in crate::engine) version: String,
    pub(in crate::engine) in_force: InForce,
    pub(in crate::engine) fleet: Fleet,
    pub(in crate::engine) router: R,
    pub(in crate::engine) listeners: SavedListeners,
    pub(in crate::engine) pending: Vec<SavedPending>,
    pub(in crate::engine) waiting: Vec<(Conn, SavedConnection)>,
    pub(in crate::engine) handoff: SavedHandoff,
    pub(in crate::engine) workers: SavedWorkers,
    pub(in crate::engine) native: SavedNative,
    pub(in crate::engine) node: Option<SavedNode>,
    pub(in crate::engine) output: SavedOutput,
    pub(in crate::engine) told: Told,
    pub(in crate::engine) origins: origin::Told,
    pub(in crate::engine) mint: Option<MintKey>,
    pub(in crate::engine) signals: Inherited,
    pub(in crate::engine) file_limit: FileLimit,
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
