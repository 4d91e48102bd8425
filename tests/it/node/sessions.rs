//! Hundreds of real Socket.IO sessions over three workers: none notices that there is more than
//! one.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::load::{Verdict, begin, count, talk, talk_at};
use crate::support::node::{self, App, Port, Running};
use crate::support::{client, eventually, full, proc, programs};

/// The app with the newest cluster adapter.
fn adapted() -> Option<App> {
    Some(App::new("socketio.js")?.env("ADAPTER", "@socket.io/cluster-adapter"))
}

fn scene(flags: &[&str]) -> Option<Running> {
    Some(adapted()?.flags(flags).start(3))
}

#[track_caller]
fn goes_well(flags: &[&str], options: &Value, transport: &str) {
    let Some(running) = scene(flags) else { return };
    let Some(verdict) = talk(&running, options) else { return };
    verdict.assert_right(count(), transport);
}

#[test]
fn sessions_by_polling_with_broadcasts() {
    let Some(running) = scene(&[]) else { return };
    let options = json!({ "transport": "polling", "broadcasts": true, "cluster": true });
    let Some(verdict) = talk(&running, &options) else { return };
    verdict.assert_right(count(), "polling");
    verdict.assert_heard(count());
    verdict.assert_one_cluster(count());
}

#[test]
fn sessions_that_upgrade_with_broadcasts() {
    let Some(running) = scene(&[]) else { return };
    let options = json!({ "broadcasts": true, "cluster": true });
    let Some(verdict) = talk(&running, &options) else { return };
    verdict.assert_right(count(), "websocket");
    verdict.assert_heard(count());
    verdict.assert_one_cluster(count());
}

#[test]
fn sessions_by_websocket_with_broadcasts() {
    let Some(running) = scene(&[]) else { return };
    let options = json!({ "transport": "websocket", "broadcasts": true, "cluster": true });
    let Some(verdict) = talk(&running, &options) else { return };
    verdict.assert_right(count(), "websocket");
    verdict.assert_heard(count());
    verdict.assert_one_cluster(count());
}

/// The adapter of version 0.2 knows no ids of servers: what it says goes to all.
#[test]
fn sessions_with_broadcasts_over_the_older_adapter() {
    let Some(app) = App::new("socketio.js") else { return };
    let running = app.env("ADAPTER", "cluster-adapter-0.2").start(3);
    let options = json!({ "broadcasts": true, "cluster": true });
    let Some(verdict) = talk(&running, &options) else { return };
    verdict.assert_right(count(), "websocket");
    verdict.assert_heard(count());
    verdict.assert_one_cluster(count());
}

#[test]
fn sessions_over_one_pool_of_kept_connections_when_polls_close_theirs() {
    let options = json!({ "transport": "polling", "agent": "shared" });
    goes_well(&["--keep-alive", "close"], &options, "polling");
}

#[test]
fn sessions_that_upgrade_over_one_pool_when_polls_close_their_connection() {
    goes_well(&["--keep-alive", "close"], &json!({ "agent": "shared" }), "websocket");
}

#[test]
fn sessions_over_one_pool_of_kept_connections_that_are_handed_back() {
    let options = json!({ "transport": "polling", "agent": "shared" });
    goes_well(&["--keep-alive", "handback"], &options, "polling");
}

#[test]
fn sessions_that_upgrade_over_one_pool_that_is_handed_back() {
    goes_well(&["--keep-alive", "handback"], &json!({ "agent": "shared" }), "websocket");
}

#[test]
fn sessions_by_address_need_no_preload_and_may_keep_their_connections() {
    let Some(running) = scene(&["--by", "ip", "--no-node-preload"]) else { return };
    let Some(verdict) = talk(&running, &json!({ "addresses": true })) else { return };
    verdict.assert_right(count(), "websocket");
    let mut addresses = verdict.addresses;
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), count() as usize, "each worker sees each client's own address");
}

/// The negative control: this is what the tests above would see without stickiness.
#[test]
fn sessions_over_one_pool_break_without_the_preload() {
    let Some(running) = scene(&["--no-node-preload"]) else { return };
    let options = json!({
        "transport": "polling", "agent": "shared", "sessions": 30, "millis": 500,
        "reconnection": false,
    });
    let Some(verdict) = talk(&running, &options) else { return };
    assert!(verdict.disconnects.values().sum::<u32>() > 10, "{verdict:?}");
    assert!(verdict.statuses.get("400").is_some_and(|count| *count > 10), "{verdict:?}");
}

