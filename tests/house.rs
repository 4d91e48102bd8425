//! What DESIGN.md says of the house, held against its source: which floor uses which, that files of the
//! engine do not call each other in a circle, and how long a file is.

use std::collections::{BTreeMap, BTreeSet};
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

/// What stands behind each of these words in a text: a name, and whether it is called.
fn after<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = (&'a str, bool)> {
    let is_part = |letter: char| letter.is_alphanumeric() || letter == '_';
    text.match_indices(word).filter(move |(at, _)| !text[..*at].ends_with(is_part)).map(
        move |(at, _)| {
            let rest = &text[at + word.len()..];
            let (name, rest) = rest.split_at(rest.find(|c| !is_part(c)).unwrap_or(rest.len()));
            (name, rest.starts_with(['(', ':']))
        },
    )
}

#[test]
fn a_floor_uses_only_those_below_it() {
    for (floor, below) in FLOORS {
        for (file, text) in sources(&format!("src/{floor}")) {
            for (used, _) in after(&code(text.lines()), "crate::") {
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

/// Which files of the engine call methods of which others, with one of these methods.
fn calls(files: &BTreeMap<String, String>) -> BTreeMap<&str, BTreeMap<&str, String>> {
    // What is implemented for the engine, file by file.
    let own: BTreeMap<&str, String> = files
        .iter()
        .map(|(file, text)| {
            let mut inside = false;
            let lines = text.lines().filter(|line| {
                inside = line.starts_with("impl") && line.ends_with(" Engine {")
                    || inside && *line != "}";
                inside
            });
            (file.as_str(), code(lines))
        })
        .collect();
    let defined =
        own.iter().flat_map(|(file, own)| after(own, "fn ").map(|(name, _)| (name, *file)));
    let defined: BTreeMap<&str, &str> = defined.collect();
    let mut calls = BTreeMap::<_, BTreeMap<_, _>>::new();
    for (file, own) in &own {
        let whole = code(files[*file].lines());
        let own = ["self.", "Self::"].into_iter().flat_map(|word| after(own, word));
        let others = ["engine.", "Engine::"].into_iter().flat_map(|word| after(&whole, word));
        for (method, _) in own.chain(others).filter(|(_, called)| *called) {
            if let Some(called) = defined.get(method).filter(|called| *called != file) {
                calls.entry(*file).or_default().insert(*called, method.to_owned());
            }
        }
    }
    calls
}

#[test]
fn files_of_the_engine_do_not_call_each_other_in_a_circle() {
    let files = sources("src/engine");
    let mut calls = calls(&files);
    assert!(calls.len() > 3, "calls are found at all: {calls:?}");
    // Whoever calls nobody that calls, and whom nobody calls, is in no circle.
    loop {
        let before = calls.len();
        let callers: BTreeSet<_> = calls.keys().copied().collect();
        calls.values_mut().for_each(|called| called.retain(|file, _| callers.contains(file)));
        let called: BTreeSet<_> = calls.values().flat_map(BTreeMap::keys).copied().collect();
        calls.retain(|file, calls| !calls.is_empty() && called.contains(file));
        if calls.len() == before {
            break;
        }
    }
    assert!(calls.is_empty(), "circles of files, with what they call there: {calls:#?}");
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
