//! What a service manager passes in the environment: sockets, and how to notify it.

use std::os::unix::process::parent_id;
use std::process;
use std::time::Duration;

use anyhow::{Context, bail};

use crate::cli::values::ListenFds;
use crate::logic::config::{Listen, SystemdConfig};
use crate::os::listen::own_pidfd_id;
use crate::os::upgrade::ENV_UPGRADE;

/// The first descriptor that is passed (`SD_LISTEN_FDS_START` of `sd_listen_fds(3)`).
const FIRST_FD: u16 = 3;

/// Who this process is.
struct Own {
    pid: u32,
    /// The kernel's number of its descriptor, where it has one.
    pidfd_id: Option<u64>,
}

impl Own {
    /// A program that is asked whether it can go on from the state of its parent speaks for that.
    fn find(variable: Variable<'_>) -> anyhow::Result<Self> {
        if variable(ENV_UPGRADE)?.is_some_and(|told| told.starts_with("check:")) {
            return Ok(Self { pid: parent_id(), pidfd_id: None });
        }
        Ok(Self { pid: process::id(), pidfd_id: own_pidfd_id() })
    }
}

/// Reads a variable; an empty one counts as unset.
type Variable<'a> = &'a dyn Fn(&str) -> anyhow::Result<Option<String>>;

/// The listening sockets that were passed.
pub(super) fn passed(which: ListenFds, variable: Variable<'_>) -> anyhow::Result<Vec<Listen>> {
    passed_to(&Own::find(variable)?, which, variable)
}

/// What else the service manager wants.
pub(super) fn wishes(variable: Variable<'_>) -> anyhow::Result<SystemdConfig> {
    Ok(SystemdConfig {
        notify_socket: variable("NOTIFY_SOCKET")?.map(Into::into),
        watchdog: watchdog(process::id(), variable)?,
    })
}

fn passed_to(own: &Own, which: ListenFds, variable: Variable<'_>) -> anyhow::Result<Vec<Listen>> {
    let is_ours = match which {
        ListenFds::Auto => are_for(own, variable)?,
        ListenFds::Any => true,
        ListenFds::Off => false,
    };
    let count = if is_ours { variable("LISTEN_FDS")? } else { None };
    let Some(count) = count else { return Ok(Vec::new()) };
    let wrong = || format!("LISTEN_FDS is \"{count}\", which is no number of sockets");
    let count: u16 = count.parse().with_context(wrong)?;
    let Some(end) = FIRST_FD.checked_add(count) else { bail!(wrong()) };
    let names = variable("LISTEN_FDNAMES")?.unwrap_or_default();
    let mut names = names.split(':').map(str::to_owned);
    let passed = (FIRST_FD..end).map(|fd| {
        let name = names.next().unwrap_or_default();
        Listen::Passed { fd: fd.into(), name }
    });
    Ok(passed.collect())
}

/// Whether the sockets are meant for this process. They are not if a parent has forgotten to take
/// the variables away, which is no error.
fn are_for(own: &Own, variable: Variable<'_>) -> anyhow::Result<bool> {
    let Some(pid) = variable("LISTEN_PID")? else { return Ok(false) };
    let pidfd_id = variable("LISTEN_PIDFDID")?.and_then(|text| text.parse().ok());
    let fits = |(theirs, ours): (u64, u64)| theirs == ours;
    Ok(pid.parse() == Ok(own.pid) && pidfd_id.zip(own.pidfd_id).is_none_or(fits))
}

fn watchdog(own: u32, variable: Variable<'_>) -> anyhow::Result<Option<Duration>> {
    if variable("WATCHDOG_PID")?.is_some_and(|pid| pid.parse() != Ok(own)) {
        return Ok(None);
    }
    let Some(micros) = variable("WATCHDOG_USEC")? else { return Ok(None) };
    let wrong = || format!("WATCHDOG_USEC is \"{micros}\", which is no number of microseconds");
    let micros: u64 = micros.parse().with_context(wrong)?;
    Ok((micros > 0).then_some(Duration::from_micros(micros)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Own = Own { pid: 7, pidfd_id: Some(77) };

    /// An environment, as `NAME=value` words.
    fn environment(words: &str) -> impl Fn(&str) -> anyhow::Result<Option<String>> + use<> {
        let words: Vec<_> = words.split(' ').map(str::to_owned).collect();
        move |name| {
            let values = words.iter().filter_map(|word| word.strip_prefix(name)?.strip_prefix('='));
            Ok(values.map(str::to_owned).next())
        }
    }

    fn numbers(which: ListenFds, words: &str) -> Vec<(i32, String)> {
        let passed = passed_to(&OWN, which, &environment(words)).unwrap().into_iter();
        let number = |listen| match listen {
            Listen::Passed { fd, name } => (fd, name),
            other => panic!("{other:?}"),
        };
        passed.map(number).collect()
    }

    #[test]
    fn sockets_count_if_they_are_for_this_process() {
        let expected = vec![(3, "http".to_owned()), (4, String::new())];
        let auto = |words| numbers(ListenFds::Auto, words);
        assert_eq!(auto("LISTEN_FDS=2 LISTEN_PID=7 LISTEN_FDNAMES=http"), expected);
        assert_eq!(
            auto("LISTEN_FDS=2 LISTEN_PID=7 LISTEN_PIDFDID=77 LISTEN_FDNAMES=http:"),
            expected
        );
        for words in ["", "LISTEN_FDS=2", "LISTEN_FDS=2 LISTEN_PID=8", "LISTEN_FDS=x LISTEN_PID=8"]
        {
            assert_eq!(auto(words), []);
        }
        assert_eq!(auto("LISTEN_FDS=2 LISTEN_PID=7 LISTEN_PIDFDID=78"), []);
        assert_eq!(auto("LISTEN_FDS=0 LISTEN_PID=7"), []);
    }

    #[test]
    fn behind_a_wrapper_they_count_when_asked_for_and_never_when_not_wanted() {
        let words = "LISTEN_FDS=1 LISTEN_PID=8 LISTEN_FDNAMES=a:b";
        assert_eq!(numbers(ListenFds::Any, words), [(3, "a".to_owned())]);
        assert_eq!(numbers(ListenFds::Off, "LISTEN_FDS=1 LISTEN_PID=7"), []);
    }

    #[test]
    fn numbers_that_are_none_are_said() {
        for count in ["x", "-1", "65536", "65535"] {
            let words = environment(&format!("LISTEN_FDS={count} LISTEN_PID=7"));
            let error = passed_to(&OWN, ListenFds::Auto, &words).unwrap_err();
            assert!(error.to_string().contains("LISTEN_FDS is"), "{error}");
        }
        let error = watchdog(7, &environment("WATCHDOG_USEC=1s")).unwrap_err();
        assert!(error.to_string().contains("no number of microseconds"), "{error}");
    }

    #[test]
    fn the_watchdog_counts_if_it_is_for_this_process() {
        let every = |words| watchdog(7, &environment(words)).unwrap();
        assert_eq!(every("WATCHDOG_USEC=1500"), Some(Duration::from_micros(1500)));
        assert_eq!(every("WATCHDOG_USEC=1500 WATCHDOG_PID=7"), Some(Duration::from_micros(1500)));
        assert_eq!(every("WATCHDOG_USEC=1500 WATCHDOG_PID=8"), None);
        assert_eq!(every("WATCHDOG_USEC=0"), None);
        assert_eq!(every(""), None);
    }
}
