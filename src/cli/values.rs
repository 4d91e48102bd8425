//! The values of flags that have a form or a list of names.

use std::ffi::{OsStr, OsString};
use std::num::NonZeroU16;
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
use clap::builder::{PossibleValue, TypedValueParser};
use clap::{Arg, Command, ValueEnum};
use nix::sys::resource::RLIM_INFINITY;
use tracing_subscriber::filter::LevelFilter;

use crate::logic::config::{KeepAlive, LogFormat, PackageConfig, ResourceLimit};
use crate::logic::fleet::MAX_WORKERS;
use crate::logic::route::Balance;
use crate::logic::route::key::KeyList;
use crate::os::limits;

/// A number of workers, or as many as there are CPUs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum WorkerCount {
    Auto,
    Exactly(NonZeroU16),
}

impl FromStr for WorkerCount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let wrong = || format!("use a number from 1 to {MAX_WORKERS}, or auto");
        let count: NonZeroU16 = text.parse().map_err(|_| wrong())?;
        if count.get() <= MAX_WORKERS { Ok(Self::Exactly(count)) } else { Err(wrong()) }
    }
}

/// Reads keys; what it says of their names is for completions.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeyListParser;

impl TypedValueParser for KeyListParser {
    type Value = KeyList;

    fn parse_ref(
        &self,
        command: &Command,
        arg: Option<&Arg>,
        value: &OsStr,
    ) -> Result<KeyList, clap::Error> {
        TypedValueParser::parse_ref(&KeyList::from_str, command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let names = ["sid", "ip", "query:", "header:", "cookie:", "none"];
        Some(Box::new(names.into_iter().map(PossibleValue::new)))
    }
}

/// The placements, by name.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum BalanceArg {
    /// The worker with the fewest open connections
    LeastConnection,
    /// One worker after the other
    RoundRobin,
    /// A random worker
    Random,
    /// A hash of the key, the same after a restart; without a key, least-connection
    Hash,
}

impl From<BalanceArg> for Balance {
    fn from(balance: BalanceArg) -> Self {
        match balance {
            BalanceArg::LeastConnection => Self::LeastConnection,
            BalanceArg::RoundRobin => Self::RoundRobin,
            BalanceArg::Random => Self::Random,
            BalanceArg::Hash => Self::Hash,
        }
    }
}

/// The handoffs, by name.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum HandoffArg {
    /// Chosen by the command
    Auto,
    /// Over the channel, for servers that use sticky-worker or speak sticky-run-channel(7)
    Channel,
    /// As Node's cluster does it, for unmodified Node servers, see sticky-run-node(7)
    Node,
}

/// What to do with keep-alive connections, by name.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum KeepAliveArg {
    /// Responses to Engine.IO polling requests close the connection
    Close,
    /// All connections stay open
    Handback,
}

impl From<KeepAliveArg> for KeepAlive {
    fn from(how: KeepAliveArg) -> Self {
        match how {
            KeepAliveArg::Close => Self::Close,
            KeepAliveArg::Handback => Self::HandBack,
        }
    }
}

/// The packages that take connections, by name.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum NodePackage {
    /// Whichever the workers load
    Auto,
    /// None: the workers have listening servers
    Plain,
    /// @socket.io/sticky
    #[value(alias = "@socket.io/sticky")]
    Sticky,
    /// sticky-session
    StickySession,
    /// socketio-sticky-session
    SocketioStickySession,
    /// sticky-cluster
    StickyCluster,
}

impl From<NodePackage> for PackageConfig {
    fn from(package: NodePackage) -> Self {
        let name = match package {
            NodePackage::Auto => return Self::Reported,
            NodePackage::Plain => return Self::Ignored,
            NodePackage::Sticky => "@socket.io/sticky",
            NodePackage::StickySession => "sticky-session",
            NodePackage::SocketioStickySession => "socketio-sticky-session",
            NodePackage::StickyCluster => "sticky-cluster",
        };
        Self::Named(name.to_owned())
    }
}

/// Log levels, by name.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum LogLevel {
    /// Only what ends the supervisor
    Error,
    /// Everything that went wrong
    Warn,
    /// Also what happens to workers
    Info,
    /// Also what happens to connections
    Debug,
}

impl From<LogLevel> for LevelFilter {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Error => Self::ERROR,
            LogLevel::Warn => Self::WARN,
            LogLevel::Info => Self::INFO,
            LogLevel::Debug => Self::DEBUG,
        }
    }
}

/// Log formats, by name.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum LogFormatArg {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

impl From<LogFormatArg> for LogFormat {
    fn from(format: LogFormatArg) -> Self {
        match format {
            LogFormatArg::Text => Self::Text,
            LogFormatArg::Json => Self::Json,
        }
    }
}

/// Which sockets of a service manager to use, by name.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum ListenFds {
    /// Those passed to this process
    Auto,
    /// Also those passed to another process
    Any,
    /// None
    Off,
}

