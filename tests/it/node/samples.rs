//! The usage samples of the packages' READMEs, primary branch included, byte for byte.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::support::node::{self, App, Running};
use crate::support::reply::{self, POLLING};

/// The first code block below `## Usage` in a README.
fn usage_of(readme: &str) -> &str {
    let usage = readme.split("\n## Usage\n").nth(1).expect("it has a usage");
    let block = usage.split("```").nth(1).expect("it has a sample");
    block.split_once('\n').expect("the language stands in a line of its own").1
}

/// Runs the sample of an installed package, which finds each of these packages under its real name.
fn run(package: &str, packages: &[(&str, &str)]) -> Option<Running> {
    let readme = node::package(package)?.join("README.md");
    let readme = fs::read_to_string(readme).expect("it is in the package");
    let home = node::scratch(&format!("sample-{}", package.replace('/', "-")));
    fs::create_dir_all(home.join("node_modules/@socket.io")).expect("target can be written to");
    for (name, installed) in packages {
        let link = home.join("node_modules").join(name);
        symlink(node::package(installed)?, link).expect("target can be written to");
    }
    Some(start(&home, usage_of(&readme))?.listening().start(4))
}

fn start(home: &Path, sample: &str) -> Option<App> {
    let file = home.join("sample.js");
    fs::write(&file, sample).expect("target can be written to");
    App::at(&file)
}

/// Many sessions by polling, each request on a connection of its own, over four workers.
fn has_sessions(running: &Running) {
    let sids: Vec<String> = (0..40).map(|_| reply::handshake(running.address())).collect();
    for sid in &sids {
        let path = format!("{POLLING}&sid={sid}");
        assert_eq!(reply::post(running.address(), &path, b"40").text(), "ok");
        let mut heard = String::new();
        while !heard.contains("40{") {
            let polled = reply::get(running.address(), &path);
            assert_eq!(polled.status, 200, "{}", polled.text());
            heard.push_str(&polled.text());
        }
    }
    assert_eq!(running.worker_pids().len(), 4, "no worker has forked others or ended");
}

#[test]
fn the_sample_of_socket_io_sticky_1_runs_unchanged() {
    let packages = [
        ("@socket.io/sticky", "sticky-1"),
        ("@socket.io/cluster-adapter", "cluster-adapter-0.2"),
        ("socket.io", "socket.io"),
    ];
    let Some(running) = run("sticky-1", &packages) else { return };
    has_sessions(&running);
}

#[test]
fn the_sample_of_socket_io_sticky_2_runs_unchanged() {
    let packages = [
        ("@socket.io/sticky", "@socket.io/sticky"),
        ("@socket.io/cluster-adapter", "@socket.io/cluster-adapter"),
        ("socket.io", "socket.io"),
    ];
    let Some(running) = run("@socket.io/sticky", &packages) else { return };
    has_sessions(&running);
}

#[test]
fn the_sample_of_sticky_session_runs_unchanged() {
    let Some(running) = run("sticky-session", &[("sticky-session", "sticky-session")]) else {
        return;
    };
    for _ in 0..40 {
        let answer = reply::get(running.address(), "/");
        let worker = answer.text().strip_prefix("worker: ").and_then(|id| id.parse().ok());
        assert!(worker.is_some_and(|id: u16| (1..=4).contains(&id)), "{}", answer.text());
    }
}
