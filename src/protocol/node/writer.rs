//! Writing the frames of the supervisor, without a tree of values in between.

use super::v8;

/// A whole frame of one object, whose fields `fill` writes.
pub(super) fn frame(fill: impl FnOnce(&mut Object<'_>)) -> Vec<u8> {
    // The most frequent frame, a new connection, fits.
    let mut frame = Vec::with_capacity(160);
    frame.extend_from_slice(&[0; v8::LENGTH]);
    frame.extend_from_slice(&v8::HEADER);
    object(&mut frame, fill);
    let length = u32::try_from(frame.len() - v8::LENGTH);
    let length = length.expect("a message is far below 4 GiB").to_be_bytes();
    frame[..v8::LENGTH].copy_from_slice(&length);
    frame
}

/// An object that is being written.
pub(super) struct Object<'w> {
    to: &'w mut Vec<u8>,
    fields: u32,
}

impl Object<'_> {
    /// Adds a string.
    pub(super) fn text(&mut self, name: &str, text: &str) {
        self.name(name);
        v8::write_text(self.to, text);
    }

    /// Adds a whole number.
    pub(super) fn number(&mut self, name: &str, number: impl Into<i64>) {
        self.name(name);
        v8::write_number(self.to, number.into());
    }

    /// Adds a `null`.
    pub(super) fn null(&mut self, name: &str) {
        self.raw(name, &[v8::NULL]);
    }

    /// Adds a value as it stood in another frame.
    pub(super) fn raw(&mut self, name: &str, value: &[u8]) {
        self.name(name);
        self.to.extend_from_slice(value);
    }

    /// Adds an object, whose fields `fill` writes.
    pub(super) fn object(&mut self, name: &str, fill: impl FnOnce(&mut Object<'_>)) {
        self.name(name);
        object(self.to, fill);
    }

    fn name(&mut self, name: &str) {
        v8::write_text(self.to, name);
        self.fields += 1;
    }
}

fn object(to: &mut Vec<u8>, fill: impl FnOnce(&mut Object<'_>)) {
    to.push(v8::OBJECT);
    let mut object = Object { to, fields: 0 };
    fill(&mut object);
    let Object { to, fields } = object;
    v8::write_object_end(to, fields);
}
