//! Writing the frames of the supervisor, in either syntax, without a tree of values in between.

use super::{Serialization, json, v8};

/// A whole frame of one object, whose fields `fill` writes.
pub(super) fn frame(serialization: Serialization, fill: impl FnOnce(&mut Object<'_>)) -> Vec<u8> {
    // The most frequent frame, a new connection, fits.
    let mut frame = Vec::with_capacity(160);
    match serialization {
        Serialization::Json => {
            object(serialization, &mut frame, fill);
            frame.push(b'\n');
        }
        Serialization::Advanced => {
            frame.extend_from_slice(&[0; v8::LENGTH]);
            frame.extend_from_slice(&v8::HEADER);
            object(serialization, &mut frame, fill);
            let length = u32::try_from(frame.len() - v8::LENGTH);
            let length = length.expect("a message is far below 4 GiB").to_be_bytes();
            frame[..v8::LENGTH].copy_from_slice(&length);
        }
    }
    frame
}

/// An object that is being written.
pub(super) struct Object<'w> {
    serialization: Serialization,
    to: &'w mut Vec<u8>,
    fields: u32,
}

impl Object<'_> {
    /// Adds a string.
    pub(super) fn text(&mut self, name: &str, text: &str) {
        self.name(name);
        write_text(self.serialization, self.to, text);
    }

    /// Adds a whole number.
    pub(super) fn number(&mut self, name: &str, number: impl Into<i64>) {
        self.name(name);
        match self.serialization {
            Serialization::Json => json::write_number(self.to, number.into()),
            Serialization::Advanced => v8::write_number(self.to, number.into()),
        }
    }

    /// Adds a `null`.
    pub(super) fn null(&mut self, name: &str) {
        self.name(name);
        match self.serialization {
            Serialization::Json => self.to.extend_from_slice(b"null"),
            Serialization::Advanced => v8::write_null(self.to),
        }
    }

    /// Adds a value as it stood in a frame of the same serialization.
    pub(super) fn raw(&mut self, name: &str, value: &[u8]) {
        self.name(name);
        self.to.extend_from_slice(value);
    }

    /// Adds an object, whose fields `fill` writes.
    pub(super) fn object(&mut self, name: &str, fill: impl FnOnce(&mut Object<'_>)) {
        self.name(name);
        object(self.serialization, self.to, fill);
    }

    fn name(&mut self, name: &str) {
        if self.serialization == Serialization::Json && self.fields > 0 {
            self.to.push(b',');
        }
        write_text(self.serialization, self.to, name);
        if self.serialization == Serialization::Json {
            self.to.push(b':');
        }
        self.fields += 1;
    }
}

fn object(serialization: Serialization, to: &mut Vec<u8>, fill: impl FnOnce(&mut Object<'_>)) {
    match serialization {
        Serialization::Json => to.push(b'{'),
        Serialization::Advanced => v8::write_object(to),
    }
    let mut object = Object { serialization, to, fields: 0 };
    fill(&mut object);
    let Object { to, fields, .. } = object;
    match serialization {
        Serialization::Json => to.push(b'}'),
        Serialization::Advanced => v8::write_object_end(to, fields),
    }
}

fn write_text(serialization: Serialization, to: &mut Vec<u8>, text: &str) {
    match serialization {
        Serialization::Json => json::write_text(to, text),
        Serialization::Advanced => v8::write_text(to, text),
    }
}
