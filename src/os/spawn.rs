//! Starting a worker: in its own process group, with its channel and stdio and no other descriptor; as which user,
//! in which directory and with which limits.

use std::ffi::{CString, OsString};
use std::io::{self, IsTerminal};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::libc;
use nix::sys::prctl::{set_no_new_privs, set_pdeathsig};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{
    Gid, Pid, Uid, chdir, getppid, setgroups, setpgid, setresgid, setresuid, setsid,
};

use super::capabilities::hand_on_none;
use super::closing::Pause;
use super::limits::FileLimit;
use super::signals::Inherited;
use super::{null, terminal};
use crate::logic::config::{Account, ProcessConfig, ResourceLimit};

/// The variable that tells a program what to do with the state of an upgrade, and where that is.
pub const ENV_UPGRADE: &str = "STICKY_UPGRADE";

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
    /// How their processes are set up.
    pub process: ProcessConfig,
}

/// A worker could not be started.
#[derive(Debug)]
pub struct SpawnError {
    /// What could not be done.
    pub step: Step,
    /// Why.
    pub error: io::Error,
}

/// What is done to start a worker.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// `fork(2)`, `execve(2)` and all between them that does not depend on flags. `NotFound` and
    /// `PermissionDenied` are about the command.
    Start,
    /// Setting its limits.
    Limits,
    /// Becoming another user or group.
    Account,
    /// Changing to its directory.
    Directory,
}

/// All steps that can be told apart; the number of one is its place here.
const STEPS: [Step; 4] = [Step::Start, Step::Limits, Step::Account, Step::Directory];
/// The number of the step stands above this many bits of the number of an error, all that a child
/// can say before it has executed its program. Numbers of errors are less than 4096.
const STEP_SHIFT: u32 = 12;
/// Where the search for inherited descriptors ends; the numbers are given from the lowest on.
const MOST_INHERITED: RawFd = 1 << 16;

/// How long a fork waits for what is being closed, which a child would have too.
pub(super) const CLOSES_WITHIN: Duration = Duration::from_millis(20);

impl Spawner {
    /// Starts a worker that has `channel` as its end of the channel and `output` as its standard output
    /// and error, or else those of the supervisor.
    pub fn spawn(
        &self,
        launch: &Launch,
        channel: BorrowedFd<'_>,
        output: Option<[OwnedFd; 2]>,
    ) -> Result<Pid, SpawnError> {
        let _pause = Pause::for_fork(CLOSES_WITHIN)?;
        let child = self.start(launch, channel, output).map_err(SpawnError::decode)?;
        let pid = i32::try_from(child.id()).expect("a pid of Linux fits into 31 bits");
        Ok(Pid::from_raw(pid))
    }

