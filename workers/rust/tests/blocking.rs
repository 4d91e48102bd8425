//! The blocking worker on a channel, with a supervisor that is this test.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::thread;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use sticky_worker::message::{MAX_KEY, ToWorker};
use sticky_worker::{Error, Listener, Stream, Worker};
use support::{owned, read_all, supervisor, until};

#[test]
fn the_first_accept_says_ready_and_connections_arrive_as_they_are() {
    let (supervisor, channel) = supervisor();
    let worker = Worker::new(channel).unwrap();
    assert!(supervisor.is_quiet());
    let mut client = supervisor.hand_over();
    client.write_all(b"hello").unwrap();
    let mut connection = worker.accept().unwrap().unwrap();
    assert_eq!(supervisor.next(), "READY");
    assert_eq!(connection.client(), Some(client.local_addr().unwrap()));
    assert_eq!(connection.listener(), Some(0));
    let mut bytes = [0; 5];
    connection.read_exact(&mut bytes).unwrap();
    connection.write_all(&bytes).unwrap();
    drop(connection);
    assert_eq!(read_all(&client), "hello");
    supervisor.closed(1);
}

#[test]
fn a_unix_client_is_told_by_its_socket() {
    let (supervisor, channel) = supervisor();
    let worker = Worker::new(channel).unwrap();
    let (_client, accepted) = UnixStream::pair().unwrap();
    supervisor.send(b"CONN listener=2\n", &[accepted.as_raw_fd()]);
    let connection = worker.accept().unwrap().unwrap();
    assert!(matches!(connection.stream(), Stream::Unix(_)));
    assert_eq!((connection.client(), connection.listener()), (None, Some(2)));
}

#[test]
fn received_descriptors_are_close_on_exec_and_the_channel_stays_blocking() {
    let (supervisor, channel) = supervisor();
    let copy = channel.try_clone().unwrap();
    let worker = Worker::new(channel).unwrap();
    let _client = supervisor.hand_over();
    let connection = worker.accept().unwrap().unwrap();
    assert_eq!(fcntl(connection.stream(), FcntlArg::F_GETFD), Ok(1));
    let flags = fcntl(&copy, FcntlArg::F_GETFL).unwrap();
    assert!(!OFlag::from_bits_retain(flags).contains(OFlag::O_NONBLOCK));
}

#[test]
fn closed_connections_are_counted_once_each_also_after_into_parts() {
    let (supervisor, channel) = supervisor();
    let worker = Worker::new(channel).unwrap();
    let clients: Vec<_> = (0..100).map(|_| supervisor.hand_over()).collect();
    let mut connections: Vec<_> = clients.iter().map(|_| worker.accept().unwrap()).collect();
    let (stream, open) = connections.pop().flatten().unwrap().into_parts();
    drop(connections);
    assert_eq!(supervisor.next(), "READY");
    supervisor.closed(99);
    drop(stream);
    assert_eq!(read_all(clients.last().unwrap()), "");
    drop(open);
    supervisor.closed(1);
}

#[test]
fn the_supervisor_hears_pong_while_the_worker_waits() {
    let (supervisor, channel) = supervisor();
    let worker = Worker::new(channel).unwrap();
    thread::scope(|scope| {
        let accepting = scope.spawn(|| worker.accept().unwrap().is_none());
        assert_eq!(supervisor.next(), "READY");
        supervisor.say(&ToWorker::Ping);
        assert_eq!(supervisor.next(), "PONG");
        assert!(!worker.draining());
        supervisor.say(&ToWorker::Drain);
        until("draining", || worker.draining());
        drop(supervisor);
        assert!(accepting.join().unwrap(), "the end of file ends the loop");
    });
}

#[test]
fn connections_in_the_channel_outlive_the_supervisor() {
    let (supervisor, channel) = supervisor();
    let worker = Worker::new(channel).unwrap();
    worker.sessions().announce("unread").unwrap();
    let client = supervisor.hand_over();
    // With a message of the worker unread, its side sees ECONNRESET first.
    drop(supervisor);
    assert!(worker.accept().unwrap().is_some());
    assert!(worker.accept().unwrap().is_none());
    assert!(matches!(worker.session("x"), Err(Error::SupervisorGone)));
    drop(client);
}

#[test]
fn a_session_is_announced_before_the_call_returns_and_ended_by_the_drop() {
    let (supervisor, channel) = supervisor();
    let worker = Worker::new(channel).unwrap();
    let session = worker.session("with space%").unwrap();
    assert_eq!(supervisor.next(), "SESSION with%20space%25");
    assert!(supervisor.is_quiet());
    drop(session);
    assert_eq!(supervisor.next(), "END with%20space%25");
    worker.session("kept").unwrap().keep();
    assert_eq!(supervisor.next(), "SESSION kept");
    worker.sessions().end("kept").unwrap();
    assert_eq!(supervisor.next(), "END kept");
    for wrong in ["", &"x".repeat(MAX_KEY + 1)] {
        assert!(matches!(worker.session(wrong), Err(Error::KeyLength(_))));
    }
}

