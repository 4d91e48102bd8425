//! What a manager hears.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use super::*;

/// A manager at an abstract address, and the way to it.
fn manager(name: &str, watchdog: Option<Duration>) -> (UnixDatagram, Notifier) {
    let name = format!("sticky-run-engine-{name}-{}", process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let manager = UnixDatagram::bind_addr(&address).unwrap();
    manager.set_nonblocking(true).unwrap();
    let notify_socket = Some(format!("@{name}").into());
    (manager, Notifier::new(at(0), &SystemdConfig { notify_socket, watchdog }))
}

fn at(millis: u64) -> Time {
    Time::since_zero(Duration::from_millis(millis))
}

/// Everything that was said.
fn said(manager: &UnixDatagram) -> Vec<String> {
    let mut buffer = [0; 256];
    let one = || manager.recv(&mut buffer).ok().map(|len| buffer[..len].to_vec());
    std::iter::from_fn(one).map(|message| String::from_utf8(message).unwrap()).collect()
}

#[test]
fn a_life_is_told_once_and_in_order() {
    let (manager, mut notifier) = manager("life", None);
    notifier.reloading(at(0));
    notifier.reloaded(at(0), None);
    for _ in 0..2 {
        notifier.count(at(1), 2, 2);
    }
    let began = Replacing::RestartBegan { workers: 2, anew: false };
    notifier.heard(at(5), &Event::Replacing(began));
    notifier.heard(at(7), &Event::Replacing(Replacing::Restarted { workers: 2 }));
    notifier.reloading(at(8));
    notifier.reloaded(at(9), Some("no\nsuch file"));
    // That stands until something else has changed.
    notifier.count(at(9), 2, 2);
    notifier.stopping(at(10));
    notifier.stopping(at(11));
    let expected = [
        "READY=1",
        "STATUS=2 of 2 workers ready",
        "RELOADING=1\nMONOTONIC_USEC=5000",
        "READY=1",
        "RELOADING=1\nMONOTONIC_USEC=8000",
        "READY=1",
        "STATUS=reload failed: no such file",
        "STOPPING=1\nSTATUS=stopping",
    ];
    assert_eq!(said(&manager), expected);
    assert_eq!(notifier.due(), None);
}

#[test]
fn after_an_upgrade_the_manager_hears_the_pid_and_what_it_knew() {
    let (manager, mut notifier) = manager("upgrade", None);
    let workers = Some((1, 1));
    let told = Reported { ready: true, workers, status: "fine".to_owned(), ..Reported::default() };
    notifier.upgraded(at(1), told.clone());
    notifier.count(at(2), 1, 1);
    let pid = process::id();
    assert_eq!(said(&manager), [format!("READY=1\nMAINPID={pid}\nSTATUS=fine")]);
    assert_eq!(notifier.told(), &told);
}

#[test]
fn an_upgrade_is_a_sign_of_life() {
    let (manager, mut notifier) = manager("alive", Some(Duration::from_secs(3)));
    notifier.upgraded(at(1), Reported::default());
    let pid = process::id();
    assert_eq!(said(&manager), [format!("WATCHDOG=1\nMAINPID={pid}\nSTATUS=")]);
}

#[test]
fn a_reload_goes_on_across_an_upgrade() {
    let (manager, mut notifier) = manager("rolling", None);
    notifier.count(at(1), 1, 1);
    notifier.reloading(at(2));
    let told = notifier.told().clone();
    said(&manager);
    notifier.upgraded(at(3), told);
    notifier.reloaded(at(4), None);
    let said = said(&manager);
    assert!(said[0].starts_with("RELOADING=1\nMONOTONIC_USEC=3000\nMAINPID="), "{said:?}");
    assert_eq!(said[1..], ["READY=1"]);
}

#[test]
fn a_reload_that_succeeds_takes_back_what_was_said_of_one_that_failed() {
    let (manager, mut notifier) = manager("mended", None);
    notifier.count(at(1), 1, 1);
    notifier.reloading(at(2));
    notifier.reloaded(at(3), Some("no such file"));
    notifier.reloading(at(4));
    notifier.reloaded(at(5), None);
    assert_eq!(said(&manager).last().unwrap(), "STATUS=1 of 1 workers ready");
}

#[test]
fn a_manager_without_room_hears_later_how_things_are_then() {
    let (manager, mut notifier) = manager("full", None);
    let filled = (0..100_000).find(|_| !notifier.send("X=1", at(0))).unwrap();
    notifier.count(at(0), 1, 2);
    assert_eq!(notifier.due(), Some(at(250)));
    notifier.expire(at(250));
    assert_eq!(notifier.due(), Some(at(500)));
    assert_eq!(said(&manager).len(), filled);
    notifier.count(at(300), 2, 2);
    notifier.expire(at(500));
    assert_eq!(said(&manager), ["READY=1\nSTATUS=2 of 2 workers ready"]);
    assert_eq!(notifier.due(), None);
    notifier.stopping(at(600));
    assert_eq!(said(&manager), ["STOPPING=1\nSTATUS=stopping"]);
}

#[test]
fn a_manager_that_is_gone_or_never_was_costs_nothing() {
    let (manager, mut notifier) = manager("gone", None);
    drop(manager);
    notifier.count(at(1), 1, 1);
    let mut nobody = Notifier::new(at(0), &SystemdConfig::default());
    nobody.count(at(1), 1, 1);
    assert_eq!((notifier.due(), nobody.due(), nobody.is_on()), (None, None, false));
}

#[test]
fn signs_of_life_come_twice_as_often_as_asked_for() {
    let (manager, mut notifier) = manager("beat", Some(Duration::from_millis(100)));
    assert_eq!(notifier.due(), Some(at(50)));
    notifier.expire(at(49));
    notifier.expire(at(60));
    assert_eq!(said(&manager), ["WATCHDOG=1"]);
    assert_eq!(notifier.due(), Some(at(110)));
}
