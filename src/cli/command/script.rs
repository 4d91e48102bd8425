//! Whether the script that an interpreter is to run is there.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::Place;

/// What Node adds to the name of a script that is not there as it stands.
const NODE_ENDINGS: [&str; 3] = [".js", ".json", ".node"];
/// Options of Node with which the words after the options name no script.
const NODE_WITHOUT_SCRIPT: [&str; 10] = [
    "-e",
    "--eval",
    "-p",
    "--print",
    "-pe",
    "-i",
    "--interactive",
    "--test",
    "--run",
    "--watch-path",
];
/// Options of Python that take no value and leave the script where it is.
const PYTHON_FLAGS: &str = "bBdEIOPqRsSuvx";

/// The script that Node would look for in vain, by the words after `node`, of which so many are options.
pub(super) fn missing_for_node(
    place: &Place,
    arguments: &[OsString],
    options: usize,
) -> Option<PathBuf> {
    let (options, rest) = arguments.split_at(options);
    let word = |option: &OsString| {
        let option = option.to_string_lossy();
        option.split('=').next().unwrap_or_default().to_owned()
    };
    if options.iter().any(|option| NODE_WITHOUT_SCRIPT.contains(&word(option).as_str())) {
        return None;
    }
    let script = rest.iter().find(|word| *word != "--")?;
    // The debugger in the terminal, and what comes over standard input.
    if script == "inspect" || script == "-" {
        return None;
    }
    let path = place.directory.join(script);
    let with = |ending: &&str| {
        let mut path = path.clone().into_os_string();
        path.push(ending);
        is_missing(Path::new(&path))
    };
    (is_missing(&path) && NODE_ENDINGS.iter().all(with)).then_some(path)
}

/// The same for the interpreters that are told by their names; anything unusual counts as there.
pub(super) fn missing(place: &Place, name: &str, arguments: &[OsString]) -> Option<PathBuf> {
    let is = |names: &[&str]| {
        let version = |rest: &str| rest.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        names.iter().any(|known| name.strip_prefix(known).is_some_and(version))
    };
    let is_python = is(&["python", "pypy"]);
    if !is_python && !is(&["ruby", "perl", "php", "sh", "bash", "dash", "bun"]) {
        return None;
    }
    let script = arguments.iter().find(|word| {
        let word = word.to_string_lossy();
        let flags = word.strip_prefix('-').filter(|flags| !flags.is_empty());
        !flags
            .is_some_and(|flags| is_python && flags.chars().all(|flag| PYTHON_FLAGS.contains(flag)))
    })?;
    let is_path =
        !script.as_encoded_bytes().starts_with(b"-") && Path::new(script).extension().is_some();
    Some(place.directory.join(script)).filter(|path| is_path && is_missing(path))
}

/// Whether nothing is there. What cannot be looked at may be.
fn is_missing(path: &Path) -> bool {
    matches!(path.try_exists(), Ok(false))
}
