//! Headers of the PROXY protocol, by hand.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;

use nix::sys::signal::Signal;

use crate::support::client::{read_answer, request};
use crate::support::node::{App, scratch};
use crate::support::supervisor::Builder;
use crate::support::worker_body::Digest;
use crate::support::{
    Answer, Supervisor, connect, connect_from, event, eventually, proc, read_reply, reply,
    sticky_run, uninterrupted,
};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// A client as headers name it.
const CLIENT: &str = "192.0.2.7:4711";
const REQUEST: &[u8] = b"GET /?sid=mine HTTP/1.1\r\nHost: test\r\n\r\n";

/// Has every peer of this machine send headers.
fn behind_a_proxy(workers: u16, flags: &[&str]) -> Builder {
    sticky_run(workers, &[&["--proxy-protocol", "--trust", "127.0.0.0/8"], flags].concat())
}

fn line(client: SocketAddr) -> Vec<u8> {
    let family = if client.is_ipv4() { "TCP4" } else { "TCP6" };
    let own = if client.is_ipv4() { "10.0.0.1" } else { "::1" };
    format!("PROXY {family} {} {own} {} 80\r\n", client.ip(), client.port()).into_bytes()
}

/// A header of version 2 with this after the addresses.
fn binary(client: SocketAddr, rest: &[u8]) -> Vec<u8> {
    let (family, mut addresses) = match client.ip() {
        IpAddr::V4(ip) => (0x11, [ip.octets(), [10, 0, 0, 1]].concat()),
        IpAddr::V6(ip) => (0x21, [ip.octets(), [0; 16]].concat()),
    };
    addresses.extend(client.port().to_be_bytes());
    addresses.extend([0, 80]);
    addresses.extend(rest);
    with_signature(0x21, family, &addresses)
}

fn with_signature(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).expect("a header has a length").to_be_bytes();
    [SIGNATURE, &[command, family], &length, rest].concat()
}

/// Two TLVs: a unique id and one that means nothing.
const TLVS: &[u8] = b"\x05\x00\x04\xAB\xCD\xEF\x01\xE7\x00\x02hi";

fn client() -> SocketAddr {
    CLIENT.parse().expect("it is an address")
}

#[track_caller]
fn ask(supervisor: &Supervisor, pieces: &[&[u8]]) -> Answer {
    let mut stream = connect(supervisor.address()).expect("a connection");
    pieces.iter().for_each(|piece| stream.write_all(piece).expect("it is open"));
    read_reply(&mut stream).expect("an answer")
}

#[track_caller]
fn is_from(answer: &Answer, client: &str) {
    assert_eq!(answer.value("message"), format!("CONN client={client} listener=0"), "{answer:?}");
}

/// Sends a header and more, and checks that the worker got just the rest, from this client.
#[track_caller]
fn arrives(supervisor: &Supervisor, header: &[u8], rest: &[u8], client: &str) {
    let mut stream = connect(supervisor.address()).expect("a connection");
    stream.write_all(&[header, rest].concat()).expect("it is open");
    stream.shutdown(Shutdown::Write).expect("a half-closed connection");
    let answer = read_reply(&mut stream).expect("an answer");
    let peer = stream.local_addr().expect("an address").to_string();
    is_from(&answer, if client == "peer" { &peer } else { client });
    let mut sent = Digest::default();
    sent.add(rest);
    assert!(answer.text.contains(&sent.lines()), "{answer:?}, but sent was {}", sent.lines());
}

#[track_caller]
fn is_closed(mut stream: TcpStream) {
    match uninterrupted(|| stream.read(&mut [0; 64])) {
        Ok(0) => {}
        // Bytes that nobody had read.
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        other => panic!("it is open: {other:?}"),
    }
}

#[test]
fn the_header_is_removed_and_every_byte_after_it_arrives_as_if_from_the_client() {
    let v6: SocketAddr = "[2001:db8::7]:4711".parse().expect("it is an address");
    let most = vec![0xA5; 4096 - 16 - 12];
    let headers = [
        (line(client()), CLIENT),
        (line(v6), "[2001:db8::7]:4711"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "peer"),
        (b"PROXY UNKNOWN ffff::1 ::1 1 2\r\n".to_vec(), "peer"),
        (binary(client(), &[]), CLIENT),
        (binary(v6, &[]), "[2001:db8::7]:4711"),
        (binary(client(), TLVS), CLIENT),
        (binary(client(), &most), CLIENT),
        (with_signature(0x20, 0, &[]), "peer"),
        (with_signature(0x20, 0x11, &[1; 12]), "peer"),
    ];
    let noise: Vec<u8> = (0..200_000_u32).map(|number| ((number * 7919) >> 3) as u8).collect();
    for by in ["ip", "sid"] {
        let supervisor = behind_a_proxy(2, &["--by", by]).env("TEST_WORKER", "raw").start();
        for (header, client) in &headers {
            // What looks like another header is the client's.
            for rest in [REQUEST, &[0], &[&line(v6)[..], REQUEST].concat(), &noise, SIGNATURE] {
                arrives(&supervisor, header, rest, client);
            }
        }
    }
}

