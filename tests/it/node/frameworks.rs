//! Apps as their frameworks' documentation has them, in each module system, and bundled.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use serde::Deserialize;
use serde_json::json;

use super::load::{count, talk};
use crate::support::node::{self, App, Running};
use crate::support::reply::{self, Kept};
use crate::support::{full, programs};

/// Whether all three workers answer, and each client's requests on one connection the same one.
fn is_served_by_all(running: &Running) {
    let mut workers = BTreeSet::new();
    for _ in 0..30 {
        let mut kept = Kept::open(running.address());
        let first = kept.get("/").expect("an answer");
        assert_eq!(first.status, 200);
        assert_eq!(kept.get("/").expect("an answer").pid(), first.pid());
        workers.insert(first.pid());
    }
    assert_eq!(workers, running.worker_pids().into_iter().collect());
}

#[test]
fn express_fastify_and_koa_are_served_by_all_their_workers() {
    for (name, echoes) in [("express", true), ("fastify", true), ("koa", false)] {
        let Some(app) = App::new(&format!("{name}.js")) else { return };
        let running = app.flags(&["-b", "round-robin"]).start(3);
        is_served_by_all(&running);
        assert_eq!(reply::get(running.address(), "/").value("framework"), name);
        if echoes {
            let body = format!(r#"{{"text":"{}"}}"#, "x".repeat(100_000));
            let head = "POST /echo HTTP/1.1\r\nHost: test\r\nContent-Type: application/json";
            let mut kept = Kept::open(running.address());
            let request = format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            kept.write(request.as_bytes()).expect("it is open");
            assert_eq!(kept.reply().expect("an answer").text(), body);
        }
    }
}

#[test]
fn an_http_server_is_served_by_all_its_workers() {
    let Some(app) = App::new("http.js") else { return };
    is_served_by_all(&app.flags(&["-b", "round-robin"]).start(3));
}

#[derive(Debug, Deserialize)]
struct WebSockets {
    workers: BTreeMap<String, u32>,
    right: u32,
    wrong: u32,
    errors: Vec<String>,
}

#[test]
fn websockets_without_engine_io_are_spread_and_left_alone() {
    let Some(app) = App::new("ws.js") else { return };
    let running = app.start(3);
    let url = format!("ws://{}", running.address());
    let arguments = json!({ "url": url, "sockets": 60, "messages": 10 });
    let Some(client) = node::client("websockets.js", &arguments) else { return };
    let seen: WebSockets = client.next();
    assert_eq!((seen.right, seen.wrong, seen.errors.len()), (600, 0, 0), "{seen:?}");
    assert_eq!(seen.workers.len(), 3, "{seen:?}");
}

fn sessions_go_well(app: Option<App>, client: &str) {
    let Some(app) = app else { return };
    let running = app.start(3);
    // What upgrades has polled before, so that this alone shows most of it.
    let transports = [("upgrade", "websocket"), ("polling", "polling")];
    for (transport, last) in &transports[..if full() { 2 } else { 1 }] {
        let options = json!({ "transport": transport, "client": client });
        let Some(verdict) = talk(&running, &options) else { return };
        verdict.assert_right(count(), last);
    }
}

#[test]
fn socket_io_2_has_sessions() {
    let app = App::new("socketio.js").map(|app| app.env("SOCKET_IO", "socket.io-2"));
    sessions_go_well(app, "socket.io-client-2");
}

#[test]
fn socket_io_3_has_sessions() {
    let app = App::new("socketio.js").map(|app| app.env("SOCKET_IO", "socket.io-3"));
    sessions_go_well(app, "socket.io-client");
}

#[test]
fn socket_io_4_in_an_es_module_has_sessions() {
    sessions_go_well(App::new("esm.mjs"), "socket.io-client");
}

#[test]
fn socket_io_with_ids_of_the_app_has_sessions() {
    let app = App::new("socketio.js").map(|app| app.env("IDS", "uuid"));
    sessions_go_well(app, "socket.io-client");
}

#[test]
fn a_bundled_server_has_sessions() {
    sessions_go_well(bundle(), "socket.io-client");
}

/// The app as one file, in which engine.io is no module of its own.
fn bundle() -> Option<App> {
    let esbuild = node::package("esbuild")?.join("bin/esbuild");
    let directory = node::scratch("bundle");
    let file = directory.join("server.cjs");
    let app = Path::new(programs::ROOT).join("tests/node/apps/esm.mjs");
    let mut command = Command::new("node");
    command.arg(esbuild).arg(app).args(["--bundle", "--platform=node", "--minify"]);
    command.arg(format!("--outfile={}", file.display()));
    let output = command.output().expect("Node is there");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = fs::read_to_string(&file).expect("it was written");
    assert!(!text.contains(r#"require("engine.io")"#), "engine.io is in it");
    App::at(&file)
}
