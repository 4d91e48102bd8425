use std::fs;
use std::thread;

use nix::sched::{CloneFlags, unshare};

use super::*;

#[test]
fn a_free_port_is_one_that_is_free_in_both_families() {
    let alone = || {
        if unshare(CloneFlags::CLONE_NEWNET).is_err() {
            eprintln!("not tested: only root can have a network of its own");
            return;
        }
        fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40063").unwrap();
        let others = (40_000..40_060).map(|port| (Ipv6Addr::UNSPECIFIED, port).into());
        let others: Vec<_> =
            others.map(|address| bind_tcp(address, true, false, 1).unwrap()).collect();
        for _ in 0..4 {
            let both = open_both_families(0, false).unwrap();
            let ports = both.iter().map(|one| one.address().unwrap().port());
            let ports: Vec<_> = ports.collect();
            assert!(ports[0] >= 40_060 && ports == [ports[0]; 2], "{ports:?}");
        }
        drop(others);
    };
    // A network belongs to a thread.
    thread::spawn(alone).join().unwrap();
}
