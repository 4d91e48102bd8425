//! Each signal in each state: what wins is what the prose of `logic/fleet/mod.rs` and
//! `engine/upgrade/mod.rs` says.

use std::net::TcpStream;
use std::sync::Mutex;
use std::thread;

use nix::sys::signal::Signal::{
    self, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTTIN, SIGTTOU, SIGUSR1, SIGUSR2, SIGWINCH,
};

use crate::stop::ONE_STOP;
use crate::support::client;
use crate::support::files::{Installed, Mark};
use crate::support::{Supervisor, event, eventually, get, proc, sticky_run};

/// So many supervisors at a time.
const CROWD: usize = 8;

/// What a supervisor with two workers is doing when a signal comes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    /// No worker is ready yet.
    Starting,
    /// All are ready.
    Running,
    /// The first successor is not ready yet.
    Rolling,
    /// Both workers ended, and their slots fail to start others.
    CrashLoop,
    /// The program was asked and has not answered yet.
    Upgrading,
    /// A stop waits for a connection.
    Stopping,
}

/// What is to happen.
#[derive(Clone, Copy)]
struct Row {
    state: State,
    /// One after the other, each when the one before was heard.
    signals: &'static [Signal],
    /// What the log says then. What stands there twice, it says twice.
    said: &'static [&'static str],
    /// What it says when nothing keeps the workers or the program from going on any more.
    then: &'static [&'static str],
}

/// What the log says in no row but those that name it.
const NEWS: [&str; 7] = [
    "upgraded",
    "restarting",
    "restarted",
    "workers from now on",
    "stopping: not",
    "killing",
    "forwarding",
];

const STOPS: [&[Signal]; 3] = [&[SIGTERM], &[SIGINT], &[SIGQUIT]];
const STOPPING: &str = "stopping: open connections have 3600s at most";
const BEGAN: &str = "restarting workers: 2";
const FAST: &str = "stopping fast: asked again";
const KILLS: &str = "killing what did not end in time, workers: ";
const FORWARDS: &str = "forwarding SIGUSR1 to the workers";
const NOT_RESTARTING: &str = "stopping: not restarting";
const NOT_UPGRADING: &str = "stopping: not upgrading";
const NOT_RESIZING: &str = "stopping: the number of workers stays";
const FAILED_AGAIN: &str = "worker 0 ended before it was ready: exit code 3 (1 in a row)";
const UPGRADED: &str = "upgraded from sticky-run";
const READY_AGAIN: &[&str] = &["worker 0 is ready", "worker 0 is ready"];

/// The rows of a state in which a stop has not begun, for the signals that stop nothing.
fn alive(state: State, rows: [(&'static [&'static str], &'static [&'static str]); 6]) -> Vec<Row> {
    let signals: [&[Signal]; 6] =
        [&[SIGHUP], &[SIGUSR2], &[SIGTTIN], &[SIGTTOU], &[SIGUSR1], &[SIGWINCH]];
    let rows = signals.into_iter().zip(rows);
    rows.map(|(signals, (said, then))| Row { state, signals, said, then }).collect()
}

/// The rows of a state for those that stop it.
fn stops(state: State, said: &'static [&'static str]) -> [Row; 3] {
    STOPS.map(|signals| Row { state, signals, said, then: &[] })
}

/// The row of a state for a stop that is asked for twice.
fn stops_fast(state: State, said: &'static [&'static str]) -> [Row; 1] {
    [Row { state, signals: &[SIGTERM, SIGTERM], said, then: &[] }]
}

#[test]
fn starting() {
    all(&stops(State::Starting, &[STOPPING]));
    all(&stops_fast(State::Starting, &[STOPPING, FAST, KILLS]));
    let ready: &[_] = &["worker 0 is ready", "worker 1 is ready"];
    all(&alive(
        State::Starting,
        [
            (&[BEGAN, "worker 0 started", "worker 0 started"], &["restarted workers:"]),
            (&[UPGRADED], ready),
            (&["workers from now on: 3"], &["worker 2 is ready"]),
            (&["workers from now on: 1"], &["worker 0 is ready"]),
            (&[FORWARDS], ready),
            (&[], ready),
        ],
    ));
}

#[test]
fn running() {
    all(&stops(State::Running, &[STOPPING]));
    all(&stops_fast(State::Running, &[STOPPING, FAST, KILLS]));
    all(&alive(
        State::Running,
        [
            (&[BEGAN, "restarted workers: 2"], &[]),
            (&[UPGRADED], &[]),
            (&["workers from now on: 3", "worker 2 is ready"], &[]),
            (&["workers from now on: 1", "the former worker 1 drains"], &[]),
            (&[FORWARDS], &[]),
            (&[], &[]),
        ],
    ));
}