#[test]
fn a_header_may_come_in_two_parts_split_at_any_byte() {
    let supervisor = behind_a_proxy(2, &["--by", "ip"]).start();
    let idle = proc::open_files(supervisor.pid());
    for header in [line(client()), binary(client(), TLVS)] {
        let bytes = [&header[..], REQUEST].concat();
        for split in 1..bytes.len() {
            eventually("the last connection is handed over", || {
                (proc::open_files(supervisor.pid()) == idle).then_some(())
            });
            let mut stream = connect(supervisor.address()).expect("a connection");
            stream.set_nodelay(true).expect("an option");
            stream.write_all(&bytes[..split]).expect("it is open");
            if split < header.len() {
                // Otherwise both parts could be seen at once.
                eventually("the supervisor waits for the rest", || {
                    (proc::open_files(supervisor.pid()) > idle).then_some(())
                });
            }
            stream.write_all(&bytes[split..]).expect("it is open");
            is_from(&read_reply(&mut stream).expect("an answer"), CLIENT);
        }
    }
}

#[test]
fn a_header_may_come_byte_by_byte_and_a_request_after_it_too() {
    let supervisor = behind_a_proxy(3, &["--balance", "round-robin"]).start();
    let home = ask(&supervisor, &[&line(client()), REQUEST]).slot;
    let bytes = [&binary(client(), TLVS)[..], REQUEST].concat();
    let pieces: Vec<&[u8]> = bytes.chunks(1).collect();
    for _ in 0..6 {
        let answer = ask(&supervisor, &pieces);
        is_from(&answer, CLIENT);
        assert_eq!(answer.slot, home, "the sid after the header is found");
    }
}

#[test]
fn clients_that_headers_name_stay_each_with_a_worker_of_their_own() {
    let flags = ["--by", "ip", "--balance", "round-robin"];
    let supervisor = behind_a_proxy(4, &flags).start();
    let slots = |headers: fn(SocketAddr) -> Vec<u8>, port| -> Vec<u16> {
        let client = |last| SocketAddr::from(([192, 0, 2, last], port));
        (1..9).map(|last| ask(&supervisor, &[&headers(client(last)), REQUEST]).slot).collect()
    };
    let homes = slots(line, 1);
    assert_eq!(homes, [homes[0], homes[1], homes[2], homes[3]].repeat(2));
    assert!((0..4).all(|slot| homes.contains(&slot)), "{homes:?}");
    assert_eq!(slots(|client| binary(client, &[]), 2), homes);
    assert_eq!(slots(|client| binary(client, TLVS), 3), homes);
}

#[test]
fn an_untrusted_peer_gets_nothing_by_a_header() {
    let flags = ["--proxy-protocol", "--trust", "127.0.8.0/24,unix", "--by", "ip"];
    let supervisor = sticky_run(4, &flags).env("TEST_WORKER", "raw").start();
    for header in [line(client()), binary(client(), TLVS)] {
        let rest = [&header[..], REQUEST].concat();
        arrives(&supervisor, &[], &rest, "peer");
    }
    let mut stream =
        connect_from([127, 0, 8, 1].into(), supervisor.address()).expect("a connection");
    stream.write_all(&line(client())).expect("it is open");
    stream.shutdown(Shutdown::Write).expect("a half-closed connection");
    is_from(&read_answer(&mut stream).expect("an answer"), CLIENT);
}

#[test]
fn without_the_flag_a_header_is_the_business_of_the_worker() {
    let flags = ["--trust", "127.0.0.0/8", "--by", "ip", "--balance", "round-robin"];
    let supervisor = sticky_run(2, &flags).env("TEST_WORKER", "raw").start();
    for header in [line(client()), binary(client(), &[])] {
        arrives(&supervisor, &[], &[&header[..], REQUEST].concat(), "peer");
    }
}

