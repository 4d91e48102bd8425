//! Each source of keys with each placement.

use std::io::Write;
use std::net::Ipv4Addr;

use crate::support::client::read_answer;
use crate::support::{Supervisor, connect_from, sticky_run};

const PLACEMENTS: [&str; 4] = ["least-connection", "round-robin", "random", "hash"];
/// Enough that no placement puts all of them on one of four workers by chance.
const CLIENTS: u8 = 16;
const CONNECTIONS: usize = 20;

/// The slots that answered a client, one for each connection.
fn ask(supervisor: &Supervisor, client: u8, request: &str) -> u16 {
    let source = Ipv4Addr::new(127, 0, 7, client + 1).into();
    let mut stream = connect_from(source, supervisor.address()).expect("a connection");
    stream.write_all(request.as_bytes()).expect("a request");
    read_answer(&mut stream).expect("an answer").slot
}

/// Every client comes back to its first worker with every placement, and not all share one.
#[track_caller]
fn everybody_stays(by: &str, request: impl Fn(u8) -> String) {
    for placement in PLACEMENTS {
        let supervisor = sticky_run(4, &["--by", by, "--balance", placement]).start();
        let homes: Vec<u16> =
            (0..CLIENTS).map(|client| ask(&supervisor, client, &request(client))).collect();
        assert!(homes.iter().any(|home| *home != homes[0]), "{placement}: all on one worker");
        for _ in 1..CONNECTIONS {
            let slots: Vec<u16> =
                (0..CLIENTS).map(|client| ask(&supervisor, client, &request(client))).collect();
            assert_eq!(slots, homes, "--by {by} --balance {placement}");
        }
    }
}

#[test]
fn clients_stay_by_their_ip() {
    everybody_stays("ip", |_| "GET / HTTP/1.1\r\n\r\n".to_owned());
}

#[test]
fn clients_stay_by_a_sid_that_nobody_announced() {
    everybody_stays("sid", |client| {
        format!("GET /socket.io/?EIO=4&sid=id-{client} HTTP/1.1\r\n\r\n")
    });
}

#[test]
fn clients_stay_by_a_query_parameter() {
    everybody_stays("query:user", |client| format!("GET /?user={client} HTTP/1.1\r\n\r\n"));
}

#[test]
fn clients_stay_by_a_header() {
    everybody_stays("header:x-user", |client| {
        format!("POST / HTTP/1.1\r\nHost: test\r\nX-User: {client}\r\n\r\n")
    });
}

#[test]
fn clients_stay_by_a_cookie() {
    everybody_stays("cookie:user", |client| {
        format!("GET / HTTP/1.1\r\nCookie: a=b; user={client}; c=d\r\n\r\n")
    });
}

#[test]
fn without_a_key_nobody_stays() {
    let supervisor = sticky_run(4, &["--by", "none", "--balance", "round-robin"]).start();
    let slots: Vec<u16> =
        (0..4).map(|_| ask(&supervisor, 0, "GET /?sid=a HTTP/1.1\r\n\r\n")).collect();
    for slot in 0..4 {
        assert!(slots.contains(&slot), "{slots:?}");
    }
}
