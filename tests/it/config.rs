//! The configuration file, what `--check` prints, and reading it anew on HUP.

use std::fs;
use std::process::{Command, Output, Stdio};

use nix::sys::signal::Signal;

use crate::support::files::File;
use crate::support::{event, get, sticky_run, worker};

fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sticky-run"));
    let command = command.args(arguments).envs(variables.iter().copied());
    command.stdin(Stdio::null()).output().expect("sticky-run was built with the tests")
}

/// What `--check` prints, without a word on standard error.
#[track_caller]
fn check(arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let output = run(&[&["--check"], arguments].concat(), variables);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), said.as_str()), (Some(0), ""));
    String::from_utf8(output.stdout).expect("it prints text")
}

/// The line of a checked configuration about this name: its value, and where it comes from.
#[track_caller]
fn line<'a>(text: &'a str, name: &str) -> (&'a str, &'a str) {
    let start = format!("{name} = ");
    let line = text.lines().find_map(|line| line.strip_prefix(&start));
    let line = line.unwrap_or_else(|| panic!("{name} in {text}"));
    let (value, origin) = line.rsplit_once(" # ").expect("each line says where it comes from");
    (value.trim(), origin)
}

#[track_caller]
fn refused(text: &[u8], code: i32, words: &[&str]) {
    let file = File::new("refused.toml", text);
    for check in [&["--check"][..], &[]] {
        let output = run(&[&["--config", file.path()], check].concat(), &[]);
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{log}");
        let said = log.lines().filter(|line| line.starts_with("sticky-run: "));
        assert_eq!(said.count(), 1, "{log}");
        assert!(words.iter().all(|word| log.contains(word)), "{words:?} in {log}");
        assert!(output.stdout.is_empty(), "{log}");
    }
}

#[test]
fn flags_win_over_variables_and_these_over_the_file() {
    let file = File::new(
        "order.toml",
        "workers = 2\nlisten = [':1', ':2']\ngrace = '1s'\nhead-timeout = '2s'\ncommand = ['true', 'a b']\n",
    );
    let variables = [
        ("STICKY_CONFIG", file.path()),
        ("STICKY_HEAD_TIMEOUT", "3s"),
        ("STICKY_GRACE", "4s"),
        ("STICKY_LISTEN", ":3"),
        ("WEB_CONCURRENCY", "7"),
    ];
    let text = check(&["--grace", "5s"], &variables);
    assert_eq!(line(&text, "grace"), ("\"5s\"", "command line"));
    assert_eq!(line(&text, "head-timeout"), ("\"3s\"", "environment: STICKY_HEAD_TIMEOUT"));
    // A list takes the place of another.
    assert_eq!(line(&text, "listen"), ("[\":3\"]", "environment: STICKY_LISTEN"));
    let origin = format!("{}:1", file.path());
    assert_eq!(line(&text, "workers"), ("2", origin.as_str()));
    assert_eq!(line(&text, "by"), ("\"sid\"", "default"));
    let origin = format!("{}:5", file.path());
    assert_eq!(line(&text, "command"), ("[\"true\", \"a b\"]", origin.as_str()));
    let text = check(&["--", "false"], &variables);
    assert_eq!(line(&text, "command"), ("[\"false\"]", "command line"));
}

#[test]
fn what_check_prints_is_a_file_that_says_the_same() {
    let words: [&[&str]; 3] = [
        &[
            "-w",
            "auto",
            "-l",
            ":0,unix:/run/a \"b\".sock",
            "--by",
            "sid,ip",
            "--",
            "sh",
            "-c",
            "a\nb",
        ],
        &[
            "--handoff",
            "node",
            "--no-node-preload",
            "--by",
            "ip",
            "--hash-seed",
            "18446744073709551615",
            "--",
            "true",
        ],
        &["--", "true"],
    ];
    for words in words {
        let first = check(words, &[("WEB_CONCURRENCY", "3"), ("PORT", "1234")]);
        let file = File::new("round.toml", &first);
        let second = check(&["--config", file.path()], &[]);
        let plain = |text: &str| text.parse::<toml::Table>().expect("it is TOML");
        assert_eq!(plain(&first), plain(&second));
        let third = File::new("again.toml", &second);
        assert_eq!(
            second.replace(file.path(), third.path()),
            check(&["--config", third.path()], &[])
        );
    }
}

#[test]
fn values_for_the_environment_are_not_printed() {
    let text = check(&["--env", "PASSWORD=hunter2", "--env", "A=b", "--", "true"], &[]);
    assert!(!text.contains("hunter2") && !text.contains("PASSWORD"), "{text}");
    let line = text.lines().find(|line| line.contains("# env")).expect("it says so");
    assert_eq!(line, "# env: 2 not shown, and missing in this file # command line");
}

#[test]
fn what_was_chosen_here_is_told() {
    let text = check(&["--", "true"], &[("WEB_CONCURRENCY", "3"), ("PORT", "1234")]);
    assert_eq!(line(&text, "workers"), ("3", "environment: WEB_CONCURRENCY"));
    assert_eq!(line(&text, "listen"), ("[\":1234\"]", "environment: PORT"));
    assert_eq!(line(&text, "handoff"), ("\"auto\"", "default, here channel"));
    let text = check(&["-w", "auto", "--", "true"], &[]);
    assert!(line(&text, "workers").1.starts_with("command line, here "), "{text}");
}

