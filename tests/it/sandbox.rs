//! Sandboxes and roots that lack what a machine of today has.

use std::env;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::libc;
use nix::pty::openpty;
use nix::sys::signal::Signal;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter,
};

use crate::privileges::is_root;
use crate::support::{Supervisor, get, proc, sticky_run};

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
/// Options of `setsockopt(2)`, and the level of each.
const OPTIONS: [(libc::c_int, libc::c_int); 3] = [
    (libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT),
    (libc::SOL_SOCKET, libc::SO_ATTACH_FILTER),
    (libc::SOL_SOCKET, libc::SO_BINDTOIFINDEX),
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
fn refusing(errno: libc::c_int) -> String {
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
    supervisor.wait_for_log("restarted workers: 1");
    supervisor.signal(Signal::SIGUSR2);
    supervisor.wait_for_log("upgraded from sticky-run");
    get(supervisor.address(), "/");
    assert_eq!(supervisor.stop().code(), Some(0));
}

#[test]
fn calls_that_an_old_filter_refuses_are_not_needed() {
    for errno in [libc::EPERM, libc::ENOSYS] {
        // What was inherited without the mark does not get into a worker then either.
        let before = format!("exec 7</dev/null; {}", refusing(errno));
        let supervisor = sticky_run(1, &[]).after(&before).start();
        let files = proc::descriptors(supervisor.pid_of(0));
        assert!(files.iter().all(|(number, _)| *number != 7), "{files:?}");
        goes_through_life(supervisor);
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
