//! What a worker, its children and its threads find in their environment, and commands that are
//! Node in other words.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde::Deserialize;
use serde_json::Value;

use crate::support::node::{self, App};
use crate::support::reply::{self, Session};
use crate::support::{proc, programs};

/// What workers of every handoff find in their environment, and so do their children.
const OF_EVERY_WORKER: [&str; 3] = ["STICKY_LOG_FORMAT", "STICKY_WORKERS", "STICKY_WORKER_ID"];

/// See `tests/node/apps/inherited.js`.
#[derive(Debug, Deserialize)]
struct Inherited {
    worker: Seen,
    child: Seen,
    forked: Seen,
    thread: Seen,
}

#[derive(Debug, Deserialize)]
struct Seen {
    options: Option<String>,
    names: Vec<String>,
    preloaded: Vec<String>,
}

fn inherited(app: App) -> Inherited {
    let running = app.start(2);
    let text = reply::get(running.address(), "/").text();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
}

#[test]
fn children_and_threads_of_a_worker_see_nothing_of_the_preload() {
    let Some(app) = App::new("inherited.js") else { return };
    let seen = inherited(app);
    for one in [&seen.worker, &seen.child, &seen.forked, &seen.thread] {
        assert_eq!(one.options.as_deref().unwrap_or_default(), "", "{seen:?}");
        assert_eq!(one.names, OF_EVERY_WORKER, "{seen:?}");
    }
    for one in [&seen.child, &seen.forked] {
        assert_eq!(one.preloaded, Vec::<String>::new(), "{seen:?}");
    }
    // Node loads the files of `--require` in each thread too. There, the first one sees that it is in
    // a thread and loads no part that does anything.
    let acts =
        |path: &&String| !path.ends_with("/index.cjs") && !path.ends_with("/environment.cjs");
    assert_eq!(seen.thread.preloaded.iter().find(acts), None, "{seen:?}");
}

#[test]
fn a_program_without_a_file_is_a_worker_as_any_other() {
    let Some(app) = App::new("inherited.js") else { return };
    let seen = inherited(app.command(&["{node}", "--eval", "require('{app}')"]));
    assert_eq!(seen.worker.names, OF_EVERY_WORKER, "{seen:?}");
}

#[test]
fn the_users_own_node_options_stay_as_they_are() {
    let own = r#"--no-deprecation  --title="a  title""#;
    let Some(app) = App::new("inherited.js") else { return };
    let seen = inherited(app.env("NODE_OPTIONS", own));
    for one in [&seen.worker, &seen.child, &seen.forked, &seen.thread] {
        assert_eq!(one.options.as_deref(), Some(own), "{seen:?}");
    }
}

#[test]
fn options_in_a_file_of_variables_hold_as_without_us() {
    let file = tempfile::NamedTempFile::new().expect("a file of our own");
    fs::write(file.path(), "NODE_OPTIONS=--no-deprecation --title=mine\n").expect("it is ours");
    let Some(app) = App::new("inherited.js") else { return };
    let option = format!("--env-file={}", file.path().display());
    let seen = inherited(app.command(&["{node}", &option, "{app}"]));
    for one in [&seen.worker, &seen.child, &seen.forked, &seen.thread] {
        assert_eq!(one.options.as_deref(), Some("--no-deprecation --title=mine"), "{seen:?}");
    }
}

#[test]
fn without_the_preload_the_environment_is_the_users() {
    let Some(app) = App::new("inherited.js") else { return };
    let seen = inherited(app.flags(&["--no-node-preload"]));
    let names = OF_EVERY_WORKER.map(str::to_owned).to_vec();
    assert_eq!((seen.worker.options, seen.worker.names), (None, names));
}

/// Workers may have left the user that the supervisor is, and then read the files as somebody else.
#[test]
fn everybody_may_read_the_preload_whatever_the_umask() {
    let Some(app) = App::new("http.js") else { return };
    let running = app.after("umask 077;").start(1);
    let environment = proc::environment(running.pid_of(0));
    let mut options = environment.iter().filter(|(name, _)| name == "NODE_OPTIONS");
    let (_, options) = options.next().expect("the preload is in it");
    let file = options.split('"').nth(1).expect("a path between quotes");
    let home = Path::new(file).parent().expect("it is in a directory");
    let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode(home), 0o755);
    for entry in fs::read_dir(home).expect("it is there") {
        let path = entry.expect("it is there").path();
        assert_eq!(mode(&path), 0o644, "{}", path.display());
    }
}

/// The flag of Node's permission model; none where there is no such thing.
fn permission_flag() -> Option<&'static str> {
    let version = Command::new(node::binary()?).arg("--version").output().expect("it runs");
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    let major = version.trim_start_matches('v').split('.').next();
    match major.and_then(|major| major.parse().ok()) {
        Some(..20) => None,
        Some(20..23) => Some("--experimental-permission"),
        Some(23..) => Some("--permission"),
        None => panic!("no version: {version}"),
    }
}

#[test]
fn a_worker_that_may_read_only_its_own_files_has_the_preload_too() {
    let Some(flag) = permission_flag() else { return };
    let Some(app) = App::new("socketio.js") else { return };
    let read = format!("--allow-fs-read={}/tests/node/*", programs::ROOT);
    let words = ["{node}", flag, &read, "{app}"];
    let running = app.command(&words).flags(&["-b", "round-robin"]).start(2);
    for _ in 0..6 {
        assert!(Session::open(running.address()).is_known(running.address()));
    }
}

/// Whether two workers serve when Node is started by these words.
#[track_caller]
fn serves(words: &[&str]) {
    let Some(app) = App::new("http.js") else { return };
    let running = app.command(words).start(2);
    assert_eq!(reply::get(running.address(), "/").status, 200, "{words:?}");
}

#[test]
fn node_is_noticed_in_other_words() {
    serves(&["env", "{node}", "{app}"]);
    serves(&["env", "-u", "NOTHING", "A=b", "{node}", "{app}"]);
    serves(&["sh", "-c", "exec {node} {app}"]);
    serves(&["sh", "-c", "A=b {node} '{app}'"]);
}

#[test]
fn a_script_that_names_node_as_its_interpreter_is_noticed() {
    let Some(binary) = node::binary() else { return };
    let app = format!("{}/tests/node/apps/http.js", programs::ROOT);
    let script = node::scratch("shebang").join("server");
    let text = format!("#!/usr/bin/env {binary}\nrequire({});\n", Value::from(app));
    fs::write(&script, text).expect("target can be written to");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("it is ours");
    serves(&[script.to_str().expect("its path is text")]);
}

#[test]
fn npm_start_runs_what_the_package_says() {
    let home = node::scratch("npm");
    let app = format!("{}/tests/node/apps/http.js", programs::ROOT);
    let Some(binary) = node::binary() else { return };
    let package =
        serde_json::json!({ "name": "it", "scripts": { "start": format!("{binary} {app}") } });
    fs::write(home.join("package.json"), package.to_string()).expect("target can be written to");
    serves(&["npm", "--prefix", home.to_str().expect("its path is text"), "start"]);
}

#[test]
fn each_worker_has_a_port_for_its_debugger() {
    let Some(app) = App::new("http.js") else { return };
    let ports = node::Port::pair();
    let inspect = format!("--inspect={}", ports[0].number);
    let running = app.command(&["{node}", &inspect, "{app}"]).start(2);
    running.wait_for_log_times("Debugger listening on ws://127.0.0.1:", 2);
    let log = running.log();
    for port in ports {
        let expected = format!("Debugger listening on ws://127.0.0.1:{}/", port.number);
        assert!(log.contains(&expected), "{log}");
    }
}
