//! Connections that carry more than one request, and so perhaps more than one session.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::load::{count, talk};
use super::packages::setup_worker;
use crate::support::node::{App, Running};
use crate::support::reply::{self, Kept, POLLING, Session, handshake, sid_of};

fn scene(mode: &str) -> Option<Running> {
    let app = App::new("socketio.js")?.flags(&["--keep-alive", mode, "-b", "round-robin"]);
    Some(app.start(3))
}

#[test]
fn d07_twenty_sessions_of_three_workers_share_one_connection_that_is_handed_back() {
    let Some(running) = scene("handback") else { return };
    let sessions: Vec<_> = (0..20).map(|_| Session::open(running.address())).collect();
    let workers: BTreeSet<i32> = sessions.iter().map(|session| session.pid).collect();
    assert_eq!(workers.len(), 3);
    let mut kept = Kept::open(running.address());
    for session in sessions.iter().chain(&sessions) {
        let answer = kept.post(&session.path(), b"6").expect("the connection stays open");
        assert_eq!((answer.status, answer.closes()), (200, false), "{}", answer.text());
    }
}

#[test]
fn d07_a_pool_that_all_sessions_share_serves_workers_of_the_package_too() {
    for (version, mode) in [(1, "close"), (1, "handback"), (2, "close")] {
        let Some(app) = setup_worker(version) else { return };
        let running = app.env("KEEP_ALIVE", "60000").flags(&["--keep-alive", mode]).start(3);
        let options = json!({ "transport": "polling", "agent": "shared" });
        let Some(verdict) = talk(&running, &options) else { return };
        verdict.assert_right(count(), "polling");
    }
}

#[test]
fn d08_a_connection_that_the_worker_closes_is_closed_for_its_client() {
    for version in [1, 2] {
        let Some(app) = setup_worker(version) else { return };
        let running = app.start(2);
        let mut kept = Kept::open(running.address());
        kept.post("/", &[b'x'; 2000]).expect("an answer");
        // Version 2 closes at once, version 1 after Node's five seconds. Nobody holds the
        // connection open after it.
        assert_eq!(kept.end().expect("it ends in order"), b"");
        assert_eq!(reply::get(running.address(), "/").status, 200);
    }
}

#[test]
fn d11_only_answers_to_polls_close_their_connection() {
    let Some(running) = scene("close") else { return };
    let mut kept = Kept::open(running.address());
    for _ in 0..3 {
        let answer = kept.get("/").expect("the connection stays open");
        assert_eq!((answer.status, answer.closes()), (200, false));
    }
    let answer = kept.get(POLLING).expect("the connection is open");
    assert_eq!((answer.status, answer.closes()), (200, true));
    assert_eq!(kept.end().expect("it ends in order"), b"");
}

#[test]
fn with_handback_no_answer_closes_its_connection() {
    let Some(running) = scene("handback") else { return };
    let mut kept = Kept::open(running.address());
    for path in ["/", POLLING, "/", POLLING] {
        let answer = kept.get(path).expect("the connection stays open");
        assert_eq!((answer.status, answer.closes()), (200, false));
    }
}

