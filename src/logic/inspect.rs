//! What a worker's options of Node mean for us: above all, a debugger port for every worker.
//!
//! Workers that share one command would all open the same port of Node's inspector. As Node's own
//! cluster does, each gets a word `--inspect-port=PORT` behind the options that the user wrote: it
//! moves the port and keeps the host.

use std::ffi::{OsStr, OsString};

/// Node's own port, when only `--inspect` was said.
const DEFAULT_PORT: u16 = 9229;
/// The lowest port that Node takes for its inspector, apart from 0.
const LOWEST_PORT: u16 = 1024;

/// Node's options, of versions 18 to 24, that may have their value in the next word. Taken from
/// Node's own table (`internalBinding("options")`); V8's options never do.
const WITH_VALUE: [&str; 87] = [
    "-C",
    "-e",
    "-p",
    "-pe",
    "-r",
    "--allow-fs-read",
    "--allow-fs-write",
    "--build-snapshot-config",
    "--conditions",
    "--cpu-prof-dir",
    "--cpu-prof-interval",
    "--cpu-prof-name",
    "--debug-port",
    "--diagnostic-dir",
    "--disable-proto",
    "--disable-warning",
    "--dns-result-order",
    "--env-file",
    "--env-file-if-exists",
    "--es-module-specifier-resolution",
    "--eval",
    "--experimental-config-file",
    "--experimental-default-type",
    "--experimental-loader",
    "--experimental-package-map",
    "--experimental-policy",
    "--experimental-sea-config",
    "--experimental-specifier-resolution",
    "--experimental-test-isolation",
    "--experimental-test-tag-filter",
    "--heap-prof-dir",
    "--heap-prof-interval",
    "--heap-prof-name",
    "--heapsnapshot-near-heap-limit",
    "--heapsnapshot-signal",
    "--icu-data-dir",
    "--import",
    "--input-type",
    "--inspect-port",
    "--inspect-publish-uid",
    "--loader",
    "--localstorage-file",
    "--max-http-header-size",
    "--max-old-space-size-percentage",
    "--network-family-autoselection-attempt-timeout",
    "--openssl-config",
    "--policy-integrity",
    "--print",
    "--redirect-warnings",
    "--report-dir",
    "--report-directory",
    "--report-filename",
    "--report-signal",
    "--require",
    "--run",
    "--secure-heap",
    "--secure-heap-min",
    "--security-revert",
    "--security-reverts",
    "--snapshot-blob",
    "--test-concurrency",
    "--test-coverage-branches",
    "--test-coverage-exclude",
    "--test-coverage-functions",
    "--test-coverage-include",
    "--test-coverage-lines",
    "--test-global-setup",
    "--test-isolation",
    "--test-name-pattern",
    "--test-random-seed",
    "--test-reporter",
    "--test-reporter-destination",
    "--test-rerun-failures",
    "--test-shard",
    "--test-skip-pattern",
    "--test-timeout",
    "--title",
    "--tls-cipher-list",
    "--tls-keylog",
    "--trace-event-categories",
    "--trace-event-file-pattern",
    "--trace-require-module",
    "--unhandled-rejections",
    "--use-largepages",
    "--v8-pool-size",
    "--watch-kill-signal",
    "--watch-path",
];

/// A word that gives one worker a debugger port of its own.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Inspect {
    /// Where it belongs among the words after `node`: behind the last option.
    pub position: usize,
    /// `--inspect-port=PORT`.
    pub word: OsString,
}

/// The debugger port of a worker, if the user asked for a debugger at a fixed port: the first worker
/// has that one. `id` is the worker's number in Node's `cluster`, which counts from 1.
///
/// `arguments` are the words after `node`, none of them if a shell or a script's first line stands
/// between; then the word can be appended to `NODE_OPTIONS`, of which `node_options` is the value.
/// `None` too for port 0, which is a free port anyway, and for what Node will refuse.
pub fn for_worker(arguments: &[OsString], node_options: &OsStr, id: u32) -> Option<Inspect> {
    let position = options(arguments);
    let environment = split(node_options);
    // The command line comes later, so that it wins, as it does in Node.
    let words = environment.iter().map(String::as_str);
    let words: Vec<_> =
        words.chain(arguments[..position].iter().filter_map(|w| w.to_str())).collect();
    let port = match base(&words)? {
        ..LOWEST_PORT => return None,
        base => moved(base, id.saturating_sub(1)),
    };
    Some(Inspect { position, word: format!("--inspect-port={port}").into() })
}

