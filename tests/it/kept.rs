//! Connections that clients keep open to workers of the crate, in the hands of browsers and proxies.

use std::collections::BTreeSet;

use crate::support::programs;
use crate::support::reply::{Kept, POLLING, Reply, sid_of};
use crate::support::sticky_run;

/// An event that nobody listens to.
const EVENT: &str = r#"42["nothing"]"#;

/// Polls until the chat has said hello or the answer is an error. A session that sends an event before
/// is closed.
fn greeting(kept: &mut Kept, path: &str) -> Reply {
    loop {
        let reply = kept.get(path).expect("an answer");
        if reply.status != 200 || reply.text().contains("worker ") {
            return reply;
        }
    }
}

/// What a browser does: a page and an icon, then the polls of its session over whatever is open.
#[test]
fn a_browser_polls_its_session_over_the_connections_of_page_and_icon() {
    let supervisor = sticky_run(4, &[]).command(&[&programs::example("chat")]).start();
    let mut misrouted = Vec::new();
    for _ in 0..10 {
        let mut open: Vec<_> = (0..4).map(|_| Kept::open(supervisor.address())).collect();
        for (number, kept) in open.iter_mut().enumerate() {
            kept.get(["/", "/favicon.ico"][number % 2]).expect("an answer");
        }
        let sid = sid_of(&open[0].get(POLLING).expect("an answer"));
        let path = format!("{POLLING}&sid={sid}");
        let mut replies = vec![open[1].post(&path, b"40").expect("an answer")];
        replies.push(greeting(&mut open[2], &path));
        for number in [3, 0, 1, 2] {
            replies.push(open[number].post(&path, EVENT.as_bytes()).expect("an answer"));
        }
        let replies = replies.into_iter();
        misrouted.extend(replies.filter(|reply| reply.status != 200).map(|reply| reply.text()));
    }
    assert_eq!(misrouted, Vec::<String>::new());
    supervisor.expect_no_trouble();
}

/// What a proxy with a pool does: any client's request on any connection. Sessions begin where the
/// supervisor wants them, also over a single connection.
#[test]
fn a_pool_carries_everybodys_polls_and_sessions_spread_over_it() {
    let supervisor = sticky_run(4, &[]).command(&[&programs::example("chat")]).start();
    let mut pool: Vec<_> = (0..3).map(|_| Kept::open(supervisor.address())).collect();
    let mut turn = (0..3).cycle();
    let mut next = || turn.next().expect("it never ends");
    let mut workers = BTreeSet::new();
    let paths: Vec<_> = (0..8)
        .map(|_| format!("{POLLING}&sid={}", sid_of(&pool[0].get(POLLING).expect("an answer"))))
        .collect();
    for path in &paths {
        assert_eq!(pool[next()].post(path, b"40").expect("an answer").status, 200);
    }
    for path in &paths {
        let reply = greeting(&mut pool[next()], path);
        assert_eq!(reply.status, 200, "{}", reply.text());
        let text = reply.text();
        let worker = text.split("worker ").nth(1).and_then(|rest| rest.split(' ').next());
        workers.insert(worker.unwrap_or_else(|| panic!("no worker in {text}")).to_owned());
    }
    assert!(workers.len() > 1, "all sessions of one connection are on worker {workers:?}");
    for path in paths.iter().chain(&paths) {
        assert_eq!(pool[next()].post(path, EVENT.as_bytes()).expect("an answer").status, 200);
    }
}
