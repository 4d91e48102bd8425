//! Skipping values without recursion, and finding the fields of an object.

use super::super::field::Field;
use super::super::fields::Fields;
use super::{
    DOUBLE, HEADER, INTEGER, LATIN1, NULL, OBJECT, OBJECT_END, UNDEFINED, UNSIGNED, UTF8, UTF16,
    VERSION, text,
};

/// What V8 writes to align a string of two-byte units, before any tag.
const PADDING: u8 = 0;
/// What stands for an element that an array does not have.
const HOLE: u8 = b'-';
/// Values nest at most this deep. Node 16 to 24 can read 1,600 objects in each other before their stack
/// ends, and the worker with it; some can write more.
const MAX_DEPTH: usize = 1500;

/// What is left to read. Every method is `None` if that is not what V8 would have written.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    /// How many objects began so far: what a reference may refer to.
    objects: u32,
    /// How many values so far mean something in this frame only.
    references: u32,
}

/// A value that has begun and not ended.
#[derive(Debug)]
enum Open {
    /// Values up to an end tag, after which their number stands.
    Values { kind: Kind, end: u8, seen: u32, length: Option<u32> },
    /// So many values are still to come, then the properties of the array that they are elements of,
    /// unless it is none.
    Elements { left: u32, length: Option<u32> },
    /// The parts of an error, each after its own tag.
    Error,
}

/// What the values up to an end tag are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    /// Keys and values in turn, the keys strings or numbers; the pairs are counted.
    Properties,
    /// Keys and values in turn, of any type; both are counted.
    Map,
    /// Values.
    Set,
}

impl<'a> Reader<'a> {
    /// Reads a frame after its length: the header is read, the value comes next.
    pub(super) fn of_payload(payload: &'a [u8]) -> Option<Self> {
        let mut reader = Self { rest: payload, objects: 0, references: 0 };
        (reader.byte()? == VERSION).then_some(())?;
        // Before version 13, host objects had no tag.
        (reader.varint()? >= u32::from(HEADER[1])).then_some(reader)
    }

    /// Reads a value of a frame that was read as a whole before, so references are right.
    pub(super) fn inside(value: &'a [u8]) -> Self {
        Self { rest: value, objects: u32::MAX, references: 0 }
    }

    /// How many values so far mean something in their own frame only.
    pub(super) fn references(&self) -> u32 {
        self.references
    }

