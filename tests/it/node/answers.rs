//! Keys that apps give out in their answers, noticed by the preload: cookies and headers. Those of
//! Express are in `examples.rs`.

use std::collections::BTreeSet;

use crate::support::node::{App, Running};
use crate::support::reply::{Kept, Reply};

/// Asks once, on a new connection, as a client with this session.
fn ask(running: &Running, session: Option<&str>) -> Reply {
    let mut kept = Kept::open(running.address());
    let header = session.map(|session| format!("mcp-session-id: {session}\r\n"));
    let head = format!("GET / HTTP/1.1\r\nHost: test\r\n{}\r\n", header.unwrap_or_default());
    kept.write(head.as_bytes()).expect("it is open");
    kept.reply().expect("an answer")
}

/// What the third request of each of these clients counts, and how many workers they met.
fn third_requests(running: &Running, clients: u32) -> (Vec<String>, usize) {
    let mut workers = BTreeSet::new();
    let mut counts = Vec::new();
    for _ in 0..clients {
        let first = ask(running, None);
        let session = first.header("mcp-session-id").expect("a session");
        ask(running, Some(session));
        counts.push(ask(running, Some(session)).value("count"));
        workers.insert(first.pid());
    }
    (counts, workers.len())
}

#[test]
fn a_header_that_an_app_gives_out_leads_back_to_it() {
    let Some(app) = App::new("header.js") else { return };
    let flags = ["--by", "header:Mcp-Session-Id", "-b", "round-robin"];
    let running = app.flags(&flags).start(3);
    assert_eq!(third_requests(&running, 12), (vec!["3".to_owned(); 12], 3));
}

/// The negative control.
#[test]
fn a_header_that_nobody_announces_does_not() {
    let Some(app) = App::new("header.js") else { return };
    let flags = ["--by", "header:Mcp-Session-Id", "-b", "round-robin", "--no-node-preload"];
    let running = app.flags(&flags).start(3);
    let (counts, _) = third_requests(&running, 12);
    assert!(counts.iter().any(|count| count != "3"), "{counts:?}");
}

/// How a client shows its session in a request.
type Shown = fn(&str) -> String;

/// Sessions that share a few kept connections, as those of a browser or of a proxy do: each of them
/// comes by another connection each time, and finds itself.
#[track_caller]
fn sessions_share_connections(app: App, flags: &[&str], shown: Shown) {
    let running = app.flags(flags).flags(&["-b", "round-robin"]).start(3);
    let mut kept: Vec<_> = (0..3).map(|_| Kept::open(running.address())).collect();
    let mut ask = |connection: usize, header: String| {
        let kept = &mut kept[connection % 3];
        let head = format!("GET / HTTP/1.1\r\nHost: test\r\n{header}\r\n");
        kept.write(head.as_bytes()).expect("it is open");
        kept.reply().expect("an answer")
    };
    let openings: Vec<_> = (0..9).map(|client| ask(client, String::new())).collect();
    let workers: BTreeSet<_> = openings.iter().map(Reply::pid).collect();
    assert_eq!(workers.len(), 3, "sessions begin everywhere");
    for round in 2..6_usize {
        for (client, opening) in openings.iter().enumerate() {
            let answer = ask(client + round, shown(&opening.value("session")));
            assert_eq!(answer.value("count"), round.to_string(), "{client}: {}", answer.text());
        }
    }
}

#[test]
fn sessions_by_cookie_share_kept_connections() {
    for mode in ["close", "handback"] {
        let Some(app) = App::new("header.js") else { return };
        let flags = ["--by", "cookie:id", "--keep-alive", mode];
        sessions_share_connections(app.env("COOKIE", "id"), &flags, |id| {
            format!("Cookie: id={id}\r\n")
        });
    }
}

#[test]
fn sessions_by_header_share_kept_connections() {
    let Some(app) = App::new("header.js") else { return };
    sessions_share_connections(app, &["--by", "header:mcp-session-id"], |id| {
        format!("MCP-Session-Id: {id}\r\n")
    });
}