#[test]
fn rolling() {
    all(&stops(State::Rolling, &[STOPPING, BEGAN]));
    all(&stops_fast(State::Rolling, &[STOPPING, BEGAN, FAST, KILLS]));
    let done: &[_] = &[BEGAN, "restarted workers: 2"];
    all(&alive(
        State::Rolling,
        [
            (&["restarting anew, workers: 2"], done),
            (&[UPGRADED], done),
            (&["workers from now on: 3"], &[BEGAN, "restarted workers: "]),
            (&["workers from now on: 1"], &[BEGAN, "restarted workers: 1"]),
            (&[FORWARDS], done),
            (&[], done),
        ],
    ));
}

#[test]
fn in_a_crash_loop() {
    // Nobody is left to wait for, so that there is no time to ask twice.
    all(&stops(State::CrashLoop, &[STOPPING]));
    all(&alive(
        State::CrashLoop,
        [
            // The failures are forgotten, and the slots start at once.
            (&[BEGAN, FAILED_AGAIN, FAILED_AGAIN, "restarted workers: 0"], READY_AGAIN),
            (&[UPGRADED], READY_AGAIN),
            (&["workers from now on: 3", "worker 2 started"], &["worker 2 is ready"]),
            (&["workers from now on: 1"], READY_AGAIN),
            (&[FORWARDS], READY_AGAIN),
            (&[], READY_AGAIN),
        ],
    ));
}

#[test]
fn upgrading() {
    all(&stops(State::Upgrading, &[STOPPING, NOT_UPGRADING]));
    all(&stops_fast(State::Upgrading, &[NOT_UPGRADING, FAST, KILLS]));
    all(&alive(
        State::Upgrading,
        [
            (&[BEGAN, "restarted workers: 2"], &[UPGRADED]),
            (&["an upgrade has begun already"], &[UPGRADED]),
            (&["workers from now on: 3", "worker 2 is ready"], &[UPGRADED]),
            (&["workers from now on: 1", "the former worker 1 drains"], &[UPGRADED]),
            (&[FORWARDS], &[UPGRADED]),
            (&[], &[UPGRADED]),
        ],
    ));
}

#[test]
fn stopping() {
    let state = State::Stopping;
    all(&stops(state, &[FAST]));
    all(&stops_fast(state, &[FAST, KILLS]));
    all(&alive(
        state,
        [
            (&[NOT_RESTARTING], &[]),
            (&[NOT_UPGRADING], &[]),
            (&[NOT_RESIZING], &[]),
            (&[NOT_RESIZING], &[]),
            (&[FORWARDS], &[]),
            (&[], &[]),
        ],
    ));
}

/// Tries rows, several at a time.
fn all(rows: &[Row]) {
    let rest = Mutex::new(rows.iter());
    thread::scope(|scope| {
        for _ in 0..CROWD.min(rows.len()) {
            scope.spawn(|| {
                loop {
                    let Some(row) = rest.lock().unwrap().next() else { return };
                    Scene::begin(row).play(row);
                }
            });
        }
    });
}

/// A supervisor in one of the states.
struct Scene {
    supervisor: Supervisor,
    program: Installed,
    /// While it is there, workers fail at once.
    fails: Mark,
    /// While it is there, workers wait before they begin.
    waits: Mark,
    /// While it is there, a program does not say whether it can go on.
    thinks: Mark,
    held: Option<TcpStream>,
    asked: Option<i32>,
}

impl Scene {
    fn begin(row: &Row) -> Self {
        let names: Vec<_> = row.signals.iter().map(|signal| signal.as_str()).collect();
        let name = format!("table-{:?}-{}", row.state, names.join("-"));
        let program = Installed::new(&name);
        let [fails, waits, thinks] =
            ["fails", "waits", "thinks"].map(|mark| Mark::new(&format!("{name}-{mark}")));
        // Who stops it twice means workers that do not end when they are asked.
        let stubborn = if row.signals.len() > 1 { "stubborn" } else { "" };
        let traits = format!("fails={} waits={} {stubborn}", fails.path(), waits.path());
        let builder = sticky_run(2, &["--grace", "1h"]).env("TEST_WORKER", &traits);
        if row.state == State::Starting {
            waits.set();
        }
        // Workers start with the signals as the supervisor found them.
        let builder = builder.program(&program.path()).after("trap '' USR1;");
        let supervisor = match row.state {
            State::Starting => builder.listening(),
            State::Running
            | State::Rolling
            | State::CrashLoop
            | State::Upgrading
            | State::Stopping => builder.start(),
        };
        let mut scene = Self { supervisor, program, fails, waits, thinks, held: None, asked: None };
        scene.enter(row.state);
        if row.signals.len() > 1 {
            scene.wait_for_handlers();
        }
        scene
    }

