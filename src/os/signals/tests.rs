use std::process::Command;
use std::{env, fs};

use nix::sys::signal::raise;

use super::*;

#[test]
fn each_signal_is_handled_or_ignored_or_has_its_default_for_a_reason() {
    let default = [
        // Nobody can change these two.
        (Signal::SIGKILL, Signal::SIGSTOP),
        // Job control of the shell.
        (Signal::SIGTSTP, Signal::SIGCONT),
        // Harmless by default, and a fault.
        (Signal::SIGURG, Signal::SIGABRT),
        (Signal::SIGILL, Signal::SIGTRAP),
        (Signal::SIGBUS, Signal::SIGFPE),
        (Signal::SIGSEGV, Signal::SIGSYS),
    ];
    let default: Vec<_> = default.into_iter().flat_map(|(a, b)| [a, b]).collect();
    for signal in Signal::iterator() {
        let kinds = [
            handled(&[]).any(|other| other == signal),
            IGNORED.contains(&signal),
            default.contains(&signal),
        ];
        assert_eq!(kinds.into_iter().filter(|kind| *kind).count(), 1, "{signal}");
    }
}

/// Signals are of the whole process, so that these need one of their own.
#[test]
fn in_another_process_what_was_received_is_held_and_no_child_has_a_handler() {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "--test-threads=1"]);
    let output = command.arg("os::signals::tests::held_and_kept_out").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
#[ignore = "the test above runs it in a process of its own"]
fn held_and_kept_out() {
    let poll = mio::Poll::new().unwrap();
    let mut signals = Signals::register(poll.registry(), mio::Token(0), &[]).unwrap();
    let send = |signal| raise(signal).unwrap();
    send(Signal::SIGHUP);
    send(Signal::SIGTTIN);
    signals.hold().unwrap();
    send(Signal::SIGTTOU);
    assert_eq!(signals.take(), []);
    signals.release().unwrap();
    assert_eq!(signals.take(), [SignalEvent::Restart, SignalEvent::More, SignalEvent::Fewer]);

    let caught = || {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("SigCgt:")).unwrap();
        u64::from_str_radix(line["SigCgt:".len()..].trim(), 16).unwrap()
    };
    assert_ne!(caught() & bit(libc::SIGTERM), 0);
    let mut command = Command::new("true");
    let hook = move || {
        let caught = (1..=LAST)
            .filter(|signal| ![libc::SIG_DFL, libc::SIG_IGN].contains(&disposition(*signal)))
            .count();
        if caught == 0 { Ok(()) } else { Err(io::ErrorKind::Other.into()) }
    };
    let child = crate::os::spawn::with_hook(&mut command, hook).status();
    assert!(child.unwrap().success());
    assert_ne!(caught() & bit(libc::SIGTERM), 0);
}

#[test]
fn forwarding_takes_precedence_over_an_end_by_timers() {
    assert_eq!(meaning(Signal::SIGALRM, &[]), SignalEvent::Stop(Signal::SIGALRM));
    assert_eq!(meaning(Signal::SIGALRM, &[Signal::SIGALRM]), SignalEvent::Forward(Signal::SIGALRM));
    assert_eq!(meaning(Signal::SIGHUP, &[]), SignalEvent::Restart);
    assert_eq!(meaning(Signal::SIGUSR1, &[]), SignalEvent::Forward(Signal::SIGUSR1));
}

#[test]
fn only_signals_without_a_meaning_of_their_own_can_be_forwarded() {
    for name in ["USR1", "sigwinch", "Winch", "POLL", "IO", "ALRM", "PWR", "URG"] {
        forwardable(name).unwrap();
    }
    let wrong = |name| forwardable(name).unwrap_err();
    assert_eq!(wrong("kill"), "SIGKILL cannot be forwarded: it cannot be caught");
    assert!(wrong("HUP").contains("the supervisor obeys it itself"));
    assert!(wrong("SEGV").contains("fault"));
    assert!(wrong("RTMIN").contains("no signal \"RTMIN\""));
    assert!(wrong("").contains("no signal"));
    for signal in Signal::iterator() {
        let means_something = MEANINGS.iter().any(|(meant, _)| *meant == signal);
        if means_something && signal != Signal::SIGUSR1 {
            forwardable(signal.as_str()).unwrap_err();
        }
    }
}
