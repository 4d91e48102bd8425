//! The top-level fields of a message, found but not read yet.
//!
//! A field is read when somebody asks for it, as what they ask for: one of another type is absent,
//! as are `null` and `undefined`.

use std::borrow::Cow;

use super::field::{Field, Values};
use super::{Serialization, json, v8};

/// The longest string that is read, in bytes as it is written: more than any that means something.
const MAX_TEXT: usize = 512 * 1024;

/// The fields of one object.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    serialization: Serialization,
    values: Values<'a>,
}

impl<'a> Fields<'a> {
    /// The fields of a whole frame; `None` unless it is one well-formed object.
    pub(super) fn of_frame(serialization: Serialization, frame: &'a [u8]) -> Option<Self> {
        let values = match serialization {
            Serialization::Json => json::fields(frame),
            Serialization::Advanced => v8::fields_of_frame(frame),
        }?;
        Some(Self { serialization, values })
    }

    /// The fields of a field that is an object.
    pub(super) fn object(&self, name: Field) -> Option<Self> {
        let value = self.value(name)?;
        let serialization = self.serialization;
        let values = match serialization {
            Serialization::Json => json::fields(value),
            Serialization::Advanced => v8::fields(value),
        }?;
        Some(Self { serialization, values })
    }

    /// A field that is a string; one that is no valid Unicode is absent, as is one longer than [`MAX_TEXT`].
    pub(super) fn text(&self, name: Field) -> Option<Cow<'a, str>> {
        let value = self.value(name).filter(|value| value.len() <= MAX_TEXT)?;
        match self.serialization {
            Serialization::Json => json::text(value),
            Serialization::Advanced => v8::text(value),
        }
    }

    /// Whether a field is longer than this, in bytes as it is written.
    pub(super) fn is_longer(&self, name: Field, most: usize) -> bool {
        self.value(name).is_some_and(|value| value.len() > most)
    }

    /// A field that is a boolean.
    pub(super) fn boolean(&self, name: Field) -> Option<bool> {
        let value = self.value(name)?;
        match self.serialization {
            Serialization::Json => json::boolean(value),
            Serialization::Advanced => v8::boolean(value),
        }
    }

    /// A field that is a whole number in the range of `T`.
    pub(super) fn number<T: TryFrom<i64>>(&self, name: Field) -> Option<T> {
        let value = self.value(name)?;
        let number = match self.serialization {
            Serialization::Json => json::number(value),
            Serialization::Advanced => v8::number(value),
        }?;
        // Whole numbers beyond this are not exact in JavaScript.
        let whole = number.fract() == 0.0 && number.abs() < 2f64.powi(53);
        whole.then_some(number as i64).and_then(|number| T::try_from(number).ok())
    }

    /// A field of any type but `null` and `undefined`, such that it can be written into another
    /// frame as it is.
    pub(super) fn portable(&self, name: Field) -> Option<Cow<'a, [u8]>> {
        let value = self.value(name)?;
        match self.serialization {
            Serialization::Json => json::portable(value),
            Serialization::Advanced => v8::portable(value),
        }
    }

    fn value(&self, name: Field) -> Option<&'a [u8]> {
        self.values.get(name)
    }
}