#[test]
fn a_full_channel_loses_nothing_and_keeps_the_order() {
    let (supervisor, channel) = supervisor();
    let worker = Worker::new(channel).unwrap();
    thread::scope(|scope| {
        let sessions = worker.sessions();
        scope.spawn(move || {
            for number in 0..5000 {
                drop(sessions.session(&format!("s{number}")).unwrap());
            }
        });
        // The kernel holds some hundred messages, so the thread has to wait before the last.
        for number in 0..5000 {
            assert_eq!(supervisor.next(), format!("SESSION s{number}"));
            assert_eq!(supervisor.next(), format!("END s{number}"));
        }
    });
}

#[test]
fn closes_counted_while_the_channel_is_full_are_told_later() {
    let (supervisor, channel) = supervisor();
    let worker = Worker::new(channel).unwrap();
    let client = supervisor.hand_over();
    let connection = worker.accept().unwrap().unwrap();
    // END never waits, so this fills the channel and the outbox behind it.
    for number in 0..2000 {
        worker.sessions().end(&format!("s{number}")).unwrap();
    }
    drop(connection);
    assert_eq!(read_all(&client), "");
    assert_eq!(supervisor.next(), "READY");
    for number in 0..2000 {
        assert_eq!(supervisor.next(), format!("END s{number}"));
    }
    supervisor.closed(1);
}

#[test]
fn a_connection_given_back_is_unread_and_not_counted() {
    let (supervisor, channel) = supervisor();
    let worker = Worker::new(channel).unwrap();
    let mut client = supervisor.hand_over();
    client.write_all(b"unread").unwrap();
    let connection = worker.accept().unwrap().unwrap();
    worker.back(connection).unwrap();
    assert_eq!(supervisor.next(), "READY");
    let (line, fd) = supervisor.next_with_fd();
    assert_eq!(line, "BACK");
    let mut returned = TcpStream::from(owned(fd.unwrap()));
    let mut bytes = [0; 6];
    returned.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"unread");
    // A counted connection would come first.
    drop(supervisor.hand_over());
    drop(worker.accept().unwrap().unwrap());
    supervisor.closed(1);
    assert!(supervisor.is_quiet());
}

#[test]
fn nonsense_from_the_supervisor_is_ignored_and_its_descriptors_are_closed() {
    let (supervisor, channel) = supervisor();
    let worker = Worker::new(channel).unwrap();
    let (strange, accepted, _) = supervisor.client();
    supervisor.send(b"CONN client=nobody\n", &[accepted.as_raw_fd()]);
    supervisor.send(b"HELLO\n", &[accepted.as_raw_fd()]);
    supervisor.send(b"DRAIN\n", &[accepted.as_raw_fd()]);
    supervisor.send(b"CONN\n", &[]);
    supervisor.send(&[0xFF; 2000], &[accepted.as_raw_fd()]);
    let (_other, extra, _) = supervisor.client();
    supervisor.send(b"CONN listener=7\n", &[extra.as_raw_fd(), accepted.as_raw_fd()]);
    drop(accepted);
    let connection = worker.accept().unwrap().unwrap();
    assert_eq!(connection.listener(), Some(7));
    assert_eq!(read_all(&strange), "", "every copy of the strange connection is closed");
}

#[test]
fn many_threads_accept_at_once() {
    let (supervisor, channel) = supervisor();
    let worker = Worker::new(channel).unwrap();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(mut connection) = worker.accept().unwrap() {
                    connection.write_all(b"served").unwrap();
                }
            });
        }
        assert_eq!(supervisor.next(), "READY");
        let clients: Vec<_> = (0..50).map(|_| supervisor.hand_over()).collect();
        clients.iter().for_each(|client| assert_eq!(read_all(client), "served"));
        supervisor.closed(50);
        drop(supervisor);
    });
}

#[test]
fn alone_a_listener_binds_and_sessions_do_nothing() {
    let listener = Listener::from_env_or_bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().unwrap();
    let taken = Listener::from_env_or_bind(address).unwrap_err();
    assert!(taken.to_string().starts_with(&format!("cannot listen on {address}:")), "{taken}");
    let client = TcpStream::connect(address).unwrap();
    let connection = listener.accept().unwrap().unwrap();
    assert_eq!(connection.client(), Some(client.local_addr().unwrap()));
    assert!(!listener.draining());
    drop(listener.sessions().session("x").unwrap());
}
