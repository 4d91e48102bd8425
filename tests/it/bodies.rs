//! Bytes are untouched: the worker reads what the client wrote, whatever that is.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use crate::support::client::{self, read_answer};
use crate::support::worker_body::Digest;
use crate::support::{Answer, Supervisor, get, proc, sticky_run};

/// The size of the large bodies.
const LARGE: usize = 64 * 1024 * 1024;
/// The size of a body whose size does not matter.
const SMALL: usize = 1024 * 1024;
/// What the supervisor's memory may move by, in KiB, for a reason other than the body.
const BOUND_KIB: u64 = 256;

/// Two workers and the key of one of them, so that the supervisor looks at the head.
fn scene() -> (Supervisor, Answer) {
    let supervisor = sticky_run(2, &[]).start();
    let owner = get(supervisor.address(), "/announce/mine");
    (supervisor, owner)
}

/// Binary that never repeats for long, in pieces: each is this many bytes.
fn pieces(total: usize) -> impl Iterator<Item = Vec<u8>> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut left = total;
    std::iter::from_fn(move || {
        let len = left.min(64 * 1024);
        left -= len;
        let words = (0..len.div_ceil(8)).flat_map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state.to_le_bytes()
        });
        (len > 0).then(|| words.take(len).collect())
    })
}

/// Sends a body of this size piece by piece through `write` and compares what arrived.
fn upload(
    size: usize,
    headers: &str,
    end: &str,
    mut write: impl FnMut(&mut TcpStream, &[u8]) -> io::Result<()>,
) {
    let (supervisor, owner) = scene();
    let before = proc::private_kib(supervisor.pid());
    let head = format!("POST /body?sid=mine HTTP/1.1\r\nHost: test\r\n{headers}\r\n\r\n");
    let mut stream = client::send(supervisor.address(), &head);
    if headers.contains("Expect") {
        let mut interim = [0; 25];
        stream.read_exact(&mut interim).expect("the worker asks for the body");
        assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    }
    let mut digest = Digest::default();
    let mut most = before;
    for (nth, piece) in pieces(size).enumerate() {
        digest.add(&piece);
        write(&mut stream, &piece).expect("the worker reads");
        if nth % 64 == 0 {
            most = most.max(proc::private_kib(supervisor.pid()));
        }
    }
    stream.write_all(end.as_bytes()).expect("the worker reads");
    let answer = read_answer(&mut stream).expect("an answer");
    assert_eq!(answer.pid, owner.pid);
    arrived(&answer, &digest);
    assert!(most <= before + BOUND_KIB, "{before} KiB became {most} KiB");
}

#[track_caller]
fn arrived(answer: &Answer, digest: &Digest) {
    assert_eq!(answer.value("length"), digest.length.to_string());
    assert_eq!(answer.value("digest"), format!("{:016x}", digest.hash));
}

/// Sends these bytes in one segment, ends, and compares what arrived of them.
#[track_caller]
fn all_arrives(address: SocketAddr, bytes: &str) {
    let mut stream = client::send(address, bytes);
    stream.shutdown(Shutdown::Write).expect("the connection is open");
    let mut digest = Digest::default();
    digest.add(bytes.as_bytes());
    arrived(&read_answer(&mut stream).expect("an answer"), &digest);
}

#[test]
fn a_body_of_64_mb_by_content_length_arrives_and_the_supervisors_memory_does_not_move() {
    upload(LARGE, &format!("Content-Length: {LARGE}"), "", |stream, piece| stream.write_all(piece));
}

#[test]
fn a_body_of_64_mb_in_chunks_arrives_and_the_supervisors_memory_does_not_move() {
    upload(LARGE, "Transfer-Encoding: chunked", "0\r\n\r\n", |stream, piece| {
        write!(stream, "{:x}\r\n", piece.len())?;
        stream.write_all(piece)?;
        stream.write_all(b"\r\n")
    });
}

#[test]
fn a_body_that_waits_for_100_continue_arrives() {
    let headers = format!("Content-Length: {SMALL}\r\nExpect: 100-continue");
    upload(SMALL, &headers, "", |stream, piece| stream.write_all(piece));
}

#[test]
fn two_requests_in_the_first_segment_arrive_both() {
    let (supervisor, _) = scene();
    let one = "POST /all?sid=mine HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nfirst";
    let two = "POST /all?sid=mine HTTP/1.1\r\nHost: test\r\nContent-Length: 6\r\n\r\nsecond";
    all_arrives(supervisor.address(), &format!("{one}{two}"));
}

#[test]
fn a_head_that_comes_byte_by_byte_arrives() {
    let (supervisor, owner) = scene();
    let bytes = "GET /all?a=b&sid=mine HTTP/1.1\r\nHost: test\r\n\r\n";
    let mut stream = client::connect(supervisor.address()).expect("a connection");
    stream.set_nodelay(true).expect("the connection is open");
    let mut digest = Digest::default();
    for byte in bytes.as_bytes() {
        digest.add(&[*byte]);
        stream.write_all(&[*byte]).expect("room for a byte");
    }
    stream.shutdown(Shutdown::Write).expect("the connection is open");
    let answer = read_answer(&mut stream).expect("an answer");
    assert_eq!(answer.pid, owner.pid);
    arrived(&answer, &digest);
}
