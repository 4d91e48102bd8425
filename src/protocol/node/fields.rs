//! The top-level fields of a message, found but not read yet.
//!
//! A field is read when somebody asks for it, as what they ask for: one of another type is absent,
//! as are `null` and `undefined`.

use std::borrow::Cow;

use super::field::Field;
use super::v8;

/// The longest string that is read, in bytes as it is written: more than any that means something.
const MAX_TEXT: usize = 512 * 1024;

/// Where the values of the fields of one object stand.
#[derive(Debug, Default)]
pub(super) struct Fields<'a>([Option<&'a [u8]>; Field::COUNT]);

impl<'a> Fields<'a> {
    /// Notes where a value stands; of two fields with one name the last counts, as in Node.
    pub(super) fn found(&mut self, name: Field, value: &'a [u8]) {
        self.0[name as usize] = Some(value);
    }

    /// The fields of a field that is an object.
    pub(super) fn object(&self, name: Field) -> Option<Self> {
        v8::fields(self.value(name)?)
    }

    /// A field that is a string; one that is no valid Unicode is absent, as is one longer than [`MAX_TEXT`].
    pub(super) fn text(&self, name: Field) -> Option<Cow<'a, str>> {
        v8::text(self.value(name).filter(|value| value.len() <= MAX_TEXT)?)
    }

    /// Whether a field is longer than this, in bytes as it is written.
    pub(super) fn is_longer(&self, name: Field, most: usize) -> bool {
        self.value(name).is_some_and(|value| value.len() > most)
    }

    /// A field that is a boolean.
    pub(super) fn boolean(&self, name: Field) -> Option<bool> {
        v8::boolean(self.value(name)?)
    }

    /// A field that is a whole number in the range of `T`.
    pub(super) fn number<T: TryFrom<i64>>(&self, name: Field) -> Option<T> {
        let number = v8::number(self.value(name)?)?;
        // Whole numbers beyond this are not exact in JavaScript.
        let whole = number.fract() == 0.0 && number.abs() < 2f64.powi(53);
        whole.then_some(number as i64).and_then(|number| T::try_from(number).ok())
    }

    /// A field of any type but `null` and `undefined`, such that it can be written into another
    /// frame as it is.
    pub(super) fn portable(&self, name: Field) -> Option<Cow<'a, [u8]>> {
        v8::portable(self.value(name)?)
    }

    fn value(&self, name: Field) -> Option<&'a [u8]> {
        self.0[name as usize]
    }
}
