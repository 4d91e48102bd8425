//! Workers as processes of their own: what the environment tells them, and the worker in Python.

mod support;

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::stat::fstat;
use sticky_worker::message::ToWorker;
use sticky_worker::{Listener, Worker};
use support::{Supervisor, read_all, supervisor, until};

/// A worker process, killed when the test is over.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail when it has ended already, which is what a test that succeeds has seen.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Starts a command as the supervisor does.
fn start(mut command: Command, channel: OwnedFd) -> Process {
    fcntl(&channel, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
    command
        .env("STICKY_CHANNEL", channel.as_raw_fd().to_string())
        .env("STICKY_CHANNEL_INODE", fstat(&channel).unwrap().st_ino.to_string())
        .env("STICKY_PROTOCOL", "1")
        .env("STICKY_WORKER_ID", "3")
        .env("STICKY_WORKERS", "4");
    Process(command.stdin(Stdio::null()).spawn().unwrap())
}

/// Checks a worker from its first message to its end.
fn serves(supervisor: Supervisor, mut process: Process) {
    assert_eq!(supervisor.next(), "READY");
    supervisor.say(&ToWorker::Ping);
    assert_eq!(supervisor.next(), "PONG");
    for number in 1..=3 {
        let mut client: TcpStream = supervisor.hand_over();
        client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let said = read_all(&client);
        client.shutdown(Shutdown::Both).unwrap();
        let name = format!("worker 3 (pid {})", process.0.id());
        let you = client.local_addr().unwrap();
        assert!(said.ends_with(&format!("{name}, you are {you}, request {number}\n")), "{said}");
        supervisor.closed(1);
    }
    drop(supervisor);
    let mut status = None;
    until("the end of the worker", || {
        status = process.0.try_wait().unwrap();
        status.is_some()
    });
    assert!(status.unwrap().success());
}

/// Not a test by itself: the worker that the test below runs in a process of its own.
#[test]
fn worker_process() {
    let Ok(worker) = Worker::from_env() else { return };
    let name = format!("worker 3 (pid {})", std::process::id());
    let mut number = 0;
    while let Some(mut connection) = worker.accept().unwrap() {
        number += 1;
        let client = connection.client().unwrap();
        writeln!(connection, "{name}, you are {client}, request {number}").unwrap();
        connection.stream().shutdown(Shutdown::Write).unwrap();
        // Closing over an unread request would reset the connection.
        std::io::copy(&mut connection, &mut std::io::sink()).unwrap();
    }
}

#[test]
fn a_worker_finds_its_channel_in_the_environment() {
    let (supervisor, channel) = supervisor();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "worker_process", "--nocapture"]);
    serves(supervisor, start(command, channel));
}

#[test]
fn the_worker_in_python_keeps_the_protocol() {
    let (supervisor, channel) = supervisor();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/python/worker.py");
    let mut command = Command::new("python3");
    command.arg(script);
    serves(supervisor, start(command, channel));
}

#[test]
fn a_broken_environment_does_not_bind() {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "listens_where_it_may", "--nocapture"]);
    let run = |command: &mut Command| command.output().unwrap();
    let alone = run(&mut command);
    assert!(String::from_utf8_lossy(&alone.stdout).contains("bound"));
    let broken = run(command.env("STICKY_CHANNEL", "three"));
    assert!(String::from_utf8_lossy(&broken.stdout).contains("refused: STICKY_CHANNEL is"));
}

/// Not a test by itself: the server that the test above runs in a process of its own.
#[test]
fn listens_where_it_may() {
    match Listener::from_env_or_bind("127.0.0.1:0") {
        Ok(_) => println!("bound"),
        Err(error) => println!("refused: {error}"),
    }
}
