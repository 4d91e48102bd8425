//! What the service manager is told, as `sd_notify(3)` has it: when the supervisor is ready, reloads and
//! stops, how many workers are ready, and that it is alive.
//!
//! Ready is who can serve: one worker is enough, since connections wait for no more. Nothing is said
//! regularly but the sign of life, and only to a manager that asks for it.

use std::io;
use std::process;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::logic::config::SystemdConfig;
use crate::logic::fleet::{Event, Fleet, Replacing};
use crate::logic::throttle::Throttle;
use crate::logic::time::Time;
use crate::os::errors;
use crate::os::notify::NotifySocket;

/// How long after the manager's socket had no room it is told how things are then.
const RETRY: Duration = Duration::from_millis(250);

/// The way to the service manager.
#[derive(Debug)]
pub(super) struct Notifier {
    /// None when there is no manager.
    socket: Option<NotifySocket>,
    told: Reported,
    /// When to say how things are, since the socket had no room for something.
    retry: Option<Time>,
    /// The time between two signs of life, and when the next one is due.
    beat: Option<(Duration, Time)>,
    failed: Throttle,
}

/// What the manager knows.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Reported {
    ready: bool,
    /// A reload has begun and not ended.
    #[serde(default)]
    reloading: bool,
    stopping: bool,
    /// How many workers are ready, of how many.
    workers: Option<(usize, u16)>,
    status: String,
}

impl Notifier {
    pub(super) fn new(now: Time, config: &SystemdConfig) -> Self {
        let socket = config.notify_socket.as_ref().and_then(|address| {
            let opened = NotifySocket::new(address);
            let complain = |error: &io::Error| {
                warn!(
                    name: "notify_unavailable", %error,
                    "cannot use NOTIFY_SOCKET {}: {}",
                    address.display(),
                    errors::text(error)
                );
            };
            opened.inspect_err(complain).ok()
        });
        let every = config.watchdog.filter(|_| socket.is_some()).map(|longest| longest / 2);
        Self {
            socket,
            told: Reported::default(),
            retry: None,
            beat: every.map(|every| (every, now + every)),
            failed: Throttle::default(),
        }
    }

    /// What the manager knows, to be written down.
    pub(super) fn told(&self) -> &Reported {
        &self.told
    }

    /// Whether there is a manager.
    pub(super) fn is_on(&self) -> bool {
        self.socket.is_some()
    }

    /// Tells the manager what has changed of the fleet.
    pub(super) fn follow(&mut self, now: Time, fleet: &Fleet) {
        if !self.is_on() {
            return;
        }
        if fleet.is_stopping() {
            return self.stopping(now);
        }
        let ready = fleet.workers().filter(|worker| fleet.is_current(*worker)).count();
        self.count(now, ready, fleet.size());
    }

    /// So many workers are ready, of so many. Said when it has changed; the first one that is ready
    /// ends the start.
    pub(super) fn count(&mut self, now: Time, ready: usize, slots: u16) {
        if ready > 0 && !self.told.ready {
            self.told.ready = true;
            self.say(now, "READY=1".to_owned());
        }
        if self.told.workers != Some((ready, slots)) {
            self.told.workers = Some((ready, slots));
            self.status(now, &counted(ready, slots));
        }
    }

    /// The fleet reports something.
    pub(super) fn heard(&mut self, now: Time, event: &Event) {
        let Event::Replacing(replacing) = event else { return };
        match replacing {
            Replacing::RestartBegan { .. } => self.reloading(now),
            Replacing::Restarted { .. } => self.reloaded(now, None),
            Replacing::RestartFailed { .. } => self.reloaded(now, Some(&replacing.to_string())),
            Replacing::Waits { .. }
            | Replacing::RestartOver { .. }
            | Replacing::Recycling { .. }
            | Replacing::RecyclingFailed { .. }
            | Replacing::Draining { .. }
            | Replacing::DrainTimeout { .. }
            | Replacing::RecyclingEarly { .. }
            | Replacing::Drained { .. }
            | Replacing::ExitedDraining { .. } => {}
        }
    }

