//! The tokio worker and the axum listener on a channel, with a supervisor that is this test.

#![cfg(feature = "axum")]

mod support;

use std::future::IntoFuture;
use std::io::{IoSlice, Read, Write};
use std::net::{SocketAddr, TcpStream};

use axum::Router;
use axum::extract::ConnectInfo;
use axum::routing::get;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use sticky_worker::axum::ClientAddr;
use sticky_worker::message::ToWorker;
use sticky_worker::tokio::{Listener, Worker};
use support::{Supervisor, owned, read_all, supervisor};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::spawn_blocking;

/// Blocking steps of the supervisor and of clients, beside the runtime.
async fn aside<T: Send + 'static>(step: impl FnOnce() -> T + Send + 'static) -> T {
    spawn_blocking(step).await.unwrap()
}

#[tokio::test]
async fn connections_arrive_ready_for_the_runtime_and_are_counted() {
    let (supervisor, channel) = supervisor();
    let copy = channel.try_clone().unwrap();
    let worker = Worker::new(channel).unwrap();
    let mut client = supervisor.hand_over();
    client.write_all(b"hello").unwrap();
    let mut connection = worker.accept().await.unwrap().unwrap();
    assert_eq!(supervisor.next(), "READY");
    assert_eq!(connection.client(), Some(client.local_addr().unwrap()));
    let mut bytes = [0; 5];
    connection.read_exact(&mut bytes).await.unwrap();
    let parts = [IoSlice::new(b"one"), IoSlice::new(b"two")];
    assert_eq!(connection.write_vectored(&parts).await.unwrap(), 6);
    connection.shutdown().await.unwrap();
    drop(connection);
    assert_eq!(read_all(&client), "onetwo");
    supervisor.closed(1);
    let flags = OFlag::from_bits_retain(fcntl(&copy, FcntlArg::F_GETFL).unwrap());
    assert!(!flags.contains(OFlag::O_NONBLOCK), "the channel is the supervisor's too");
}

#[tokio::test]
async fn a_cancelled_accept_takes_nothing() {
    let (supervisor, channel) = supervisor();
    let worker = Worker::new(channel).unwrap();
    for _ in 0..100 {
        let client = supervisor.hand_over();
        tokio::select! {
            biased;
            () = std::future::ready(()) => {}
            _ = worker.accept() => {}
        }
        // Polled once and dropped, in another order.
        let accepted = tokio::select! {
            biased;
            accepted = worker.accept() => Some(accepted),
            () = std::future::ready(()) => None,
        };
        let connection = match accepted {
            Some(connection) => connection,
            None => worker.accept().await,
        };
        let client_addr = client.local_addr().unwrap();
        assert_eq!(connection.unwrap().unwrap().client(), Some(client_addr));
    }
    assert_eq!(supervisor.next(), "READY");
    supervisor.closed(100);
}

#[tokio::test]
async fn drain_and_the_end_are_told_to_whoever_waits() {
    let (supervisor, channel) = supervisor();
    let worker = Worker::new(channel).unwrap();
    let (draining, gone) = (worker.draining(), worker.gone());
    let accepting = tokio::spawn(async move {
        let end = worker.accept().await;
        assert!(worker.is_draining());
        end.unwrap().is_none()
    });
    supervisor.say(&ToWorker::Ping);
    let supervisor = aside(move || {
        assert_eq!(supervisor.next(), "READY");
        assert_eq!(supervisor.next(), "PONG");
        supervisor.say(&ToWorker::Drain);
        supervisor
    })
    .await;
    draining.await;
    drop(supervisor);
    gone.await;
    assert!(accepting.await.unwrap());
}

#[tokio::test]
async fn a_full_channel_keeps_the_order_and_loses_nothing() {
    let (supervisor, channel) = supervisor();
    let worker = Worker::new(channel).unwrap();
    let reader = aside(move || {
        for number in 0..3000 {
            assert_eq!(supervisor.next(), format!("SESSION s{number}"));
            assert_eq!(supervisor.next(), format!("END s{number}"));
        }
    });
    let writer = async {
        for number in 0..3000 {
            drop(worker.session(&format!("s{number}")).await.unwrap());
        }
    };
    tokio::join!(reader, writer);
}

