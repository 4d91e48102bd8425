//! What a restart and an upgrade make of flags that only a stop and a start can change.

use std::net::SocketAddr;

use nix::sys::signal::Signal;

use crate::support::files::File;
use crate::support::load::Load;
use crate::support::node::{self, Port};
use crate::support::supervisor::{Supervisor, configured};
use crate::support::{event, eventually};

/// Two workers of Node, with this in the file of the configuration.
fn start(name: &str, flags: &str) -> Option<(Supervisor, SocketAddr, impl Fn(&str), File)> {
    let node = node::binary()?;
    let app = format!("{}/tests/node/apps/http.js", env!("CARGO_MANIFEST_DIR"));
    let base = format!("workers = 2\ndrain-timeout = '5s'\ncommand = {:?}\n", [&*node, &*app]);
    let file = File::new(name, format!("{base}{flags}"));
    let path = file.path().to_owned();
    let port = Port::free();
    let builder = configured(2, &path).env("HOST", "127.0.0.1");
    let supervisor = builder.env("PORT", &port.number.to_string()).start();
    let address = port.address();
    let replace = move |flags: &str| std::fs::write(&path, format!("{base}{flags}")).unwrap();
    Some((supervisor, address, replace, file))
}

#[test]
fn workers_that_have_the_preload_go_on_with_it_after_an_upgrade_and_a_restart() {
    let Some((mut supervisor, address, replace, _file)) = start("preload.toml", "") else {
        return;
    };
    let load = Load::on(address);
    replace("no-node-preload = true\n");
    let needs =
        event("configuration_changed").with("flag", "--no-node-preload").with("takes", "start");
    supervisor.signal(Signal::SIGHUP);
    supervisor.wait_events(&needs, 1);
    supervisor.wait_events(event("restart_done").with("count", 2), 1);
    supervisor.upgrade();
    supervisor.wait_events(&needs, 2);
    load.goes_on();
    let before = supervisor.worker_pids();
    supervisor.signal(Signal::SIGHUP);
    supervisor.wait_events(&needs, 3);
    eventually("all workers are new", || {
        let now = supervisor.worker_pids();
        (now.len() == 2 && !now.iter().any(|pid| before.contains(pid))).then_some(())
    });
    load.assert_all_answered();
    assert_eq!(supervisor.count_events("worker_stalled"), 0);
    assert_eq!(supervisor.count_events("worker_drain_timeout"), 0);
    assert_eq!(supervisor.stop().code(), Some(0));
}

#[test]
fn a_limit_that_needs_the_preload_is_refused_as_long_as_there_is_none() {
    // Without the preload a stop takes all of the grace.
    let none = "no-node-preload = true\nby = 'ip'\ngrace = '1s'\n";
    let Some((mut supervisor, address, replace, _file)) = start("limits.toml", none) else {
        return;
    };
    let load = Load::on(address);
    let workers = supervisor.worker_pids();
    replace("by = 'ip'\ngrace = '1s'\nmax-connections = 5\n");
    supervisor.signal(Signal::SIGHUP);
    let why = "what needs a stop and a start stays as it is: without the preload, nobody tells when \
               a connection is over";
    supervisor.wait_event(event("configuration_rejected").saying(why));
    supervisor.signal(Signal::SIGUSR2);
    supervisor.wait_event(event("upgrade_failed").saying(why));
    assert_eq!(supervisor.worker_pids(), workers);
    // Without the limit it is a change that waits.
    replace("by = 'ip'\ngrace = '1s'\n");
    supervisor.upgrade();
    let needs =
        event("configuration_changed").with("flag", "--no-node-preload").with("takes", "start");
    supervisor.wait_events(&needs, 1);
    supervisor.signal(Signal::SIGHUP);
    supervisor.wait_events(&needs, 2);
    supervisor.wait_event(event("restart_done").with("count", 2));
    load.assert_all_answered();
    assert_eq!(supervisor.stop().code(), Some(0));
}

#[test]
fn a_new_version_of_an_app_that_asks_for_another_host_is_told_what_is_in_its_way() {
    let Some((mut supervisor, address, replace, _file)) = start("host.toml", "") else { return };
    let load = Load::on(address);
    replace("env = ['HOST=0.0.0.0']\n");
    supervisor.signal(Signal::SIGHUP);
    let refused = event("listen_refused").with("address", format!("0.0.0.0:{}", address.port()));
    let why = format!("address already in use (workers listen on {address} already: to change");
    supervisor.wait_event(refused.saying(&why));
    supervisor.wait_event("restart_failed");
    load.goes_on();
    load.assert_all_answered();
    assert_eq!(supervisor.stop().code(), Some(0));
}
