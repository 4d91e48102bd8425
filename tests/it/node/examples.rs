//! The examples for Node, each run as its README says.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use nix::sys::signal::Signal;
use serde::Deserialize;
use serde_json::json;

use crate::support::node::{self, App, Running};
use crate::support::reply::{self, Kept};
use crate::support::{eventually, proc, programs};

/// What the people in a chat saw; see `tests/node/clients/chat.js`.
#[derive(Debug, Deserialize)]
struct Chat {
    processes: BTreeMap<String, u32>,
    right: u32,
    errors: Vec<String>,
}

/// Twelve people talk, who are heard in all processes or only in their own.
fn people_talk(running: &Running, across: bool) {
    for transport in ["polling", "upgrade"] {
        let arguments = json!({
            "url": running.url(), "people": 12, "transport": transport, "across": across,
        });
        let Some(client) = node::client("chat.js", &arguments) else { return };
        let chat: Chat = client.next();
        assert_eq!((chat.right, chat.errors.len()), (12, 0), "{chat:?}");
        assert_eq!(chat.processes.len(), 4, "all workers serve: {chat:?}");
    }
}

/// The page is there, and so is the script that it asks for.
fn shows_its_page(running: &Running) {
    let page = reply::get(running.address(), "/?name=ann&room=tea");
    assert_eq!(page.status, 200);
    assert!(page.text().contains("<title>chat</title>"), "{}", page.text());
    assert!(page.text().contains(r#"<script src="/socket.io/socket.io.js">"#), "{}", page.text());
    let mut script = Kept::open(running.address());
    script.send("GET", "/socket.io/socket.io.js", b"").expect("it is open");
    assert_eq!(script.reply_without_body().expect("an answer").status, 200);
    assert_eq!(reply::get(running.address(), "/elsewhere").status, 404);
}

#[test]
fn socketio_is_one_chat_for_each_process() {
    let Some(app) = App::example("socketio") else { return };
    let running = app.start(4);
    shows_its_page(&running);
    people_talk(&running, false);
}

#[test]
fn socketio_cluster_adapter_is_one_chat_for_all() {
    let Some(app) = App::example("socketio-cluster-adapter") else { return };
    let running = app.start(4);
    shows_its_page(&running);
    people_talk(&running, true);
}

#[test]
fn socketio_cluster_adapter_is_socketio_and_the_adapter() {
    let read = |example: &str, file: &str| {
        let path = Path::new(programs::ROOT).join("examples").join(example).join(file);
        fs::read_to_string(path).expect("it is in the repository")
    };
    let adapted = read("socketio-cluster-adapter", "server.js");
    let adapted = adapted
        .replace("import { createAdapter } from \"@socket.io/cluster-adapter\";\n", "")
        .replace("new Server(httpServer, { adapter: createAdapter() })", "new Server(httpServer)");
    assert_eq!(adapted, read("socketio", "server.js"));
    assert_eq!(read("socketio-cluster-adapter", "index.html"), read("socketio", "index.html"));
}

#[test]
fn the_examples_start_with_npm_and_end_with_ctrl_c() {
    for name in ["socketio", "socketio-cluster-adapter", "express"] {
        let Some(app) = App::example(name) else { return };
        let mut running = app.command(&["npm", "start"]).start(2);
        let workers = running.worker_pids();
        assert_eq!(workers.len(), 2);
        running.signal(Signal::SIGINT);
        assert!(running.wait().success());
        eventually("no worker is left", || {
            workers.iter().all(|pid| !proc::is_alive(*pid)).then_some(())
        });
    }
}

/// A client of the visits that sends back the cookie it was given, on a new connection each time.
#[derive(Default)]
struct Visitor {
    cookie: Option<String>,
}

impl Visitor {
    /// The next answer, such as `process 4711, visit 2`, in two parts.
    fn visit(&mut self, running: &Running) -> (String, u32) {
        let mut connection = Kept::open(running.address());
        let cookie = self.cookie.as_ref().map(|cookie| format!("Cookie: {cookie}\r\n"));
        let head = format!("GET / HTTP/1.1\r\nHost: test\r\n{}\r\n", cookie.unwrap_or_default());
        connection.write(head.as_bytes()).expect("it is open");
        let reply = connection.reply().expect("an answer");
        if let Some(cookie) = reply.header("set-cookie") {
            self.cookie = cookie.split(';').next().map(str::to_owned);
        }
        let text = reply.text();
        let (process, visit) = text.trim_end().split_once(", visit ").expect("the two parts");
        (process.to_owned(), visit.parse().expect("a number"))
    }
}

/// The processes that eight visitors met, each in ten visits that were all counted.
fn visitors_are_counted(running: &Running) -> BTreeSet<String> {
    let mut processes = BTreeSet::new();
    for _ in 0..8 {
        let mut visitor = Visitor::default();
        let (process, _) = visitor.visit(running);
        for nth in 2..=10 {
            assert_eq!(visitor.visit(running), (process.clone(), nth));
        }
        processes.insert(process);
    }
    processes
}

#[test]
fn express_by_cookie_counts_all_visits_of_a_session_in_one_process() {
    let Some(app) = App::example("express") else { return };
    let running = app.flags(&["--by", "cookie:connect.sid"]).start(4);
    assert_eq!(visitors_are_counted(&running).len(), 4);
}

#[test]
fn express_by_address_has_all_visitors_of_one_address_in_one_process() {
    let Some(app) = App::example("express") else { return };
    let running = app.flags(&["--by", "ip"]).start(4);
    assert_eq!(visitors_are_counted(&running).len(), 1);
}

/// The negative control: this is what the tests above would see without stickiness.
#[test]
fn express_by_a_cookie_that_nobody_announces_loses_its_sessions() {
    let Some(app) = App::example("express") else { return };
    let flags = ["--by", "cookie:connect.sid", "--no-node-preload", "-b", "round-robin"];
    let running = app.flags(&flags).start(4);
    let mut visitor = Visitor::default();
    for _ in 0..4 {
        assert_eq!(visitor.visit(&running).1, 1);
    }
}
