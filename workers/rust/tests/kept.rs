//! Connections that are kept open, whose next request may belong to another worker.

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use nix::sys::socket::{MsgFlags, send, setsockopt, sockopt};
use sticky_worker::{Connection, Worker};
use support::{Supervisor, owned, supervisor};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")
}

fn read_exactly(mut from: impl Read, length: usize) -> String {
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

/// The connection that came back, in blocking mode, as from `accept(2)`.
fn came_back(supervisor: &Supervisor) -> TcpStream {
    let (line, fd) = supervisor.next_with_fd();
    assert_eq!(line, "BACK next=1");
    let socket = TcpStream::from(owned(fd.unwrap()));
    socket.set_read_timeout(Some(support::DEADLINE)).unwrap();
    socket
}

/// Serves the client's request on this connection.
fn serve(connection: &Connection, mut client: &TcpStream, request: &str) {
    client.write_all(request.as_bytes()).unwrap();
    assert_eq!(read_exactly(connection, request.len()), request);
    (&*connection).write_all(OK.as_bytes()).unwrap();
    assert_eq!(read_exactly(client, OK.len()), OK);
}

#[test]
fn the_next_request_goes_to_its_worker_with_its_connection_and_unread() {
    let (supervisor, channel) = supervisor();
    let worker = Worker::with_keys(channel, "sid").unwrap();
    let session = worker.session("mine").unwrap();
    let mut client = supervisor.hand_over();
    let connection = worker.accept().unwrap().unwrap();
    assert_eq!(supervisor.next(), "SESSION mine");
    assert_eq!(supervisor.next(), "READY");
    serve(&connection, &client, &get("/"));
    serve(&connection, &client, &get("/?sid=mine"));
    let foreign = format!("POST /?sid=other HTTP/1.1\r\nContent-Length: 1\r\n\r\nx{}", get("/"));
    client.write_all(foreign.as_bytes()).unwrap();
    assert_eq!((&connection).read(&mut [0; 100]).unwrap(), 0, "as if the client had gone");
    let mut other = came_back(&supervisor);
    // What a server does at the end of file touches the connection no more, and it does not count.
    connection.stream().shutdown(Shutdown::Both).unwrap();
    assert!((&connection).write_all(b"x").is_err());
    drop(connection);
    assert_eq!(read_exactly(&other, foreign.len()), foreign);
    other.write_all(OK.as_bytes()).unwrap();
    assert_eq!(read_exactly(&client, OK.len()), OK);
    drop(session);
    assert_eq!(supervisor.next(), "END mine");
    drop(supervisor.hand_over());
    drop(worker.accept().unwrap().unwrap());
    supervisor.closed(1);
}

#[test]
fn a_session_that_has_ended_is_nobodys_and_a_worker_without_keys_looks_at_nothing() {
    let (supervisor, channel) = supervisor();
    let worker = Worker::with_keys(channel, "sid").unwrap();
    worker.sessions().announce("mine").unwrap();
    let mut client = supervisor.hand_over();
    let connection = worker.accept().unwrap().unwrap();
    assert_eq!((supervisor.next().as_str(), supervisor.next().as_str()), ("SESSION mine", "READY"));
    serve(&connection, &client, &get("/?sid=mine"));
    worker.sessions().end("mine").unwrap();
    assert_eq!(supervisor.next(), "END mine");
    client.write_all(get("/?sid=mine").as_bytes()).unwrap();
    // The supervisor has sent it here a moment ago, but under a name that is over.
    assert_eq!((&connection).read(&mut [0; 100]).unwrap(), 0);
    drop(came_back(&supervisor));

    for keys in ["", "ip", "something:new"] {
        let (supervisor, channel) = support::supervisor();
        let worker = Worker::with_keys(channel, keys).unwrap();
        let client = supervisor.hand_over();
        let connection = worker.accept().unwrap().unwrap();
        serve(&connection, &client, &get("/"));
        serve(&connection, &client, &get("/?sid=other"));
    }
}

#[test]
fn what_an_answer_gives_out_is_announced_before_the_client_has_it() {
    let (supervisor, channel) = supervisor();
    let worker = Worker::with_keys(channel, "cookie:a,header:Mcp-Session-Id").unwrap();
    let mut client = supervisor.hand_over();
    let connection = worker.accept().unwrap().unwrap();
    assert_eq!(supervisor.next(), "READY");
    let serve = |mut client: &TcpStream, request: &str, parts: &[&str]| {
        client.write_all(request.as_bytes()).unwrap();
        assert_eq!(read_exactly(&connection, request.len()), request);
        parts.iter().for_each(|part| (&connection).write_all(part.as_bytes()).unwrap());
        let answer = parts.concat();
        assert_eq!(read_exactly(client, answer.len()), answer);
    };
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n";
    let login = format!("{head}set-cookie: a=one; Path=/\r\nMCP-Session-ID: two\r\n\r\n");
    serve(&client, &get("/"), &[&login]);
    assert_eq!(supervisor.next(), "SESSION one");
    assert_eq!(supervisor.next(), "SESSION two");
    // Once, and what a client has come with not at all.
    let known = "GET / HTTP/1.1\r\nCookie: a=one\r\n\r\n";
    serve(&client, known, &[head, "Set-Cookie: a=one\r", "\n\r\n"]);
    assert!(supervisor.is_quiet());
    // Also with the last answer of a connection.
    let last = "GET / HTTP/1.1\r\nCookie: a=one\r\nConnection: close\r\n\r\n";
    serve(&client, last, &["HTTP/1.1 302 Found\r\nSet-Coo", "kie: a=three\r\n\r\n"]);
    assert_eq!(supervisor.next(), "SESSION three");
    client.write_all(b"x").unwrap();
}

#[test]
fn a_head_in_pieces_is_awaited_and_a_read_that_has_a_limit_keeps_it() {
    let (supervisor, channel) = supervisor();
    let worker = Worker::with_keys(channel, "cookie:a").unwrap();
    let client = supervisor.hand_over();
    let connection = worker.accept().unwrap().unwrap();
    serve(&connection, &client, &get("/"));
    (&client).write_all(b"GET / HTTP/1.1\r\n").unwrap();
    connection.stream().set_read_timeout(Some(Duration::from_millis(10))).unwrap();
    let error = (&connection).read(&mut [0; 100]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    connection.stream().set_read_timeout(Some(support::DEADLINE)).unwrap();
    thread::scope(|scope| {
        let reads = scope.spawn(|| (&connection).read(&mut [0; 100]).unwrap());
        (&client).write_all(b"Cookie: a=b\r\n\r\n").unwrap();
        assert_eq!(reads.join().unwrap(), 0);
    });
    assert_eq!(supervisor.next(), "READY");
    let whole = "GET / HTTP/1.1\r\nCookie: a=b\r\n\r\n";
    assert_eq!(read_exactly(came_back(&supervisor), whole.len()), whole);
}

#[test]
fn a_head_that_fills_the_buffer_is_read_as_far_as_it_is_there() {
    let (supervisor, channel) = supervisor();
    let worker = Worker::with_keys(channel, "cookie:a").unwrap();
    let client = supervisor.hand_over();
    let connection = worker.accept().unwrap().unwrap();
    serve(&connection, &client, &get("/"));
    setsockopt(connection.stream(), sockopt::RcvBuf, &8192).unwrap();
    let head = format!("GET / HTTP/1.1\r\nCookie: {}a=b\r\n\r\n", "k=v; ".repeat(8000));
    thread::scope(|scope| {
        scope.spawn(|| (&client).write_all(head.as_bytes()).unwrap());
        assert_eq!(read_exactly(&connection, head.len()), head);
    });
}

#[test]
fn urgent_data_in_a_head_makes_nobody_wait() {
    let (supervisor, channel) = supervisor();
    let worker = Worker::with_keys(channel, "cookie:a").unwrap();
    let client = supervisor.hand_over();
    let connection = worker.accept().unwrap().unwrap();
    serve(&connection, &client, &get("/"));
    connection.stream().set_read_timeout(Some(support::DEADLINE)).unwrap();
    let (first, second) = ("GET / HTTP/1.1\r\n", "Cookie: a=other\r\n\r\n");
    for (bytes, flags) in
        [(first, MsgFlags::empty()), ("!", MsgFlags::MSG_OOB), (second, MsgFlags::empty())]
    {
        send(client.as_raw_fd(), bytes.as_bytes(), flags).unwrap();
    }
    // Nobody can look behind it, so it is for the server, which reads what it would have read without us.
    assert_eq!(read_exactly(&connection, first.len() + second.len()), [first, second].concat());
}

#[test]
fn half_a_head_of_a_client_that_has_ended_is_shown() {
    let (supervisor, channel) = supervisor();
    let worker = Worker::with_keys(channel, "sid").unwrap();
    let client = supervisor.hand_over();
    let connection = worker.accept().unwrap().unwrap();
    serve(&connection, &client, &get("/"));
    (&client).write_all(b"GET / HTTP").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_exactly(&connection, 10), "GET / HTTP");
    assert_eq!((&connection).read(&mut [0; 100]).unwrap(), 0);
}

#[test]
fn a_unix_client_is_looked_at_in_the_same_way() {
    let (supervisor, channel) = supervisor();
    let worker = Worker::with_keys(channel, "sid").unwrap();
    let (mut client, accepted) = UnixStream::pair().unwrap();
    supervisor.send(b"CONN\n", &[accepted.as_raw_fd()]);
    drop(accepted);
    let connection = worker.accept().unwrap().unwrap();
    assert_eq!(supervisor.next(), "READY");
    client.write_all(get("/").as_bytes()).unwrap();
    assert_eq!(read_exactly(&connection, get("/").len()), get("/"));
    (&connection).write_all(OK.as_bytes()).unwrap();
    thread::scope(|scope| {
        let reads = scope.spawn(|| (&connection).read(&mut [0; 100]).unwrap());
        for part in ["GET /?sid=", "other HTTP/1.1\r\n", "\r\n"] {
            client.write_all(part.as_bytes()).unwrap();
        }
        assert_eq!(reads.join().unwrap(), 0);
    });
    let whole = "GET /?sid=other HTTP/1.1\r\n\r\n";
    assert_eq!(read_exactly(came_back(&supervisor), whole.len()), whole);
}

#[test]
fn a_connection_that_is_shut_down_is_closed_and_not_sent_on() {
    let (supervisor, channel) = supervisor();
    let worker = Worker::with_keys(channel, "sid").unwrap();
    let client = supervisor.hand_over();
    let connection = worker.accept().unwrap().unwrap();
    serve(&connection, &client, &get("/"));
    connection.stream().shutdown(Shutdown::Write).unwrap();
    (&client).write_all(get("/?sid=other").as_bytes()).unwrap();
    assert_eq!((&connection).read(&mut [0; 100]).unwrap(), 0);
    drop(connection);
    assert_eq!(supervisor.next(), "READY");
    supervisor.closed(1);
}

/// The same with tokio, where a server may read before it has answered.
#[cfg(feature = "axum")]
mod with_tokio {
    use axum::Router;
    use axum::body::Bytes;
    use axum::extract::RawQuery;
    use axum::routing::any;
    use sticky_worker::tokio::{Listener, Worker};
    use support::read_all;
    use tokio::sync::Semaphore;

    use super::*;

    /// The last answer of a test.
    const BYE: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbye";
    /// Holds up answers to requests for `wait`.
    static GATE: Semaphore = Semaphore::const_new(0);

    async fn login() -> ([(&'static str, &'static str); 1], &'static str) {
        ([("set-cookie", "a=one; Path=/")], "welcome")
    }

    async fn answer(RawQuery(query): RawQuery, body: Bytes) -> String {
        let query = query.unwrap_or_default();
        if query.contains("wait") {
            GATE.acquire().await.unwrap().forget();
        }
        format!("{query} {}", body.len())
    }

    /// Runs a server of axum on which the session `mine` lives.
    fn serve_with(keys: &str, test: impl FnOnce(Supervisor) + Send + 'static) {
        let (supervisor, channel) = supervisor();
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            let worker = Worker::with_keys(channel, keys).unwrap();
            worker.sessions().announce("mine").await.unwrap();
            let app = Router::new().route("/login", any(login)).fallback(any(answer));
            let gone = worker.gone();
            let serving = axum::serve(Listener::Worker(worker), app).with_graceful_shutdown(gone);
            let client = tokio::task::spawn_blocking(move || {
                assert_eq!(supervisor.next(), "SESSION mine");
                assert_eq!(supervisor.next(), "READY");
                test(supervisor);
            });
            serving.await.unwrap();
            client.await.unwrap();
        });
    }

    /// Reads one answer with a length and returns its body.
    fn read_answer(client: &TcpStream) -> String {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            head += &read_exactly(client, 1);
        }
        assert!(!head.contains("connection: close"), "{head}");
        let length = head.split("content-length: ").nth(1).unwrap().split("\r\n").next().unwrap();
        read_exactly(client, length.parse().unwrap())
    }

    #[test]
    fn a_server_of_axum_keeps_its_own_and_sends_on_the_others() {
        serve_with("sid", |supervisor| {
            let mut client = supervisor.hand_over();
            let body = "x".repeat(100_000);
            for (request, expected) in [
                (get("/favicon.ico"), " 0"),
                (get("/?sid=mine"), "sid=mine 0"),
                (
                    format!(
                        "POST /?sid=mine HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n{body}"
                    ),
                    "sid=mine 100000",
                ),
                (
                    format!(
                        "POST /?sid=mine HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
                         186a0\r\n{body}\r\n0\r\n\r\n"
                    ),
                    "sid=mine 100000",
                ),
                (get("/?sid=mine&again"), "sid=mine&again 0"),
            ] {
                client.write_all(request.as_bytes()).unwrap();
                assert_eq!(read_answer(&client), expected);
            }
            let foreign = get("/?sid=other");
            client.write_all(foreign.as_bytes()).unwrap();
            let mut other = came_back(&supervisor);
            assert_eq!(read_exactly(&other, foreign.len()), foreign);
            other.write_all(BYE.as_bytes()).unwrap();
            drop(other);
            assert_eq!(read_all(&client), BYE, "nobody else has the connection");
        });
    }

    #[test]
    fn a_login_is_announced_and_its_client_stays() {
        serve_with("cookie:a", |supervisor| {
            let mut client = supervisor.hand_over();
            client.write_all(get("/login").as_bytes()).unwrap();
            assert_eq!(read_answer(&client), "welcome");
            assert_eq!(supervisor.next(), "SESSION one");
            client.write_all(b"GET /?x HTTP/1.1\r\nHost: a\r\nCookie: a=one\r\n\r\n").unwrap();
            assert_eq!(read_answer(&client), "x 0");
        });
    }

    #[test]
    fn a_request_behind_one_that_is_not_answered_yet_waits_and_then_goes() {
        serve_with("sid", |supervisor| {
            let mut client = supervisor.hand_over();
            let both = get("/?sid=mine&wait") + &get("/?sid=other");
            client.write_all(both.as_bytes()).unwrap();
            // That one is being served, so its answer is due when this one has its own.
            let second = supervisor.hand_over();
            (&second).write_all(get("/").as_bytes()).unwrap();
            assert_eq!(read_answer(&second), " 0");
            assert!(supervisor.is_quiet());
            GATE.add_permits(1);
            assert_eq!(read_answer(&client), "sid=mine&wait 0");
            let other = came_back(&supervisor);
            assert_eq!(read_exactly(other, get("/?sid=other").len()), get("/?sid=other"));
        });
    }
}