#[tokio::test]
async fn an_announcement_given_up_is_taken_back() {
    let (supervisor, channel) = supervisor();
    let worker = Worker::new(channel).unwrap();
    for number in 0..2000 {
        worker.sessions().end(&format!("s{number}")).unwrap();
    }
    tokio::select! {
        biased;
        _ = worker.session("given-up") => panic!("there was room"),
        () = std::future::ready(()) => {}
    }
    for number in 0..2000 {
        assert_eq!(supervisor.next(), format!("END s{number}"));
    }
    assert_eq!(supervisor.next(), "SESSION given-up");
    assert_eq!(supervisor.next(), "END given-up");
}

#[tokio::test]
async fn a_connection_given_back_is_blocking_and_unread() {
    let (supervisor, channel) = supervisor();
    let worker = Worker::new(channel).unwrap();
    let mut client = supervisor.hand_over();
    client.write_all(b"unread").unwrap();
    let connection = worker.accept().await.unwrap().unwrap();
    worker.back(connection).await.unwrap();
    assert_eq!(supervisor.next(), "READY");
    let (line, fd) = supervisor.next_with_fd();
    assert_eq!(line, "BACK");
    let mut returned = TcpStream::from(owned(fd.unwrap()));
    let flags = OFlag::from_bits_retain(fcntl(&returned, FcntlArg::F_GETFL).unwrap());
    assert!(!flags.contains(OFlag::O_NONBLOCK));
    let mut bytes = [0; 6];
    returned.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"unread");
}

/// Asks once and reads the body.
fn get_whoami(mut client: &TcpStream) -> String {
    client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    read_all(client).rsplit("\r\n\r\n").next().unwrap().into()
}

async fn whoami(supervisor: Supervisor) -> String {
    aside(move || {
        let client = supervisor.hand_over();
        let address = client.local_addr().unwrap();
        let said = get_whoami(&client);
        assert_eq!(supervisor.next(), "READY");
        supervisor.closed(1);
        assert_eq!(said, address.to_string());
        supervisor.say(&ToWorker::Drain);
        said
    })
    .await
}

#[tokio::test]
async fn axum_serves_the_channel_with_both_kinds_of_addresses_until_it_drains() {
    let show = |ConnectInfo(client): ConnectInfo<ClientAddr>| async move { client.to_string() };
    let app = Router::new().route("/", get(show));
    let (first, channel) = supervisor();
    let listener = Listener::Worker(Worker::new(channel).unwrap());
    let drained = listener.draining();
    let service = app.into_make_service_with_connect_info::<ClientAddr>();
    let serve = axum::serve(listener, service).with_graceful_shutdown(drained).into_future();
    tokio::join!(async { serve.await.unwrap() }, whoami(first));

    let show = |ConnectInfo(client): ConnectInfo<SocketAddr>| async move { client.to_string() };
    let app = Router::new().route("/", get(show));
    let (second, channel) = supervisor();
    let listener = Listener::Worker(Worker::new(channel).unwrap());
    let drained = listener.draining();
    let service = app.into_make_service_with_connect_info::<SocketAddr>();
    let serve = axum::serve(listener.with_socket_addr(), service);
    let serve = serve.with_graceful_shutdown(drained).into_future();
    tokio::join!(async { serve.await.unwrap() }, whoami(second));
}

#[tokio::test]
async fn alone_a_listener_binds_and_never_drains() {
    let listener = Listener::from_env_or_bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().unwrap();
    let client = TcpStream::connect(address).unwrap();
    let connection = listener.accept().await.unwrap().unwrap();
    assert_eq!(connection.client(), Some(client.local_addr().unwrap()));
    drop(listener.sessions().session("x").await.unwrap());
    tokio::select! {
        biased;
        () = listener.draining() => panic!("nobody drains it"),
        () = std::future::ready(()) => {}
    }
}
