//! The supervisor as a child of the test: started, watched and ended.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::log::{Event, Log, Pattern, event};
use super::{eventually, pause, proc, within, worker};

/// How long servers may take to start while a busy machine starts many of them.
const BOOT: Duration = Duration::from_secs(60);

/// A command line of sticky-run that is being put together.
pub struct Builder {
    command: Command,
    workers: u16,
    worker: Vec<String>,
    variables: Vec<(String, String)>,
    stdin: Stdio,
    stdout: Stdio,
    stderr: Stdio,
    text_log: bool,
}

/// A running sticky-run. It is ended when this is dropped, and its log is shown if the test fails.
pub struct Supervisor {
    child: Child,
    log: Arc<Mutex<Log>>,
    /// Copies the log, until nobody can write to it any more.
    reader: JoinHandle<()>,
    workers: u16,
}

/// sticky-run with so many test workers on a free port, with these flags.
pub fn sticky_run(workers: u16, flags: &[&str]) -> Builder {
    let mut builder = without_listener(workers, flags);
    if !flags.contains(&"--listen") {
        builder.command.args(["--listen", "127.0.0.1:0"]);
    }
    builder
}

/// sticky-run with so many workers and only these flags: it listens where they say, or where its
/// workers ask for it.
pub fn without_listener(workers: u16, flags: &[&str]) -> Builder {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sticky-run"));
    command.args(["--workers", &workers.to_string()]).args(flags);
    Builder {
        command,
        workers,
        worker: worker::command(),
        variables: Vec::new(),
        stdin: Stdio::null(),
        stdout: Stdio::null(),
        stderr: Stdio::piped(),
        text_log: false,
    }
}

/// sticky-run with nothing but a file, which has it run so many workers, or as another file says.
pub fn configured(workers: u16, file: &str) -> Builder {
    let mut builder = without_listener(workers, &[]);
    builder.command = Command::new(builder.command.get_program());
    builder.command.args(["--config", file]);
    builder.worker.clear();
    builder
}

impl Builder {
    /// Starts this file, which is to be a sticky-run too.
    pub fn program(mut self, path: &Path) -> Self {
        let mut command = Command::new(path);
        command.args(self.command.get_args());
        self.command = command;
        self
    }

    /// Runs this command instead of the test worker.
    pub fn command(mut self, words: &[&str]) -> Self {
        self.worker = words.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// Sets a variable for the supervisor and so for its workers.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Gives it this standard input.
    pub fn stdin(mut self, descriptor: OwnedFd) -> Self {
        self.stdin = descriptor.into();
        self
    }

    /// Has it log text there, so that the test does not see it.
    pub fn log_to(mut self, descriptor: OwnedFd) -> Self {
        self.stderr = descriptor.into();
        self.text_log()
    }

    /// Has it log text: the test is about what people read. It has no events but those of the start.
    pub fn text_log(mut self) -> Self {
        self.text_log = true;
        self
    }

    /// Has it and its workers write their output there.
    pub fn output_to(mut self, descriptor: OwnedFd) -> Self {
        self.stdout = descriptor.into();
        self
    }

    /// Passes this socket to it as systemd does, with this value of LISTEN_PID; `$$` is its own pid.
    pub fn pass(self, descriptor: OwnedFd, pid: &str) -> Self {
        let variables = format!("export LISTEN_FDS=1 LISTEN_FDNAMES=http LISTEN_PID={pid};");
        self.inherit(descriptor).after(&variables)
    }

    /// Gives it this descriptor as 3.
    pub fn inherit(self, descriptor: OwnedFd) -> Self {
        self.stdin(descriptor).after("exec 3<&0 0</dev/null;")
    }

    /// Runs the supervisor through `sh -c "<before> exec sticky-run ..."`, to change its limits.
    pub fn after(mut self, before: &str) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("{before} exec \"$0\" \"$@\"")]);
        shell.arg(self.command.get_program()).args(self.command.get_args());
        self.command = shell;
        self
    }

    /// Starts it, and waits for nothing.
    pub fn spawn(mut self) -> Supervisor {
        if !self.worker.is_empty() {
            self.command.arg("--").args(&self.worker);
        }
        if !self.text_log {
            self.command.env("STICKY_LOG_FORMAT", "json");
        }
        let child = self
            .command
            .envs(self.variables)
            .stdin(self.stdin)
            .stdout(self.stdout)
            .stderr(self.stderr);
        let mut child = child.spawn().expect("sticky-run was built with the tests");
        let log = Arc::new(Mutex::new(Log::default()));
        let stderr = child.stderr.take();
        let copy = Arc::clone(&log);
        let reader = thread::spawn(move || {
            let lines = stderr.into_iter().flat_map(|stderr| BufReader::new(stderr).lines());
            for line in lines.map_while(Result::ok) {
                copy.lock().unwrap().push(&line);
            }
        });
        Supervisor { child, log, reader, workers: self.workers }
    }

    /// Starts it, and waits until it listens.
    pub fn listening(self) -> Supervisor {
        let supervisor = self.spawn();
        supervisor.wait_event("listening");
        supervisor
    }

    /// Starts it, and waits until all workers are ready.
    pub fn start(self) -> Supervisor {
        let supervisor = self.listening();
        for slot in 0..supervisor.workers {
            let ready = event("worker_ready").worker(slot);
            within(BOOT, &format!("{ready:?}"), || {
                (supervisor.count_events(&ready) > 0).then_some(())
            });
        }
        supervisor
    }
}