#[test]
fn what_is_no_header_closes_the_connection_at_once_and_nobody_elses() {
    let supervisor = behind_a_proxy(2, &["--by", "ip", "--head-timeout", "1h"]).start();
    let wrong: [&[u8]; 9] = [
        REQUEST,
        b"\x16\x03\x01",
        b"PROXY TCP4 192.0.2.7 10.0.0.1 4711\r\n",
        b"PROXY TCP4 2001:db8::7 10.0.0.1 4711 80\r\n",
        b"PROXY UNKNOWNX\r\n",
        &[&b"PROXY UNKNOWN "[..], &[b'a'; 100]].concat(),
        // Longer than it says, so the length is all that is known of it.
        &[SIGNATURE, b"\x21\x11\xFF\xFF"].concat(),
        &with_signature(0x21, 0x11, &[1; 11]),
        &with_signature(0x11, 0x11, &[1; 12]),
    ];
    for bytes in wrong {
        let mut stream = connect(supervisor.address()).expect("a connection");
        stream.write_all(bytes).expect("it is open");
        is_closed(stream);
        is_from(&ask(&supervisor, &[&line(client()), REQUEST]), CLIENT);
    }
    // The log says it once in a while.
    let dropped = event("connection_dropped").with("reason", "proxy_header");
    let said = supervisor.count_events(&dropped);
    assert!((1..wrong.len()).contains(&said), "{said} times");
    supervisor.wait_event(dropped.saying("127.0.0.1:").saying("it begins otherwise"));
}

#[test]
fn a_header_and_what_is_awaited_after_it_have_the_head_timeout() {
    let supervisor = behind_a_proxy(1, &["--head-timeout", "1s"]).start();
    let header = binary(client(), TLVS);
    let send = |bytes: &[u8]| {
        let mut stream = connect(supervisor.address()).expect("a connection");
        stream.write_all(bytes).expect("it is open");
        stream
    };
    let streams = [&[][..], &header[..20], &header, b"PROXY TCP4"].map(send);
    let _others = ask(&supervisor, &[&header, REQUEST]);
    streams.into_iter().for_each(is_closed);
    let dropped = event("connection_dropped").with("reason", "proxy_header");
    supervisor.wait_event(dropped.saying("the header did not come in time"));
}

#[test]
fn one_that_connects_and_leaves_is_no_trouble() {
    let supervisor = behind_a_proxy(1, &["--by", "ip"]).start();
    let idle = proc::open_files(supervisor.pid());
    for _ in 0..5 {
        drop(connect(supervisor.address()).expect("a connection"));
    }
    is_from(&ask(&supervisor, &[&line(client()), REQUEST]), CLIENT);
    eventually("nothing is left of them", || {
        (proc::open_files(supervisor.pid()) == idle).then_some(())
    });
    supervisor.expect_no_trouble();
}

#[test]
fn a_server_that_speaks_first_does_so_after_the_header() {
    let supervisor = behind_a_proxy(1, &["--by", "ip"]).env("TEST_WORKER", "greet").start();
    for header in [line(client()), binary(client(), &[])] {
        is_from(&ask(&supervisor, &[&header]), CLIENT);
    }
}

#[test]
fn a_connection_that_was_given_back_is_still_from_its_client() {
    let supervisor = behind_a_proxy(3, &["--balance", "round-robin"]).start();
    for header in [line(client()), binary(client(), TLVS)] {
        for _ in 0..3 {
            let answer = ask(&supervisor, &[&header, b"GET /back/0 HTTP/1.1\r\n\r\n"]);
            assert_ne!(answer.slot, 0);
            assert!(
                answer.value("message").starts_with("CONN client=192.0.2.7:4711"),
                "{answer:?}"
            );
        }
    }
    let answer = ask(&supervisor, &[b"PROXY UNKNOWN\r\nGET /back/0 HTTP/1.1\r\n\r\n"]);
    assert!(answer.value("message").starts_with("CONN client=127.0.0.1:"), "{answer:?}");
}

#[test]
fn a_connection_that_a_dead_worker_did_not_pick_up_is_still_from_its_client() {
    let flags = ["--by", "ip", "--stall-timeout", "1h"];
    let supervisor = behind_a_proxy(2, &flags).start();
    let victim = ask(&supervisor, &[&line(client()), REQUEST]);
    proc::signal(victim.pid, Signal::SIGSTOP);
    eventually("it is stopped", || proc::is_stopped(victim.pid).then_some(()));
    let send = |header: &[u8]| {
        let mut stream = connect(supervisor.address()).expect("a connection");
        stream.write_all(&[header, REQUEST].concat()).expect("it is open");
        stream
    };
    let clients: Vec<_> = (0..100).map(|_| send(&binary(client(), TLVS))).collect();
    proc::signal(victim.pid, Signal::SIGKILL);
    for mut stream in clients {
        let answer = read_reply(&mut stream).expect("an answer");
        assert_ne!(answer.pid, victim.pid);
        is_from(&answer, CLIENT);
    }
}

