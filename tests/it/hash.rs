//! Placement without memory: `--balance hash`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Instant;

use nix::sys::signal::Signal;
use socket2::{Domain, Socket, Type};

use crate::support::{SOON, Supervisor, event, get_from, proc, sticky_run};

const BY_IP: [&str; 4] = ["--by", "ip", "--balance", "hash"];
/// Enough that a share of them is known to a fraction of a percent.
const CLIENTS: u16 = 2_000;

fn client(number: u16) -> IpAddr {
    let [high, low] = number.to_be_bytes();
    Ipv4Addr::new(127, 9, high, low + u8::from(low == 0)).into()
}

fn slot_of(supervisor: &Supervisor, number: u16) -> u16 {
    get_from(client(number), supervisor.address(), "/").slot
}

fn slots_of(supervisor: &Supervisor, clients: u16) -> Vec<u16> {
    (0..clients).map(|number| slot_of(supervisor, number)).collect()
}

#[test]
fn a_dead_worker_moves_its_own_clients_only_and_they_come_back() {
    // They boot slowly, so that there is a time without the one that is killed.
    let supervisor = sticky_run(8, &BY_IP).env("TEST_WORKER", "slow=1000").start();
    let homes = slots_of(&supervisor, 64);
    let dead = homes[0];
    proc::signal(supervisor.pid_of(dead), Signal::SIGKILL);
    supervisor.wait_event(event("worker_exited").worker(dead));
    let ready = event("worker_ready").worker(dead);
    let start = Instant::now();
    let mut without = 0;
    while supervisor.count_events(&ready) < 2 {
        assert!(start.elapsed() < SOON, "worker {dead} does not come back");
        let meanwhile = slots_of(&supervisor, 64);
        for (home, slot) in homes.iter().zip(&meanwhile) {
            assert!(slot == home || *home == dead, "a client of worker {home} moved to {slot}");
        }
        without += usize::from(!meanwhile.contains(&dead));
    }
    assert!(without > 0, "the test never saw the fleet without worker {dead}");
    assert_eq!(slots_of(&supervisor, 64), homes);
}

#[test]
fn a_restart_moves_nobody_and_a_new_slot_takes_its_fair_share_only() {
    let before = slots_of(&sticky_run(8, &BY_IP).start(), CLIENTS);
    let restarted = slots_of(&sticky_run(8, &BY_IP).start(), CLIENTS);
    assert!(before == restarted, "a restart moved somebody");
    let grown = slots_of(&sticky_run(9, &BY_IP).start(), CLIENTS);
    let moved: Vec<u16> =
        before.iter().zip(&grown).filter(|(old, new)| old != new).map(|(_, new)| *new).collect();
    assert!(moved.iter().all(|slot| *slot == 8), "a client moved between old slots");
    let share = moved.len() as f64 / f64::from(CLIENTS);
    assert!((0.05..=1.0 / 9.0 + 0.02).contains(&share), "the new slot took {share:.3}");
}

#[test]
fn another_seed_places_otherwise() {
    let one = slots_of(&sticky_run(4, &BY_IP).start(), 32);
    let flags = [&BY_IP[..], &["--hash-seed", "1"]].concat();
    assert_ne!(slots_of(&sticky_run(4, &flags).start(), 32), one);
}

#[test]
fn a_client_is_the_same_over_ipv4_and_as_a_mapped_address() {
    for balance in ["hash", "round-robin"] {
        let dual = Socket::new(Domain::IPV6, Type::STREAM, None).expect("a socket");
        dual.set_only_v6(false).expect("both families");
        dual.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)).into()).expect("a free port");
        dual.listen(64).expect("it listens");
        let port = dual.local_addr().ok().and_then(|address| address.as_socket());
        let mapped =
            SocketAddr::from((Ipv4Addr::LOCALHOST, port.expect("an internet address").port()));
        let flags = ["--by", "ip", "--balance", balance, "--listen", "127.0.0.1:0", "--listen"];
        let supervisor =
            sticky_run(4, &[&flags[..], &["fd:3"]].concat()).inherit(dual.into()).start();
        for number in 0..32 {
            let plain = get_from(client(number), supervisor.address(), "/");
            let over_mapped = get_from(client(number), mapped, "/");
            assert!(over_mapped.value("message").contains("client=[::ffff:127.9."));
            assert_eq!(plain.slot, over_mapped.slot, "client {}", client(number));
        }
    }
}
