mod captured;
mod encoding;
mod hostile;
mod meaning;
mod plain;
mod saved;

/// `name<TAB>frame in hex`, from Node 20.
const CAPTURED: &str = include_str!("../captured/frames.txt");

/// What Node 20 sent, with names.
fn captured() -> impl Iterator<Item = (&'static str, Vec<u8>)> {
    CAPTURED.lines().map(|line| {
        let (name, frame) = line.split_once('\t').expect("a name and a frame");
        (name, bytes_of_hex(frame))
    })
}

fn bytes_of_hex(hex: &str) -> Vec<u8> {
    let digits: Vec<_> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
}
