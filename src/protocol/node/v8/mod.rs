//! The syntax of serialization `advanced`: a length, a header, then one value in the format of V8's
//! structured clone.
//!
//! The source is V8's `value-serializer.cc`, and Node's `serialization.js` for the objects that Node
//! writes itself, such as every view of bytes. A value is a tag and what the tag asks for. All tags that
//! Node can write into a message are known here; any other makes a frame unreadable. What V8 checks
//! as it reads is checked here too (counts, the types of keys, references to what came before), for
//! a worker that is sent an unreadable frame ends. Three checks are left to V8: whether a regular
//! expression is one, whether a view has a known type, and whether no key comes twice.

mod reader;

use std::borrow::Cow;

use self::reader::Reader;
use super::fields::Fields;

/// The length before a frame, in bytes.
pub(super) const LENGTH: usize = size_of::<u32>();
/// The tag of the header and the version of the format that this module writes: the newest that
/// Node 16 reads. Every newer Node reads it too.
pub(super) const HEADER: [u8; 2] = [VERSION, 13];

const VERSION: u8 = 0xFF;
pub(super) const OBJECT: u8 = b'o';
const OBJECT_END: u8 = b'{';
const LATIN1: u8 = b'"';
const UTF16: u8 = b'c';
const UTF8: u8 = b'S';
const INTEGER: u8 = b'I';
const UNSIGNED: u8 = b'U';
const DOUBLE: u8 = b'N';
pub(super) const NULL: u8 = b'0';
const UNDEFINED: u8 = b'_';

/// The fields of a whole frame that is an object.
pub(super) fn fields_of_frame(frame: &[u8]) -> Option<Fields<'_>> {
    Reader::of_payload(frame.get(LENGTH..)?)?.fields()
}

/// The fields of a value that is an object.
pub(super) fn fields(value: &[u8]) -> Option<Fields<'_>> {
    Reader::inside(value).fields()
}

/// A value that is a string.
pub(super) fn text(value: &[u8]) -> Option<Cow<'_, str>> {
    let mut reader = Reader::inside(value);
    let tag = reader.tag()?;
    let bytes = matches!(tag, LATIN1 | UTF16 | UTF8).then(|| reader.counted())??;
    match tag {
        UTF16 => {
            let units = bytes.as_chunks().0.iter().map(|unit| u16::from_le_bytes(*unit));
            char::decode_utf16(units).collect::<Result<_, _>>().ok().map(Cow::Owned)
        }
        LATIN1 if !bytes.is_ascii() => {
            Some(Cow::Owned(bytes.iter().map(|byte| char::from(*byte)).collect()))
        }
        _ => str::from_utf8(bytes).ok().map(Cow::Borrowed),
    }
}

/// A value that is a boolean.
pub(super) fn boolean(value: &[u8]) -> Option<bool> {
    match Reader::inside(value).tag()? {
        b'T' => Some(true),
        b'F' => Some(false),
        _ => None,
    }
}

/// A value that is a number.
pub(super) fn number(value: &[u8]) -> Option<f64> {
    let mut reader = Reader::inside(value);
    match reader.tag()? {
        INTEGER => {
            let zigzag = reader.varint()?;
            Some(f64::from((zigzag >> 1) as i32 ^ -((zigzag & 1) as i32)))
        }
        UNSIGNED => reader.varint().map(f64::from),
        DOUBLE => {
            let (bytes, _) = reader.take(8)?.split_first_chunk()?;
            Some(f64::from_le_bytes(*bytes))
        }
        _ => None,
    }
}

/// A value that is something, as it can stand in another frame. References count the objects of their
/// own frame, so of an object with references only the properties without any are left, and of
/// anything else nothing.
pub(super) fn portable(value: &[u8]) -> Option<Cow<'_, [u8]>> {
    let mut reader = Reader::inside(value);
    let tag = reader.tag()?;
    if matches!(tag, NULL | UNDEFINED) {
        return None;
    }
    let mut whole = Reader::inside(value);
    whole.value()?;
    if whole.references() == 0 {
        return Some(Cow::Borrowed(value));
    }
    let mut kept = (tag == OBJECT).then(|| vec![OBJECT])?;
    let mut count = 0;
    while reader.peek()? != OBJECT_END {
        let references = reader.references();
        let property = [reader.value()?, reader.value()?];
        if reader.references() == references {
            kept.extend(property.concat());
            count += 1;
        }
    }
    write_object_end(&mut kept, count);
    Some(Cow::Owned(kept))
}

/// Writes a string.
pub(super) fn write_text(to: &mut Vec<u8>, text: &str) {
    if text.is_ascii() {
        to.push(LATIN1);
    } else {
        to.push(UTF8);
    }
    write_varint(to, u32::try_from(text.len()).expect("a message is far below 4 GiB"));
    to.extend_from_slice(text.as_bytes());
}

/// Writes a whole number.
pub(super) fn write_number(to: &mut Vec<u8>, number: i64) {
    if let Ok(number) = i32::try_from(number) {
        to.push(INTEGER);
        write_varint(to, ((number << 1) ^ (number >> 31)) as u32);
    } else {
        to.push(DOUBLE);
        to.extend_from_slice(&(number as f64).to_le_bytes());
    }
}

/// Writes the end of an object of so many fields.
pub(super) fn write_object_end(to: &mut Vec<u8>, fields: u32) {
    to.push(OBJECT_END);
    write_varint(to, fields);
}

fn write_varint(to: &mut Vec<u8>, mut number: u32) {
    while number >= 0x80 {
        to.push(number as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}
