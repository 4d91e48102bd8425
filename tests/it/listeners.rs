//! Listening sockets, and what workers are told about them.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::support::client::read_answer;
use crate::support::{Answer, connect, proc, sticky_run};

/// A directory of its own for one test, removed with everything in it.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("sticky-run-{name}-{}", process::id()));
        fs::create_dir(&path).expect("a directory that nobody else has");
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

fn unix(path: &Path) -> String {
    format!("unix:{}", path.display())
}

fn ask(mut stream: impl Read + Write) -> Answer {
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("a request");
    read_answer(&mut stream).expect("an answer")
}

/// Asks over TCP, and checks what the worker was told about the connection.
#[track_caller]
fn told(address: SocketAddr, listener: usize) {
    let stream = connect(address).expect("a connection");
    let client = stream.local_addr().expect("an address");
    let answer = ask(stream);
    assert_eq!(answer.value("message"), format!("CONN client={client} listener={listener}"));
}

#[track_caller]
fn told_unix(path: &Path, listener: usize) {
    let answer = ask(UnixStream::connect(path).expect("a connection"));
    assert_eq!(answer.value("message"), format!("CONN listener={listener}"));
}

#[test]
fn several_listeners_are_numbered_in_the_order_asked_for() {
    let directory = Directory::new("several");
    let path = directory.0.join("a.sock");
    let inherited = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let given = inherited.local_addr().expect("an address");
    let listen = ["--listen", "127.0.0.1:0", "--listen", &unix(&path), "--listen", "[::1]:0"];
    let flags = [&listen[..], &["--listen", "fd:3", "--listen", "127.0.0.2:0"]].concat();
    let supervisor = sticky_run(2, &flags).inherit(inherited.into()).start();
    let addresses = supervisor.addresses();
    assert_eq!(addresses.len(), 4);
    assert!(addresses.iter().all(|address| address.port() != 0), "{addresses:?}");
    assert_eq!(addresses[2], given);
    told(addresses[0], 0);
    told_unix(&path, 1);
    told(addresses[1], 2);
    told(given, 3);
    told(addresses[3], 4);
}

#[test]
fn a_port_alone_is_one_socket_for_each_family_so_that_ipv4_clients_keep_their_address() {
    let supervisor = sticky_run(2, &["--listen", ":0"]).start();
    let addresses = supervisor.addresses();
    let [v4, v6] = addresses[..] else { panic!("{addresses:?}") };
    assert_eq!(v4.ip(), Ipv4Addr::UNSPECIFIED);
    assert_eq!(v6.ip(), Ipv6Addr::UNSPECIFIED);
    assert_eq!(v4.port(), v6.port());
    told((Ipv4Addr::LOCALHOST, v4.port()).into(), 0);
    told((Ipv6Addr::LOCALHOST, v6.port()).into(), 1);
}

#[test]
fn an_address_in_use_is_one_line_and_exit_code_1() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address").to_string();
    let mut supervisor = sticky_run(1, &["--listen", &address]).spawn();
    assert_eq!(supervisor.wait().code(), Some(1));
    let expected = format!("cannot listen on {address}: address already in use");
    assert_eq!(supervisor.whole_log().lines().count(), 1, "{}", supervisor.log());
    assert!(supervisor.whole_log().contains(&expected), "{}", supervisor.log());
}

#[test]
fn a_descriptor_that_is_no_listening_socket_is_refused() {
    for (flag, reason) in [("fd:3", "no listening stream socket"), ("fd:77", "bad file descriptor")]
    {
        let connected = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let stream = connect(connected.local_addr().expect("an address")).expect("a connection");
        let mut supervisor = sticky_run(1, &["--listen", flag]).inherit(stream.into()).spawn();
        assert_eq!(supervisor.wait().code(), Some(1));
        assert!(supervisor.whole_log().contains(reason), "{}", supervisor.log());
    }
}

#[test]
fn a_descriptor_that_was_not_inherited_is_said_to_be_not_open() {
    for number in 3..10 {
        let flag = format!("fd:{number}");
        let closed = format!("exec {number}>&-;");
        let mut supervisor = sticky_run(1, &["--listen", &flag]).after(&closed).spawn();
        assert_eq!(supervisor.wait().code(), Some(1));
        let log = supervisor.whole_log();
        assert!(log.contains("bad file descriptor"), "{log}");
        assert!(log.contains("has to be inherited open"), "{log}");
    }
}