/// Kills a worker while its sessions and those of the others talk, and clients without any ask.
fn kill_one_under_load(transport: &str) {
    let Some(running) = scene(&[]) else { return };
    let before = proc::open_files_at_rest(running.pid());
    let upgraded = transport == "upgrade";
    let options = json!({ "transport": transport, "upgraded": upgraded });
    let Some(load) = begin(&running, &options) else { return };
    load.next::<Value>();
    let killed = running.pid_of(1);
    proc::signal(killed, Signal::SIGKILL);
    for _ in 0..30 {
        let mut stream = client::send(running.address(), "GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        client::read_reply(&mut stream).expect("a client without a session is always served");
    }
    let verdict: Verdict = load.next();
    drop(load);
    let killed = killed.to_string();
    verdict.assert_accounted_for();
    assert_eq!(verdict.errors, Vec::<String>::new(), "{verdict:?}");
    let own = verdict.disconnects.get(&killed).copied().unwrap_or(0);
    assert!(own >= count() / 10, "the worker had sessions: {verdict:?}");
    assert_eq!((verdict.disconnects.len(), verdict.reconnected.len()), (1, 1), "{verdict:?}");
    assert_eq!(verdict.reconnected.get(&killed), Some(&own), "each comes back once: {verdict:?}");
    assert!(verdict.lost <= own, "what was under way to it, one a session: {verdict:?}");
    eventually("the supervisor has as many files open as before", || {
        (proc::open_files_at_rest(running.pid()) == before).then_some(())
    });
}

#[test]
fn a_killed_worker_takes_only_its_own_polling_sessions_with_it() {
    kill_one_under_load("polling");
}

#[test]
fn a_killed_worker_takes_only_its_own_websockets_with_it() {
    kill_one_under_load("upgrade");
}

/// A real nginx. It is ended when this is dropped.
struct Nginx {
    child: Child,
    port: Port,
}

impl Nginx {
    /// In front of this app, with connections to it that are kept and shared by all its clients.
    fn before(running: &Running, name: &str) -> Option<Self> {
        if !programs::has_with("nginx", "-v") {
            return None;
        }
        let home = node::scratch(name);
        let port = Port::free();
        let configuration = Path::new(programs::ROOT).join("tests/node/nginx.conf");
        let text = fs::read_to_string(configuration).expect("it is in the repository");
        let text = text.replace("{app}", &running.address().to_string());
        let text = text.replace("{port}", &port.number.to_string());
        let file = home.join("nginx.conf");
        fs::write(&file, text).expect("target can be written to");
        let mut command = Command::new("nginx");
        command.arg("-p").arg(&home).arg("-c").arg(&file).args(["-e", "errors.log"]);
        let child = command.stdin(Stdio::null()).spawn().expect("it is installed");
        let nginx = Self { child, port };
        eventually("nginx listens", || client::connect(nginx.address()).ok());
        Some(nginx)
    }

    fn address(&self) -> std::net::SocketAddr {
        ([127, 0, 0, 1], self.port.number).into()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Its master ends its workers only when it is asked to.
        let pid = i32::try_from(self.child.id()).expect("a pid fits");
        proc::signal(pid, Signal::SIGTERM);
        self.child.wait().ok();
    }
}

fn through_nginx(mode: &str, transport: &str) {
    let Some(running) = scene(&["--keep-alive", mode]) else { return };
    let Some(nginx) = Nginx::before(&running, &format!("nginx-{mode}-{transport}")) else { return };
    let url = format!("http://{}", nginx.address());
    let options = json!({ "transport": transport, "broadcasts": full() });
    let Some(verdict) = talk_at(&url, &options) else { return };
    verdict.assert_right(count(), if transport == "upgrade" { "websocket" } else { transport });
}

#[test]
fn sessions_through_nginx_with_kept_connections_when_polls_close_theirs() {
    through_nginx("close", "polling");
}

#[test]
fn sessions_through_nginx_with_kept_connections_that_are_handed_back() {
    through_nginx("handback", "polling");
}

#[test]
fn sessions_through_nginx_that_upgrade() {
    through_nginx("close", "upgrade");
}

#[test]
fn sessions_through_nginx_that_upgrade_on_connections_that_are_handed_back() {
    through_nginx("handback", "upgrade");
}
