//! The fields that mean something.

use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::{Error, StrDeserializer};

/// The fields that mean something in some message, each written in camel case.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(field_identifier, rename_all = "camelCase")]
pub(super) enum Field {
    Accepted,
    Ack,
    Act,
    Address,
    AddressType,
    Backlog,
    Bytes,
    Closed,
    Cmd,
    Count,
    Data,
    Fd,
    Flags,
    Head,
    Index,
    Key,
    Message,
    Msg,
    Name,
    Nsp,
    Port,
    ReadableAll,
    RequesterUid,
    Seq,
    Source,
    Sticky,
    Type,
    Uid,
    Version,
    WritableAll,
    #[serde(other)]
    Other,
}

impl Field {
    /// How many mean something.
    pub(super) const COUNT: usize = Self::Other as usize;
    /// No name is longer than this, in bytes.
    pub(super) const LONGEST: usize = "requesterUid".len();

    /// The field that is written so.
    pub(super) fn of(text: &str) -> Option<Self> {
        let text: StrDeserializer<'_, Error> = text.into_deserializer();
        Self::deserialize(text).ok().filter(|field| *field != Self::Other)
    }
}
