//! The names of events: `sticky-run-log(7)` has all that are logged, with their fields, and no others.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::log::documented;
use crate::support::programs::ROOT;

/// What stands before the name of an event of the fleet.
const FACTS: [&str; 2] = ["Facts::info(\"", "Facts::trouble(\""];
/// The line that says why the program ends, which is written at every level and so by no macro.
const LAST: &str = "failed";
const MACROS: [&str; 4] = ["debug!(", "info!(", "warn!(", "error!("];

/// The files below `src` and what is in them, without comments and the tests at their ends.
fn sources() -> Vec<(PathBuf, String)> {
    let mut directories = vec![Path::new(ROOT).join("src")];
    let mut sources = Vec::new();
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).expect("it can be read").flatten() {
            let path = entry.path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|it| it == "rs") {
                let text = fs::read_to_string(&path).expect("it can be read");
                let own = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
                let lines = own.lines().filter(|line| !line.trim_start().starts_with("//"));
                sources.push((path, lines.collect::<Vec<_>>().join("\n")));
            }
        }
    }
    sources
}

/// Every place where one of these words stands, and what follows.
fn after<'a>(source: &'a str, words: &'a [&str]) -> impl Iterator<Item = &'a str> {
    words.iter().flat_map(|word| source.split(word).skip(1))
}

/// The name in a log macro, and what follows.
fn named(rest: &str) -> Option<(&str, &str)> {
    rest.trim_start().strip_prefix("name: \"")?.split_once("\",")
}

/// The fields of a log macro: what follows its name, up to the message.
fn fields(rest: &str) -> BTreeSet<String> {
    let arguments = rest.split([',', '\n']).map(str::trim).filter(|argument| !argument.is_empty());
    let fields = arguments.take_while(|argument| !argument.starts_with('"'));
    let names = fields.filter_map(|field| field.trim_start_matches('%').split(" = ").next());
    names.filter(|name| !name.starts_with("target:")).map(str::to_owned).collect()
}

#[test]
fn the_manual_page_has_the_events_of_the_source_and_no_others() {
    let sources = sources();
    let texts = || sources.iter().map(|(_, text)| text);
    let own = texts().flat_map(|text| after(text, &MACROS)).filter_map(|rest| named(rest));
    let of_fleet = texts().flat_map(|text| after(text, &FACTS));
    let of_fleet = of_fleet.filter_map(|rest| rest.split('"').next());
    let names: BTreeSet<_> = own.map(|(name, _)| name).chain(of_fleet).chain([LAST]).collect();
    let page: BTreeSet<_> = documented().keys().map(String::as_str).collect();
    assert!(names.len() > 90, "{names:?}");
    let difference: Vec<_> = names.symmetric_difference(&page).collect();
    assert!(difference.is_empty(), "in one of both only: {difference:?}");
}

#[test]
fn every_line_of_the_log_is_an_event_with_a_name() {
    for (path, source) in sources() {
        for rest in after(&source, &MACROS) {
            let has_name =
                ["name: \"", "event = "].iter().any(|it| rest.trim_start().starts_with(it));
            let line = rest.split(';').next().unwrap_or_default();
            assert!(has_name, "in {} one has no name: {line}", path.display());
        }
    }
}

#[test]
fn the_manual_page_has_the_fields_of_each_event() {
    let mut found = BTreeMap::<String, BTreeSet<String>>::new();
    for (_, source) in sources() {
        for rest in after(&source, &MACROS) {
            if let Some((name, rest)) = named(rest) {
                found.entry(name.to_owned()).or_default().extend(fields(rest));
            }
        }
    }
    assert!(found.len() > 60, "{found:?}");
    for (name, fields) in found {
        let page: BTreeSet<_> = documented()[&name].iter().cloned().collect();
        assert_eq!(fields, page, "{name}");
    }
}
