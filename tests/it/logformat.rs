//! What log lines look like.

use std::net::TcpListener;
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::{Map, Value};

use crate::support::{proc, sticky_run};

fn objects(log: &str) -> Vec<Map<String, Value>> {
    let parse = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    log.lines().map(parse).collect()
}

/// The first object whose message begins with this.
#[track_caller]
fn find<'a>(objects: &'a [Map<String, Value>], message: &str) -> &'a Map<String, Value> {
    let its = |object: &&Map<String, Value>| {
        object["message"].as_str().is_some_and(|text| text.starts_with(message))
    };
    objects.iter().find(its).unwrap_or_else(|| panic!("no {message} in {objects:?}"))
}

#[test]
fn json_is_one_object_a_line_with_a_time_a_level_and_a_message() {
    let mut supervisor = sticky_run(2, &["--log-format", "json"]).spawn();
    supervisor.wait_for_log("worker 0 is ready");
    supervisor.wait_for_log("worker 1 is ready");
    let pid = supervisor.pid_of(1);
    proc::signal(pid, Signal::SIGKILL);
    supervisor.wait_for_log_times("worker 1 is ready", 2);
    assert_eq!(supervisor.stop().code(), Some(0));
    let objects = objects(&supervisor.whole_log());
    for object in &objects {
        let time = object["timestamp"].as_str().expect("a text");
        humantime::parse_rfc3339(time).expect("RFC 3339 in UTC");
        assert!(
            ["INFO", "WARN"].contains(&object["level"].as_str().expect("a text")),
            "{object:?}"
        );
    }
    let started = find(&objects, "worker 1 started");
    assert_eq!((&started["worker"], &started["pid"]), (&Value::from(1), &Value::from(pid)));
    assert_eq!(find(&objects, "worker 1 is ready")["worker"], 1);
    find(&objects, "listening on 127.0.0.1:");
    assert_eq!(find(&objects, "worker 1 ended")["level"], "WARN");
}

#[test]
fn what_ends_it_is_a_line_of_json_like_all_before() {
    let flags = ["--log-format", "json"];
    let mut supervisor = sticky_run(1, &flags).command(&["/no/such/program"]).spawn();
    assert_eq!(supervisor.wait().code(), Some(127));
    let objects = objects(&supervisor.whole_log());
    find(&objects, "listening on ");
    let last = objects.last().expect("several lines");
    assert_eq!(find(&objects, "cannot run /no/such/program: not found"), last);
    assert_eq!(last["level"], "ERROR");
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
        assert_eq!((objects.len(), &find(&objects, why)["level"]), (1, &Value::from("ERROR")));
    }
}

#[test]
fn text_has_the_message_alone() {
    let mut supervisor = sticky_run(1, &[]).start();
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
