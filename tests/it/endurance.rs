//! What is left after many connections: nothing.

use std::net::Ipv4Addr;
use std::thread;

use crate::support::{full, get, get_from, proc, sticky_run};

/// Clients that come at the same time.
const CLIENTS: u8 = 4;

#[test]
fn after_very_many_connections_the_supervisor_is_as_it_was() {
    let connections: u32 = if full() { 200_000 } else { 6_000 };
    let supervisor = sticky_run(2, &["--by", "sid,ip"]).start();
    let (address, pid) = (supervisor.address(), supervisor.pid());
    // The same clients come all the time, as the memory of those that came is meant to stay.
    let visit = |connections: u32| {
        thread::scope(|scope| {
            for client in 1..=CLIENTS {
                scope.spawn(move || {
                    for nth in 0..connections / u32::from(CLIENTS) {
                        let source = Ipv4Addr::new(127, 7, client, 1 + (nth % 250) as u8);
                        get_from(source.into(), address, "/");
                    }
                });
            }
        });
        proc::wait_for_rest(pid);
    };
    get(address, "/announce/one");
    visit(2_000);
    let (files, memory) = (proc::open_files(pid), proc::private_kib(pid));
    visit(connections);
    assert_eq!(proc::open_files(pid), files);
    let after = proc::private_kib(pid);
    assert!(after <= memory + 1024, "{memory} KiB became {after} KiB");
}
