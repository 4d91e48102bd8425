//! The files of Unix sockets: whose they are, and their mode.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::net::UnixStream;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::privileges::{GROUP, USER, is_root, public_program};
use crate::support::files::File;
use crate::support::supervisor::configured;
use crate::support::{eventually, sticky_run, worker};

#[test]
fn a_unix_socket_is_for_whom_it_is_asked_to_be_and_an_upgrade_changes_that() {
    if !is_root() {
        return;
    }
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("a.sock");
    let settings = |mode: &str, who: &str| {
        format!("listen = ['unix:{}']\nsocket-mode = '{mode}'\n{who}\n", path.display())
    };
    let words: Vec<_> = worker::command().iter().map(|word| format!("'{word}'")).collect();
    let command = format!("workers = 1\ncommand = [{}]\n", words.join(", "));
    let with = |mode, who| settings(mode, who) + &command;
    let file = File::new(
        "socket.toml",
        with("660", "user = '54321'\ngroup = '54322'\nsocket-group = '33'"),
    );
    // A wide umask would open it to everybody.
    let supervisor = configured(1, file.path()).after("umask 000;").start();
    let now = || {
        let found = path.metadata().unwrap();
        (found.mode() & 0o777, found.uid(), found.gid())
    };
    assert_eq!(now(), (0o660, USER, 33));
    UnixStream::connect(&path).expect("it listens");
    drop(supervisor);
    file.replace(with("600", "socket-user = '54321'"));
    let supervisor = configured(1, file.path()).start();
    assert_eq!(now(), (0o600, USER, 0));
    file.replace(with("620", "socket-user = '0'\nsocket-group = '54322'"));
    supervisor.signal(Signal::SIGUSR2);
    supervisor.wait_event("upgraded");
    eventually("the socket is of others", || (now() == (0o620, 0, GROUP)).then_some(()));
}

#[test]
fn who_may_not_give_a_socket_away_is_told_so_at_the_start() {
    if !is_root() {
        return;
    }
    let directory = TempDir::new().unwrap();
    chown(directory.path(), Some(USER), None).unwrap();
    let listen = format!("unix:{}", directory.path().join("a.sock").display());
    let flags = ["--listen", &listen, "--socket-user", "0"];
    let (home, command) = worker::public_command();
    let words: Vec<_> = command.iter().map(String::as_str).collect();
    let public = public_program();
    let before = "exec setpriv --reuid 54321 --regid 54322 --clear-groups \"$0\" \"$@\";";
    let builder = sticky_run(1, &flags).command(&words);
    let mut supervisor = builder.program(&public.path().join("run")).after(before).spawn();
    assert_eq!(supervisor.wait().code(), Some(1), "{}", supervisor.log());
    let log = supervisor.whole_log();
    assert!(log.contains(&format!("cannot give {listen} the user")), "{log}");
    assert!(log.contains("operation not permitted (only root can"), "{log}");
    assert!(fs::read_dir(directory.path()).unwrap().next().is_none(), "the socket stays behind");
    drop(home);
}