/// Whether Node's permission model is asked for: then Node may read only what it is allowed to.
///
/// `arguments` and `node_options` are those of [`for_worker`].
pub fn is_restricted(arguments: &[OsString], node_options: &OsStr) -> bool {
    let restricts =
        |word: &str| matches!(spelled(word).as_str(), "--permission" | "--experimental-permission");
    let words = &arguments[..options(arguments)];
    split(node_options).iter().any(|word| restricts(word))
        || words.iter().filter_map(|word| word.to_str()).any(restricts)
}

/// How many of the words after `node` are its options, before the script or `--`.
pub fn options(arguments: &[OsString]) -> usize {
    let mut position = 0;
    while let Some(word) = arguments.get(position) {
        let word = word.to_string_lossy();
        if word == "-" || word == "--" || !word.starts_with('-') {
            break;
        }
        position += 1 + usize::from(takes_next(&word, arguments.get(position + 1)));
    }
    position.min(arguments.len())
}

fn takes_next(word: &str, next: Option<&OsString>) -> bool {
    let next_is_value = next.is_some_and(|next| !next.as_encoded_bytes().starts_with(b"-"));
    next_is_value && WITH_VALUE.contains(&spelled(word).as_str())
}

/// Node takes `--inspect_port` for `--inspect-port`.
fn spelled(option: &str) -> String {
    if option.starts_with("--") { option.replace('_', "-") } else { option.to_owned() }
}

/// The port that counts without us, if there is anything about a debugger.
fn base(words: &[&str]) -> Option<u16> {
    let mut port = None;
    for (index, word) in words.iter().enumerate() {
        let (option, value) = match word.split_once('=') {
            Some((option, value)) => (option, Some(value)),
            None => (*word, None),
        };
        let value = match spelled(option).as_str() {
            "--inspect" | "--inspect-brk" | "--inspect-brk-node" | "--inspect-wait" => value,
            "--inspect-port" | "--debug-port" => value.or(words.get(index + 1).copied()),
            _ => continue,
        };
        let said = match value {
            Some(value) => port_in(value)?,
            None => None,
        };
        port = said.or(port).or(Some(DEFAULT_PORT));
    }
    port
}

/// The port in `port`, `host`, `host:port` or `[host]:port`: `None` if it is no number that fits,
/// `Some(None)` if there is none.
fn port_in(value: &str) -> Option<Option<u16>> {
    if value.starts_with('[') && value.ends_with(']') {
        return Some(None);
    }
    let port = match value.rsplit_once(':') {
        Some((_, port)) => port,
        None if value.is_empty() => return None,
        None if value.bytes().all(|byte| byte.is_ascii_digit()) => value,
        None => return Some(None),
    };
    port.parse().ok().map(Some)
}

/// Past the last port it goes on at the lowest, as in Node's cluster.
fn moved(base: u16, by: u32) -> u16 {
    let ports = u32::from(u16::MAX - LOWEST_PORT) + 1;
    let place = (u32::from(base - LOWEST_PORT) + by % ports) % ports;
    LOWEST_PORT + u16::try_from(place).expect("it is smaller than the number of ports")
}

