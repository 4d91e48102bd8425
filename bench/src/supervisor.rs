//! A supervisor that is being measured, with two workers of the bench.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddrV4;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::args::own_program;
use crate::clock;

/// Every supervisor of the bench has this many workers, unless their number is what is measured.
pub const WORKERS: u16 = 2;
/// How long a supervisor may take to start and to stop.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running supervisor. Dropping it kills it and prints what it said; [`Supervisor::stop`] is the
/// orderly end.
#[derive(Debug)]
pub struct Supervisor {
    process: Child,
    /// Where it listens.
    pub address: SocketAddrV4,
    /// Its lines on stderr; disconnected when it and its workers are gone.
    log: Receiver<String>,
}

impl Supervisor {
    /// Starts `bench`, this program, as the floor.
    pub fn floor(bench: &Path) -> anyhow::Result<Self> {
        let mut command = Command::new(bench);
        command.arg("floor").args(["--listen", "127.0.0.1:0", "--workers", &WORKERS.to_string()]);
        command.arg("--").arg(bench).arg("worker");
        Self::start(command)
    }

    /// Starts sticky-run with a key list and so many workers.
    pub fn sticky_run(program: &Path, by: &str, workers: u16) -> anyhow::Result<Self> {
        let mut command = Command::new(program);
        command.args(["--listen", "127.0.0.1:0", "--workers", &workers.to_string()]);
        command.args(["--by", by, "--handoff", "channel"]);
        command.arg("--").arg(own_program()?).arg("worker");
        Self::start(command)
    }

    /// Starts any supervisor that says on stderr where it listens. Errors when it does not.
    pub fn start(mut command: Command) -> anyhow::Result<Self> {
        die_with_the_driver(&mut command);
        let mut process = command
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run {}", command.get_program().display()))?;
        let log = lines_of(process.stderr.take().expect("stderr was asked to be a pipe"));
        let Some(address) = await_address(&log) else {
            process.kill().context("cannot kill a supervisor that does not listen")?;
            process.wait()?;
            bail!("{} did not say where it listens", command.get_program().display());
        };
        Ok(Self { process, address, log })
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// How long its threads have been on a CPU: the first field of /proc/PID/task/*/schedstat, to
    /// the nanosecond once they sleep. Errors when /proc does not say.
    pub fn cpu_time(&self) -> anyhow::Result<Duration> {
        let mut sum = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.pid()))? {
            let path = task?.path().join("schedstat");
            let text = fs::read_to_string(&path)?;
            let first = text.split_whitespace().next().and_then(|field| field.parse::<u64>().ok());
            sum += first.with_context(|| format!("no number in {}", path.display()))?;
        }
        Ok(Duration::from_nanos(sum))
    }

    /// The memory that is its own: Private_Dirty of /proc/PID/smaps_rollup, in bytes. Errors when
    /// /proc does not say.
    pub fn private_memory(&self) -> anyhow::Result<u64> {
        let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid()))?;
        let kibibytes = text
            .lines()
            .find_map(|line| line.strip_prefix("Private_Dirty:")?.split_whitespace().next())
            .and_then(|field| field.parse::<u64>().ok())
            .context("no Private_Dirty in smaps_rollup")?;
        Ok(kibibytes * 1024)
    }

    /// Asks it to stop and waits until it and its workers are gone. Errors when it takes too long
    /// or fails.
    pub fn stop(mut self) -> anyhow::Result<()> {
        let pid = i32::try_from(self.pid()).expect("Linux has fewer process ids");
        kill(Pid::from_raw(pid), Signal::SIGTERM).context("cannot stop a supervisor")?;
        let deadline = clock::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(clock::now());
            match self.log.recv_timeout(left) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => bail!("it did not stop within {PATIENCE:?}"),
            }
        }
        let status = self.process.wait().context("cannot wait for a supervisor")?;
        // The floor has no handler and dies of the signal.
        let asked = status.success() || status.signal() == Some(Signal::SIGTERM as i32);
        ensure!(asked, "supervisor {pid} ended with {status} when it was asked to stop");
        Ok(())
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        let running = self.process.try_wait().is_ok_and(|status| status.is_none());
        if !running {
            return;
        }
        if let Err(error) = self.process.kill().and_then(|()| self.process.wait().map(drop)) {
            eprintln!("cannot kill supervisor {}: {error}", self.pid());
        }
        for line in self.log.try_iter() {
            eprintln!("supervisor {}: {line}", self.process.id());
        }
    }
}

/// A driver that is killed must not leave a supervisor and its workers behind.
#[expect(unsafe_code, reason = "std offers no other way to prctl(2) in the child")]
fn die_with_the_driver(command: &mut Command) {
    // SAFETY: between fork and exec the child makes one system call, which allocates nothing.
    unsafe { command.pre_exec(|| Ok(set_pdeathsig(Signal::SIGTERM)?)) };
}

/// Reads lines in a thread of its own, so that a talkative supervisor is never held up by its pipe.
fn lines_of(stderr: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            // Nobody listens any more when the supervisor has been dropped.
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

/// The address in the line `... listening on ADDR`; the lines before it go to stderr when the log
/// ends or the patience does.
fn await_address(log: &Receiver<String>) -> Option<SocketAddrV4> {
    let deadline = clock::now() + PATIENCE;
    let mut before = Vec::new();
    while let Ok(line) = log.recv_timeout(deadline.saturating_duration_since(clock::now())) {
        if let Some(address) = address_in(&line) {
            return Some(address);
        }
        before.push(line);
    }
    before.iter().for_each(|line| eprintln!("supervisor: {line}"));
    None
}

fn address_in(line: &str) -> Option<SocketAddrV4> {
    let (_, rest) = line.split_once("listening on ")?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_found_in_a_log_line() {
        let found = address_in("12:00:01 INFO listening on 127.0.0.1:3000 by=sid");
        assert_eq!(found, Some(SocketAddrV4::new([127, 0, 0, 1].into(), 3000)));
        assert_eq!(address_in("worker 0 is ready"), None);
    }
}
