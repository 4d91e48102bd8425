//! Sandboxes and roots that lack what a machine of today has.

use std::env;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::libc;
use nix::pty::openpty;
use nix::sys::signal::Signal;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter,
};

use tempfile::TempDir;

use crate::privileges::{AS_SOMEBODY, SLEEP, USER, is_root, private_directory};
use crate::support::supervisor::Builder;
use crate::support::{
    Supervisor, client, event, eventually, get, node, proc, read_reply, sticky_run,
};

/// The variable that has the test binary refuse some calls with this error and become what stands in
/// [`WORDS`], one a line.
const SWITCH: &str = "STICKY_RUN_TEST_REFUSES";
const WORDS: &str = "STICKY_RUN_TEST_WORDS";

/// Calls that the C library of the programs can do without too, but old filters or kernels do not know:
/// they answer with an error to any number that is not in their list.
const CALLS: [libc::c_long; 15] = [
    libc::SYS_close_range,
    libc::SYS_copy_file_range,
    libc::SYS_epoll_pwait2,
    libc::SYS_faccessat2,
    libc::SYS_getrandom,
    libc::SYS_io_uring_setup,
    libc::SYS_memfd_create,
    libc::SYS_openat2,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_send_signal,
    libc::SYS_renameat2,
    libc::SYS_rseq,
    libc::SYS_seccomp,
    libc::SYS_statx,
];
/// Whether others may send descriptors along, since Linux 6.16.
const SO_PASSRIGHTS: libc::c_int = 83;
/// Options of `setsockopt(2)`, and the level of each.
const OPTIONS: [(libc::c_int, libc::c_int); 5] = [
    (libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT),
    (libc::SOL_SOCKET, libc::SO_ATTACH_FILTER),
    (libc::SOL_SOCKET, libc::SO_BINDTOIFINDEX),
    (libc::SOL_SOCKET, libc::SO_PEEK_OFF),
    (libc::SOL_SOCKET, SO_PASSRIGHTS),
];

/// Not a test but the sandbox, when a shell below runs this binary.
#[test]
fn main() {
    let Ok(errno) = env::var(SWITCH) else { return };
    let errno = errno.parse().expect("a number");
    apply_filter(&filter(errno)).expect("the kernel has filters");
    let words = env::var(WORDS).expect("the shell has set it");
    let mut words = words.lines();
    let program = words.next().expect("a program");
    panic!("{}", Command::new(program).args(words).env_remove(SWITCH).env_remove(WORDS).exec());
}

/// Refuses all of this with one error.
fn filter(errno: u32) -> BpfProgram {
    let equal = |index, value: libc::c_int| {
        let value = u64::try_from(value).expect("it is positive");
        SeccompCondition::new(index, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
            .expect("a call has six arguments")
    };
    let option = |(level, option)| SeccompRule::new(vec![equal(1, level), equal(2, option)]);
    let options = OPTIONS.map(option).into_iter().collect::<Result<_, _>>();
    let subreaper = SeccompRule::new(vec![equal(0, libc::PR_SET_CHILD_SUBREAPER)]);
    let some = [
        (libc::SYS_setsockopt, options.expect("rules")),
        (libc::SYS_prctl, vec![subreaper.expect("a rule")]),
    ];
    let rules = CALLS.map(|call| (call, Vec::new())).into_iter().chain(some).collect();
    let architecture = env::consts::ARCH.try_into().expect("filters know this machine");
    let refuse = SeccompAction::Errno(errno);
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, architecture);
    filter.and_then(TryInto::try_into).expect("a filter")
}

/// Words of a shell that run the rest of its command line in the sandbox.
pub(crate) fn refusing(errno: libc::c_int) -> String {
    let own = env::current_exe().expect("the test binary has a path");
    format!(
        "export {SWITCH}={errno} {WORDS}=\"$(printf '%s\\n' \"$0\" \"$@\")\"; \
         exec '{}' --exact sandbox::main --nocapture;",
        own.display()
    )
}

/// Serves, restarts, upgrades, serves, and stops.
#[track_caller]
fn goes_through_life(mut supervisor: Supervisor) {
    get(supervisor.address(), "/");
    supervisor.signal(Signal::SIGHUP);
    supervisor.wait_event(event("restart_done").with("count", 1));
    supervisor.signal(Signal::SIGUSR2);
    supervisor.wait_event("upgraded");
    get(supervisor.address(), "/");
    assert_eq!(supervisor.stop().code(), Some(0));
}

/// Sends a long head in pieces that are looked at one after the other.
#[track_caller]
fn comes_in_pieces(supervisor: &Supervisor) {
    let idle = proc::open_files_at_rest(supervisor.pid());
    let mut stream = client::send(supervisor.address(), "GET /?a=");
    eventually("it waits", || (proc::open_files(supervisor.pid()) > idle).then_some(()));
    for piece in ["a".repeat(30_000), "a".repeat(30_000), "&sid=b HTTP/1.1\r\n\r\n".to_owned()] {
        stream.write_all(piece.as_bytes()).expect("somebody reads");
        proc::wait_for_rest(supervisor.pid());
    }
    read_reply(&mut stream).expect("an answer");
}