    /// A reload begins: until [`Notifier::reloaded`]. Before the start has ended, both are part of it.
    pub(super) fn reloading(&mut self, now: Time) {
        if !self.told.ready {
            return;
        }
        self.told.reloading = true;
        self.say(now, reloading_message(now));
    }

    /// A reload has ended, perhaps with an error, which leaves everything as it was.
    pub(super) fn reloaded(&mut self, now: Time, error: Option<&str>) {
        self.told.reloading = false;
        if self.told.ready {
            self.say(now, "READY=1".to_owned());
        }
        if let Some(error) = error {
            self.status(now, &format!("reload failed: {error}"));
        } else if let Some((ready, slots)) = self.told.workers
            && self.told.status != counted(ready, slots)
        {
            // What stands there is of one that has failed.
            self.status(now, &counted(ready, slots));
        }
    }

    /// The supervisor stops. Said once.
    pub(super) fn stopping(&mut self, now: Time) {
        if !self.told.stopping {
            self.told.stopping = true;
            self.told.status = "stopping".to_owned();
            self.say(now, "STOPPING=1\nSTATUS=stopping".to_owned());
        }
    }

    /// How things are, for people.
    fn status(&mut self, now: Time, status: &str) {
        self.told.status = status.replace('\n', " ");
        self.say(now, format!("STATUS={}", self.told.status));
    }

    /// This program has taken over from one that had told this.
    pub(super) fn upgraded(&mut self, now: Time, told: Reported) {
        self.told = told;
        // Its last sign of life may be as old as the time between two.
        let alive = if self.beat.is_some() { "WATCHDOG=1\n" } else { "" };
        let news = format!("{alive}MAINPID={}\n", process::id());
        self.say(now, self.state(now, &news));
    }

    /// How things are, and these lines, as one message.
    fn state(&self, now: Time, news: &str) -> String {
        let Reported { ready, reloading, stopping, status, .. } = &self.told;
        let stage = match (ready, reloading, stopping) {
            (_, _, true) => "STOPPING=1\n",
            (_, true, false) => &format!("{}\n", reloading_message(now)),
            (true, false, false) => "READY=1\n",
            (false, false, false) => "",
        };
        format!("{stage}{news}STATUS={status}")
    }

    /// When [`Notifier::expire`] has something to do.
    pub(super) fn due(&self) -> Option<Time> {
        let beat = self.beat.map(|(_, at)| at);
        [self.retry, beat].into_iter().flatten().min()
    }

    /// Says what is due.
    pub(super) fn expire(&mut self, now: Time) {
        if let Some((every, at)) = self.beat
            && at <= now
        {
            self.beat = Some((every, now + every));
            // One that has no room is as late as if it had not been said.
            _ = self.send("WATCHDOG=1", now);
        }
        if self.retry.take_if(|at| *at <= now).is_some() {
            self.say(now, self.state(now, ""));
        }
    }

    /// Says something, now or, as part of [`Notifier::state`], when there is room.
    fn say(&mut self, now: Time, message: String) {
        if self.retry.is_none() && !self.send(&message, now) {
            self.retry = Some(now + RETRY);
        }
    }

    /// Whether there was room for it. A manager that is gone hears nothing, and that is all.
    fn send(&mut self, message: &str, now: Time) -> bool {
        let Some(Err(error)) = self.socket.as_ref().map(|socket| socket.send(message)) else {
            return true;
        };
        if let Some(before) = self.failed.allow(now) {
            let error = errors::text(&error);
            warn!(
                name: "notify_failed", error, suppressed = before,
                "cannot notify the service manager: {error} ({before} earlier times not shown)"
            );
        }
        error.kind() != io::ErrorKind::WouldBlock
    }
}

/// The status when nothing special is.
fn counted(ready: usize, slots: u16) -> String {
    format!("{ready} of {slots} workers ready")
}

/// A manager that sent HUP takes it for an answer if it is later than the HUP.
fn reloading_message(now: Time) -> String {
    let micros = (now - Time::default()).as_micros();
    format!("RELOADING=1\nMONOTONIC_USEC={micros}")
}

#[cfg(test)]
mod tests;
