//! What log lines look like.

use std::net::TcpListener;
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::{Map, Value};

use crate::support::files::File;
use crate::support::supervisor::{Builder, configured};
use crate::support::{Supervisor, event, get, proc, sticky_run, worker};

fn objects(log: &str) -> Vec<Map<String, Value>> {
    let parse = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    log.lines().map(parse).collect()
}

/// All that was written by a supervisor that has ended.
fn raw_log(supervisor: &Supervisor) -> String {
    supervisor.whole_log();
    supervisor.raw_log()
}

/// The first object of this event.
#[track_caller]
fn find<'a>(objects: &'a [Map<String, Value>], event: &str) -> &'a Map<String, Value> {
    let its = |object: &&Map<String, Value>| object["event"] == event;
    objects.iter().find(its).unwrap_or_else(|| panic!("no {event} in {objects:?}"))
}

#[test]
fn json_is_one_object_a_line_with_a_time_a_level_and_a_message() {
    let mut supervisor = sticky_run(2, &["--log-format", "json"]).spawn();
    supervisor.wait_event(event("worker_ready").worker(0));
    supervisor.wait_event(event("worker_ready").worker(1));
    let pid = supervisor.pid_of(1);
    proc::signal(pid, Signal::SIGKILL);
    supervisor.wait_events(event("worker_ready").worker(1), 2);
    assert_eq!(supervisor.stop().code(), Some(0));
    let objects = objects(&raw_log(&supervisor));
    for object in &objects {
        let time = object["timestamp"].as_str().expect("a text");
        humantime::parse_rfc3339(time).expect("RFC 3339 in UTC");
        assert!(
            ["INFO", "WARN"].contains(&object["level"].as_str().expect("a text")),
            "{object:?}"
        );
    }
    let its = |name: &str| {
        let mut its = objects.iter().filter(|object| object.get("worker") == Some(&Value::from(1)));
        its.find(|object| object["event"] == name).unwrap_or_else(|| panic!("no {name}")).clone()
    };
    for name in ["worker_started", "worker_ready"] {
        let object = its(name);
        assert_eq!([&object["pid"], &object["generation"]], [&Value::from(pid), &Value::from(0)]);
    }
    let address = find(&objects, "listening")["address"].as_str().expect("a text");
    assert_eq!(address.parse(), Ok(supervisor.address()));
    let exited = its("worker_exited");
    assert_eq!([&exited["level"], &exited["signal"]], ["WARN", "SIGKILL"]);
    assert!(exited.get("code").is_none());
}

#[test]
fn what_ends_it_is_a_line_of_json_like_all_before() {
    let flags = ["--log-format", "json"];
    let mut supervisor =
        sticky_run(1, &flags).command(&["/no/such/program"]).env("STICKY_WORKER", "1").spawn();
    assert_eq!(supervisor.wait().code(), Some(127));
    let objects = objects(&raw_log(&supervisor));
    assert_eq!(find(&objects, "variable_unknown")["variable"], "STICKY_WORKER");
    let last = objects.last().expect("several lines");
    assert_eq!(find(&objects, "failed"), last);
    assert_eq!([&last["level"], &last["code"]], [&Value::from("ERROR"), &Value::from(127)]);
    let message = last["message"].as_str().expect("a text");
    assert!(message.starts_with("cannot run /no/such/program: not found"), "{message}");
    humantime::parse_rfc3339(last["timestamp"].as_str().expect("a text")).expect("RFC 3339");
}

#[test]
fn what_ends_it_at_once_is_a_line_of_json_at_every_level() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (flags, code, why) in [
        (["--listen", &taken], 1, "cannot listen on "),
        (["--listen", "nowhere"], 2, "cannot listen on nowhere"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sticky-run"));
        command
            .args(["--log-format", "json", "--log-level", "error"])
            .args(flags)
            .args(["--", "true"]);
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(code));
        let objects = objects(&String::from_utf8(output.stderr).unwrap());
        assert_eq!((objects.len(), &find(&objects, "failed")["level"]), (1, &Value::from("ERROR")));
        assert!(objects[0]["message"].as_str().expect("a text").starts_with(why));
    }
}

/// The descriptor 2 of the supervisor.
const STDERR: &str = "/proc/self/fd/2";

/// It is told that the journal reads this file.
fn with_journal(builder: Builder, stream: &str) -> Builder {
    builder.text_log().after(&format!("export JOURNAL_STREAM=$(stat -Lc %d:%i {stream});"))
}

/// Ends the worker, and waits for the next one.
#[track_caller]
fn crash(supervisor: &Supervisor) {
    let before = supervisor.count_log("worker 0 is ready");
    proc::signal(supervisor.pid_of(0), Signal::SIGKILL);
    supervisor.wait_for_log_times("worker 0 is ready", before + 1);
}

/// Whether this is a priority, and a message without the time and the level.
fn is_entry(line: &str) -> bool {
    let rest = line.strip_prefix('<').and_then(|rest| rest.strip_prefix(['3', '4', '6', '7']));
    let message = rest.and_then(|rest| rest.strip_prefix('>'));
    let marked =
        |message: &str| ["INFO", "WARN", "ERROR"].iter().any(|level| message.contains(level));
    message.is_some_and(|message| !message.starts_with(['<', ' ', '2']) && !marked(message))
}