#[test]
fn an_upgrade_within_a_header_or_before_a_worker_picks_up_changes_nothing() {
    let flags = ["--by", "ip", "--stall-timeout", "1h"];
    let supervisor = behind_a_proxy(2, &flags).start();
    let idle = proc::open_files_at_rest(supervisor.pid());
    for header in [line(client()), binary(client(), TLVS)] {
        let bytes = [&header[..], REQUEST].concat();
        let mut stream = connect(supervisor.address()).expect("a connection");
        for piece in [&bytes[..5], &bytes[5..header.len() - 1]] {
            stream.write_all(piece).expect("it is open");
            eventually("the supervisor waits for the rest", || {
                (proc::open_files(supervisor.pid()) > idle).then_some(())
            });
            supervisor.upgrade();
        }
        stream.write_all(&bytes[header.len() - 1..]).expect("it is open");
        is_from(&read_reply(&mut stream).expect("an answer"), CLIENT);
    }
    // The program that takes it back is not the one that has read the header.
    let victim = ask(&supervisor, &[&line(client()), REQUEST]);
    proc::signal(victim.pid, Signal::SIGSTOP);
    eventually("it is stopped", || proc::is_stopped(victim.pid).then_some(()));
    let mut stream = connect(supervisor.address()).expect("a connection");
    stream.write_all(&[&line(client()), REQUEST].concat()).expect("it is open");
    supervisor.upgrade();
    proc::signal(victim.pid, Signal::SIGKILL);
    is_from(&read_reply(&mut stream).expect("an answer"), CLIENT);
}

#[test]
fn a_proxy_on_a_unix_socket_names_clients_and_may_have_one_without_an_address() {
    let path = scratch("proxy-unix").join("a.sock");
    let listen = format!("unix:{}", path.display());
    let flags = ["--proxy-protocol", "--trust", "unix", "--by", "ip", "--listen", &listen];
    let supervisor = sticky_run(2, &flags).start();
    let ask = |header: &[u8]| {
        let mut stream = UnixStream::connect(&path).expect("a connection");
        stream.write_all(&[header, REQUEST].concat()).expect("it is open");
        read_reply(&mut stream).expect("an answer")
    };
    is_from(&ask(&line(client())), CLIENT);
    is_from(&ask(&binary(client(), TLVS)), CLIENT);
    for header in [with_signature(0x21, 0x31, &[0; 216]), b"PROXY UNKNOWN\r\n".to_vec()] {
        assert_eq!(ask(&header).value("message"), "CONN listener=0");
    }
    supervisor.expect_no_trouble();
}

#[test]
fn a_server_in_node_finds_the_request_where_it_begins() {
    let Some(app) = App::new("http.js") else { return };
    let flags = ["--proxy-protocol", "--trust", "127.0.0.1", "--by", "ip", "-b", "round-robin"];
    let running = app.flags(&flags).start(3);
    let ask = |last| {
        let stream = connect(running.address()).expect("a connection");
        let mut kept = reply::Kept::over(stream);
        kept.write(&binary(SocketAddr::from(([192, 0, 2, last], 1)), TLVS)).expect("it is open");
        let reply = kept.get("/").expect("an answer");
        assert_eq!(reply.status, 200);
        let text = reply.text();
        text.lines().find(|line| line.starts_with("pid=")).expect("it says who it is").to_owned()
    };
    let homes: Vec<_> = (1..4).map(ask).collect();
    assert!(homes[0] != homes[1] && homes[1] != homes[2] && homes[0] != homes[2], "{homes:?}");
    for _ in 0..3 {
        assert_eq!((1..4).map(ask).collect::<Vec<_>>(), homes);
    }
}

#[test]
fn the_request_of_a_client_that_closes_its_half_with_the_header_arrives() {
    let supervisor = behind_a_proxy(1, &[]).start();
    let text = String::from_utf8([&line(client())[..], REQUEST].concat()).expect("it is a line");
    is_from(&request(supervisor.address(), &text).expect("an answer"), CLIENT);
}
