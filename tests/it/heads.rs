//! Request heads as they come over the wire.

use std::fs;
use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::thread;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use tempfile::TempDir;

use crate::support::worker_body::Digest;
use crate::support::{Supervisor, connect, eventually, proc, read_reply, sticky_run};

fn send(supervisor: &Supervisor, pieces: &[&[u8]]) -> TcpStream {
    let mut stream = connect(supervisor.address()).expect("a connection");
    stream.set_nodelay(true).expect("an option");
    for piece in pieces {
        stream.write_all(piece).expect("the supervisor leaves the connection open");
    }
    stream
}

/// Sends bytes and the end, and checks that a worker which reads everything got just these.
#[track_caller]
fn arrive_untouched(supervisor: &Supervisor, pieces: &[&[u8]]) -> u16 {
    let mut stream = send(supervisor, pieces);
    stream.shutdown(Shutdown::Write).expect("a half-closed connection");
    let answer = read_reply(&mut stream).expect("an answer");
    let mut sent = Digest::default();
    pieces.iter().for_each(|piece| sent.add(piece));
    assert!(answer.text.contains(&sent.lines()), "{answer:?}, but sent was {}", sent.lines());
    answer.slot
}

#[test]
fn a_request_line_may_come_in_two_parts_split_at_any_byte() {
    let supervisor = sticky_run(3, &["--balance", "round-robin"]).start();
    let request = b"GET /?EIO=4&sid=a%62c HTTP/1.1\r\nHost: test\r\n\r\n";
    let idle = proc::open_files(supervisor.pid());
    let home = read_reply(&mut send(&supervisor, &[request])).expect("an answer").slot;
    let line = request.iter().position(|byte| *byte == b'\r').expect("the line has an end");
    for split in 1..request.len() {
        eventually("the last connection is handed over", || {
            (proc::open_files(supervisor.pid()) == idle).then_some(())
        });
        let (first, rest) = request.split_at(split);
        let mut stream = send(&supervisor, &[first]);
        if split < line {
            // Otherwise both parts could be seen at once.
            eventually("the supervisor waits for the rest", || {
                (proc::open_files(supervisor.pid()) > idle).then_some(())
            });
        }
        stream.write_all(rest).expect("the rest of the request");
        let answer = read_reply(&mut stream).expect("an answer");
        assert_eq!(answer.slot, home, "split after {split} bytes");
    }
}

#[test]
fn a_key_at_the_end_of_a_head_of_64_kib_is_found() {
    let supervisor = sticky_run(3, &["--by", "header:x-user", "--balance", "round-robin"]).start();
    let mut head = b"GET / HTTP/1.1\r\n".to_vec();
    while head.len() < 64 * 1024 - 100 {
        head.extend_from_slice(b"x-filler: 0123456789\r\n");
    }
    head.extend_from_slice(b"X-User: ann\r\n\r\n");
    let home = read_reply(&mut send(&supervisor, &[&head])).expect("an answer").slot;
    for piece in [head.len(), 16_000, 1_000, 100] {
        let pieces: Vec<&[u8]> = head.chunks(piece).collect();
        let slot = read_reply(&mut send(&supervisor, &pieces)).expect("an answer").slot;
        assert_eq!(slot, home, "in pieces of {piece} bytes");
    }
}

#[test]
fn a_sid_is_found_wherever_some_server_would_find_it() {
    let supervisor = sticky_run(3, &["--balance", "round-robin"]).env("TEST_WORKER", "raw").start();
    let home = arrive_untouched(&supervisor, &[b"GET /?sid=mine HTTP/1.1\r\n\r\n"]);
    for line in [
        "GET  /?sid=mine HTTP/1.1",
        "GET /?sid=mine HTTP/2.0",
        "GET\t/?sid=mine",
        "\r\n GET /?sid=mine HTTP/1.2",
    ] {
        let head = format!("{line}\r\n\r\n");
        for _ in 0..2 {
            assert_eq!(arrive_untouched(&supervisor, &[head.as_bytes()]), home, "{line:?}");
        }
    }
}

