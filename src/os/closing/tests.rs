//! Descriptors that are slow to close, and pauses.

use std::io::{ErrorKind, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;

use sendfd::SendWithFd;

use super::*;
use crate::os::clock;

/// A sender for each test, and a socket that takes long to be closed, with its client.
fn sender(uid: u32) -> Sender {
    Sender::User(uid)
}

fn slow() -> (OwnedFd, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    SockRef::from(&server).set_linger(Some(Duration::from_secs(60))).unwrap();
    server.set_nonblocking(true).unwrap();
    let full = loop {
        if let Err(error) = server.write(&[0; 65536]) {
            break error;
        }
    };
    assert_eq!(full.kind(), ErrorKind::WouldBlock);
    (server.into(), client)
}

fn wait_until(done: impl Fn() -> bool) {
    let since = clock::now();
    while !done() {
        assert!((clock::now() - since) < Duration::from_secs(20));
        thread::yield_now();
    }
}

#[test]
fn what_is_slow_to_close_keeps_nobody_and_is_closed() {
    let (direct, _client) = slow();
    let (within, _another) = slow();
    // What lies unread in a socket is closed with it.
    let (ours, theirs) = UnixStream::pair().unwrap();
    theirs.send_with_fd(b"x", &[within.as_raw_fd()]).unwrap();
    drop(within);
    let since = clock::now();
    drop(Foreign::new(direct, sender(1)));
    drop(Foreign::new(ours, sender(2)));
    assert!((clock::now() - since) < Duration::from_secs(1));
    wait_until(|| awaiting(sender(1)) + awaiting(sender(2)) == 0);
    let pause = Pause::begin(Duration::from_secs(20));
    assert!(pause.is_complete && (clock::now() - since) < Duration::from_secs(20));
}

#[test]
fn nothing_is_begun_during_a_pause_and_all_afterwards() {
    let pause = Pause::begin(Duration::from_secs(20));
    let (ours, theirs) = UnixStream::pair().unwrap();
    drop(Foreign::new(ours, sender(3)));
    assert_eq!(awaiting(sender(3)), 1);
    assert!(unclosed().iter().any(|(whose, _)| *whose == sender(3)));
    drop(pause);
    wait_until(|| awaiting(sender(3)) == 0);
    // The end is seen once it is really closed.
    theirs.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    assert_eq!(std::io::Read::read(&mut &theirs, &mut [0]).unwrap(), 0);
}
