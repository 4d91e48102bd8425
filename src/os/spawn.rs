//! Starting a worker: its own process group, its channel and stdio, and nothing else of ours.

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{self, Stdio};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::libc;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getppid};

use super::limits::FileLimit;
use super::signals::Inherited;
use super::upgrade::ENV_UPGRADE;

/// Variables that tell a process about sockets and a watchdog of its own, which are the
/// supervisor's here (`sd_listen_fds(3)`, `sd_notify(3)`, `sd_watchdog_enabled(3)`), or about an upgrade.
const FOR_THE_SUPERVISOR_ONLY: [&str; 8] = [
    "LISTEN_FDNAMES",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_PIDFDID",
    "NOTIFY_SOCKET",
    ENV_UPGRADE,
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
];

/// What a worker is started as.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Launch {
    /// A path, or a name that is searched for in `PATH`.
    pub program: OsString,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Where it runs, if not where the supervisor does.
    pub directory: Option<PathBuf>,
    /// How its environment differs from that of the supervisor, the later ones in front; `None` takes
    /// a variable away.
    pub environment: Vec<(OsString, Option<OsString>)>,
}

/// How workers are started.
#[derive(Clone, Debug)]
pub struct Spawner {
    /// The limit on descriptors that workers get back.
    pub file_limit: FileLimit,
    /// The signals as the supervisor found them.
    pub signals: Inherited,
}

impl Spawner {
    /// Starts a worker that has `channel` as its end of the channel and `output` as its standard output
    /// and error, or else those of the supervisor.
    ///
    /// Errors are those of `fork(2)` and `execve(2)`; `NotFound` and `PermissionDenied` are about
    /// the command.
    pub fn spawn(
        &self,
        launch: &Launch,
        channel: BorrowedFd<'_>,
        output: Option<[OwnedFd; 2]>,
    ) -> io::Result<Pid> {
        let mut command = process::Command::new(&launch.program);
        command.args(&launch.arguments).process_group(0);
        if io::stdin().is_terminal() {
            // A worker is in the background there, and reading would stop it (`SIGTTIN`).
            command.stdin(Stdio::null());
        }
        if let Some([stdout, stderr]) = output {
            command.stdout(stdout).stderr(stderr);
        }
        for name in FOR_THE_SUPERVISOR_ONLY {
            command.env_remove(name);
        }
        for (name, value) in &launch.environment {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        if let Some(directory) = &launch.directory {
            command.current_dir(directory);
        }
        let child = with_hook(&mut command, self.before_exec(channel.as_raw_fd())).spawn()?;
        let pid = i32::try_from(child.id()).expect("a pid of Linux fits into 31 bits");
        Ok(Pid::from_raw(pid))
    }

    /// What the child does before it becomes the worker. Only async-signal-safe calls.
    fn before_exec(&self, channel: RawFd) -> impl FnMut() -> io::Result<()> + Send + Sync + use<> {
        let supervisor = Pid::this();
        let (limit, signals) = (self.file_limit, self.signals);
        move || {
            end_with(supervisor)?;
            keep_only_stdio_and(channel)?;
            setrlimit(Resource::RLIMIT_NOFILE, limit.soft, limit.hard)?;
            signals.restore()
        }
    }
}

/// Has this process, a new child, be killed when its parent ends.
pub(super) fn end_with(parent: Pid) -> io::Result<()> {
    set_pdeathsig(Signal::SIGKILL)?;
    if getppid() != parent {
        // It died before the line above, so its death will not be signalled any more.
        return Err(Errno::ESRCH.into());
    }
    Ok(())
}

#[expect(unsafe_code, reason = "the hook runs between fork and exec")]
pub(super) fn with_hook(
    command: &mut process::Command,
    hook: impl FnMut() -> io::Result<()> + Send + Sync + 'static,
) -> &mut process::Command {
    // SAFETY: the supervisor has one thread, and the hook neither allocates nor locks: it makes
    // plain system calls on values that were captured before the fork.
    unsafe { command.pre_exec(hook) }
}

/// Marks everything above stdio close-on-exec, whoever opened it, except the channel.
#[expect(
    unsafe_code,
    reason = "close_range(2) has no safe wrapper, and a number becomes a descriptor"
)]
fn keep_only_stdio_and(channel: RawFd) -> io::Result<()> {
    // SAFETY: setting the flag closes nothing in this process image.
    let marked = unsafe {
        libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC)
    };
    // Before Linux 5.11 descriptors that the supervisor inherited without the flag stay open. Its
    // own all have the flag.
    if marked < 0 && !matches!(Errno::last(), Errno::ENOSYS | Errno::EINVAL) {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the channel is open: the parent holds it while it spawns.
    let channel = unsafe { BorrowedFd::borrow_raw(channel) };
    fcntl(channel, FcntlArg::F_SETFD(FdFlag::empty()))?;
    Ok(())
}
