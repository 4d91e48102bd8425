//! Local clients that send descriptors along, which are slow to close.

use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::signal::Signal;
use sendfd::SendWithFd;
use socket2::SockRef;
use tempfile::TempDir;

use crate::sandbox::refusing;
use crate::support::abuse::slow_to_close;
use crate::support::client::read_answer;
use crate::support::{Supervisor, eventually, proc, sticky_run};

/// Whoever sends no PROXY header is turned away.
const FLAGS: [&str; 4] = ["--proxy-protocol", "--trust", "unix", "--listen"];
/// How many clients come at once.
const MANY: usize = 20;

/// A client that sends a socket along with what turns it away, which takes a minute to be closed. Says
/// whether that was possible.
fn attack(path: &Path) -> (UnixStream, bool) {
    let mut stream = UnixStream::connect(path).expect("a connection");
    let slow = slow_to_close().expect("a socket");
    let sent = stream.send_with_fd(b"nonsense\r\n", &[slow.as_raw_fd()]).is_ok();
    if !sent {
        stream.write_all(b"nonsense\r\n").expect("room for a line");
        SockRef::from(&slow).set_linger(None).expect("it is a socket");
    }
    thread::spawn(|| drop(slow));
    (stream, sent)
}

/// The longest time that an honest client waits.
fn wait_of_honest_ones(path: &Path) -> Duration {
    let ask = |_| {
        let since = Instant::now();
        let mut stream = UnixStream::connect(path).expect("a connection");
        stream.write_all(b"PROXY UNKNOWN\r\nGET / HTTP/1.1\r\n\r\n").expect("room for a request");
        read_answer(&mut stream).expect("an answer");
        since.elapsed()
    };
    (0..20).map(ask).max().expect("there are some")
}

/// Honest clients wait for no attack, and neither does a stop.
#[track_caller]
fn is_not_frozen(mut supervisor: Supervisor, path: &Path, attackers: Vec<UnixStream>) {
    let since = Instant::now();
    let wait = wait_of_honest_ones(path);
    assert!(wait < Duration::from_secs(2), "{wait:?}");
    for mut attacker in attackers {
        // They are turned away; what they sent was not read, so that may be a reset.
        attacker.read_to_end(&mut Vec::new()).ok();
    }
    supervisor.signal(Signal::SIGTERM);
    assert_eq!(supervisor.wait().code(), Some(0));
    assert!(since.elapsed() < Duration::from_secs(20), "{:?}", since.elapsed());
}

fn socket_in(directory: &TempDir) -> (String, std::path::PathBuf) {
    let path = directory.path().join("a.sock");
    (format!("unix:{}", path.display()), path)
}

#[test]
fn descriptors_that_clients_send_along_freeze_nobody() {
    // As it is, and as it was before Linux 6.16.
    for before in [String::new(), refusing(libc::ENOSYS)] {
        let directory = TempDir::new().expect("room for a directory");
        let (listen, path) = socket_in(&directory);
        let flags = [&FLAGS[..], &[&listen]].concat();
        let supervisor = sticky_run(2, &flags).after(&before).start();
        wait_of_honest_ones(&path);
        let files = proc::open_files_at_rest(supervisor.pid());
        let attackers: Vec<_> = (0..MANY).map(|_| attack(&path)).collect();
        assert!(before.is_empty() || attackers.iter().all(|(_, sent)| *sent));
        eventually("all is closed", || (proc::open_files(supervisor.pid()) == files).then_some(()));
        let attackers = attackers.into_iter().map(|(stream, _)| stream).collect();
        is_not_frozen(supervisor, &path, attackers);
    }
}

#[test]
fn descriptors_that_clients_sent_before_the_start_freeze_nobody() {
    let directory = TempDir::new().expect("room for a directory");
    let (_, path) = socket_in(&directory);
    let listener = UnixListener::bind(&path).expect("a free path");
    let attackers: Vec<_> = (0..MANY).map(|_| attack(&path)).collect();
    assert!(attackers.iter().all(|(_, sent)| *sent));
    let flags = [&FLAGS[..], &["fd:3"]].concat();
    let supervisor = sticky_run(2, &flags).inherit(listener.into()).start();
    let attackers = attackers.into_iter().map(|(stream, _)| stream).collect();
    is_not_frozen(supervisor, &path, attackers);
}