    /// All that is left is one object.
    pub(super) fn fields(&mut self) -> Option<Fields<'a>> {
        (self.tag()? == OBJECT).then_some(())?;
        self.object();
        let mut fields = Fields::default();
        let mut count = 0;
        while self.peek()? != OBJECT_END {
            let key = self.key()?;
            let value = self.value()?;
            if let Some(name) = key {
                fields.found(name, value);
            }
            count += 1;
        }
        self.tag()?;
        (self.varint()? == count && self.rest.is_empty()).then_some(fields)
    }

    /// The key of a property, if it has a meaning.
    fn key(&mut self) -> Option<Option<Field>> {
        is_key(self.peek()?).then_some(())?;
        let key = self.value()?;
        // A tag, a length of one byte, and at most two bytes a character.
        let short = key.len() <= 2 + 2 * Field::LONGEST;
        Some(if short { text(key).and_then(|text| Field::of(&text)) } else { None })
    }

    /// Skips a whole value and returns its bytes.
    pub(super) fn value(&mut self) -> Option<&'a [u8]> {
        let before = self.rest;
        let mut open = Vec::new();
        loop {
            if let Some(opened) = self.begin()? {
                open.push(opened);
            }
            while !self.expects_value(&mut open)? {
                if open.is_empty() {
                    return Some(&before[..before.len() - self.rest.len()]);
                }
            }
            if open.len() > MAX_DEPTH {
                return None;
            }
        }
    }

    /// Goes on in the innermost open value; true when it expects a value now, false when that
    /// has to be asked again, unless nothing is open any more.
    fn expects_value(&mut self, open: &mut Vec<Open>) -> Option<bool> {
        let Some(innermost) = open.last_mut() else {
            return Some(false);
        };
        match innermost {
            Open::Elements { left: 0, length: None } => {
                open.pop();
            }
            Open::Elements { left: 0, length } => {
                let length = *length;
                *innermost = Open::Values { kind: Kind::Properties, end: b'$', seen: 0, length };
            }
            Open::Elements { left, .. } => {
                *left -= 1;
                return Some(!self.hole()?);
            }
            Open::Values { kind, end, seen, length } => {
                let next = self.peek()?;
                if next != *end {
                    let at_key = *kind == Kind::Properties && *seen % 2 == 0;
                    *seen = seen.checked_add(1)?;
                    return (!at_key || is_key(next)).then_some(true);
                }
                let (kind, seen, length) = (*kind, *seen, *length);
                self.tag()?;
                self.counts(kind, seen, length)?;
                open.pop();
            }
            Open::Error => match self.byte()? {
                b'm' | b's' | b'c' => return Some(true),
                b'E' | b'R' | b'F' | b'S' | b'T' | b'U' => {}
                b'.' => {
                    open.pop();
                }
                _ => return None,
            },
        }
        Some(false)
    }

    /// The numbers after an end tag.
    fn counts(&mut self, kind: Kind, seen: u32, length: Option<u32>) -> Option<()> {
        let expected = match kind {
            Kind::Set => seen,
            Kind::Map | Kind::Properties if seen % 2 == 1 => return None,
            Kind::Map => seen,
            Kind::Properties => seen / 2,
        };
        let right = self.varint()? == expected;
        let right = right && (length.is_none() || self.varint() == length);
        right.then_some(())
    }

    /// Reads a tag and what belongs to it; returns what is open then.
    fn begin(&mut self) -> Option<Option<Open>> {
        let values = |kind, end| Open::Values { kind, end, seen: 0, length: None };
        let opened = match self.tag()? {
            UNDEFINED | NULL | b'T' | b'F' => return Some(None),
            INTEGER | UNSIGNED => return self.varint().map(|_| None),
            DOUBLE => return self.take(8).map(|_| None),
            tag @ (LATIN1 | UTF8 | UTF16) => return self.units(tag).map(|()| None),
            b'Z' => return self.digits().map(|()| None),
            b'^' => return self.reference().map(|()| None),
            b'\\' => return self.host(),
            OBJECT => values(Kind::Properties, OBJECT_END),
            b';' => values(Kind::Map, b':'),
            b'\'' => values(Kind::Set, b','),
            b'A' => {
                let length = self.varint()?;
                Open::Elements { left: length, length: Some(length) }
            }
            b'a' => {
                let length = Some(self.varint()?);
                Open::Values { kind: Kind::Properties, end: b'@', seen: 0, length }
            }
            b'r' => Open::Error,
            tag => {
                self.object();
                return self.leaf(tag).map(|()| None);
            }
        };
        self.object();
        Some(Some(opened))
    }

    /// What belongs to the tag of an object that contains no values.
    fn leaf(&mut self, tag: u8) -> Option<()> {
        match tag {
            b'y' | b'x' => {}
            b'D' | b'n' => {
                self.take(8)?;
            }
            b'z' => {
                self.digits()?;
            }
            b's' => self.string()?,
            b'R' => {
                self.string()?;
                self.varint()?;
            }
            b'B' => {
                self.counted()?;
            }
            b'~' => {
                let length = self.varint()?;
                let most = self.varint()?;
                self.take((length <= most).then_some(length)?)?;
            }
            _ => return None,
        }
        Some(())
    }

    /// Whether the next element of an array is missing; if so, what stands for it is skipped.
    fn hole(&mut self) -> Option<bool> {
        let hole = self.peek()? == HOLE;
        if hole {
            self.tag()?;
        }
        Some(hole)
    }

    /// Node's own objects: a view of bytes, or any other as the plain object that follows.
    fn host(&mut self) -> Option<Option<Open>> {
        self.object();
        match self.varint()? {
            0 => {
                self.varint()?;
                self.counted().map(|_| None)
            }
            1 if self.peek()? == OBJECT => Some(Some(Open::Elements { left: 1, length: None })),
            _ => None,
        }
    }

    /// A reference to an object that began before.
    fn reference(&mut self) -> Option<()> {
        let object = self.varint()?;
        (object < self.objects).then_some(())?;
        self.references += 1;
        Some(())
    }

    /// Counts an object, which may be referred to from now on.
    fn object(&mut self) {
        self.objects = self.objects.saturating_add(1);
    }

    /// A string with its own tag.
    fn string(&mut self) -> Option<()> {
        let tag = self.tag()?;
        matches!(tag, LATIN1 | UTF8 | UTF16).then(|| self.units(tag))?
    }

    /// What belongs to the tag of a string.
    fn units(&mut self, tag: u8) -> Option<()> {
        let bytes = self.counted()?;
        (tag != UTF16 || bytes.len().is_multiple_of(2)).then_some(())
    }

    /// The digits of a big integer after their number and sign; 0 has no sign.
    fn digits(&mut self) -> Option<()> {
        let bits = self.varint()?;
        self.take((bits != 1).then_some(bits >> 1)?).map(|_| ())
    }

    /// Bytes after their number.
    pub(super) fn counted(&mut self) -> Option<&'a [u8]> {
        let length = self.varint()?;
        self.take(length)
    }

    /// So many bytes.
    pub(super) fn take(&mut self, length: u32) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(usize::try_from(length).ok()?)?;
        self.rest = rest;
        Some(taken)
    }

    /// A number of seven bits a byte, the low ones first.
    pub(super) fn varint(&mut self) -> Option<u32> {
        let mut number = 0u32;
        for shift in (0..u32::BITS).step_by(7) {
            let byte = self.byte()?;
            number |= u32::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    /// The next tag.
    pub(super) fn tag(&mut self) -> Option<u8> {
        let tag = self.peek()?;
        self.rest = &self.rest[1..];
        Some(tag)
    }

    /// The next tag, which stays; the padding before it goes.
    pub(super) fn peek(&mut self) -> Option<u8> {
        while let [PADDING, rest @ ..] = self.rest {
            self.rest = rest;
        }
        self.rest.first().copied()
    }

    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*byte)
    }
}

/// Whether a key of a property can begin with this tag.
fn is_key(tag: u8) -> bool {
    matches!(tag, LATIN1 | UTF16 | UTF8 | INTEGER | UNSIGNED | DOUBLE)
}
