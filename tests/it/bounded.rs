//! The table of bounds in DESIGN.md says what the code does, and names every bound that there is.
//!
//! A row ends in where its bound stands: a constant as `FILE::NAME`, the file below `src` or from the root of the
//! repository, or a flag, whose default the manual page tells.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::programs::ROOT;

/// What the names of constants begin with that bound something.
const BOUNDS: [&str; 4] = ["MOST", "MAX", "LONGEST", "REMEMBERED"];
/// Whose constants the table has to name all of.
const SOURCES: &str = "src";

/// A row of the table.
struct Row {
    bound: String,
    place: String,
}

fn rows() -> Vec<Row> {
    let design = fs::read_to_string(Path::new(ROOT).join("DESIGN.md")).expect("it is there");
    let section = design.split("\n## ").find(|section| section.starts_with("Bounds\n"));
    let lines = section.expect("a section with the table").lines();
    let cells = lines.filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    let cells = cells.map(|row| row.split(" | ").map(str::to_owned).collect::<Vec<_>>());
    let rows = cells.skip(1).map(|cells| match <[String; 5]>::try_from(cells) {
        Ok([_, _, bound, _, place]) => Row { bound, place: place.replace('`', "") },
        Err(cells) => panic!("a row has five cells: {cells:?}"),
    });
    rows.collect()
}

/// The number in a cell, of bytes where a unit says so, of microseconds where it is a time.
fn number(text: &str) -> Option<u64> {
    let mut words = text.split(' ');
    let number: u64 = words.next()?.replace(',', "").parse().ok()?;
    let unit = match words.next().unwrap_or_default() {
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "ms" => 1_000,
        "s" => 1_000_000,
        _ => 1,
    };
    Some(number * unit)
}

/// The value of a constant: numbers that are multiplied or shifted, perhaps as a time.
fn value(source: &str, expression: &str) -> Option<u64> {
    if let Some((factor, rest)) = expression.split_once(" * ") {
        return Some(value(source, factor)? * value(source, rest)?);
    }
    if let Some((one, shift)) = expression.split_once(" << ") {
        return Some(value(source, one)? << value(source, shift)?);
    }
    let time = expression.strip_prefix("Duration::from_").and_then(|time| time.split_once('('));
    match time {
        Some(("secs", seconds)) => {
            value(source, seconds.strip_suffix(')')?).map(|it| it * 1_000_000)
        }
        Some(("millis", millis)) => value(source, millis.strip_suffix(')')?).map(|it| it * 1_000),
        Some(("micros", micros)) => value(source, micros.strip_suffix(')')?),
        Some(_) => None,
        None if expression.starts_with(|first: char| first.is_ascii_uppercase()) => {
            let (_, other) = constants(source).find(|(name, _)| *name == expression)?;
            value(source, other)
        }
        None => expression.replace('_', "").parse().ok(),
    }
}

/// The constants of a source and what they are said to be.
fn constants(source: &str) -> impl Iterator<Item = (&str, &str)> {
    source.lines().filter_map(|line| {
        let (_, constant) = line
            .split_once("const ")
            .filter(|(before, _)| before.is_empty() || before.starts_with("pub"))?;
        let (name, rest) = constant.split_once(": ")?;
        Some((name, rest.split_once(" = ")?.1.strip_suffix(';')?))
    })
}

fn read(file: &str) -> String {
    let below = Path::new(ROOT).join(SOURCES).join(file);
    let path = if below.exists() { below } else { Path::new(ROOT).join(file) };
    fs::read_to_string(path).unwrap_or_else(|error| panic!("cannot read {file}: {error}"))
}

/// What the manual page says of a flag's default.
fn default(flag: &str) -> Option<String> {
    let manual = read("man/sticky-run.1").replace("\\-", "-").replace("\\fB", "");
    let (_, after) = manual.split_once(&format!("\n{flag}"))?;
    let own = after.split(".TP").next()?;
    Some(own.split_once("[default: ")?.1.split(']').next()?.to_owned())
}

#[test]
fn the_table_says_what_the_code_does() {
    for Row { bound, place } in rows() {
        let same = match place.split_once("::") {
            Some((file, name)) => {
                let source = read(file);
                let found = constants(&source).find(|(found, _)| *found == name);
                let (_, expression) = found.unwrap_or_else(|| panic!("no constant {place}"));
                value(&source, expression).is_some_and(|value| number(&bound) == Some(value))
            }
            None => default(&place).is_some_and(|default| default == bound.replace(',', "")),
        };
        assert!(same, "the table says {bound} of {place}");
    }
}

#[test]
fn every_bound_stands_in_the_table() {
    let told: BTreeSet<_> = rows().into_iter().map(|row| row.place).collect();
    let mut directories = vec![Path::new(ROOT).join(SOURCES)];
    let mut missing = Vec::new();
    while let Some(directory) = directories.pop() {
        let entries = fs::read_dir(directory).expect("it can be read").flatten();
        let paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        directories.extend(paths.iter().filter(|path| path.is_dir()).cloned());
        for path in paths.iter().filter(|path| path.extension().is_some_and(|it| it == "rs")) {
            let file = path.strip_prefix(Path::new(ROOT).join(SOURCES)).expect("it is below");
            let source = fs::read_to_string(path).expect("it can be read");
            let bounds = constants(&source).filter(|(name, expression)| {
                // A time is ours, and what follows from another bound is none of its own.
                let counts =
                    !expression.starts_with("Duration") && value(&source, expression).is_some();
                counts && BOUNDS.iter().any(|begin| name.starts_with(begin))
            });
            let places = bounds.map(|(name, _)| format!("{}::{name}", file.display()));
            missing.extend(places.filter(|place| !told.contains(place)));
        }
    }
    assert!(missing.is_empty(), "no row in the table of DESIGN.md: {missing:#?}");
}
