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
use crate::support::log::Pattern;
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
    said: &'static [Said],
    /// What it says when nothing keeps the workers or the program from going on any more.
    then: &'static [Said],
}

/// An event.
type Said = fn() -> Pattern;

/// What the log says in no row but those that name it.
const NEWS: [&str; 10] = [
    "upgraded",
    "upgrade_refused",
    "restart_begun",
    "restart_done",
    "restart_refused",
    "scaled",
    "scale_refused",
    "worker_stop_timeout",
    "workers_killed",
    "signal_forwarded",
];

const STOPS: [&[Signal]; 3] = [&[SIGTERM], &[SIGINT], &[SIGQUIT]];
const STOPPING: Said = || event("stop_begun").with("timeout_ms", 3_600_000);
const BEGAN: Said = || event("restart_begun").with("count", 2);
const RESTARTED: Said = || event("restart_done");
const FAST: Said = || event("stop_hurried");
const KILLS: Said = || event("workers_killed");
const FORWARDS: Said = || event("signal_forwarded").with("signal", "SIGUSR1");
const NOT_RESTARTING: Said = || event("restart_refused").with("reason", "stopping");
const NOT_UPGRADING: Said = || event("upgrade_refused").with("reason", "stopping");
const NOT_RESIZING: Said = || event("scale_refused").with("reason", "stopping");
const FAILED_AGAIN: Said =
    || event("worker_start_failed").worker(0).with("code", 3).with("count", 1);
const UPGRADED: Said = || event("upgraded");
const GROWN: Said = || event("scaled").with("count", 3);
const SHRUNK: Said = || event("scaled").with("count", 1);
const DRAINS: Said = || event("worker_draining").worker(1);
const STARTED: Said = || event("worker_started").worker(0);
const READY: [Said; 3] = [
    || event("worker_ready").worker(0),
    || event("worker_ready").worker(1),
    || event("worker_ready").worker(2),
];
const READY_AGAIN: &[Said] = &[READY[0], READY[0]];

/// The rows of a state in which a stop has not begun, for the signals that stop nothing.
fn alive(state: State, rows: [(&'static [Said], &'static [Said]); 6]) -> Vec<Row> {
    let signals: [&[Signal]; 6] =
        [&[SIGHUP], &[SIGUSR2], &[SIGTTIN], &[SIGTTOU], &[SIGUSR1], &[SIGWINCH]];
    let rows = signals.into_iter().zip(rows);
    rows.map(|(signals, (said, then))| Row { state, signals, said, then }).collect()
}

/// The rows of a state for those that stop it.
fn stops(state: State, said: &'static [Said]) -> [Row; 3] {
    STOPS.map(|signals| Row { state, signals, said, then: &[] })
}

/// The row of a state for a stop that is asked for twice.
fn stops_fast(state: State, said: &'static [Said]) -> [Row; 1] {
    [Row { state, signals: &[SIGTERM, SIGTERM], said, then: &[] }]
}

#[test]
fn starting() {
    all(&stops(State::Starting, &[STOPPING]));
    all(&stops_fast(State::Starting, &[STOPPING, FAST, KILLS]));
    let ready: &[_] = &[READY[0], READY[1]];
    all(&alive(
        State::Starting,
        [
            (&[BEGAN, STARTED, STARTED], &[RESTARTED]),
            (&[UPGRADED], ready),
            (&[GROWN], &[READY[2]]),
            (&[SHRUNK], &[READY[0]]),
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
            (&[BEGAN, || event("restart_done").with("count", 2)], &[]),
            (&[UPGRADED], &[]),
            (&[GROWN, READY[2]], &[]),
            (&[SHRUNK, DRAINS], &[]),
            (&[FORWARDS], &[]),
            (&[], &[]),
        ],
    ));
}

#[test]
fn rolling() {
    all(&stops(State::Rolling, &[STOPPING, BEGAN]));
    all(&stops_fast(State::Rolling, &[STOPPING, BEGAN, FAST, KILLS]));
    let done: &[_] = &[BEGAN, || event("restart_done").with("count", 2)];
    all(&alive(
        State::Rolling,
        [
            (&[BEGAN], done),
            (&[UPGRADED], done),
            (&[GROWN], &[BEGAN, RESTARTED]),
            (&[SHRUNK], &[BEGAN, || event("restart_done").with("count", 1)]),
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
            (
                &[BEGAN, FAILED_AGAIN, FAILED_AGAIN, || event("restart_done").with("count", 0)],
                READY_AGAIN,
            ),
            (&[UPGRADED], READY_AGAIN),
            (&[GROWN, || event("worker_started").worker(2)], &[READY[2]]),
            (&[SHRUNK], READY_AGAIN),
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
            (&[BEGAN, || event("restart_done").with("count", 2)], &[UPGRADED]),
            (&[|| event("upgrade_refused").with("reason", "in_progress")], &[UPGRADED]),
            (&[GROWN, READY[2]], &[UPGRADED]),
            (&[SHRUNK, DRAINS], &[UPGRADED]),
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
        self.supervisor.whole_log();
        let told: Vec<_> = row.said.iter().chain(row.then).map(|said| said()).collect();
        for news in NEWS.into_iter().flat_map(|news| self.supervisor.events(news)) {
            assert!(told.iter().any(|said| said.is_named(news.name())), "{news:?}");
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
    fn expect(&self, said: &[Said]) {
        let kinds: Vec<_> = said.iter().map(|said| said()).collect();
        for kind in &kinds {
            let times = kinds.iter().filter(|other| *other == kind).count();
            self.supervisor.wait_events(kind, times);
        }
    }
}