impl Supervisor {
    /// Where the first listener with an internet address listens.
    pub fn address(&self) -> SocketAddr {
        self.addresses()[0]
    }

    /// Where all listeners with an internet address listen.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let listening = self.events("listening");
        listening.iter().filter_map(|event| event.text("address").parse().ok()).collect()
    }

    /// The pid of the supervisor.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a pid fits")
    }

    /// The pids of the live workers; the order says nothing.
    pub fn worker_pids(&self) -> Vec<i32> {
        proc::children(self.pid()).into_iter().filter(|pid| proc::is_alive(*pid)).collect()
    }

    /// The pid of the newest worker in a slot.
    pub fn pid_of(&self, slot: u16) -> i32 {
        let started = self.events(event("worker_started").worker(slot));
        started.last().expect("the slot had a worker").number("pid")
    }

    /// All events so far.
    pub fn all_events(&self) -> Vec<Event> {
        self.log.lock().unwrap().events.clone()
    }

    /// The events of this kind so far.
    #[track_caller]
    pub fn events(&self, kind: impl Into<Pattern>) -> Vec<Event> {
        let kind = kind.into();
        let log = self.log.lock().unwrap();
        log.events.iter().filter(|event| kind.is(event)).cloned().collect()
    }

    /// The last event with one of these names.
    #[track_caller]
    pub fn last_of(&self, names: &[&'static str]) -> Option<Event> {
        let kinds: Vec<_> = names.iter().map(|name| event(name)).collect();
        let log = self.log.lock().unwrap();
        log.events.iter().rfind(|event| kinds.iter().any(|kind| kind.is(event))).cloned()
    }

    /// How many events of this kind there were.
    #[track_caller]
    pub fn count_events(&self, kind: impl Into<Pattern>) -> usize {
        self.events(kind).len()
    }

    /// Waits for an event of this kind.
    #[track_caller]
    pub fn wait_event(&self, kind: impl Into<Pattern>) {
        self.wait_events(kind, 1);
    }

    /// Waits until there were so many events of this kind.
    #[track_caller]
    pub fn wait_events(&self, kind: impl Into<Pattern>, times: usize) {
        let kind = kind.into();
        eventually(&format!("{times} times {kind:?}"), || {
            (self.count_events(&kind) >= times).then_some(())
        });
    }

    /// What is in the log of what went wrong.
    pub fn trouble(&self) -> Vec<String> {
        let log = self.log.lock().unwrap();
        let trouble = log.events.iter().filter(|event| event.is_trouble());
        trouble.map(|event| event.message().to_owned()).collect()
    }

    /// Everything logged so far, and what workers have written there.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().text.clone()
    }

    /// Everything that was ever logged, by a supervisor that has ended and so have its workers.
    #[track_caller]
    pub fn whole_log(&self) -> String {
        eventually("the log ends", || self.reader.is_finished().then(|| self.log()))
    }

    /// The same as it was written.
    pub fn raw_log(&self) -> String {
        self.log.lock().unwrap().raw.clone()
    }

    /// How often this stands there.
    pub fn count_log(&self, text: &str) -> usize {
        self.log().matches(text).count()
    }

    /// Waits until this stands there.
    #[track_caller]
    pub fn wait_for_log(&self, text: &str) {
        self.wait_for_log_times(text, 1);
    }

    /// Waits until this stands there so many times.
    #[track_caller]
    pub fn wait_for_log_times(&self, text: &str, times: usize) {
        eventually(&format!("{times} times in the log: {text}"), || {
            (self.count_log(text) >= times).then_some(())
        });
    }

    /// Nothing in the log went wrong.
    #[track_caller]
    pub fn expect_no_trouble(&self) {
        self.expect_no_trouble_but(&[]);
    }

    /// Nothing in the log went wrong but what these names say.
    #[track_caller]
    pub fn expect_no_trouble_but(&self, names: &[&'static str]) {
        let expected = names.iter().flat_map(|name| self.events(*name));
        let expected = expected.filter(Event::is_trouble).count();
        let trouble = self.trouble();
        assert_eq!(trouble.len(), expected, "{trouble:?}");
    }

    /// What the log says that workers did against the rules of their channels.
    pub fn violations(&self) -> Vec<String> {
        let ended = self.events(event("worker_killed").with("reason", "protocol"));
        let told = self.events("protocol_violated").into_iter().chain(ended);
        told.map(|event| event.message().to_owned()).collect()
    }

    /// How often workers were killed since they did not end.
    pub fn kills(&self) -> usize {
        self.count_events("worker_stop_timeout") + self.count_events("workers_killed")
    }

    /// Sends a signal to the supervisor.
    pub fn signal(&self, signal: Signal) {
        proc::signal(self.pid(), signal);
    }

    /// Asks it to stop and waits for its end.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.wait()
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        eventually("sticky-run ends", || self.child.try_wait().expect("it is our child"))
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- log of sticky-run ---\n{}--- end of log ---", self.log());
        }
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        let children = self.worker_pids();
        // Asked for again and again, it is a fast stop, in which it removes its files.
        let until = Instant::now() + Duration::from_secs(2);
        while Instant::now() < until && matches!(self.child.try_wait(), Ok(None)) {
            kill(Pid::from_raw(self.pid()), Signal::SIGTERM).ok();
            pause();
        }
        self.child.kill().ok();
        self.child.wait().ok();
        // Whom nobody ends any more: workers, what they started, and orphans.
        for child in children {
            proc::end_with_group(child);
        }
    }
}
