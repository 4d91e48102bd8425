//! Replacing the running program: `execve(2)` with the descriptors that are kept.
//!
//! The state goes over in a file that exists only in memory (`memfd_create(2)`), or without a name among
//! the temporary files where that is not to be had; its number stands in a variable of the environment. The other program is asked first, as a child, whether it can
//! read such a state.

use std::convert::Infallible;
use std::ffi::{CString, OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process;

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::{AccessFlags, Pid, access, execve};

use super::closing::Pause;
use super::null;
pub use super::spawn::ENV_UPGRADE;
use super::spawn::{CLOSES_WITHIN, end_with, with_hook};

/// What is at this path is run by it at the start, whatever the path leads to later.
const OWN_PROGRAM: &str = "/proc/self/exe";
/// The end of what a program says when it is asked: the answer is there.
const LONGEST_ANSWER: usize = 8 * 1024;
/// The most that is read to find that end, which is more than a pipe holds.
const LONGEST_TALK: u64 = 4 << 20;

/// What a program that finds a state is to do with it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Task {
    /// Say whether it can be read.
    Check,
    /// Go on from it.
    Resume,
}

/// How this program was started, so that it can be started again.
#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
}

/// A program that is being asked whether it can read the state.
#[derive(Debug)]
pub struct Question {
    pid: Pid,
    answer: File,
}

/// A state, in memory.
#[derive(Debug)]
pub struct StateFile(File);

impl Program {
    /// This program, from its arguments and its environment. Has to come early: the file that it
    /// was started from may be replaced later, and is then what it would become.
    pub fn own(arguments: Vec<OsString>, environment: Vec<(OsString, OsString)>) -> Self {
        let path = variable(&environment, "PATH");
        let name = arguments.first().map(OsString::as_os_str).unwrap_or_default();
        let found = find(name, path).filter(|found| is_own(found));
        let path = found.or_else(|| fs::read_link(OWN_PROGRAM).ok());
        let path = path.unwrap_or_else(|| PathBuf::from(name));
        let environment = environment.into_iter().filter(|(name, _)| name != ENV_UPGRADE).collect();
        Self { path, arguments, environment }
    }

    /// The file that an upgrade starts.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether this process may execute it. Errors are those of `access(2)`.
    pub fn may_be_executed(&self) -> io::Result<()> {
        Ok(access(&self.path, AccessFlags::X_OK)?)
    }

    /// Asks whether the program that is at the path now can go on from a state. It answers on its
    /// standard output and ends; errors are those of `fork(2)` and `execve(2)`.
    pub fn ask(&self, state: &StateFile) -> io::Result<Question> {
        let (answer, theirs) = io::pipe()?;
        let mut command = process::Command::new(&self.path);
        command.arg0(self.arguments.first().map_or(OsStr::new(""), OsString::as_os_str));
        command.args(self.arguments.iter().skip(1)).env_clear();
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.env(ENV_UPGRADE, value(Task::Check, state)).process_group(0);
        command.stdin(null::input()?).stdout(theirs.try_clone()?).stderr(theirs);
        let number = state.0.as_raw_fd();
        let supervisor = Pid::this();
        let child = with_hook(&mut command, move || {
            end_with(supervisor)?;
            keep(number, true)
        });
        let _pause = Pause::for_fork(CLOSES_WITHIN)?;
        let child = child.spawn()?;
        let pid = i32::try_from(child.id()).expect("a pid of Linux fits into 31 bits");
        Ok(Question { pid: Pid::from_raw(pid), answer: File::from(OwnedFd::from(answer)) })
    }

    /// Becomes the program that is at the path now, with these descriptors open besides stdio. Comes
    /// back only with an error of `execve(2)`; then all is as before.
    pub fn become_it(&self, state: &StateFile, descriptors: &[RawFd]) -> io::Result<Infallible> {
        let path = c_string(self.path.as_os_str().as_bytes())?;
        let arguments = self.arguments.iter().map(|word| c_string(word.as_bytes()));
        let arguments = arguments.collect::<io::Result<Vec<_>>>()?;
        let told = [(OsString::from(ENV_UPGRADE), OsString::from(value(Task::Resume, state)))];
        let environment = self
            .environment
            .iter()
            .chain(&told)
            .map(|(name, value)| c_string(&[name.as_bytes(), b"=", value.as_bytes()].concat()));
        let environment = environment.collect::<io::Result<Vec<_>>>()?;
        let all = || descriptors.iter().copied().chain([state.0.as_raw_fd()]);
        let kept = all().try_for_each(|number| keep(number, true));
        let error = match kept {
            Ok(()) => match execve(&path, &arguments, &environment) {
                Ok(never) => match never {},
                Err(errno) => errno.into(),
            },
            Err(error) => error,
        };
        all().try_for_each(|number| keep(number, false))?;
        Err(error)
    }
}