#[test]
fn in_the_journal_a_line_is_its_priority_and_its_message_also_after_an_upgrade() {
    let right = format!("workers = 1\nlisten = '127.0.0.1:0'\ncommand = {:?}\n", worker::command());
    let file = File::new("logformat.toml", &right);
    let builder = configured(1, file.path()).env("STICKY_LOG_LEVEL", "debug");
    let mut supervisor = with_journal(builder, STDERR).start();
    get(supervisor.address(), "/");
    crash(&supervisor);
    file.replace("workers = 'many'\n");
    supervisor.signal(Signal::SIGHUP);
    supervisor.wait_for_log("configuration rejected: ");
    file.replace(right);
    supervisor.signal(Signal::SIGUSR2);
    supervisor.wait_for_log("upgraded from sticky-run");
    crash(&supervisor);
    assert_eq!(supervisor.stop().code(), Some(0));
    let log = supervisor.whole_log();
    assert!(log.lines().all(is_entry), "{log}");
    let count = |start: &str| log.lines().filter(|line| line.starts_with(start)).count();
    assert_eq!(count("<6>listening on 127.0.0.1:"), 1, "{log}");
    assert_eq!(count("<6>upgraded from sticky-run "), 1, "{log}");
    assert_eq!(count("<4>worker 0 exited"), 2, "{log}");
    assert_eq!(count("<3>configuration rejected: "), 1, "{log}");
    assert!(count("<7>") > 0, "{log}");
}

#[test]
fn in_the_journal_what_ends_it_is_an_error() {
    for (flags, command, code, why) in [
        (&[][..], "/no/such/program", 127, "<3>cannot run /no/such/program: not found"),
        (&["--listen", "nowhere"], "true", 2, "<3>cannot listen on nowhere"),
        (&["--no-such-flag"], "true", 2, "<3>unexpected argument '--no-such-flag'"),
        (&["--listen", "unix:/no\n<7>/such"], "true", 1, "<3>cannot listen on unix:/no\\n<7>/such"),
    ] {
        let builder = sticky_run(1, flags).command(&[command]);
        let mut supervisor = with_journal(builder, STDERR).spawn();
        assert_eq!(supervisor.wait().code(), Some(code));
        let log = supervisor.whole_log();
        assert!(log.lines().last().is_some_and(|last| last.starts_with(why)), "{log}");
        assert!(log.lines().all(is_entry), "{log}");
    }
}

#[test]
fn a_journal_that_reads_another_stream_changes_nothing() {
    let mut supervisor = with_journal(sticky_run(1, &[]), "/dev/null").start();
    crash(&supervisor);
    assert_eq!(supervisor.stop().code(), Some(0));
    let log = supervisor.whole_log();
    assert!(
        log.contains("  INFO listening on ") && log.contains("  WARN worker 0 exited"),
        "{log}"
    );
    for line in log.lines() {
        let time = line.split(' ').next().expect("a line has a word");
        humantime::parse_rfc3339(time).unwrap_or_else(|error| panic!("{error}: {line}"));
    }
    let builder = sticky_run(1, &["--listen", "nowhere"]);
    let mut supervisor = with_journal(builder, "/dev/null").spawn();
    assert_eq!(supervisor.wait().code(), Some(2));
    assert!(supervisor.whole_log().starts_with("sticky-run: cannot listen on nowhere"));
}

#[test]
fn in_the_journal_json_and_the_lines_of_workers_are_as_elsewhere() {
    let builder = sticky_run(1, &["--log-format", "json"]);
    let mut supervisor = with_journal(builder, STDERR).start();
    assert_eq!(supervisor.stop().code(), Some(0));
    let objects = objects(&raw_log(&supervisor));
    assert_eq!(find(&objects, "worker_ready")["level"], "INFO");

    let script = "echo \"$JOURNAL_STREAM\" >&2; exec \"$0\" \"$@\"";
    let command = worker::command();
    let mut words = vec!["sh", "-c", script];
    words.extend(command.iter().map(String::as_str));
    let builder = sticky_run(1, &["--prefix-output"]).command(&words);
    let mut supervisor = with_journal(builder, STDERR).start();
    let variables = proc::environment(supervisor.pid());
    let named = variables.iter().find(|(name, _)| name == "JOURNAL_STREAM").expect("it is set");
    supervisor.wait_for_log(&format!("\n[0] {}\n", named.1));
    assert_eq!(supervisor.stop().code(), Some(0));
    assert!(supervisor.whole_log().contains("\n<6>worker 0 is ready (pid "));
}

#[test]
fn text_has_the_message_alone() {
    let mut supervisor = sticky_run(1, &[]).text_log().start();
    assert_eq!(supervisor.stop().code(), Some(0));
    let log = supervisor.whole_log();
    let started = log.lines().find(|line| line.contains("worker 0 started")).expect("it started");
    assert!(started.ends_with(')') && !log.contains("worker="), "{log}");
}

#[test]
fn an_error_of_usage_is_text_in_any_format() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sticky-run"));
    let output = command.args(["--log-format", "json", "--by", "x", "--", "a"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.starts_with("sticky-run: ") && text.lines().count() == 1, "{text}");
}
