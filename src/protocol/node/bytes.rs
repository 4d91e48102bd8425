//! Shared bytes in a state: written as bytes, and shared no more when they are read.

use std::rc::Rc;

use serde::{Deserializer, Serializer};
use serde_bytes::{ByteBuf, Deserialize, Serialize};

/// Writes them.
pub(super) fn serialize<S: Serializer>(bytes: &Rc<[u8]>, to: S) -> Result<S::Ok, S::Error> {
    (**bytes).serialize(to)
}

/// Reads them.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Rc<[u8]>, D::Error> {
    let bytes: ByteBuf = Deserialize::deserialize(from)?;
    Ok(Rc::from(bytes.into_vec()))
}
