//! A second, small codec of plain values, to compare with: written from V8's source, sharing nothing
//! with the one under test.

use serde_json::{Map, Value};

/// A whole frame of a plain value, as Node writes it.
pub(super) fn encode(value: &Value) -> Vec<u8> {
    let mut payload = vec![0xFF, 0x0F];
    write(&mut payload, value);
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length, payload.as_slice()].concat()
}

/// The value of a whole frame of the supervisor.
pub(super) fn decode(frame: &[u8]) -> Value {
    let (length, payload) = frame.split_at(4);
    assert_eq!(length, u32::try_from(payload.len()).unwrap().to_be_bytes());
    let mut rest = payload.strip_prefix(b"\xFF\x0D").expect("version 13");
    let value = read(&mut rest);
    assert!(rest.is_empty());
    value
}

fn write(to: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => to.push(b'0'),
        Value::Bool(true) => to.push(b'T'),
        Value::Bool(false) => to.push(b'F'),
        Value::Number(number) => {
            to.push(b'N');
            to.extend(number.as_f64().unwrap().to_le_bytes());
        }
        Value::String(text) if text.is_ascii() => {
            to.push(b'"');
            write_count(to, text.len());
            to.extend(text.as_bytes());
        }
        Value::String(text) => {
            let units: Vec<_> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
            to.push(b'c');
            write_count(to, units.len());
            to.extend(units);
        }
        Value::Array(values) => {
            to.push(b'A');
            write_count(to, values.len());
            values.iter().for_each(|value| write(to, value));
            to.extend(b"$\0");
            write_count(to, values.len());
        }
        Value::Object(fields) => {
            to.push(b'o');
            for (name, value) in fields {
                write(to, &Value::from(name.as_str()));
                write(to, value);
            }
            to.push(b'{');
            write_count(to, fields.len());
        }
    }
}

fn write_count(to: &mut Vec<u8>, count: usize) {
    if count >= 128 {
        to.push((count % 128 + 128) as u8);
        write_count(to, count / 128);
    } else {
        to.push(count as u8);
    }
}

fn read(from: &mut &[u8]) -> Value {
    match next(from) {
        b'0' => Value::Null,
        b'I' => {
            let zigzag = i64::try_from(read_count(from)).unwrap();
            Value::from(if zigzag % 2 == 1 { -(zigzag + 1) / 2 } else { zigzag / 2 })
        }
        b'N' => {
            let bytes: [u8; 8] = std::array::from_fn(|_| next(from));
            Value::from(f64::from_le_bytes(bytes) as i64)
        }
        b'"' => (0..read_count(from)).map(|_| char::from(next(from))).collect::<String>().into(),
        b'S' => {
            let bytes = (0..read_count(from)).map(|_| next(from)).collect();
            String::from_utf8(bytes).unwrap().into()
        }
        b'o' => {
            let mut fields = Map::new();
            while from[0] != b'{' {
                let name = read(from).as_str().unwrap().to_owned();
                assert_eq!(fields.insert(name, read(from)), None);
            }
            next(from);
            assert_eq!(read_count(from), fields.len());
            fields.into()
        }
        tag => panic!("tag {tag:#x} is not for old versions"),
    }
}

fn read_count(from: &mut &[u8]) -> usize {
    let byte = usize::from(next(from));
    if byte >= 128 { byte - 128 + 128 * read_count(from) } else { byte }
}

fn next(from: &mut &[u8]) -> u8 {
    from.split_off_first().copied().unwrap()
}
