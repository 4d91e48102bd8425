//! The syntax of serialization `json`: one JSON text a line (RFC 8259).
//!
//! Skipping is `serde_json`'s, which neither recurses nor allocates more than a bit of stack for each
//! level that is open.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::field::{Field, Values};

/// The fields of a JSON text that is an object.
pub(super) fn fields(text: &[u8]) -> Option<Values<'_>> {
    serde_json::from_slice(text).ok()
}

/// A value that is a string.
pub(super) fn text(value: &[u8]) -> Option<Cow<'_, str>> {
    let inner = value.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    if memchr::memchr(b'\\', inner).is_some() {
        return serde_json::from_slice(value).ok().map(Cow::Owned);
    }
    str::from_utf8(inner).ok().map(Cow::Borrowed)
}

/// A value that is a boolean.
pub(super) fn boolean(value: &[u8]) -> Option<bool> {
    match value {
        b"true" => Some(true),
        b"false" => Some(false),
        _ => None,
    }
}

/// A value that is a number.
pub(super) fn number(value: &[u8]) -> Option<f64> {
    serde_json::from_slice(value).ok()
}

/// A value that is something; in JSON every value can stand anywhere.
pub(super) fn portable(value: &[u8]) -> Option<Cow<'_, [u8]>> {
    (value != b"null").then_some(Cow::Borrowed(value))
}

/// Writes a string.
pub(super) fn write_text(to: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(to, text).expect("a string can be written to memory");
}

/// Writes a whole number.
pub(super) fn write_number(to: &mut Vec<u8>, number: i64) {
    serde_json::to_writer(to, &number).expect("a number can be written to memory");
}

impl<'de> Deserialize<'de> for Values<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Object)
    }
}

/// Takes an object and nothing else.
struct Object;

impl<'de> Visitor<'de> for Object {
    type Value = Values<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
        let mut fields = Values::default();
        while let Some(Key(name)) = object.next_key()? {
            match name {
                Some(name) => {
                    let value: &RawValue = object.next_value()?;
                    fields.found(name, value.get().as_bytes());
                }
                None => {
                    object.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(fields)
    }
}

/// The key of a field, if it has a meaning.
struct Key(Option<Field>);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_identifier(Text)
    }
}

/// Takes a string.
struct Text;

impl Visitor<'_> for Text {
    type Value = Key;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a key")
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Key(Field::of(text)))
    }
}