impl Question {
    /// The process that is being asked.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// The last of what it has said, once it has ended.
    pub fn answer(self) -> io::Result<String> {
        // Somebody who inherited the other end may still have it open.
        fcntl(&self.answer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let mut answer = Vec::new();
        match self.answer.take(LONGEST_TALK).read_to_end(&mut answer) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        let end = &answer[answer.len().saturating_sub(LONGEST_ANSWER)..];
        Ok(String::from_utf8_lossy(end).into_owned())
    }
}

impl StateFile {
    /// A file without a name, with these bytes.
    pub fn new(state: &[u8]) -> io::Result<Self> {
        let mut file = match memfd_create(c"sticky-run state", MFdFlags::MFD_CLOEXEC) {
            Ok(memory) => File::from(memory),
            // Some sandboxes do not know the call, or do not allow it.
            Err(_) => tempfile::tempfile()?,
        };
        file.write_all(state)?;
        Ok(Self(file))
    }

    /// The state that [`ENV_UPGRADE`] tells of, and what to do with it.
    #[expect(unsafe_code, reason = "a number in the environment becomes a descriptor")]
    pub fn from_variable(value: &str) -> io::Result<(Task, Self)> {
        let wrong = || io::Error::new(io::ErrorKind::InvalidInput, "it names no state");
        let (task, number) = value.split_once(':').ok_or_else(wrong)?;
        let task = match task {
            "check" => Task::Check,
            "resume" => Task::Resume,
            _ => return Err(wrong()),
        };
        let number: RawFd = number.parse().map_err(|_| wrong())?;
        if number <= nix::libc::STDERR_FILENO {
            return Err(wrong());
        }
        keep(number, false)?;
        // SAFETY: it is open, or the call above had failed, and nothing else in this process has
        // been opened or taken over before.
        Ok((task, Self(File::from(unsafe { OwnedFd::from_raw_fd(number) }))))
    }

    /// All of it.
    pub fn read(&mut self) -> io::Result<Vec<u8>> {
        let mut state = Vec::new();
        self.0.rewind()?;
        self.0.read_to_end(&mut state)?;
        Ok(state)
    }
}

/// Takes over a descriptor that was open when this program started, by its number.
#[expect(unsafe_code, reason = "a state knows its descriptors by their numbers alone")]
pub fn take_over(number: RawFd) -> io::Result<OwnedFd> {
    keep(number, false)?;
    // SAFETY: it is open, or the call above had failed, and the state names each descriptor once.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Has a descriptor stay open across `execve(2)`, or not.
fn keep(number: RawFd, kept: bool) -> io::Result<()> {
    flags(number)?;
    let flags = if kept { FdFlag::empty() } else { FdFlag::FD_CLOEXEC };
    fcntl(borrow(number), FcntlArg::F_SETFD(flags))?;
    Ok(())
}

fn flags(number: RawFd) -> io::Result<()> {
    if number < 0 {
        return Err(io::Error::from_raw_os_error(nix::libc::EBADF));
    }
    fcntl(borrow(number), FcntlArg::F_GETFD)?;
    Ok(())
}

#[expect(unsafe_code, reason = "flags are set by number")]
fn borrow<'a>(number: RawFd) -> BorrowedFd<'a> {
    debug_assert!(number >= 0, "the caller has checked that");
    // SAFETY: it is used for fcntl(2) alone, which fails if nothing is open there.
    unsafe { BorrowedFd::borrow_raw(number) }
}

fn value(task: Task, state: &StateFile) -> String {
    let task = match task {
        Task::Check => "check",
        Task::Resume => "resume",
    };
    format!("{task}:{}", state.0.as_raw_fd())
}

/// Where a program is that was started by this name: a path, or in `PATH`.
fn find(name: &OsStr, path: Option<&OsStr>) -> Option<PathBuf> {
    if name.as_bytes().contains(&b'/') {
        return std::path::absolute(Path::new(name)).ok();
    }
    let directories = path?.as_bytes().split(|byte| *byte == b':');
    let places = directories.map(|place| Path::new(OsStr::from_bytes(place)).join(name));
    places.filter_map(|place| std::path::absolute(place).ok()).find(|place| place.is_file())
}

/// Whether this file is the one that runs: the first argument may be any text.
fn is_own(path: &Path) -> bool {
    match (fs::metadata(path), fs::metadata(OWN_PROGRAM)) {
        (Ok(found), Ok(own)) => (found.dev(), found.ino()) == (own.dev(), own.ino()),
        // Without /proc nobody can tell.
        (Ok(_), Err(_)) => true,
        (Err(_), _) => false,
    }
}

fn variable<'a>(environment: &'a [(OsString, OsString)], name: &str) -> Option<&'a OsStr> {
    environment.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_os_str())
}

