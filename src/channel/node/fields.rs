//! The top-level fields of a message, found but not read yet.
//!
//! A field is read when somebody asks for it, as what they ask for: one of another type is absent,
//! as are `null` and `undefined`.

use std::borrow::Cow;

use super::{Serialization, json, v8};

/// The fields that mean something in some message.
#[derive(Clone, Copy, Debug)]
pub(super) enum Field {
    Accepted,
    Ack,
    Act,
    Address,
    AddressType,
    Backlog,
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
    RequesterUid,
    Seq,
    Server,
    Source,
    Sticky,
    Type,
    Uid,
    Version,
}

impl Field {
    /// One more than the last.
    const COUNT: usize = Self::Version as usize + 1;
    /// No name is longer than this, in bytes.
    pub(super) const LONGEST: usize = "requesterUid".len();

    /// The field that is written so.
    pub(super) fn of(text: &str) -> Option<Self> {
        Some(match text {
            "accepted" => Self::Accepted,
            "ack" => Self::Ack,
            "act" => Self::Act,
            "address" => Self::Address,
            "addressType" => Self::AddressType,
            "backlog" => Self::Backlog,
            "closed" => Self::Closed,
            "cmd" => Self::Cmd,
            "count" => Self::Count,
            "data" => Self::Data,
            "fd" => Self::Fd,
            "flags" => Self::Flags,
            "head" => Self::Head,
            "index" => Self::Index,
            "key" => Self::Key,
            "message" => Self::Message,
            "msg" => Self::Msg,
            "name" => Self::Name,
            "nsp" => Self::Nsp,
            "port" => Self::Port,
            "requesterUid" => Self::RequesterUid,
            "seq" => Self::Seq,
            "server" => Self::Server,
            "source" => Self::Source,
            "sticky" => Self::Sticky,
            "type" => Self::Type,
            "uid" => Self::Uid,
            "version" => Self::Version,
            _ => return None,
        })
    }
}

/// Where the values of the fields of one object stand.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    serialization: Serialization,
    values: [Option<&'a [u8]>; Field::COUNT],
}

impl<'a> Fields<'a> {
    /// The fields of a whole frame; `None` unless it is one well-formed object.
    pub(super) fn of_frame(serialization: Serialization, frame: &'a [u8]) -> Option<Self> {
        match serialization {
            Serialization::Json => json::fields(frame),
            Serialization::Advanced => v8::fields_of_frame(frame),
        }
    }

    /// No fields yet.
    pub(super) fn none(serialization: Serialization) -> Self {
        Self { serialization, values: [None; Field::COUNT] }
    }

    /// Notes where a value stands; of two fields with one name the last counts, as in Node.
    pub(super) fn found(&mut self, name: Field, value: &'a [u8]) {
        self.values[name as usize] = Some(value);
    }

    /// The fields of a field that is an object.
    pub(super) fn object(&self, name: Field) -> Option<Self> {
        let value = self.value(name)?;
        match self.serialization {
            Serialization::Json => json::fields(value),
            Serialization::Advanced => v8::fields(value),
        }
    }

    /// A field that is a string; one that is no valid Unicode is absent.
    pub(super) fn text(&self, name: Field) -> Option<Cow<'a, str>> {
        let value = self.value(name)?;
        match self.serialization {
            Serialization::Json => json::text(value),
            Serialization::Advanced => v8::text(value),
        }
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
        self.values[name as usize]
    }
}
