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
    let pause = Pause::for_exec(Duration::from_secs(20));
    assert!(pause.is_ok() && (clock::now() - since) < Duration::from_secs(20));
}

#[test]
fn nothing_is_begun_during_a_pause_and_all_afterwards() {
    let pause = Pause::for_fork(Duration::from_secs(20)).unwrap();
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

#[test]
fn after_a_pause_as_many_threads_begin_as_may() {
    let pause = Pause::for_fork(Duration::from_secs(20)).unwrap();
    let most = u32::try_from(MOST_THREADS).unwrap();
    let senders = || (100..100 + 2 * most).map(sender);
    let clients: Vec<_> = senders()
        .map(|sender| {
            let (socket, client) = slow();
            drop(Foreign::new(socket, sender));
            client
        })
        .collect();
    drop(pause);
    let state = POOL.lock();
    assert!(state.idle + state.closing >= MOST_THREADS && state.closing <= MOST_THREADS);
    drop(state);
    wait_until(|| senders().all(|sender| awaiting(sender) == 0));
    drop(clients);
}

#[test]
fn a_file_has_to_be_out_of_the_way_before_a_fork_but_not_to_be_closed() {
    let (file, mut writer) = io::pipe().unwrap();
    let mut file = OwnedFd::from(file);
    let number = file.as_raw_fd();
    let mut begun = File { sender: sender(4), since: clock::now(), number, queued: None };
    assert!(!begun.is_out());
    rustix::io::dup2(io::stderr(), &mut file).unwrap();
    assert!(begun.is_out());
    begun.queued = Some(file);
    assert!(!begun.is_out());
    // The place of one that is closed is left only then.
    assert_eq!(writer.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
}

#[test]
fn files_are_closed_and_counted_out() {
    let (file, mut writer) = io::pipe().unwrap();
    drop(Foreign::new(OwnedFd::from(file), sender(5)));
    wait_until(|| files().iter().all(|(whose, _)| *whose != sender(5)));
    assert_eq!(writer.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
}

#[test]
fn without_a_thread_sockets_are_closed_at_once_and_what_may_wait_is_left() {
    let (mut state, since) = (State::new(), clock::now());
    let (inet, mut client) = slow();
    let (unix, _theirs) = UnixStream::pair().unwrap();
    AWAITING.fetch_add(2, Ordering::Relaxed);
    state.queues.insert(sender(6), VecDeque::from([inet]));
    state.queues.insert(sender(7), VecDeque::from([unix.into()]));
    state.ready.extend([sender(6), sender(7)]);
    state.close_at_once();
    assert!(clock::now() - since < Duration::from_secs(20));
    assert_eq!(state.ready, [sender(7)]);
    assert_eq!(state.queues[&sender(7)].len(), 1);
    AWAITING.fetch_sub(1, Ordering::Relaxed);
    // What was unsent comes all the same.
    client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    io::copy(&mut client, &mut io::sink()).unwrap();
}
