//! The log of what the core has to tell, and what follows from it.

use std::time::Duration;

use nix::unistd::Pid;
use sticky_worker::message::MAX_KEY;
use tracing::{info, warn};

use super::{Engine, links};
use crate::logic::core::Report;
use crate::logic::fleet::{Event, Exit, Facts, Limit, Replacing};
use crate::os::signals;

impl Engine {
    /// Writes to the log what the core says, and does what follows from it outside.
    pub(super) fn report(&mut self, report: &Report) {
        match report {
            Report::Fleet(event) => self.report_event(event),
            Report::Violation(worker, violation) => {
                self.workers.on_violation(self.now, *worker, &violation.to_string());
            }
            Report::TooLong(..) | Report::Shared(..) | Report::PresentedTooLong(_) => {
                log_key(report);
            }
            Report::Refused(worker, before) => warn!(
                name: "connection_dropped", worker = worker.slot, reason = "queue_full",
                suppressed = before,
                "connection dropped: the queue of {worker} is full, it is at capacity or has \
                 stopped reading ({before} earlier ones not shown)"
            ),
            Report::Unwanted(why, before) => warn!(
                name: "connection_dropped", reason = "unwanted", suppressed = before,
                "connection dropped: {why} ({before} earlier ones not shown)"
            ),
            Report::Stopped(worker) => warn!(
                name: "worker_stalled", worker = worker.slot,
                "{worker} has stopped reading its channel: clients it owns wait for it, others go \
                 to other workers"
            ),
            Report::Resumed(worker) => info!(
                name: "worker_recovered", worker = worker.slot,
                "{worker} is reading its channel again"
            ),
        }
    }

    /// Tells everybody what the fleet has to tell.
    fn report_event(&mut self, event: &Event) {
        let facts = event.facts();
        let pid = facts.worker.and_then(|worker| self.workers.pid_of(worker)).map(Pid::as_raw);
        let advice = if facts.is_trouble { self.advice_on(event) } else { String::new() };
        let line = format!("{event}{advice}");
        let line = match (pid, line.strip_suffix(')')) {
            (Some(pid), Some(line)) if facts.exit.is_some() => format!("{line}, pid {pid})"),
            (Some(pid), _) => format!("{line} (pid {pid})"),
            (None, _) => line,
        };
        log(&facts, pid, &line);
        match event {
            Event::Replacing(Replacing::Restarted { .. }) => self.fallback = None,
            Event::Replacing(Replacing::RestartFailed { .. }) => self.fall_back(),
            // Nothing was proved yet of what workers run since an upgrade.
            Event::FailedStart { .. } | Event::Replacing(Replacing::RecyclingFailed { .. })
                if !self.core.fleet().is_rolling() =>
            {
                self.fall_back();
            }
            _ => {}
        }
        self.notifier.heard(self.now, event);
    }

    /// What the fleet does not know and somebody who has to do something about an event wants to.
    fn advice_on(&self, event: &Event) -> String {
        match event {
            Event::GaveUp { .. } => {
                format!("; {}", links::traits(&self.config.handoff).how_to_be_ready)
            }
            Event::Replacing(Replacing::RecyclingEarly { limit, .. }) => self.limit_of(*limit),
            _ => String::new(),
        }
    }

    /// What the limit is that may be too low.
    fn limit_of(&self, limit: Limit) -> String {
        let amount = match limit {
            Limit::Connections => self.config.recycle.connections,
            Limit::Memory => self.config.recycle.memory,
            Limit::Lifetime => None,
        };
        let unit = if limit == Limit::Memory { " bytes" } else { "" };
        amount.map(|amount| format!(" (now {amount}{unit})")).unwrap_or_default()
    }
}

/// What there is to say of keys, once.
fn log_key(report: &Report) {
    match report {
        Report::TooLong(worker, length) => warn!(
            name: "announced_key_too_long", worker = worker.slot, bytes = length,
            "{worker} announces a key of {length} bytes: only {MAX_KEY} are accepted, so clients \
             that present it may reach another worker; use shorter ids (logged once)"
        ),
        Report::Shared(worker, owner) => warn!(
            name: "announced_key_taken", worker = worker.slot, owner = owner.slot,
            "{worker} announces a key that {owner} owns, where every client that presents it goes: \
             several clients seem to share it, such as a cookie with one value for all, or ids \
             that collide; have --by name a key that is unique to a client (logged once)"
        ),
        Report::PresentedTooLong(length) => warn!(
            name: "presented_key_too_long", bytes = length,
            "a client presents a key of {length} bytes: workers can announce {MAX_KEY} at most, so \
             it stays where its first connection was placed; use shorter ids (logged once)"
        ),
        Report::Fleet(_)
        | Report::Violation(..)
        | Report::Refused(..)
        | Report::Unwanted(..)
        | Report::Stopped(_)
        | Report::Resumed(_) => {}
    }
}

/// Logs an event with its fields; those that it has not are left out.
fn log(facts: &Facts, pid: Option<i32>, line: &str) {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let (code, signal) = match facts.exit {
        Some(Exit::Code(code)) => (Some(code), None),
        Some(Exit::Signal(signal)) => (None, Some(signals::name(signal))),
        None => (None, None),
    };
    macro_rules! log {
        ($level:ident) => {
            $level!(
                event = facts.name,
                worker = facts.slot,
                generation = facts.worker.map(|worker| worker.generation),
                pid,
                count = facts.count,
                reason = facts.reason,
                code,
                signal,
                delay_ms = facts.delay.map(millis),
                timeout_ms = facts.timeout.map(millis),
                "{line}"
            )
        };
    }
    if facts.is_trouble { log!(warn) } else { log!(info) }
}