#[test]
fn a_listener_that_somebody_else_shuts_down_is_told_at_a_limited_rate_and_costs_nothing() {
    let ours = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let given = ours.try_clone().expect("a descriptor");
    let mut supervisor = sticky_run(2, &["--listen", "fd:3"]).inherit(given.into()).start();
    told(ours.local_addr().expect("an address"), 0);
    Socket::from(ours).shutdown(std::net::Shutdown::Both).expect("it listens");
    supervisor.wait_event("accept_paused");
    let pid = supervisor.pid();
    let (cpu, since) = (proc::cpu_time(pid), Instant::now());
    proc::watch(Duration::from_secs(1));
    let share = (proc::cpu_time(pid) - cpu).as_secs_f64() / since.elapsed().as_secs_f64();
    assert!(share < 0.05, "{share}");
    assert_eq!(supervisor.count_events("accept_paused"), 1);
    assert_eq!(supervisor.stop().code(), Some(0));
}

#[test]
fn a_socket_file_whose_listener_has_no_room_stays_and_holds_nobody_up() {
    let directory = Directory::new("full");
    let path = directory.0.join("a.sock");
    let live = Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
    let address = SockAddr::unix(&path).expect("a short path");
    live.bind(&address).and_then(|()| live.listen(0)).expect("a listener");
    let mut clients = Vec::new();
    loop {
        let client = Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
        client.set_nonblocking(true).expect("a mode");
        if client.connect(&address).is_err() {
            break;
        }
        clients.push(client);
    }
    let mut supervisor = sticky_run(1, &["--listen", &unix(&path)]).spawn();
    assert_eq!(supervisor.wait().code(), Some(1));
    assert!(supervisor.whole_log().contains("address already in use"), "{}", supervisor.log());
    assert!(path.exists());
}

#[test]
fn a_socket_file_that_nobody_listens_on_is_replaced_and_removed_at_the_end() {
    let directory = Directory::new("stale");
    let path = directory.0.join("a.sock");
    drop(UnixListener::bind(&path).expect("a socket"));
    assert!(path.exists());
    let mut supervisor = sticky_run(1, &["--listen", &unix(&path)]).start();
    told_unix(&path, 0);
    assert_eq!(supervisor.stop().code(), Some(0));
    assert!(!path.exists());
}

#[test]
fn a_socket_file_that_somebody_listens_on_stays() {
    let directory = Directory::new("live");
    let path = directory.0.join("a.sock");
    let live = UnixListener::bind(&path).expect("a socket");
    let mut supervisor = sticky_run(1, &["--listen", &unix(&path)]).spawn();
    assert_eq!(supervisor.wait().code(), Some(1));
    let expected = format!("cannot listen on unix:{}: address already in use", path.display());
    assert!(supervisor.whole_log().contains(&expected), "{}", supervisor.log());
    UnixStream::connect(&path).expect("the other one still listens");
    drop(live);
}

#[test]
fn a_file_that_is_no_socket_stays() {
    let directory = Directory::new("file");
    let path = directory.0.join("notes");
    fs::write(&path, "precious").expect("a file");
    let mut supervisor = sticky_run(1, &["--listen", &unix(&path)]).spawn();
    assert_eq!(supervisor.wait().code(), Some(1));
    assert!(supervisor.whole_log().contains("cannot listen on unix:"), "{}", supervisor.log());
    assert_eq!(fs::read_to_string(&path).expect("the file"), "precious");
}

#[test]
fn a_socket_file_that_another_put_there_meanwhile_stays() {
    let directory = Directory::new("other");
    let path = directory.0.join("a.sock");
    let mut supervisor = sticky_run(1, &["--listen", &unix(&path)]).start();
    fs::remove_file(&path).expect("it is there");
    let other = UnixListener::bind(&path).expect("a socket");
    assert_eq!(supervisor.stop().code(), Some(0));
    UnixStream::connect(&path).expect("the other one still listens");
    drop(other);
}
