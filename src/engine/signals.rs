//! Signals: what the operator wants.

use nix::sys::signal::Signal;
use tracing::info;

use super::Engine;
use crate::logic::core::{Command, Input};
use crate::os::clock;
use crate::os::signals::SignalEvent;

impl Engine {
    /// Does what signals ask for that have come.
    pub(super) fn take_signals(&mut self) {
        for came in self.signals.take() {
            // It may have come since the turn began, and what is said of it has to be later.
            self.now = clock::now();
            self.obey(came);
        }
    }

    fn obey(&mut self, came: SignalEvent) {
        match came {
            SignalEvent::Stop(signal) => {
                info!(name: "signal_received", %signal, "received {signal}");
                self.command(Command::Stop);
            }
            SignalEvent::Restart => {
                info!(name: "signal_received", signal = %Signal::SIGHUP, "received SIGHUP");
                if self.core.fleet().is_stopping() {
                    // It is refused, so nothing of a configuration is to hold.
                    return self.command(Command::RestartLate);
                }
                match self.reread() {
                    Ok(()) => self.command(Command::Restart(self.config.fleet.clone())),
                    Err(error) => {
                        self.notifier.reloading(self.now);
                        self.notifier.reloaded(self.now, Some(&error));
                    }
                }
            }
            SignalEvent::Hangup if self.workers.spawner().signals.ignores(Signal::SIGHUP) => {
                info!(
                    name: "terminal_lost",
                    "the terminal is gone: continuing, since HUP was ignored at start"
                );
            }
            SignalEvent::Hangup => {
                info!(name: "terminal_lost", "the terminal is gone (HUP): stopping");
                self.command(Command::Stop);
            }
            SignalEvent::Upgrade => self.begin_upgrade(),
            SignalEvent::More => self.command(Command::More),
            SignalEvent::Fewer => self.command(Command::Fewer),
            SignalEvent::Forward(signal) => self.workers.forward(signal),
            SignalEvent::Child => self.workers.unreaped = true,
        }
    }

    fn command(&mut self, command: Command) {
        self.core.handle(self.now, Input::Command(command));
    }
}