/// The words of `NODE_OPTIONS`: spaces part them, double quotes keep them, and in quotes a
/// backslash takes the next character as it is.
fn split(options: &OsStr) -> Vec<String> {
    let options = options.to_string_lossy();
    let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
    let mut characters = options.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => quoted = !quoted,
            '\\' if quoted => word.extend(characters.next()),
            ' ' if !quoted => words.push(std::mem::take(&mut word)),
            other => word.push(other),
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<OsString> {
        text.split_whitespace().map(OsString::from).collect()
    }

    /// The words after `node` for the third worker.
    fn third(arguments: &str, node_options: &str) -> String {
        let mut arguments = words(arguments);
        if let Some(inspect) = for_worker(&arguments, node_options.as_ref(), 3) {
            arguments.insert(inspect.position, inspect.word);
        }
        arguments.join(OsStr::new(" ")).into_string().unwrap()
    }

    #[test]
    fn the_port_of_the_command_line_moves_by_the_number() {
        for (given, expected) in [
            ("--inspect a.js", "--inspect --inspect-port=9231 a.js"),
            ("--inspect-brk a.js", "--inspect-brk --inspect-port=9231 a.js"),
            ("--inspect-wait=9300 a.js", "--inspect-wait=9300 --inspect-port=9302 a.js"),
            ("--inspect=[::1]:9300 a.js", "--inspect=[::1]:9300 --inspect-port=9302 a.js"),
            ("--inspect=[::1] a.js", "--inspect=[::1] --inspect-port=9231 a.js"),
            ("--inspect=host:9300 a.js", "--inspect=host:9300 --inspect-port=9302 a.js"),
            ("--inspect=host a.js", "--inspect=host --inspect-port=9231 a.js"),
            ("--inspect=9300 --inspect a.js", "--inspect=9300 --inspect --inspect-port=9302 a.js"),
            ("--debug-port 9300 a.js", "--debug-port 9300 --inspect-port=9302 a.js"),
            ("--inspect_port=9300 a.js", "--inspect_port=9300 --inspect-port=9302 a.js"),
            ("--inspect=65534 a.js", "--inspect=65534 --inspect-port=1024 a.js"),
            (
                "--inspect -r ./x --title y -- a",
                "--inspect -r ./x --title y --inspect-port=9231 -- a",
            ),
        ] {
            assert_eq!(third(given, ""), expected);
        }
    }

    #[test]
    fn what_opens_no_fixed_port_stays_as_it_is() {
        for given in [
            "a.js --inspect",
            "--require ./x a.js --inspect=9300",
            "--inspect=0 a.js",
            "--inspect=80 a.js",
            "--inspect=70000 a.js",
            "--inspect= a.js",
            "-- a.js --inspect",
            "- --inspect",
            "",
        ] {
            assert_eq!(third(given, ""), given);
        }
    }

    #[test]
    fn the_environment_counts_and_the_command_line_wins() {
        assert_eq!(third("a.js", "--inspect"), "--inspect-port=9231 a.js");
        assert_eq!(third("a.js", "--title \"a b\" --inspect=9300"), "--inspect-port=9302 a.js");
        assert_eq!(
            third("--inspect a.js", "--inspect-port=9300"),
            "--inspect --inspect-port=9302 a.js"
        );
        assert_eq!(
            third("--inspect=9400 a.js", "--inspect=9300"),
            "--inspect=9400 --inspect-port=9402 a.js"
        );
        assert_eq!(third("a.js", "--title \"--inspect x\""), "a.js");
        assert_eq!(third("a.js", "--require \"/a \\\"b\" --max-http-header-size=9"), "a.js");
    }

    #[test]
    fn words_that_are_no_text_are_passed_over() {
        use std::os::unix::ffi::OsStringExt;
        let arguments = [OsString::from_vec(vec![b'-', 0xff]), "--inspect".into(), "a".into()];
        assert_eq!(for_worker(&arguments, OsStr::new(""), 1).unwrap().position, 2);
    }

    #[test]
    fn the_permission_model_is_seen_among_the_options_and_only_there() {
        let words = |text: &str| text.split(' ').map(OsString::from).collect::<Vec<_>>();
        let none = OsStr::new("");
        assert!(is_restricted(&words("--permission --allow-fs-read=/app/* a.js"), none));
        assert!(is_restricted(&words("--experimental_permission a.js"), none));
        assert!(is_restricted(&[], OsStr::new("--trace-warnings --permission")));
        assert!(!is_restricted(&words("a.js --permission"), none));
        assert!(!is_restricted(&words("--require --permission-less a.js"), none));
    }
}
