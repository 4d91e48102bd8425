//! Announced keys: the second look, who owns them, and when they are free.

use std::io::Write;
use std::net::SocketAddr;
use std::thread;

use nix::sys::signal::Signal;

use crate::support::{Answer, connect, event, eventually, get, proc, read_reply, sticky_run};

const CLIENTS: usize = 16;
const HANDSHAKES: usize = 300;

fn ask(address: SocketAddr, sid: &str) -> Answer {
    get(address, &format!("/?EIO=4&sid={sid}"))
}

/// How many clients did not find their worker, when each comes back the moment it knows its key.
fn misrouted(by: &str) -> usize {
    let supervisor = sticky_run(4, &["--by", by]).start();
    let address = supervisor.address();
    let clients = (0..CLIENTS).map(|client| {
        let mine = (0..HANDSHAKES).filter(move |number| number % CLIENTS == client);
        thread::spawn(move || mine.filter(|number| !finds_back(address, *number)).count())
    });
    let clients: Vec<_> = clients.collect();
    clients.into_iter().map(|client| client.join().expect("every client is answered")).sum()
}

/// Whether a client that has the next connection already open reaches the worker that has just
/// told it its key.
fn finds_back(address: SocketAddr, number: usize) -> bool {
    let mut first = connect(address).expect("a connection");
    let mut second = connect(address).expect("a connection");
    let handshake = format!("GET /announce/key-{number} HTTP/1.1\r\n\r\n");
    first.write_all(handshake.as_bytes()).expect("a request");
    let home = read_reply(&mut first).expect("an answer");
    let poll = format!("GET /?sid=key-{number} HTTP/1.1\r\n\r\n");
    second.write_all(poll.as_bytes()).expect("a request");
    read_reply(&mut second).expect("an answer").pid == home.pid
}

#[test]
fn a_client_that_comes_back_at_once_finds_its_worker() {
    assert_eq!(misrouted("sid"), 0);
}

#[test]
fn without_a_key_clients_that_come_back_at_once_are_misrouted() {
    assert!(misrouted("none") > HANDSHAKES / 4);
}

#[test]
fn an_announced_key_with_any_characters_finds_its_worker() {
    let supervisor = sticky_run(4, &["--balance", "round-robin"]).start();
    let address = supervisor.address();
    let long = "x".repeat(4096);
    // Of the longest one each byte may be escaped, on the channel and in the request.
    for key in [long, "%20".repeat(4096), "a%20b".to_owned(), "%C3%A9%00%FF".to_owned()] {
        let home = get(address, &format!("/announce/{key}"));
        for _ in 0..8 {
            assert_eq!(ask(address, &key).slot, home.slot, "{key}");
        }
    }
    assert_eq!(supervisor.violations(), [""; 0]);
}

#[test]
fn a_key_that_is_too_long_to_be_announced_stays_where_it_was_placed_and_is_said_once() {
    let supervisor = sticky_run(3, &["--balance", "round-robin"]).start();
    let address = supervisor.address();
    for letter in ["x", "y"] {
        let key = letter.repeat(4097);
        let home = get(address, &format!("/announce/{key}?sid={key}"));
        for _ in 0..3 {
            assert_eq!(ask(address, &key).slot, home.slot);
        }
    }
    supervisor.wait_event(event("protocol_violated").saying("a key of more than 4096 bytes"));
    supervisor.wait_event(event("presented_key_too_long").with("bytes", 4097));
    assert_eq!(supervisor.count_events("presented_key_too_long"), 1);
}

#[test]
fn an_unknown_sid_goes_somewhere_and_stays_there() {
    let supervisor = sticky_run(4, &["--balance", "round-robin"]).start();
    let address = supervisor.address();
    let slots =
        || -> Vec<u16> { (0..8).map(|sid| ask(address, &format!("made-up-{sid}")).slot).collect() };
    let homes = slots();
    for slot in 0..4 {
        assert_eq!(homes.iter().filter(|home| **home == slot).count(), 2, "{homes:?}");
    }
    assert_eq!(slots(), homes);
}

#[test]
fn an_announced_key_beats_a_presented_one() {
    let supervisor = sticky_run(2, &["--balance", "round-robin"]).start();
    let address = supervisor.address();
    let presented = ask(address, "mine");
    let announced = get(address, "/announce/mine");
    assert_ne!(announced.slot, presented.slot);
    // Only a key that nobody knows is looked up twice, so this one may take a moment.
    eventually("the announcement counts", || {
        (ask(address, "mine").slot == announced.slot).then_some(())
    });
    for _ in 0..4 {
        assert_eq!(ask(address, "mine").slot, announced.slot);
    }
}

#[test]
fn a_key_that_a_live_worker_owns_cannot_be_announced_by_another() {
    let supervisor = sticky_run(2, &["--balance", "round-robin"]).start();
    let address = supervisor.address();
    let owner = get(address, "/announce/mine");
    let said = event("announced_key_taken").with("owner", owner.slot);
    for _ in 0..2 {
        let other = get(address, "/announce/mine");
        assert_ne!(other.slot, owner.slot);
        assert_eq!(get(address, "/announce/other").slot, owner.slot);
        supervisor.wait_event(&said);
        assert_eq!(ask(address, "mine").slot, owner.slot);
    }
    // Clients may share a key, and an app that answers each of them with it does nothing wrong.
    assert_eq!((supervisor.count_events(&said), supervisor.violations().len()), (1, 0));
}

#[test]
fn a_key_that_has_ended_is_free() {
    let supervisor = sticky_run(2, &["--balance", "round-robin"]).start();
    let address = supervisor.address();
    let owner = get(address, "/announce/mine");
    assert_eq!(get(address, "/end/mine?sid=mine").slot, owner.slot);
    let next = eventually("the key goes elsewhere", || {
        let answer = ask(address, "mine");
        (answer.slot != owner.slot).then_some(answer)
    });
    assert_eq!(get(address, "/announce/mine?sid=mine").slot, next.slot);
    assert_eq!(supervisor.count_events("announced_key_taken"), 0);
}

#[test]
fn a_key_whose_owner_is_gone_is_placed_anew_and_stays_there() {
    let supervisor = sticky_run(2, &["--balance", "round-robin"]).start();
    let address = supervisor.address();
    let owner = get(address, "/announce/mine");
    proc::signal(owner.pid, Signal::SIGKILL);
    // Until it has ended, it may pick up what nobody can get back.
    supervisor.wait_event(event("worker_exited").worker(owner.slot));
    let next = ask(address, "mine");
    assert_ne!(next.pid, owner.pid);
    supervisor.wait_events(event("worker_ready").worker(owner.slot), 2);
    for _ in 0..4 {
        assert_eq!(ask(address, "mine").pid, next.pid);
    }
}