/// Something to print instead of running.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum Generate {
    /// The manual page sticky-run(1)
    Man,
    /// Completions for bash
    CompleteBash,
    /// Completions for zsh
    CompleteZsh,
    /// Completions for fish
    CompleteFish,
}

/// A file mode creation mask.
pub(super) fn umask(text: &str) -> Result<u32, String> {
    let mask = u32::from_str_radix(text, 8).ok().filter(|mask| *mask <= 0o777);
    // The parser of numbers would take a sign.
    let mask = mask.filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
    mask.ok_or_else(|| "use an octal number from 0 to 777, such as 027".to_owned())
}

/// The mode of a file, without set-id bits.
pub(super) fn file_mode(text: &str) -> Result<u32, String> {
    umask(text).map_err(|_| "use an octal number from 0 to 777, such as 660".to_owned())
}

/// A limit such as `nofile=1024:4096` or `core=unlimited`.
pub(super) fn limit(text: &str) -> Result<ResourceLimit, String> {
    let form = "use NAME=SOFT or NAME=SOFT:HARD, such as nofile=1024:4096 or core=unlimited";
    let (name, values) = text.split_once('=').ok_or(form)?;
    let names = || limits::names().collect::<Vec<_>>().join(", ");
    let resource = limits::resource(name)
        .ok_or_else(|| format!("there is no limit \"{name}\"; use one of {}", names()))?;
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let value = |text: &str| match text {
        "unlimited" => Ok(RLIM_INFINITY),
        _ => text.parse().map_err(|_| format!("\"{text}\" is no limit: {form}")),
    };
    let (soft, hard) = (value(soft)?, value(hard)?);
    if soft > hard {
        return Err("the soft limit must not be above the hard one".to_owned());
    }
    Ok(ResourceLimit { resource, soft, hard })
}

/// A variable and its value, such as `NAME=VALUE`.
pub(super) fn variable_pair(text: &str) -> Result<(OsString, OsString), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.into(), value.into())),
        Some(_) | None => Err("use NAME=VALUE".to_owned()),
    }
}

/// A time, or none.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct TimeOrNone(pub(super) Option<Duration>);

impl FromStr for TimeOrNone {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" { Ok(Self(None)) } else { time(text).map(|time| Self(Some(time))) }
    }
}

/// Less without a unit was meant in another unit: no program holds so little.
const LEAST_BYTES: u64 = 1 << 20;

/// A number of bytes such as `512MiB`, more than nothing.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let has_unit = !text.trim().bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(ByteSize(0)) => Err("it must be more than 0".to_owned()),
        Ok(ByteSize(bytes)) if !has_unit && bytes < LEAST_BYTES => {
            Err(format!("that would be {bytes} bytes: write {bytes}M if these are megabytes"))
        }
        Ok(ByteSize(bytes)) => Ok(bytes),
        Err(_) => Err("write it as 500KiB, 512MiB or 1.5GiB".to_owned()),
    }
}

/// The shortest time in which an answer can be told from none.
const SHORTEST_WATCH: Duration = Duration::from_millis(100);

/// A time in which a worker can answer.
pub(super) fn watch_time(text: &str) -> Result<Duration, String> {
    let time = time(text)?;
    if time < SHORTEST_WATCH {
        return Err(format!("it must be {SHORTEST_WATCH:?} or more"));
    }
    Ok(time)
}

/// A time that is more than nothing.
pub(super) fn some_time(text: &str) -> Result<Duration, String> {
    match time(text)? {
        Duration::ZERO => Err("it must be more than 0".to_owned()),
        some => Ok(some),
    }
}

/// A time such as `250ms`, `10s` or `2m`.
pub(super) fn time(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|error| format!("{error}; write it as 250ms, 10s, 2m or 1h"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units_of_both_kinds() {
        for (text, bytes) in [
            ("512MiB", 512 << 20),
            ("1.5 GiB", 3 << 29),
            ("2K", 2_000),
            ("7B", 7),
            ("536870912", 512 << 20),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        assert!(size("0").unwrap_err().contains("more than 0"));
        assert!(size("512").unwrap_err().contains("512 bytes: write 512M"));
        for wrong in ["", "much", "-1MiB", "5 apples", "MiB"] {
            assert!(size(wrong).unwrap_err().contains("512MiB"), "{wrong}");
        }
    }

    #[test]
    fn a_time_may_be_none_where_there_is_a_for_ever() {
        assert_eq!("none".parse(), Ok(TimeOrNone(None)));
        assert_eq!("2s".parse(), Ok(TimeOrNone(Some(Duration::from_secs(2)))));
        assert!("never".parse::<TimeOrNone>().is_err());
        assert!(watch_time("99ms").unwrap_err().contains("100ms or more"));
    }
}
