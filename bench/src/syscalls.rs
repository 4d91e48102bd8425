//! The supervisor's system calls, counted by perf(1) from outside: tracepoints cost a fraction of
//! what strace does, which would turn the run into another one.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, ensure};

/// All of them; what has no row of its own is the rest.
const ALL: &str = "raw_syscalls:sys_enter";
/// Those that a supervisor is likely to make.
const NAMED: [&str; 14] = [
    "accept4",
    "recvfrom",
    "recvmsg",
    "recvmmsg",
    "sendmsg",
    "sendto",
    "close",
    "epoll_wait",
    "epoll_ctl",
    "ioctl",
    "read",
    "write",
    "getsockopt",
    "setsockopt",
];

/// A count under way.
#[derive(Debug)]
pub struct Count {
    perf: Child,
}

impl Count {
    /// Begins to count the system calls of all threads of a process. Errors when perf is not there
    /// or not allowed.
    pub fn begin(pid: u32) -> anyhow::Result<Self> {
        let named = NAMED.map(|name| format!("syscalls:sys_enter_{name}"));
        // perf counts while its command runs: `cat` says when that is, and ends when it is told.
        let mut perf = Command::new("perf")
            .args(["stat", "-x", ",", "-e", &format!("{ALL},{}", named.join(","))])
            .args(["-p", &pid.to_string(), "--", "cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run perf, leave --syscalls out where it is not installed")?;
        perf.stdin.as_mut().expect("stdin was asked to be a pipe").write_all(b"ready\n")?;
        let output = perf.stdout.as_mut().expect("stdout was asked to be a pipe");
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        ensure!(line == "ready\n", "perf does not count, is it allowed (perf_event_paranoid)?");
        Ok(Self { perf })
    }

    /// Ends the count: calls per connection, the most frequent first, in one line.
    pub fn end(mut self, connections: u32) -> anyhow::Result<String> {
        drop(self.perf.stdin.take());
        let mut report = String::new();
        let stderr = self.perf.stderr.as_mut().expect("stderr was asked to be a pipe");
        stderr.read_to_string(&mut report)?;
        self.perf.wait()?;
        describe(&report, connections).with_context(|| format!("perf said: {report}"))
    }
}

/// Reads the lines `COUNT,,EVENT,...` of perf; `None` when the sum of all is not among them.
fn describe(report: &str, connections: u32) -> Option<String> {
    let counts = report.lines().filter_map(|line| {
        let mut fields = line.split(',');
        let count = fields.next()?.parse::<u64>().ok()?;
        Some((fields.nth(1)?, count))
    });
    let (all, mut named): (Vec<_>, Vec<_>) = counts.partition(|(event, _)| *event == ALL);
    let &[(_, all)] = all.as_slice() else { return None };
    let rest = all.saturating_sub(named.iter().map(|(_, count)| count).sum());
    named.push(("other", rest));
    named.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let each = |count: u64| count as f64 / f64::from(connections);
    let parts = named.iter().filter(|(_, count)| *count > 0).map(|(event, count)| {
        let name = event.trim_start_matches("syscalls:sys_enter_");
        format!("{name} {:.2}", each(*count))
    });
    Some(format!("{:.2} a connection: {}", each(all), parts.collect::<Vec<_>>().join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_of_perf_is_divided_by_the_connections() {
        let report = "410,,raw_syscalls:sys_enter,1,100.00,,\n100,,syscalls:sys_enter_close,1\n\
                      300,,syscalls:sys_enter_sendmsg,1,100.00,,\n0,,syscalls:sys_enter_read,1\n";
        let text = "4.10 a connection: sendmsg 3.00, close 1.00, other 0.10";
        assert_eq!(describe(report, 100).as_deref(), Some(text));
        assert_eq!(describe("perf is not allowed\n", 100), None);
    }
}