/// A message of Socket.IO that the app sends back, of this many bytes.
fn echo(length: usize) -> Vec<u8> {
    format!(r#"420["echo","{}"]"#, "x".repeat(length)).into_bytes()
}

#[test]
fn a_request_that_is_handed_back_arrives_with_its_whole_body() {
    let Some(running) = scene("handback") else { return };
    for length in [10, 60_000, 700_000] {
        let session = Session::open(running.address());
        let mut kept = a_connection_to_another_worker(&running, &session);
        let posted = kept.post(&session.path(), &echo(length)).expect("an answer");
        assert_eq!((posted.status, posted.text()), (200, "ok".to_owned()), "{length} bytes");
        let polled = kept.get(&session.path()).expect("an answer");
        assert!(polled.text().contains(&"x".repeat(length)), "{length} bytes came back");
    }
}

#[test]
fn a_request_in_chunks_that_is_handed_back_arrives_with_its_whole_body() {
    let Some(running) = scene("handback") else { return };
    let session = Session::open(running.address());
    let mut kept = a_connection_to_another_worker(&running, &session);
    let head =
        format!("POST {} HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n", session.path());
    kept.write(format!("{head}\r\n").as_bytes()).expect("it is open");
    for piece in echo(100_000).chunks(777) {
        let chunk = [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat();
        kept.write(&chunk).expect("it is open");
    }
    kept.write(b"0\r\n\r\n").expect("it is open");
    assert_eq!(kept.reply().expect("an answer").text(), "ok");
    let polled = kept.get(&session.path()).expect("an answer");
    assert!(polled.text().contains(&"x".repeat(100_000)), "all of it came back");
}

/// A connection that is with a worker which does not know the session.
fn a_connection_to_another_worker(running: &Running, session: &Session) -> Kept {
    loop {
        let mut kept = Kept::open(running.address());
        if kept.get("/").expect("an answer").pid() != session.pid {
            return kept;
        }
    }
}

/// The requests of a session would disturb each other, as they do in Engine.IO alone: so one of each.
#[test]
fn requests_that_come_together_are_answered_in_their_order() {
    let Some(running) = scene("handback") else { return };
    let sessions: Vec<_> = (0..3).map(|_| Session::open(running.address())).collect();
    let workers: BTreeSet<i32> = sessions.iter().map(|session| session.pid).collect();
    assert_eq!(workers.len(), 3);
    let page = "GET / HTTP/1.1\r\nHost: test\r\n\r\n";
    let mut all = page.to_owned();
    for session in &sessions {
        let path = session.path();
        all += &format!("POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: 1\r\n\r\n6{page}");
    }
    let mut kept = Kept::open(running.address());
    kept.write(all.as_bytes()).expect("it is open");
    assert_eq!(kept.reply().expect("an answer").status, 200);
    for session in &sessions {
        assert_eq!(kept.reply().expect("an answer").text(), "ok");
        assert_eq!(kept.reply().expect("an answer").pid(), session.pid);
    }
}

/// The ids of a bundled server and of one with its own ids are announced, not minted.
#[test]
fn sessions_with_ids_of_the_app_may_share_one_pool() {
    for mode in ["close", "handback"] {
        let Some(app) = App::new("socketio.js") else { return };
        let running = app.env("IDS", "uuid").flags(&["--keep-alive", mode]).start(3);
        let options = json!({ "transport": "polling", "agent": "shared" });
        let Some(verdict) = talk(&running, &options) else { return };
        verdict.assert_right(count(), "polling");
    }
}

#[test]
fn sessions_that_begin_on_one_kept_connection_are_placed_one_by_one() {
    let Some(running) = scene("handback") else { return };
    let mut kept = Kept::open(running.address());
    let mut each = BTreeMap::new();
    for _ in 0..6 {
        let sid = sid_of(&kept.get(POLLING).expect("the connection stays open"));
        let session = Session::greet(running.address(), sid);
        *each.entry(session.pid).or_insert(0) += 1;
    }
    assert_eq!(each.len(), 3, "{each:?}");
}

/// The supervisor cannot wait for bytes where a server may speak first, so the worker looks.
#[test]
fn sessions_behind_a_server_of_another_protocol_stick() {
    let Some(app) = App::new("mux.js") else { return };
    let running = app.flags(&["--keep-alive", "handback", "-b", "round-robin"]).start(3);
    let sids: Vec<_> = (0..6).map(|_| handshake(running.address())).collect();
    let greet = |sid| Session::greet(running.address(), sid);
    let sessions: Vec<_> = sids.into_iter().map(greet).collect();
    let workers: BTreeSet<i32> = sessions.iter().map(|session| session.pid).collect();
    assert_eq!(workers.len(), 3);
    let mut kept = Kept::open(running.address());
    for session in &sessions {
        let answer = kept.post(&session.path(), b"6").expect("the connection stays open");
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let mut line = Kept::open(running.address());
    line.write(b"#\n").expect("it is open");
    assert!(line.end().expect("it ends").starts_with(b"line "));
}

/// A trusted proxy has a pool for all its clients.
#[test]
fn clients_of_one_connection_of_a_proxy_are_told_apart_by_address() {
    let Some(app) = App::new("http.js") else { return };
    let running = app.flags(&["--by", "ip", "--trust", "127.0.0.1", "-b", "round-robin"]).start(3);
    let ask = |kept: &mut Kept, client: u8| {
        let header = format!("X-Forwarded-For: 192.0.2.{client}\r\n");
        let head = format!("GET / HTTP/1.1\r\nHost: test\r\n{header}\r\n");
        kept.write(head.as_bytes()).expect("it is open");
        kept.reply().expect("an answer").pid()
    };
    let mut kept = Kept::open(running.address());
    let workers: Vec<_> = (0..6).map(|client| ask(&mut kept, client)).collect();
    assert_eq!(workers.iter().collect::<BTreeSet<_>>().len(), 3);
    let mut another = Kept::open(running.address());
    for (client, worker) in (0..6).zip(&workers).rev() {
        assert_eq!((ask(&mut kept, client), ask(&mut another, client)), (*worker, *worker));
    }
}

/// The supervisor does not keep as much as a worker may read.
#[test]
fn a_request_whose_head_is_too_long_to_be_handed_back_is_served_where_it_came() {
    let Some(app) = App::new("header.js") else { return };
    let flags = ["--by", "header:mcp-session-id", "--keep-alive", "handback", "-b", "round-robin"];
    let app = app.flags(&flags).env("NODE_OPTIONS", "--max-http-header-size=1000000");
    let running = app.start(2);
    let first = reply::get(running.address(), "/");
    let session = first.header("mcp-session-id").expect("a session");
    for (length, is_served_here) in [(200_000, false), (300_000, true)] {
        let mut kept = Kept::open(running.address());
        let other = loop {
            let other = kept.get("/").expect("an answer").pid();
            if other != first.pid() {
                break other;
            }
            kept = Kept::open(running.address());
        };
        let fill = "x".repeat(length);
        let head =
            format!("GET / HTTP/1.1\r\nHost: a\r\nMcp-Session-Id: {session}\r\nX: {fill}\r\n");
        for _ in 0..2 {
            kept.write(format!("{head}\r\n").as_bytes()).expect("it is open");
            let answer = kept.reply().expect("an answer");
            let expected = if is_served_here { other } else { first.pid() };
            assert_eq!((answer.status, answer.pid()), (200, expected), "{length} bytes");
        }
    }
}