#[test]
fn what_is_not_http_goes_to_a_worker_untouched() {
    let supervisor = sticky_run(2, &["--by", "sid,cookie:a"]).env("TEST_WORKER", "raw").start();
    let noise: Vec<u8> = (0..50_000_u32).map(|number| ((number * 7919) >> 3) as u8).collect();
    let streams: [&[&[u8]]; 7] = [
        &[b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", &noise],
        &[b"\x16"],
        &[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"],
        &[b"SSH-2.0-OpenSSH_9.9\r\n", &noise],
        &[&noise],
        &[b"\0"],
        &[b"GET"],
    ];
    for pieces in streams {
        arrive_untouched(&supervisor, pieces);
    }
}

#[test]
fn what_cannot_have_a_key_is_handed_over_without_waiting_for_more() {
    let supervisor = sticky_run(2, &[]).env("TEST_WORKER", "greet").start();
    for first in [&b"\x16"[..], b"\0", b"PRI * HTTP/2.0", b"SSH-2.0-x\r\n"] {
        let mut stream = send(&supervisor, &[first]);
        read_reply(&mut stream).expect("the worker speaks to a client that sent this much");
    }
}

#[test]
fn requests_and_bodies_in_the_first_segment_arrive_in_full() {
    let supervisor = sticky_run(3, &["--balance", "round-robin"]).env("TEST_WORKER", "raw").start();
    let mut bytes = b"POST /?sid=mine HTTP/1.1\r\nContent-Length: 6\r\n\r\n\0\r\n\r\n\xff".to_vec();
    bytes.extend_from_slice(b"GET /?sid=other HTTP/1.1\r\n\r\n");
    let home = arrive_untouched(&supervisor, &[&bytes]);
    bytes.extend((0..300_000_u32).map(|number| (number >> 5) as u8));
    for _ in 0..6 {
        assert_eq!(arrive_untouched(&supervisor, &[&bytes]), home);
    }
}

/// A head of this length, the cookie at its end.
fn long_head(length: usize) -> Vec<u8> {
    let (start, end) = ("GET / HTTP/1.1\r\nCookie: ", "session=ann\r\n\r\n");
    let filler = "k=v; ".repeat(length / 5);
    let filler = &filler[..length - start.len() - end.len() - 2];
    format!("{start}{filler}; {end}").into_bytes()
}

/// Runs this in a network of its own, where receive windows have these sizes.
fn with_windows(sizes: &str, test: impl FnOnce() + Send) {
    let alone = || {
        if unshare(CloneFlags::CLONE_NEWNET).is_err() {
            eprintln!("not tested: only root can have a network of its own");
            return;
        }
        fs::write("/proc/sys/net/ipv4/tcp_rmem", sizes).expect("it is ours");
        let up = Command::new("ip").args(["link", "set", "lo", "up"]).status();
        assert!(up.expect("ip(8) is there").success());
        test();
    };
    // A network belongs to a thread, and to the children that it starts.
    thread::scope(|scope| scope.spawn(alone).join()).expect("the test succeeds");
}

const PATIENT: [&str; 6] =
    ["--by", "cookie:session", "--balance", "round-robin", "--head-timeout", "1h"];

#[test]
fn a_window_that_is_smaller_than_a_head_is_made_larger_where_the_host_lets_it() {
    with_windows("4096 16060 262144", || {
        let supervisor = sticky_run(3, &PATIENT).start();
        let homes = [300, 12_000, 14_000, 16_000, 24_000, 60_000].map(|length| {
            let mut stream = send(&supervisor, &[&long_head(length)]);
            read_reply(&mut stream).expect("an answer").slot
        });
        assert_eq!(homes, [homes[0]; 6], "the key is at the end");
    });
}

#[test]
fn a_head_that_fills_the_window_goes_to_a_worker_as_far_as_it_is_there() {
    with_windows("4096 16060 16060", || {
        let supervisor = sticky_run(3, &PATIENT).start();
        for (length, piece) in [(14_000, 14_000), (60_000, 60_000), (24_000, 100), (30_000, 1400)] {
            let head = long_head(length);
            let pieces: Vec<&[u8]> = head.chunks(piece).collect();
            read_reply(&mut send(&supervisor, &pieces)).expect("an answer");
        }
    });
}

/// Sends a head in pieces over a Unix socket, each when the kernel says that there is room, and reads the
/// answer.
fn send_when_writable(path: &Path, head: &[u8], piece: usize) {
    let mut stream = UnixStream::connect(path).expect("a connection");
    for piece in head.chunks(piece) {
        let mut writable = [PollFd::new(stream.as_fd(), PollFlags::POLLOUT)];
        poll(&mut writable, PollTimeout::NONE).expect("it can be polled");
        stream.write_all(piece).expect("somebody reads");
    }
    read_reply(&mut stream).expect("an answer");
}

#[test]
fn a_head_that_fills_the_buffer_of_a_unix_socket_goes_to_a_worker_as_far_as_it_is_there() {
    let directory = TempDir::new().expect("room for a directory");
    let path = directory.path().join("a.sock");
    let listen = ["--listen", &format!("unix:{}", path.display())].map(str::to_owned);
    let listen = listen.each_ref().map(String::as_str);
    let supervisor = sticky_run(1, &[&listen[..], &PATIENT].concat()).start();
    for length in [1000, 50_000, 60_000] {
        send_when_writable(&path, &long_head(length), 4096);
    }
    drop(supervisor);
    // Nobody can see that very small pieces have filled it.
    let hurried = ["--by", "cookie:session", "--head-timeout", "300ms"];
    let _supervisor = sticky_run(1, &[&listen[..], &hurried].concat()).start();
    send_when_writable(&path, &long_head(1000), 1);
}
