//! `node --env-file=.env`: Node takes its own options from there, unless the environment has some. Workers
//! always have: ours are among them. So the user's are taken from the file here.

use std::ffi::OsString;
use std::path::Path;

use super::Place;
use crate::logic::inspect;
use crate::os::file;

/// The options of Node that name a file of variables.
const NAMES: [&str; 2] = ["--env-file", "--env-file-if-exists"];

/// `NODE_OPTIONS` in the files that are named by the words after `node`. A file that cannot be read is
/// Node's to complain of.
pub(in crate::cli) fn node_options(place: &Place, arguments: &[OsString]) -> Option<OsString> {
    let options = &arguments[..inspect::options(arguments)];
    let read = |path: &Path| file::read_text(&place.directory.join(path)).ok();
    let texts = files(options).into_iter().filter_map(|path| read(Path::new(&path)));
    texts.filter_map(|text| value("NODE_OPTIONS", &text)).next_back().map(OsString::from)
}

fn files(options: &[OsString]) -> Vec<String> {
    let mut files = Vec::new();
    let mut words = options.iter().map(|word| word.to_string_lossy());
    while let Some(word) = words.next() {
        match word.split_once('=') {
            Some((name, path)) if NAMES.contains(&name) => files.push(path.to_owned()),
            None if NAMES.contains(&&*word) => files.extend(words.next().map(String::from)),
            Some(_) | None => {}
        }
    }
    files
}

/// The last value of a variable, by Node's rules: quotes of three kinds, `export`, comments.
fn value(name: &str, text: &str) -> Option<String> {
    let of_line = |line: &str| {
        let line = line.trim_start();
        let line = line.strip_prefix("export ").unwrap_or(line);
        let (found, value) = line.split_once('=')?;
        (found.trim() == name).then(|| unquoted(value.trim()).to_owned())
    };
    text.lines().filter_map(of_line).next_back()
}

fn unquoted(value: &str) -> &str {
    let quote = value.chars().next().filter(|first| matches!(first, '"' | '\'' | '`'));
    let inside = quote.and_then(|quote| value[1..].split_once(quote));
    match inside {
        Some((inside, _)) => inside,
        None => value.split('#').next().unwrap_or_default().trim_end(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_value_counts_as_node_reads_it() {
        let read = |text: &str| value("A", text);
        assert_eq!(read("B=1\nA=--x --y=2 # why\n").unwrap(), "--x --y=2");
        assert_eq!(read("A=1\n export A = '--x #1' # no\n#A=2\n").unwrap(), "--x #1");
        assert_eq!(read("A=\"--x").unwrap(), "\"--x");
        assert_eq!(read("AA=1\n"), None);
    }

    #[test]
    fn files_are_named_in_two_ways() {
        let words = ["--env-file=a", "--x", "--env-file-if-exists", "b"].map(OsString::from);
        assert_eq!(files(&words), ["a", "b"]);
    }
}
