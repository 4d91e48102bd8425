//! The bench has to be right before its numbers can be: the floor serves, the clients notice what
//! is wrong, and the worker keeps to the protocol.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::thread;
use std::time::Duration;

use nix::sys::socket::{MsgFlags, recv};
use sticky_bench::args::Floor;
use sticky_bench::cost::measure;
use sticky_bench::fdpass;
use sticky_bench::floor::{FloorWorker, spawn};
use sticky_bench::load::{Load, Requests, Stays, announce, ask};
use sticky_bench::sid::sid;
use sticky_bench::supervisor::Supervisor;

const BENCH: &str = env!("CARGO_BIN_EXE_sticky-bench");
const LOCALHOST: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0);

fn load(connections: u32, requests: Requests<'_>, stays: Stays) -> Load<'_> {
    Load { connections, at_once: 8, requests, stays, round: 0 }
}

#[test]
fn the_floor_serves_every_connection_and_stops() {
    let floor = Supervisor::floor(Path::new(BENCH)).unwrap();
    announce(floor.address, 0).expect("both workers answer");
    // More than a channel holds of the CLOSED messages that the floor never reads.
    let run = measure(&floor, &load(3_000, Requests::Handshake, Stays::Anywhere)).unwrap();
    assert_eq!(run.outcome.errors, 0, "{:?}", run.outcome.last_error);
    assert!(run.microseconds > 0.0 && run.per_second > 0.0, "{run:?}");
    assert!(floor.private_memory().unwrap() > 0);
    let address = floor.address;
    floor.stop().unwrap();
    assert!(TcpStream::connect(address).is_err(), "nobody listens any more");
}

#[test]
fn the_floor_keeps_nobody_with_its_worker() {
    let floor = Supervisor::floor(Path::new(BENCH)).unwrap();
    let by_sid = load(400, Requests::Known { per_slot: 100 }, Stays::WithSid).run(floor.address);
    assert!((1..400).contains(&by_sid.astray), "{by_sid:?}");
    // One thread has 10,001 addresses, and the next connection is from the first of them again.
    let again = Load { at_once: 1, ..load(10_002, Requests::Handshake, Stays::WithAddress) };
    assert_eq!(again.run(floor.address).astray, 1);
    floor.stop().unwrap();
}

#[test]
fn a_connection_without_the_whole_answer_is_an_error() {
    let listener = TcpListener::bind(LOCALHOST).unwrap();
    let SocketAddr::V4(address) = listener.local_addr().unwrap() else {
        unreachable!("bound to v4")
    };
    let server = thread::spawn(move || {
        let answers = ["", "HTTP/1.1 500 Oh\r\n\r\n0 0\n", "HTTP/1.1 200 OK\r\n\r\n0", "nonsense"];
        for answer in answers {
            let (mut connection, _) = listener.accept().unwrap();
            let size = connection.read(&mut [0; 4096]).unwrap();
            assert!(size > 0, "the client sends its request first");
            connection.write_all(answer.as_bytes()).unwrap();
        }
    });
    let load = Load { at_once: 2, ..load(4, Requests::Handshake, Stays::Anywhere) };
    assert_eq!(load.run(address).errors, 4);
    server.join().unwrap();
    assert!(ask(Ipv4Addr::LOCALHOST, address, "/").is_err(), "the listener is gone");
}

#[test]
fn the_worker_announces_before_it_answers_and_reports_when_idle() {
    let command = vec![BENCH.to_owned(), "worker".to_owned()];
    let floor = Floor { listen: LOCALHOST, workers: 2, command };
    let FloorWorker { channel, mut process } = spawn(&floor, 1).unwrap();
    let (client, served) = connection();
    fdpass::send(&channel, b"CONN listener=0\n", served).unwrap();
    let mut client = File::from(OwnedFd::from(client));
    client.write_all(b"GET /announce?n=3 HTTP/1.1\r\n\r\n").unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("\r\n\r\n1 3\n"), "{answer}");
    for index in 0..3 {
        assert_eq!(
            message(&channel, MsgFlags::MSG_DONTWAIT),
            format!("SESSION {}\n", sid(1, index))
        );
    }
    assert_eq!(message(&channel, MsgFlags::empty()), "CLOSED 1\n");
    drop(channel);
    assert!(process.wait().unwrap().success(), "the end of the channel is no error");
}

/// The two ends of a connection.
fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(LOCALHOST).unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    (client, listener.accept().unwrap().0)
}

fn message(channel: &OwnedFd, flags: MsgFlags) -> String {
    let mut buffer = [0; 128];
    let size = recv(channel.as_raw_fd(), &mut buffer, flags).expect("a message");
    String::from_utf8_lossy(&buffer[..size]).into_owned()
}
