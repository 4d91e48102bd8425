mod captured;
mod encoding;
mod hostile;
mod meaning;
mod plain;
mod saved;

use super::Serialization;
use super::Serialization::{Advanced, Json};

const BOTH: [Serialization; 2] = [Json, Advanced];
/// `name<TAB>line of JSON`, from Node 20.
const JSON: &str = include_str!("../captured/json.txt");
/// `name<TAB>frame in hex`, from Node 20.
const ADVANCED: &str = include_str!("../captured/advanced.txt");

/// What Node 20 sent, with names.
fn captured(serialization: Serialization) -> impl Iterator<Item = (&'static str, Vec<u8>)> {
    let (text, bytes): (_, fn(&str) -> Vec<u8>) = match serialization {
        Json => (JSON, |line| format!("{line}\n").into_bytes()),
        Advanced => (ADVANCED, bytes_of_hex),
    };
    text.lines().map(move |line| {
        let (name, frame) = line.split_once('\t').expect("a name and a frame");
        (name, bytes(frame))
    })
}

fn bytes_of_hex(hex: &str) -> Vec<u8> {
    let digits: Vec<_> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
}