fn c_string(bytes: &[u8]) -> io::Result<CString> {
    CString::new(bytes).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_read_as_it_was_written() {
        let mut state = StateFile::new(b"all of it").unwrap();
        assert_eq!(state.read().unwrap(), b"all of it");
        assert_eq!(state.read().unwrap(), b"all of it");
    }

    #[test]
    fn what_names_no_state_is_an_error() {
        for text in
            ["", "check", "check:", "check:1", "check:-1", "check:9999", "eat:3", "resume:x"]
        {
            assert!(StateFile::from_variable(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_program_is_known_by_its_path_or_by_what_runs() {
        let own = fs::read_link(OWN_PROGRAM).unwrap();
        let by_path = Program::own(vec![own.clone().into()], Vec::new());
        assert_eq!(by_path.path(), own);
        let by_another_name = Program::own(vec!["-something".into()], Vec::new());
        assert_eq!(by_another_name.path(), own);
        let directory = own.parent().unwrap().as_os_str().to_owned();
        let environment = vec![("PATH".into(), directory), (ENV_UPGRADE.into(), "x".into())];
        let by_name = Program::own(vec![own.file_name().unwrap().into()], environment);
        assert_eq!((by_name.path(), by_name.environment.len()), (own.as_path(), 1));
    }

    #[test]
    fn another_program_is_asked_and_says_what_it_says() {
        let program = Program {
            path: "/bin/sh".into(),
            arguments: ["sh", "-c", "cat <&${STICKY_UPGRADE#check:}; echo no >&2"]
                .map(Into::into)
                .to_vec(),
            environment: vec![("PATH".into(), "/usr/bin:/bin".into())],
        };
        let mut state = StateFile::new(b"a state, ").unwrap();
        state.0.rewind().unwrap();
        let question = program.ask(&state).unwrap();
        nix::sys::wait::waitpid(question.pid(), None).unwrap();
        assert_eq!(question.answer().unwrap(), "a state, no\n");
    }

    #[test]
    fn the_answer_is_the_end_of_what_is_said() {
        let program = Program {
            path: "/bin/sh".into(),
            arguments: ["sh", "-c", "head -c 20000 /dev/zero >&2; echo; echo yes"]
                .map(Into::into)
                .to_vec(),
            environment: vec![("PATH".into(), "/usr/bin:/bin".into())],
        };
        let question = program.ask(&StateFile::new(b"").unwrap()).unwrap();
        nix::sys::wait::waitpid(question.pid(), None).unwrap();
        let answer = question.answer().unwrap();
        assert!(answer.ends_with("\nyes\n") && answer.len() == LONGEST_ANSWER);
    }

    #[test]
    fn what_cannot_be_started_leaves_all_as_it_was() {
        let program = Program {
            path: "/nowhere/sticky-run".into(),
            arguments: Vec::new(),
            environment: Vec::new(),
        };
        let state = StateFile::new(b"").unwrap();
        let descriptor = File::open("/dev/null").unwrap();
        let error = program.become_it(&state, &[descriptor.as_raw_fd()]).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(nix::libc::ENOENT));
        let kept = fcntl(&descriptor, FcntlArg::F_GETFD).unwrap();
        assert_eq!(kept, FdFlag::FD_CLOEXEC.bits());
        let is_open = |number| flags(number).is_ok();
        assert!(is_open(descriptor.as_raw_fd()) && !is_open(9_999) && !is_open(-1));
    }
}
