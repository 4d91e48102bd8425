//! Connections that workers give back.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use socket2::SockRef;

use crate::support::client::send;
use crate::support::{Answer, connect, eventually, full, get, proc, read_reply, sticky_run};

#[test]
fn a_connection_given_back_is_served_by_another_worker_with_all_its_bytes() {
    let supervisor = sticky_run(3, &["--balance", "round-robin"]).start();
    let address = supervisor.address();
    let body = vec![7; 100_000];
    for _ in 0..6 {
        let mut stream = connect(address).expect("a connection");
        write!(stream, "POST /back/0 HTTP/1.1\r\nContent-Length: {}\r\n\r\n", body.len())
            .expect("a request");
        let port = stream.local_addr().expect("an address").port();
        let answer = read_reply(&mut stream).expect("an answer");
        assert_ne!(answer.slot, 0);
        let client = format!("CONN client=127.0.0.1:{port}");
        assert!(answer.value("message").starts_with(&client), "{answer:?}");
    }
}

#[test]
fn a_client_whose_connection_was_given_back_stays_with_whoever_served_it() {
    for (by, balance) in
        [("ip", "round-robin"), ("ip", "least-connection"), ("sid", "random"), ("ip", "hash")]
    {
        let supervisor = sticky_run(3, &["--by", by, "--balance", balance]).start();
        // Whoever the client belongs to does not want it.
        let first = get(supervisor.address(), "/?sid=mine").slot;
        let path = format!("/back/{first}?sid=mine");
        let next = get(supervisor.address(), &path).slot;
        assert_ne!(next, first, "--by {by} --balance {balance}");
        for _ in 0..4 {
            assert_eq!(
                get(supervisor.address(), &path).slot,
                next,
                "--by {by} --balance {balance}"
            );
        }
    }
}

#[test]
fn the_only_worker_that_serves_a_connection_is_found_although_it_has_the_most() {
    let supervisor = sticky_run(3, &[]).start();
    let hold = || {
        let mut stream = connect(supervisor.address()).expect("a connection");
        stream.write_all(b"GET /hold HTTP/1.1\r\n\r\n").expect("a request");
        let slot = read_reply(&mut stream).expect("an answer").slot;
        (stream, slot)
    };
    let held = [hold(), hold(), hold()];
    let (last, left): (Vec<_>, Vec<_>) = held.into_iter().partition(|(_, slot)| *slot == 0);
    for (mut stream, _) in left {
        stream.shutdown(Shutdown::Write).expect("a half-closed connection");
        stream.read_to_end(&mut Vec::new()).expect("the end");
    }
    for _ in 0..4 {
        assert_eq!(get(supervisor.address(), "/back/1,2").slot, 0);
    }
    assert_eq!(last.len(), 1);
}

#[test]
fn one_worker_alone_gets_again_what_it_gave_back() {
    let supervisor = sticky_run(1, &[]).start();
    assert_eq!(get(supervisor.address(), "/back").slot, 0);
}

#[test]
fn a_connection_that_no_worker_wants_is_closed_and_costs_nothing_after_that() {
    let supervisor = sticky_run(3, &[]).start();
    let before = (proc::open_files(supervisor.pid()), proc::cpu_time(supervisor.pid()));
    for _ in 0..5 {
        let mut stream = connect(supervisor.address()).expect("a connection");
        stream.write_all(b"GET /back/all HTTP/1.1\r\n\r\n").expect("a request");
        let mut answer = Vec::new();
        // The request was not read, so the end may come as a reset.
        stream.read_to_end(&mut answer).ok();
        assert!(answer.is_empty());
    }
    eventually("the descriptors are closed", || {
        (proc::open_files(supervisor.pid()) == before.0).then_some(())
    });
    let used = proc::cpu_time(supervisor.pid()) - before.1;
    assert!(used < Duration::from_millis(200), "{used:?}");
    assert_eq!(supervisor.violations(), [""; 0]);
    get(supervisor.address(), "/");
}

#[test]
fn connections_given_back_for_ever_are_all_closed_however_many_there_are_at_once() {
    let count = if full() { 1_500 } else { 1_100 };
    let supervisor = sticky_run(2, &["--by", "none"]).start();
    let pid = supervisor.pid();
    let before = proc::open_files_at_rest(pid);
    let request = "GET /back/all HTTP/1.1\r\n\r\n";
    let clients: Vec<_> = (0..count).map(|_| send(supervisor.address(), request)).collect();
    for mut client in clients {
        let mut answer = Vec::new();
        // The request was not read, so the end may come as a reset.
        if let Err(error) = client.read_to_end(&mut answer) {
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        }
        assert!(answer.is_empty());
    }
    proc::wait_for_rest(pid);
    assert_eq!(proc::open_files(pid), before);
    get(supervisor.address(), "/");
}

/// Asks on a connection that stays.
fn ask(stream: &mut TcpStream, path: &str) -> Answer {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\n\r\n").expect("a request");
    read_reply(stream).expect("an answer")
}

#[test]
fn each_request_of_a_connection_that_comes_back_for_it_is_routed_as_a_new_one() {
    let supervisor = sticky_run(3, &["--by", "sid", "--balance", "round-robin"]).start();
    let address = supervisor.address();
    let announce = |number| get(address, &format!("/announce/key-{number}?sid=key-{number}")).slot;
    let homes = [announce(0), announce(1), announce(2)];
    let mut stream = connect(address).expect("a connection");
    // More often than one connection may be given back as nobody's, and to its own worker, too.
    for turn in 0..120 {
        let number = turn / 2 % 3;
        let answer = ask(&mut stream, &format!("/next?sid=key-{number}"));
        assert_eq!(answer.slot, homes[number], "turn {turn}");
    }
    // Without a key each is placed as a new connection is.
    let slots = [(); 6].map(|()| ask(&mut stream, "/next").slot);
    for slot in 0..3 {
        assert_eq!(slots.iter().filter(|other| **other == slot).count(), 2, "{slots:?}");
    }
    assert_eq!(supervisor.violations(), [""; 0]);
}

#[test]
fn a_client_that_is_gone_when_its_connection_comes_back_is_counted_and_nobodys_fault() {
    let limit = ["--max-connections-per-worker", "1"];
    let supervisor = sticky_run(1, &limit).start();
    for is_reset in [true, false] {
        let mut stream = connect(supervisor.address()).expect("a connection");
        ask(&mut stream, "/next");
        if is_reset {
            SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("a reset at the end");
        }
        drop(stream);
        // There is room for one, so the one before has to count as over.
        get(supervisor.address(), "/");
    }
    assert_eq!(supervisor.violations(), [""; 0]);
}