#[test]
fn a_file_that_is_wrong_is_2_and_one_line_with_its_line() {
    let name = "refused.toml:";
    refused(b"\n\nworker = 4", 2, &[name, ":3: unknown name \"worker\" (did you mean workers?)"]);
    refused(b"by = 'sib'", 2, &[name, ":1: ", "unknown key \"sib\""]);
    refused(b"grace = 10\n", 2, &[":1: ", "250ms, 10s, 2m or 1h"]);
    refused(b"by = 'ip'\n\nby = 'sid'\n", 2, &[":3: duplicate key"]);
    refused(b"listen = [\n", 2, &[name]);
    refused(b"# \xff\n", 2, &[":1: not UTF-8"]);
    refused(b"", 2, &["COMMAND is missing", "command = [...]"]);
    refused(b"listen = 'nowhere'\ncommand = ['true']", 2, &["cannot listen on nowhere"]);
    refused(b"command = ['no-such-command']\nlisten = '127.0.0.1:0'", 127, &["not found"]);
    refused(b"command = ['/etc/passwd']\nlisten = '127.0.0.1:0'", 126, &["chmod +x"]);
}

#[test]
fn a_file_that_cannot_be_read_is_2_and_named() {
    let long = File::new("long.toml", vec![b'#'; (1 << 20) + 1]);
    for (path, why) in [
        ("/no/such/file.toml", "no such file or directory"),
        ("/etc", "it has to be a file"),
        ("/dev/zero", "it has to be a file"),
        (long.path(), "it is longer than a megabyte"),
    ] {
        let output = run(&["--config", path, "--", "true"], &[]);
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{log}");
        let said = format!("sticky-run: cannot read the configuration file {path}: {why}");
        assert!(log.starts_with(&said) && log.lines().count() == 1, "{log}");
    }
}

#[test]
fn in_a_directory_that_was_removed_the_error_names_the_way_out() {
    let base = File::new("removed", "");
    let check = |words: &[&str]| {
        let there = "mkdir \"$0.gone\" && cd \"$0.gone\" && rmdir \"$0.gone\" && exec \"$@\"";
        let mut shell = Command::new("sh");
        shell.args(["-c", there, base.path(), env!("CARGO_BIN_EXE_sticky-run"), "--check"]);
        shell.args(words).stdin(Stdio::null()).output().unwrap()
    };
    for words in [&["--", "true"][..], &["--chdir", "x", "--", "true"]] {
        let output = check(words);
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{log}");
        assert!(log.contains("no such file or directory; if it was removed, start"), "{log}");
    }
    let output = check(&["--chdir", "/", "--", "true"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_server_runs_with_what_the_file_says() {
    let words = worker::command();
    let text = format!("listen = '127.0.0.1:0'\nboot-timeout = '50s'\ncommand = {words:?}\n");
    let file = File::new("serves.toml", text);
    let mut supervisor = sticky_run(1, &["--config", file.path()]).start();
    assert!(get(supervisor.address(), "/").value("message").starts_with("CONN"));
    assert_eq!(supervisor.stop().code(), Some(0));
}

#[test]
fn hup_says_what_is_different_and_what_needs_an_upgrade() {
    let file = File::new("hup.toml", "grace = '25s'\nlog-level = 'info'\n");
    let mut supervisor = sticky_run(1, &["--config", file.path()]).start();
    supervisor.signal(Signal::SIGHUP);
    supervisor.wait_event("configuration_unchanged");
    file.replace("grace = '30s'\nlog-level = 'info'\nno-node-preload = true\n");
    supervisor.signal(Signal::SIGHUP);
    let changed = |flag: &str| event("configuration_changed").with("flag", flag);
    let grace = changed("--grace").with("takes", "restart").saying("--grace 25s -> 30s");
    supervisor.wait_event(&grace);
    let needs = changed("--no-node-preload").with("takes", "start");
    supervisor.wait_event(&needs);
    // What does not hold yet is said again.
    supervisor.signal(Signal::SIGHUP);
    supervisor.wait_events(&needs, 2);
    assert_eq!(supervisor.count_events(&grace), 1);
    file.replace("log-level = 'error'\nno-node-preload = true\n");
    supervisor.signal(Signal::SIGHUP);
    supervisor.wait_event(changed("--log-level"));
    // From here on it says nothing, but goes on.
    file.replace("worker = 2");
    supervisor.signal(Signal::SIGHUP);
    supervisor.wait_event("configuration_rejected");
    assert_eq!(supervisor.stop().code(), Some(0));
}

#[test]
fn hup_with_a_broken_file_is_one_error_and_changes_nothing() {
    let file = File::new("broken.toml", "grace = '25s'\n");
    let mut supervisor = sticky_run(1, &["--config", file.path()]).start();
    let worker = supervisor.pid_of(0);
    for (text, why) in [
        ("grace = '30s'\nworker = 2\n", "broken.toml:2: unknown name \"worker\""),
        ("grace = \n", "broken.toml:1: "),
        ("head-timeout = '0s'\n", "it must be more than 0"),
    ] {
        file.replace(text);
        let before = supervisor.count_events("configuration_rejected");
        supervisor.signal(Signal::SIGHUP);
        supervisor.wait_events("configuration_rejected", before + 1);
        supervisor.wait_event(event("configuration_rejected").saying(why));
    }
    fs::remove_file(file.path()).unwrap();
    supervisor.signal(Signal::SIGHUP);
    supervisor.wait_events("configuration_rejected", 4);
    supervisor.expect_no_trouble_but(&["configuration_rejected"]);
    assert_eq!(supervisor.pid_of(0), worker);
    assert!(get(supervisor.address(), "/").value("message").starts_with("CONN"));
    assert_eq!(supervisor.stop().code(), Some(0));
}
