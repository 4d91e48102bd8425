//! Logs that nobody reads: the supervisor goes on as if somebody did.

use std::io::{PipeReader, Read, Write, pipe};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

use crate::support::{Supervisor, eventually, get, proc, sticky_run, terminal, worker};

/// A supervisor that logs there; its address has to be known without the log.
fn logging_to(place: impl Into<OwnedFd>) -> (Supervisor, SocketAddr) {
    logging_with(&[], place)
}

fn logging_with(flags: &[&str], place: impl Into<OwnedFd>) -> (Supervisor, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    let flags = [&["--listen", "fd:3", "--by", "none"], flags].concat();
    // With --prefix-output this goes the same way as the log.
    let script = "yes 'some words of output' 2>&- | head -n 20000 >&2; exec \"$0\" \"$@\"";
    let script = if flags.contains(&"--prefix-output") { script } else { "exec \"$0\" \"$@\"" };
    let command = worker::command();
    let words = ["sh", "-c", script].into_iter().chain(command.iter().map(String::as_str));
    let words: Vec<_> = words.collect();
    let builder = sticky_run(2, &flags).command(&words).log_to(place.into());
    let supervisor = builder.inherit(listener.into()).spawn();
    get(address, "/");
    (supervisor, address)
}

/// It serves, replaces its workers one after the other, each of which is an event to log, and stops.
#[track_caller]
fn goes_on(mut supervisor: Supervisor, address: SocketAddr) {
    for _ in 0..4 {
        let before = both_workers(&supervisor);
        let pid = get(address, "/").pid;
        assert!(before.contains(&pid));
        proc::signal(pid, Signal::SIGKILL);
        eventually("another worker takes its place", || {
            let workers = supervisor.worker_pids();
            (workers.len() == 2 && !workers.contains(&pid)).then_some(())
        });
        get(address, "/");
    }
    let workers = both_workers(&supervisor);
    assert_eq!(supervisor.stop().code(), Some(0));
    assert!(!workers.iter().any(|pid| proc::is_alive(*pid)));
}

fn both_workers(supervisor: &Supervisor) -> Vec<i32> {
    eventually("both workers run", || {
        let workers = supervisor.worker_pids();
        (workers.len() == 2).then_some(workers)
    })
}

/// A pipe with no room, and its reader.
fn full_pipe() -> (PipeReader, OwnedFd) {
    let (reader, mut writer) = pipe().expect("a pipe");
    let set = |flags| fcntl(writer.as_fd(), FcntlArg::F_SETFL(flags)).expect("a mode");
    set(OFlag::O_NONBLOCK);
    // A page at a time and then by bytes, until nothing fits.
    for part in [&[b'x'; 4096][..], b"x"] {
        while (&writer).write(part).is_ok() {}
    }
    set(OFlag::empty());
    writer.flush().expect("nothing is held back");
    (reader, writer.into())
}

#[test]
fn a_log_whose_reader_has_gone_ends_nobody() {
    let (reader, writer) = pipe().expect("a pipe");
    let (supervisor, address) = logging_to(writer);
    drop(reader);
    goes_on(supervisor, address);
}

#[test]
fn a_log_on_a_full_disk_ends_nobody() {
    let full = std::fs::File::options().write(true).open("/dev/full").expect("full(4)");
    let (supervisor, address) = logging_to(full);
    goes_on(supervisor, address);
}

#[test]
fn a_log_that_nobody_reads_hinders_nobody_when_it_is_full() {
    let (_reader, writer) = full_pipe();
    let (supervisor, address) = logging_to(writer);
    goes_on(supervisor, address);
}

/// Places that have room for a byte and not for a line, each with its reader.
fn nearly_full() -> [(OwnedFd, OwnedFd); 2] {
    let (reader, writer) = UnixStream::pair().expect("two sockets");
    let places = [terminal::new(), (reader.into(), writer.into())];
    for (reader, writer) in &places {
        let set = |flags| fcntl(writer, FcntlArg::F_SETFL(flags)).expect("a mode");
        set(OFlag::O_NONBLOCK);
        while nix::unistd::write(writer, b"x").is_ok() {}
        set(OFlag::empty());
        let mut few = [0; 64];
        let mut asked = [PollFd::new(writer.as_fd(), PollFlags::POLLOUT)];
        while poll(&mut asked, PollTimeout::ZERO) == Ok(0) {
            nix::unistd::read(reader, &mut few).expect("what was written");
        }
    }
    places
}

#[test]
fn a_place_that_seems_to_have_room_and_has_none_hinders_nobody() {
    for (_reader, writer) in nearly_full() {
        let flags = ["--log-level", "debug", "--prefix-output"];
        let (supervisor, address) = logging_with(&flags, writer);
        goes_on(supervisor, address);
    }
}

#[test]
fn a_log_that_is_read_again_after_a_while_is_whole() {
    for (reader, writer) in nearly_full() {
        let (mut supervisor, address) = logging_with(&[], writer);
        for _ in 0..3 {
            get(address, "/");
        }
        let mut reader = std::fs::File::from(reader);
        let all = std::thread::spawn(move || {
            let mut all = Vec::new();
            // Reading fails when nobody has the terminal open any more, pty(7).
            reader.read_to_end(&mut all).ok();
            String::from_utf8(all).expect("it is text").replace("xx", "")
        });
        assert_eq!(supervisor.stop().code(), Some(0));
        drop(supervisor);
        let all = all.join().unwrap();
        for said in ["listening on", "worker 0 is ready", "received SIGTERM"] {
            assert!(all.contains(said), "{said}: {all}");
        }
        assert!(all.trim_end().ends_with(" stopped"), "{all}");
    }
}

#[test]
fn without_a_standard_error_everything_goes_on() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    let builder = sticky_run(2, &["--listen", "fd:3", "--by", "none"]).inherit(listener.into());
    let supervisor = builder.after("exec 2>&-;").spawn();
    goes_on(supervisor, address);
}

#[test]
fn a_usage_error_that_nobody_can_read_is_2_all_the_same() {
    let (reader, broken) = pipe().expect("a pipe");
    drop(reader);
    let full = std::fs::File::options().write(true).open("/dev/full").expect("full(4)");
    let (_reader, stuck) = full_pipe();
    for place in [OwnedFd::from(broken), full.into(), stuck] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sticky-run"));
        let mut child = command.arg("--no-such-flag").stderr(Stdio::from(place)).spawn().unwrap();
        let status = eventually("it ends", || child.try_wait().expect("it is our child"));
        assert_eq!(status.code(), Some(2));
    }
    let mut shell = Command::new("sh");
    shell.args(["-c", "exec \"$0\" --no-such-flag 2>&-", env!("CARGO_BIN_EXE_sticky-run")]);
    assert_eq!(shell.status().unwrap().code(), Some(2));
}
