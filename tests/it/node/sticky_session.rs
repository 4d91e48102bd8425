//! The defects of `sticky-session` 1.1.2 that a supervisor can have, each under the number that our
//! research gave it. S7, the /64 of an IPv6 client, is `an_ip_is_keyed_by_what_stays_with_a_client` in
//! `src/logic/route/key.rs`: this machine has no two addresses in one. S8 is nowhere: it is a test of
//! the package that fails.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::support::node::{App, Running};
use crate::support::reply::{self, Kept};
use crate::support::{event, eventually, proc};

/// A worker of the package, by address.
fn app() -> Option<App> {
    Some(App::new("sticky-session.js")?.listening().flags(&["--by", "ip"]))
}

fn clients() -> impl Iterator<Item = IpAddr> {
    (1..=100).map(|nth| ([127, 0, 4, nth]).into())
}

/// The slot and the pid that serve each client.
fn homes(running: &Running) -> BTreeMap<IpAddr, (u16, i32)> {
    let home = |source| {
        let answer = reply::get_from(source, running.address(), "/");
        (source, (answer.slot(), answer.pid()))
    };
    clients().map(home).collect()
}

#[test]
fn s1_a_worker_that_dies_moves_no_client_of_the_others() {
    for balance in ["least-connection", "hash"] {
        let Some(app) = app() else { return };
        let running = app.flags(&["--balance", balance]).start(4);
        let before = homes(&running);
        let killed = running.pid_of(1);
        proc::signal(killed, Signal::SIGKILL);
        running.wait_events(event("worker_ready").worker(1), 2);
        let after = homes(&running);
        for (client, (slot, pid)) in before {
            if pid != killed {
                assert_eq!(after[&client], (slot, pid), "{client}");
            }
        }
    }
}

#[test]
fn s2_a_worker_that_closes_and_exits_has_one_successor() {
    let Some(app) = app() else { return };
    let running = app.start(2);
    let closing = reply::get(running.address(), "/close").pid();
    proc::signal(closing, Signal::SIGTERM);
    eventually("it is gone", || (!proc::is_alive(closing)).then_some(()));
    running.wait_events("worker_ready", 3);
    proc::watch(Duration::from_millis(500));
    assert_eq!(running.worker_pids().len(), 2);
    assert_eq!(running.count_events("worker_started"), 3, "{}", running.log());
}

#[test]
fn s3_workers_that_exit_at_once_are_started_less_and_less_often() {
    let Some(app) = App::new("death.js") else { return };
    // One slot serves, so that the supervisor does not give up.
    let running = app.env("WAY", "exit").env("SLOT", "1").spawn(2);
    running.wait_event(event("worker_ready").worker(0));
    proc::watch(Duration::from_millis(3500));
    let started = running.count_events(event("worker_started").worker(1));
    assert!((2..=12).contains(&started), "{started} times");
    assert_eq!(reply::get(running.address(), "/").slot(), 0);
}

/// An address of this machine that is only good together with a zone, and its zone.
fn link_local() -> Option<(Ipv6Addr, u32)> {
    let table = fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    table.lines().find_map(|line| {
        let mut fields = line.split_whitespace();
        let address = Ipv6Addr::from_bits(u128::from_str_radix(fields.next()?, 16).ok()?);
        let zone = u32::from_str_radix(fields.next()?, 16).ok()?;
        address.is_unicast_link_local().then_some((address, zone))
    })
}

#[test]
fn s4_a_client_with_a_zone_in_its_address_is_served_like_any_other() {
    let Some((ip, zone)) = link_local() else {
        eprintln!("not tested: no address of this machine is link-local");
        return;
    };
    let Some(app) = App::new("http.js") else { return };
    let port = app.port();
    let running = app.env("HOST", "::").flags(&["--by", "ip"]).start(2);
    let address = SocketAddr::V6(SocketAddrV6::new(ip, port, 0, zone));
    let first = reply::get(address, "/").pid();
    for _ in 0..5 {
        assert_eq!(reply::get(address, "/").pid(), first);
    }
    assert_eq!(reply::get(running.address(), "/").status, 200);
}

#[test]
fn s5_a_restart_moves_no_client_when_they_are_placed_by_hash() {
    let mut slots = Vec::new();
    for _ in 0..2 {
        let Some(app) = app() else { return };
        let running = app.flags(&["--balance", "hash"]).start(4);
        let homes = homes(&running);
        slots.push(homes.into_values().map(|(slot, _)| slot).collect::<Vec<_>>());
    }
    assert_eq!(slots[0], slots[1]);
}

#[test]
fn s6_clients_behind_one_proxy_are_spread_by_their_own_address() {
    let Some(app) = App::new("sticky-session.js") else { return };
    let running = app.listening().flags(&["--by", "header:x-forwarded-for"]).start(4);
    let mut homes = BTreeMap::new();
    for nth in (0..60).chain(0..60) {
        let mut kept = Kept::open(running.address());
        let request =
            format!("GET / HTTP/1.1\r\nHost: test\r\nX-Forwarded-For: 10.0.0.{nth}\r\n\r\n");
        kept.write(request.as_bytes()).expect("it is open");
        let pid = kept.reply().expect("an answer").pid();
        assert_eq!(*homes.entry(nth).or_insert(pid), pid, "client {nth}");
    }
    let mut workers: Vec<i32> = homes.into_values().collect();
    workers.sort_unstable();
    workers.dedup();
    assert_eq!(workers.len(), 4);
}
