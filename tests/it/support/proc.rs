//! Processes as `/proc` shows them, `proc(5)`.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

/// Sends a signal to a process that the test knows to be its own.
#[track_caller]
pub fn signal(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).expect("the process exists");
}

/// Ends a process that a test has started, and its group if it leads one.
pub fn end_with_group(pid: i32) {
    let pid = Pid::from_raw(pid);
    // It may have ended by itself.
    killpg(pid, Signal::SIGKILL).ok();
    kill(pid, Signal::SIGKILL).ok();
}

/// Whether the process exists and has not ended.
pub fn is_alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
    state.is_some_and(|state| state != 'Z' && state != 'X')
}

/// A process that its pid alone does not name for ever.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Process {
    /// Its pid.
    pub pid: i32,
    /// When it started, in ticks since the boot.
    started: Option<u64>,
}

impl Process {
    /// The one that has this pid now, if it has not ended.
    pub fn of(pid: i32) -> Self {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // starttime of proc_pid_stat(5); the state is the first word after the name.
        let started = stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(19));
        let started = started.and_then(|ticks| ticks.parse().ok()).filter(|_| is_alive(pid));
        Self { pid, started }
    }

    /// Whether it has not ended.
    pub fn lives(&self) -> bool {
        self.started.is_some() && Self::of(self.pid) == *self
    }
}

/// Whether the process is stopped by a signal. Its threads stop one after the other, and one that
/// still runs may pick something up.
pub fn is_stopped(pid: i32) -> bool {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let stat = |task: fs::DirEntry| fs::read_to_string(task.path().join("stat"));
    let mut states = tasks.filter_map(|task| stat(task).ok()).peekable();
    states.peek().is_some()
        && states.all(|stat| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T')))
}

/// How many descriptors the process has open, besides what it reads of `/proc` in that moment.
pub fn open_files(pid: i32) -> usize {
    descriptors(pid).iter().filter(|(_, name)| !name.starts_with("/proc/")).count()
}

/// Likewise, when the process does nothing: a supervisor that reads a channel makes sure of a free
/// descriptor by opening one for a moment.
#[track_caller]
pub fn open_files_at_rest(pid: i32) -> usize {
    wait_for_rest(pid);
    open_files(pid)
}

/// The descriptors that the process has open, and what each is.
pub fn descriptors(pid: i32) -> Vec<(i32, String)> {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let describe = |entry: fs::DirEntry| {
        let number = entry.file_name().to_str()?.parse().ok()?;
        Some((number, fs::read_link(entry.path()).ok()?.to_string_lossy().into_owned()))
    };
    let mut files: Vec<_> = files.filter_map(describe).collect();
    files.sort_unstable();
    files
}

/// The descriptors that a program would have which the process starts or becomes.
pub fn inheritable(pid: i32) -> Vec<i32> {
    let is_kept = |number: &i32| {
        let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")).unwrap_or_default();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = flags.and_then(|flags| i32::from_str_radix(flags.trim(), 8).ok());
        flags.is_some_and(|flags| flags & libc::O_CLOEXEC == 0)
    };
    descriptors(pid).into_iter().map(|(number, _)| number).filter(is_kept).collect()
}

/// The number that the next descriptor of the process gets. What it inherited may have any number.
pub fn lowest_free(pid: i32) -> usize {
    let numbers = descriptors(pid).into_iter().map(|(number, _)| number);
    numbers.zip(0..).take_while(|(number, nth)| number == nth).count()
}

/// The variables that the process was started with.
pub fn environment(pid: i32) -> Vec<(String, String)> {
    let block = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let block = String::from_utf8_lossy(&block);
    let pairs = block.split('\0').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// The soft and the hard limit on open files.
pub fn file_limit(pid: i32) -> Option<(u64, u64)> {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let mut numbers = line.split_whitespace().map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// The live processes of a process group.
pub fn group(id: i32) -> Vec<i32> {
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| group_of(*pid) == Some(id) && is_alive(*pid)).collect()
}

/// The process group of the process.
pub fn group_of(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(") ").next()?.split(' ').nth(2)?.parse().ok()
}

/// Waits until the process has hardly used the processor for a while: one that spins never does.
#[track_caller]
pub fn wait_for_rest(pid: i32) {
    super::eventually("the process rests", || {
        let before = cpu_time(pid);
        watch(Duration::from_millis(200));
        (cpu_time(pid) - before < Duration::from_millis(4)).then_some(())
    });
}

/// Lets this time go by, to see what does or does not happen in it.
pub fn watch(time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        super::pause();
    }
}

/// The children of the process.
pub fn children(pid: i32) -> Vec<i32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let children = fs::read_to_string(path).unwrap_or_default();
    children.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// The processor time that the process has used, all threads together.
pub fn cpu_time(pid: i32) -> Duration {
    let tasks = fs::read_dir(Path::new("/proc").join(pid.to_string()).join("task"));
    let nanos = |path: &Path| -> Option<u64> {
        fs::read_to_string(path.join("schedstat")).ok()?.split(' ').next()?.parse().ok()
    };
    let tasks = tasks.into_iter().flatten().flatten();
    Duration::from_nanos(tasks.filter_map(|task| nanos(&task.path())).sum())
}

/// The processor time of all children that the process has reaped.
pub fn cpu_time_of_children(pid: i32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
    // cutime and cstime of proc_pid_stat(5), in ticks of 10 ms.
    let ticks = fields.skip(13).take(2).filter_map(|ticks| ticks.parse::<u64>().ok());
    Duration::from_millis(10 * ticks.sum::<u64>())
}

/// The signals of one mask in `/proc/PID/status`, bit 0 being signal 1.
pub fn signals(pid: i32, name: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let mask = status.lines().find_map(|line| line.strip_prefix(name))?;
    u64::from_str_radix(mask.trim_start_matches(':').trim(), 16).ok()
}

/// How often the process has gone to sleep, all threads together; so often it woke up as well.
pub fn wakeups(pid: i32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let status = |task: fs::DirEntry| fs::read_to_string(task.path().join("status")).ok();
    let count = |status: String| {
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
        line.trim().parse::<u64>().ok()
    };
    tasks.filter_map(|task| count(status(task)?)).sum()
}

/// The memory that only this process has, in KiB. Pages of files are left out: they count as its
/// own or not by whether another supervisor happens to run.
pub fn private_kib(pid: i32) -> u64 {
    kib(&rollup(pid), "Anonymous:")
}

fn rollup(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("the process lives")
}

/// The number of a line of `proc_pid_smaps(5)`.
fn kib(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    kib.expect("there is such a line")
}

/// The number in one line of `/proc/PID/status`.
pub fn status(pid: i32, name: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// The name of the program that the process runs.
pub fn name(pid: i32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.trim_end().to_owned()
}
