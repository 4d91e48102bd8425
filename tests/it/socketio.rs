//! Real Socket.IO clients over workers of the example `chat`.

use std::collections::BTreeMap;

use nix::sys::signal::Signal;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::support::{Supervisor, full, proc, programs, sticky_run};

/// What a client saw of one session.
#[derive(Debug, Deserialize)]
pub(super) struct Session {
    /// The name of each worker that greeted it, in order.
    workers: Vec<String>,
    echoes: u32,
    binary: u32,
    /// Echoes that were not what was sent.
    wrong: u32,
    errors: Vec<String>,
    disconnects: Vec<String>,
    /// Whether it is connected at the end.
    connected: bool,
    pub(super) transport: Option<String>,
}

impl Session {
    pub(super) fn is_undisturbed(&self) -> bool {
        let calm = self.errors.is_empty() && self.disconnects.is_empty() && self.connected;
        calm && self.wrong == 0 && self.workers.len() == 1 && self.echoes > 0
    }

    fn was_served_by(&self, pid: i32) -> bool {
        self.workers[0].contains(&format!("(pid {pid})"))
    }
}

/// What a client saw of raw handshakes.
#[derive(Debug, Deserialize)]
struct Handshakes {
    done: u32,
    /// How often each status was seen.
    statuses: BTreeMap<u16, u32>,
    errors: Vec<String>,
}

impl Handshakes {
    /// The statuses that were seen.
    fn statuses(&self) -> Vec<u16> {
        self.statuses.keys().copied().collect()
    }
}

fn chat(flags: &[&str]) -> Supervisor {
    sticky_run(4, flags).command(&[&programs::example("chat")]).start()
}

fn count() -> usize {
    if full() { 300 } else { 24 }
}

fn with(supervisor: &Supervisor, more: Value) -> Value {
    let millis = if full() { 5000 } else { 1000 };
    let mut all = json!({
        "url": format!("http://{}", supervisor.address()),
        "sessions": count(),
        "millis": millis,
    });
    let all_of = all.as_object_mut().expect("it was written as one");
    all_of.extend(more.as_object().expect("it was written as one").clone());
    all
}

#[derive(Deserialize)]
pub(super) struct Verdict {
    pub(super) sessions: Vec<Session>,
}

/// What the sessions of one run saw; none without Node.
fn talk(supervisor: &Supervisor, options: Value) -> Option<Vec<Session>> {
    let client = programs::node("sessions.js", &with(supervisor, options))?;
    client.next::<Value>();
    Some(client.next::<Verdict>().sessions)
}

#[track_caller]
fn assert_all_went_well(sessions: &[Session], transport: &str) {
    assert_eq!(sessions.len(), count());
    for (number, session) in sessions.iter().enumerate() {
        assert!(session.is_undisturbed(), "session {number}: {session:?}");
        assert_eq!(session.transport.as_deref(), Some(transport), "session {number}");
    }
    let binary: u32 = sessions.iter().map(|session| session.binary).sum();
    assert!(binary as usize >= count(), "too few large messages: {binary}");
    let mut workers: Vec<&String> = sessions.iter().map(|session| &session.workers[0]).collect();
    workers.sort();
    workers.dedup();
    assert_eq!(workers.len(), 4, "all workers have sessions");
}

#[test]
fn sessions_by_polling_stay_with_their_worker() {
    let supervisor = chat(&[]);
    let options = json!({ "transports": ["polling"] });
    let Some(sessions) = talk(&supervisor, options) else { return };
    assert_all_went_well(&sessions, "polling");
}

#[test]
fn sessions_by_polling_over_one_pool_of_kept_connections_stay_with_their_worker() {
    let supervisor = chat(&[]);
    let options = json!({ "transports": ["polling"], "keepAlive": true });
    let Some(sessions) = talk(&supervisor, options) else { return };
    assert_all_went_well(&sessions, "polling");
}

#[test]
fn sessions_that_upgrade_from_polling_stay_with_their_worker() {
    let supervisor = chat(&[]);
    let Some(sessions) = talk(&supervisor, json!({})) else { return };
    assert_all_went_well(&sessions, "websocket");
}

#[test]
fn sessions_that_upgrade_over_one_pool_of_kept_connections_stay_with_their_worker() {
    let supervisor = chat(&[]);
    let Some(sessions) = talk(&supervisor, json!({ "keepAlive": true })) else { return };
    assert_all_went_well(&sessions, "websocket");
}

#[test]
fn sessions_by_websocket_only_are_spread_and_undisturbed() {
    let supervisor = chat(&[]);
    let options = json!({ "transports": ["websocket"] });
    let Some(sessions) = talk(&supervisor, options) else { return };
    assert_all_went_well(&sessions, "websocket");
}

