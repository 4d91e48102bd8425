//! What DESIGN.md says of the house, held against its source: which floor uses which, and how long a file is.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Each floor with those that it may use besides itself.
const FLOORS: [(&str, &[&str]); 5] = [
    ("logic", &[]),
    ("protocol", &["logic"]),
    ("os", &["logic"]),
    ("engine", &["logic", "protocol", "os"]),
    ("cli", &["logic", "protocol", "os", "engine"]),
];

/// More lines are more than one thing.
const MOST_LINES: usize = 450;

/// The Rust files below a folder of this repository, by their paths from there.
fn sources(folder: &str) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the folder is there") {
            let path = entry.expect("it can be listed").path();
            if path.is_dir() && !path.ends_with("node_modules") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("it can be read");
                let name = path.strip_prefix(&root).expect("it is below").to_str();
                files.insert(name.expect("its path is text").to_owned(), text);
            }
        }
    }
    files
}

/// A text without its comments, in one line.
fn code<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    let code = lines.map(str::trim).filter(|line| !line.starts_with("//"));
    code.collect::<Vec<_>>().join(" ").replace(" .", ".")
}

/// The names that stand behind this word in a text.
fn after<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = &'a str> {
    let is_part = |letter: char| letter.is_alphanumeric() || letter == '_';
    let found = text.match_indices(word).filter(move |(at, _)| !text[..*at].ends_with(is_part));
    found.map(move |(at, _)| {
        let rest = &text[at + word.len()..];
        &rest[..rest.find(|letter| !is_part(letter)).unwrap_or(rest.len())]
    })
}

#[test]
fn a_floor_uses_only_those_below_it() {
    for (floor, below) in FLOORS {
        for (file, text) in sources(&format!("src/{floor}")) {
            for used in after(&code(text.lines()), "crate::") {
                let may = used == floor || below.contains(&used);
                assert!(may, "src/{floor}/{file} uses crate::{used}, which is above it");
            }
        }
    }
}

/// What handoffs and listeners return goes up to the engine, which calls them, and they nobody above.
#[test]
fn the_parts_of_the_engine_do_not_know_it() {
    const ABOVE: [&str; 3] = ["Engine", "Router", "Fleet"];
    for part in ["links", "listeners"] {
        for (file, text) in sources(&format!("src/engine/{part}")) {
            let code = code(text.lines());
            let mut words = code.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
            let known = words.find(|word| ABOVE.contains(word));
            assert_eq!(known, None, "src/engine/{part}/{file} knows what is above it");
        }
    }
}

#[test]
fn a_file_can_be_read_as_one_thing() {
    for folder in ["src", "tests", "bench", "workers/rust", "examples", "fuzz/fuzz_targets"] {
        for (file, text) in sources(folder) {
            let lines = text.lines().count();
            assert!(
                lines <= MOST_LINES,
                "{folder}/{file} has {lines} lines, more than {MOST_LINES}"
            );
        }
    }
}