    /// Waits until all workers that there are do not end by TERM any more.
    fn wait_for_handlers(&self) {
        let term = 1 << (SIGTERM as u64 - 1);
        let others = |pid: &i32| Some(*pid) != self.asked;
        eventually("workers have their handlers", || {
            let workers = self.supervisor.worker_pids();
            let catches = |pid| proc::signals(pid, "SigCgt").is_some_and(|set| set & term != 0);
            workers.into_iter().filter(others).all(catches).then_some(())
        });
    }

    fn enter(&mut self, state: State) {
        let supervisor = &self.supervisor;
        match state {
            State::Running => {}
            State::Starting => supervisor.wait_event(event("worker_started").worker(0)),
            State::Rolling => {
                self.waits.set();
                supervisor.signal(SIGHUP);
                supervisor.wait_events(event("worker_started").worker(0), 2);
            }
            State::CrashLoop => {
                self.fails.set();
                let workers = supervisor.worker_pids();
                workers.iter().for_each(|pid| proc::signal(*pid, Signal::SIGKILL));
                supervisor.wait_events(event("worker_start_failed").with("count", 3), 2);
            }
            State::Upgrading => {
                self.thinks.set();
                let thinks = self.thinks.path();
                self.program.script(&format!(
                    "#!/bin/sh\nwhile [ -e {thinks} ]; do sleep 0.02; done; exec $REAL \"$@\"\n"
                ));
                let workers = supervisor.worker_pids();
                supervisor.signal(SIGUSR2);
                supervisor.wait_event("upgrade_begun");
                let mut children = proc::children(supervisor.pid()).into_iter();
                self.asked = children.find(|pid| !workers.contains(pid));
                assert!(self.asked.is_some());
            }
            State::Stopping => {
                self.held = Some(client::hold(supervisor.address(), "/hold").0);
                supervisor.signal(SIGTERM);
                supervisor.wait_event(event("stop_waiting").with("count", 1));
            }
        }
    }

    fn play(mut self, row: &Row) {
        for signal in row.signals {
            let heard = self.supervisor.count_events("signal_received");
            if heard > 0 {
                proc::watch(ONE_STOP);
            }
            self.supervisor.signal(*signal);
            if STOPS.iter().any(|stop| stop[0] == *signal) {
                self.supervisor.wait_events("signal_received", heard + 1);
            }
        }
        self.expect(row.said);
        let stops = row.signals.iter().any(|signal| STOPS.iter().any(|stop| stop[0] == *signal));
        if !stops {
            self.release(row);
        }
        assert_eq!(self.supervisor.wait().code(), Some(0), "{:?}", row.state);
        let log = self.supervisor.whole_log();
        for news in NEWS.iter().filter(|news| log.contains(**news)) {
            let all = || row.said.iter().chain(row.then);
            assert!(all().any(|said| said.contains(news)), "{news}: {log}");
        }
        if let Some(asked) = self.asked {
            eventually("the program that was asked is gone", || {
                (proc::group(asked).is_empty()).then_some(())
            });
        }
    }

    /// Lets everybody go on, and ends it when all is as it should be.
    fn release(&mut self, row: &Row) {
        self.fails.clear();
        self.waits.clear();
        self.thinks.clear();
        self.expect(row.then);
        if row.state == State::Stopping {
            self.held = None;
            return;
        }
        let size = match row.signals {
            [SIGTTIN] => 3,
            [SIGTTOU] => 1,
            _ => 2,
        };
        eventually("there are as many workers as there should be", || {
            (proc::children(self.supervisor.pid()).len() == size).then_some(())
        });
        get(self.supervisor.address(), "/");
        self.supervisor.signal(SIGTERM);
    }

    #[track_caller]
    fn expect(&self, texts: &[&str]) {
        for text in texts {
            let times = texts.iter().filter(|other| other == &text).count();
            self.supervisor.wait_for_log_times(text, times);
        }
    }
}
