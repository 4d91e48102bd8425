//! Clients of the network that send what nobody honest sends, and cost no more than the others.

use std::io::Write;
use std::net::TcpStream;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::sys::socket::{MsgFlags, send};
use tempfile::TempDir;

use crate::support::{Supervisor, connect, full, proc, read_reply, sticky_run};

/// A head that has no end yet, of about this length.
fn unfinished(length: usize) -> Vec<u8> {
    let mut head = b"GET / HTTP/1.1\r\nCookie: a=".to_vec();
    head.resize(length.max(head.len()), b'a');
    head
}

/// What the supervisor works for each byte that comes one after the other behind heads of this length.
fn work_for_a_byte(supervisor: &Supervisor, length: usize) -> Duration {
    let (clients, rounds) = if full() { (1_000, 100) } else { (30, 8) };
    let head = unfinished(length);
    let mut clients: Vec<TcpStream> = (0..clients)
        .map(|_| {
            let mut stream = connect(supervisor.address()).expect("a connection");
            stream.set_nodelay(true).expect("an option");
            stream.write_all(&head).expect("the kernel takes it");
            stream
        })
        .collect();
    proc::wait_for_rest(supervisor.pid());
    let before = proc::cpu_time(supervisor.pid());
    for _ in 0..rounds {
        for client in &mut clients {
            client.write_all(b"a").expect("the supervisor waits for more");
        }
        // Those that come together are looked at together.
        proc::watch(Duration::from_millis(70));
    }
    proc::wait_for_rest(supervisor.pid());
    (proc::cpu_time(supervisor.pid()) - before) / (clients.len() * rounds) as u32
}

#[test]
fn a_byte_behind_a_long_head_costs_no_more_than_one_behind_a_short_head() {
    let by = ["--by", "cookie:session", "--head-timeout", "1h"];
    let supervisor = sticky_run(1, &by).start();
    let short = work_for_a_byte(&supervisor, 100);
    let long = work_for_a_byte(&supervisor, 60_000);
    assert!(long < 3 * short, "{long:?}, and {short:?} behind a short one");
}

/// Sends bytes of which the one behind `before` is urgent.
fn send_with_urgent(socket: RawFd, before: &str, behind: &str) {
    for (bytes, flags) in
        [(before, MsgFlags::empty()), ("!", MsgFlags::MSG_OOB), (behind, MsgFlags::empty())]
    {
        send(socket, bytes.as_bytes(), flags).expect("the kernel takes it");
    }
}

#[test]
fn urgent_data_makes_no_request_wait() {
    let directory = TempDir::new().expect("a directory of our own");
    let path = directory.path().join("a.sock");
    let unix = format!("unix:{}", path.display());
    let flags = ["--listen", "127.0.0.1:0", "--listen", &unix, "--head-timeout", "1h"];
    let supervisor = sticky_run(1, &flags).start();
    let heads = [
        ("", "GET /?sid=a HTTP/1.1\r\n\r\n"),
        ("GET /?si", "d=a HTTP/1.1\r\n\r\n"),
        ("GET /?sid=a HTTP/1.1\r\n\r", "\n"),
    ];
    for (before, behind) in heads {
        let mut stream = connect(supervisor.address()).expect("a connection");
        send_with_urgent(stream.as_raw_fd(), before, behind);
        read_reply(&mut stream).unwrap_or_else(|error| panic!("{before:?}, {behind:?}: {error}"));
        let mut stream = UnixStream::connect(&path).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("an option");
        send_with_urgent(stream.as_raw_fd(), before, behind);
        read_reply(&mut stream).unwrap_or_else(|error| panic!("{before:?}, {behind:?}: {error}"));
    }
}
