//! What a service manager such as systemd wants to know.

use std::ffi::OsString;
use std::time::Duration;

/// What the service manager said about itself in the environment.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SystemdConfig {
    /// The address where it hears, `NOTIFY_SOCKET` of `sd_notify(3)`.
    pub notify_socket: Option<OsString>,
    /// The longest time between two signs of life, `WATCHDOG_USEC` of `sd_watchdog_enabled(3)`.
    pub watchdog: Option<Duration>,
}