#[test]
fn calls_that_an_old_filter_refuses_are_not_needed() {
    for errno in [libc::EPERM, libc::ENOSYS] {
        // What was inherited without the mark does not get into a worker then either.
        let before = format!("exec 7</dev/null; {}", refusing(errno));
        let supervisor = sticky_run(1, &[]).after(&before).start();
        let files = proc::descriptors(supervisor.pid_of(0));
        assert!(files.iter().all(|(number, _)| *number != 7), "{files:?}");
        comes_in_pieces(&supervisor);
        goes_through_life(supervisor);
    }
}

#[test]
fn where_calls_are_refused_a_socket_is_its_users_and_goes() {
    if !is_root() {
        return;
    }
    for errno in [libc::ENOSYS, libc::EPERM] {
        let (_outer, private) = private_directory();
        let path = private.join("app.sock");
        let listen = format!("unix:{}", path.display());
        let flags = [&AS_SOMEBODY[..], &["--listen", &listen]].concat();
        let builder = sticky_run(1, &flags).command(&SLEEP).after(&refusing(errno));
        let mut supervisor = builder.listening();
        assert_eq!(path.metadata().expect("it is there").uid(), USER);
        assert_eq!(supervisor.stop().code(), Some(0));
        assert!(!path.exists());
        supervisor.whole_log();
        supervisor.expect_no_trouble();
    }
}

/// Words of a shell that run the rest of its command line where `/dev` is empty, with these redirections.
fn without_devices(redirections: &str) -> String {
    let enter = if is_root() { "unshare -m" } else { "unshare --map-root-user -m" };
    format!(
        "exec {enter} sh -c 'mount -t tmpfs none /dev && exec \"$0\" \"$@\" {redirections}' \"$0\" \"$@\";"
    )
}

#[test]
fn without_a_null_device_workers_start_at_a_terminal_too() {
    let terminal = openpty(None, None).expect("a terminal");
    let supervisor = sticky_run(1, &[]).stdin(terminal.slave).after(&without_devices(""));
    goes_through_life(supervisor.start());
}

#[test]
fn without_a_null_device_standard_input_and_output_may_be_closed() {
    goes_through_life(sticky_run(1, &[]).after(&without_devices("<&- >&-")).start());
}

/// A worker of Node that is another user, with its files below this directory if that will do. The program
/// is in the other one.
fn node_with(temporary: &Path) -> Option<(TempDir, Builder)> {
    let node = node::binary().filter(|_| is_root())?;
    let home = TempDir::new().expect("room for a directory");
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).expect("it is ours");
    let server = home.path().join("server.js");
    let text = "require('http').createServer((_, answer) => answer.end()).listen(0, '127.0.0.1')";
    fs::write(&server, text).expect("room for a file");
    let server = server.to_str().expect("its path is text");
    let builder = sticky_run(1, &AS_SOMEBODY).command(&[&node, server]);
    Some((home, builder.env("TMPDIR", temporary.to_str().expect("its path is text"))))
}

#[test]
fn the_preload_is_where_its_workers_can_read_it() {
    // As pam_tmpdir makes it: for root alone.
    let private = TempDir::new().expect("room for a directory");
    for temporary in [private.path(), Path::new("/no/such/directory"), Path::new("/proc")] {
        let Some((_home, builder)) = node_with(temporary) else { return };
        builder.start();
        let rest = fs::read_dir(private.path()).expect("it is ours");
        assert_eq!(rest.count(), 0);
    }
}

#[test]
fn no_place_for_the_preload_is_one_line_that_says_what_to_set() {
    let Some((_home, builder)) = node_with(Path::new("/tmp")) else { return };
    let before = "exec unshare -m sh -c 'for place in /tmp /var/tmp /dev/shm /run; do \
                  mount --bind $place $place && mount -o remount,ro,bind $place; done; \
                  exec \"$0\" \"$@\"' \"$0\" \"$@\";";
    let mut supervisor = builder.after(before).spawn();
    assert_eq!(supervisor.wait().code(), Some(1), "{}", supervisor.log());
    let log = supervisor.whole_log();
    let line = log.lines().last().expect("a line");
    assert!(line.contains("/tmp: read-only file system"), "{line}");
    assert!(line.contains("set TMPDIR to a directory that workers can read"), "{line}");
}

#[test]
fn a_proc_that_hides_workers_makes_max_memory_a_warning() {
    if !is_root() {
        return;
    }
    let flags = [&AS_SOMEBODY[..], &["--max-memory", "1G"]].concat();
    let before = "exec unshare -m sh -c 'mount -t proc -o hidepid=2 proc /proc && exec setpriv --regid 1 --clear-groups \"$0\" \"$@\"' \
                  \"$0\" \"$@\";";
    let supervisor = sticky_run(2, &flags).command(&SLEEP).after(before).listening();
    supervisor.wait_event(event("memory_limit_ignored").saying("cannot read /proc/"));
    assert_eq!(supervisor.count_events("memory_limit_ignored"), 1);
}