    fn start(
        &self,
        launch: &Launch,
        channel: BorrowedFd<'_>,
        output: Option<[OwnedFd; 2]>,
    ) -> io::Result<process::Child> {
        let mut command = process::Command::new(&launch.program);
        command.args(&launch.arguments);
        if io::stdin().is_terminal() {
            // What is typed there is for the shell.
            command.stdin(null::input()?);
        }
        if let Some([stdout, stderr]) = output {
            command.stdout(stdout).stderr(stderr);
        }
        for name in FOR_THE_SUPERVISOR_ONLY {
            command.env_remove(name);
        }
        let home = self.process.account.as_ref().and_then(|account| account.home.as_ref());
        if let Some((name, home)) = home {
            command.env("USER", name).env("LOGNAME", name).env("HOME", home);
        }
        for (name, value) in &launch.environment {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let directory = launch.directory.as_ref().map(|path| path.as_os_str().as_bytes());
        let directory = directory.map(CString::new).transpose()?;
        let hook = self.before_exec(channel.as_raw_fd(), directory);
        with_hook(&mut command, hook).spawn()
    }

    /// What the child does before it becomes the worker. Only async-signal-safe calls.
    fn before_exec(
        &self,
        channel: RawFd,
        directory: Option<CString>,
    ) -> impl FnMut() -> io::Result<()> + Send + Sync + use<> {
        let supervisor = Pid::this();
        let (files, signals, process) = (self.file_limit, self.signals, self.process.clone());
        let groups = process.account.iter().flat_map(|account| &account.groups);
        let groups: Vec<Gid> = groups.copied().map(Gid::from_raw).collect();
        move || {
            end_with(supervisor)?;
            leave_terminal()?;
            keep_only_stdio_and(channel)?;
            let limited = set_limits(files, &process.limits);
            limited.map_err(|errno| Step::Limits.encode(errno))?;
            if let Some(account) = &process.account {
                become_account(account, &groups).map_err(|errno| Step::Account.encode(errno))?;
                // To change the user takes this order back, `prctl(2)`.
                end_with(supervisor)?;
                if account.is_unprivileged() {
                    hand_on_none().map_err(|errno| Step::Account.encode(errno))?;
                }
            }
            if let Some(directory) = &directory {
                // Not before, since the supervisor may have fewer rights there than the user.
                chdir(directory.as_c_str()).map_err(|errno| Step::Directory.encode(errno))?;
            }
            if let Some(mask) = process.umask {
                umask(Mode::from_bits_truncate(mask));
            }
            if process.no_new_privs {
                set_no_new_privs()?;
            }
            signals.restore()
        }
    }
}

impl Step {
    /// An error that says in which step it happened. It can be made between fork and exec.
    fn encode(self, errno: Errno) -> io::Error {
        io::Error::from_raw_os_error((self as i32) << STEP_SHIFT | errno as i32)
    }
}

impl SpawnError {
    /// From what came of a child, or of the attempt to make one.
    fn decode(error: io::Error) -> Self {
        let Some(number) = error.raw_os_error() else { return error.into() };
        let step = usize::try_from(number >> STEP_SHIFT).ok().and_then(|step| STEPS.get(step));
        let error = io::Error::from_raw_os_error(number & ((1 << STEP_SHIFT) - 1));
        Self { step: step.copied().unwrap_or(Step::Start), error }
    }
}

impl From<io::Error> for SpawnError {
    fn from(error: io::Error) -> Self {
        Self { step: Step::Start, error }
    }
}

fn set_limits(files: FileLimit, limits: &[ResourceLimit]) -> nix::Result<()> {
    setrlimit(Resource::RLIMIT_NOFILE, files.soft, files.hard)?;
    limits.iter().try_for_each(|limit| setrlimit(limit.resource, limit.soft, limit.hard))
}

/// The groups first: without the user's rights to change them, they could not be changed any more.
fn become_account(account: &Account, groups: &[Gid]) -> nix::Result<()> {
    setgroups(groups)?;
    let gid = Gid::from_raw(account.gid);
    setresgid(gid, gid, gid)?;
    let Some(uid) = account.uid.map(Uid::from_raw) else { return Ok(()) };
    setresuid(uid, uid, uid)
}

/// Makes this process, a new child, the leader of its own process group, without a terminal: none can
/// stop it that it writes to (`stty tostop`) or would like to read (`tty(4)`), and what is typed there
/// is for the supervisor alone.
///
/// A session of its own would do as well, but then the kernel would schedule each worker as a group of
/// its own (autogroup, `sched(7)`), and wake it up for each single connection.
fn leave_terminal() -> io::Result<()> {
    match terminal::give_up() {
        Ok(()) => setpgid(Pid::from_raw(0), Pid::from_raw(0))?,
        // Such as where `/dev/tty` is missing.
        Err(_) => setsid().map(drop)?,
    }
    Ok(())
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
    // SAFETY: the hook neither allocates nor locks, which other threads might be doing: it makes
    // plain system calls on values that were captured before the fork.
    unsafe { command.pre_exec(hook) }
}

/// Marks everything above stdio close-on-exec that this process has inherited, if a worker that starts
/// cannot do that: so that no worker has it. What the process opens itself has the mark already.
pub fn mark_inherited() {
    // From the last number on, which is nothing.
    if mark_from(libc::c_uint::MAX).is_ok() {
        return;
    }
    // Linux before 5.11 cannot do it at once, nor can who is not allowed to, such as by an old
    // container engine.
    for number in 3..MOST_INHERITED {
        // SAFETY: it is used for fcntl(2) alone, which fails if nothing is open there.
        #[expect(unsafe_code, reason = "what was inherited is known by its number alone")]
        let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
        // Nothing else can be wrong with it.
        _ = fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC));
    }
}

/// Has the channel stay open, and nothing else above stdio, whoever opened it.
fn keep_only_stdio_and(channel: RawFd) -> io::Result<()> {
    // Where it cannot be done, `mark_inherited` has done it for all that could lack the mark.
    _ = mark_from(3);
    // SAFETY: the channel is open: the parent holds it while it spawns.
    #[expect(unsafe_code, reason = "a number becomes a descriptor")]
    let channel = unsafe { BorrowedFd::borrow_raw(channel) };
    fcntl(channel, FcntlArg::F_SETFD(FdFlag::empty()))?;
    Ok(())
}

#[expect(unsafe_code, reason = "close_range(2) has no safe wrapper")]
fn mark_from(first: libc::c_uint) -> nix::Result<()> {
    let (last, flag) = (libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC);
    // SAFETY: setting the flag closes nothing in this process image.
    let marked = unsafe { libc::syscall(libc::SYS_close_range, first, last, flag) };
    Errno::result(marked).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_a_child_says_in_which_step_it_happened() {
        for (number, step) in STEPS.into_iter().enumerate() {
            assert_eq!(number, step as usize);
            let decoded = SpawnError::decode(step.encode(Errno::EACCES));
            assert_eq!((decoded.step, decoded.error.raw_os_error()), (step, Some(libc::EACCES)));
        }
        let other = SpawnError::decode(io::Error::other("of our own"));
        assert_eq!((other.step, other.error.raw_os_error()), (Step::Start, None));
    }
}