/// The negative control: this is what the tests above would see without stickiness.
#[test]
fn sessions_by_polling_break_when_nothing_identifies_a_client() {
    let supervisor = chat(&["--by", "none"]);
    let options = json!({ "transports": ["polling"], "sessions": 20, "millis": 500 });
    let Some(sessions) = talk(&supervisor, options) else { return };
    let broken = sessions.iter().filter(|session| !session.is_undisturbed()).count();
    assert!(broken >= 10, "only {broken} of 20 sessions broke: {sessions:?}");
    let refused = |error: &String| error.contains("400");
    assert!(sessions.iter().any(|session| session.errors.iter().any(refused)), "{sessions:?}");
}

/// Handshakes on new connections, or, with pages asked for in between, over a pool of kept ones.
fn handshakes(supervisor: &Supervisor, count: u32, pages: Option<&[&str]>) -> Option<Handshakes> {
    let url = format!("http://{}", supervisor.address());
    let arguments = json!({ "url": url, "handshakes": count, "clients": 16, "pages": pages });
    Some(programs::node("handshakes.js", &arguments)?.next())
}

#[test]
fn the_next_request_after_a_handshake_finds_its_worker_also_when_it_comes_at_once() {
    let supervisor = chat(&[]);
    let count = if full() { 300 } else { 100 };
    let Some(seen) = handshakes(&supervisor, count, None) else { return };
    assert_eq!(seen.errors, Vec::<String>::new());
    assert_eq!((seen.done, seen.statuses()), (count, vec![200]));
}

/// The negative control of the test above.
#[test]
fn the_next_request_after_a_handshake_fails_when_nothing_identifies_a_client() {
    let supervisor = chat(&["--by", "none"]);
    let Some(seen) = handshakes(&supervisor, 40, None) else { return };
    assert!(seen.done < 20, "{} of 40 handshakes went well", seen.done);
    assert!(seen.statuses().contains(&400), "{:?}", seen.statuses);
}

/// A browser asks for an icon besides the page, and its next poll may take that connection.
#[test]
fn polls_over_the_connections_of_page_and_icon_find_their_worker() {
    let supervisor = chat(&[]);
    let Some(seen) = handshakes(&supervisor, 100, Some(&["/", "/favicon.ico"])) else { return };
    assert_eq!(seen.errors, Vec::<String>::new());
    assert_eq!((seen.done, seen.statuses()), (100, vec![200, 404]));
}

/// Kills a worker while its sessions and those of the others talk.
fn kill_one_under_load(transport: &str) {
    let supervisor = chat(&[]);
    let options = json!({ "transports": [transport], "reconnection": true });
    let Some(client) = programs::node("sessions.js", &with(&supervisor, options)) else { return };
    client.next::<Value>();
    let killed = supervisor.pid_of(2);
    proc::signal(killed, Signal::SIGKILL);
    let sessions = client.next::<Verdict>().sessions;
    let (own, others): (Vec<_>, Vec<_>) =
        sessions.iter().partition(|session| session.was_served_by(killed));
    assert!(own.len() >= count() / 8, "only {} sessions lived on the worker", own.len());
    for session in others {
        assert!(session.is_undisturbed(), "another worker's session: {session:?}");
    }
    for session in own {
        assert_eq!((session.workers.len(), session.disconnects.len()), (2, 1), "{session:?}");
        assert!(!session.workers[1].contains(&format!("(pid {killed})")), "{session:?}");
        assert!(session.connected && session.wrong == 0, "{session:?}");
    }
}

#[test]
fn a_killed_worker_takes_only_its_own_polling_sessions_with_it() {
    kill_one_under_load("polling");
}

#[test]
fn a_killed_worker_takes_only_its_own_websockets_with_it() {
    kill_one_under_load("websocket");
}

#[test]
fn python_clients_stay_with_their_worker_by_polling_and_by_websocket() {
    let supervisor = chat(&[]);
    for transport in ["polling", "websocket"] {
        let url = format!("http://{}", supervisor.address());
        let arguments = json!({ "url": url, "sessions": 8, "rounds": 10, "transport": transport });
        let Some(client) = programs::python("sessions.py", &arguments) else { return };
        let sessions = client.next::<Verdict>().sessions;
        assert_eq!(sessions.len(), 8);
        for session in sessions {
            assert!(session.is_undisturbed(), "{session:?}");
            assert_eq!((session.echoes, session.binary), (10, 2), "{session:?}");
            assert_eq!(session.transport.as_deref(), Some(transport));
        }
    }
}

#[test]
fn a_bare_websocket_reaches_a_worker_and_is_left_alone() {
    let supervisor = chat(&[]);
    let url = format!("ws://{}", supervisor.address());
    let Some(client) = programs::node("plain.js", &json!({ "url": url })) else { return };
    let packets: Vec<String> = client.next();
    assert!(packets[0].starts_with("0{"), "{packets:?}");
    assert!(packets.iter().any(|packet| packet.contains("worker ")), "{packets:?}");
}
