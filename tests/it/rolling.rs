//! Rolling restarts and upgrades under load: no request fails, and no session notices them.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::socketio::Verdict;
use crate::support::client::{self, read_answer};
use crate::support::rolling::{Load, Served, mirror};
use crate::support::{
    Answer, Supervisor, connect, connect_from, eventually, full, get, proc, programs, sticky_run,
};

/// Workers of each supervisor here.
const WORKERS: u16 = 3;
/// So many restarts and as many upgrades.
const ROUNDS: u32 = 5;
/// Workers drain for as long as they have sessions, however many of them do.
pub(super) const PATIENT: [&str; 4] = ["--drain-timeout", "none", "--max-draining", "64"];

/// How many requests there are during all of it.
pub(super) fn requests() -> u32 {
    if full() { 20_000 } else { 1_500 }
}

/// Asks for a path on a new connection.
pub(super) fn ask(mut stream: impl Read + Write, path: &str) -> io::Result<Answer> {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\n\r\n")?;
    read_answer(&mut stream)
}

/// Whether all are from one worker.
fn from_one(answers: Vec<Answer>) -> io::Result<Vec<Served>> {
    if answers.iter().any(|answer| answer.pid != answers[0].pid) {
        return Err(io::Error::other(format!("several workers: {answers:?}")));
    }
    Ok(answers.into_iter().map(Served::from).collect())
}

/// A session: its worker announces its key, it is used, and it ends.
pub(super) fn session<S: Read + Write>(
    client: u8,
    nth: u32,
    open: impl Fn() -> io::Result<S>,
) -> io::Result<Vec<Served>> {
    let key = format!("{client}x{nth}");
    let paths =
        [format!("/announce/{key}"), format!("/?sid={key}"), format!("/end/{key}?sid={key}")];
    let answers: io::Result<Vec<_>> = paths.iter().map(|path| ask(open()?, path)).collect();
    from_one(answers?)
}

/// A client with an address that it shares with nobody for a while.
fn source(client: u8, nth: u32) -> Ipv4Addr {
    let [_, _, high, low] = nth.to_be_bytes();
    Ipv4Addr::new(127, 20 + client, high, low)
}

/// Whether all visits go well during restarts and upgrades, and nothing is left of these.
#[track_caller]
fn goes_well(supervisor: &Supervisor, visit: impl Fn(u8, u32) -> io::Result<Vec<Served>> + Sync) {
    let files = proc::open_files_at_rest(supervisor.pid());
    let load = Load::during(visit, |load| {
        supervisor.restart_and_upgrade(load, ROUNDS, requests() / (2 * ROUNDS));
    });
    load.assert_right(requests());
    // Also a worker of the last generation may have come too late for a request.
    assert!(load.workers() > usize::from(WORKERS) * 4, "{} workers", load.workers());
    supervisor.wait_for_workers(WORKERS.into(), files);
    supervisor.expect_no_trouble();
}

#[test]
fn no_request_of_announced_sessions_fails_or_leaves_its_worker() {
    let supervisor = sticky_run(WORKERS, &PATIENT).start();
    let address = supervisor.address();
    goes_well(&supervisor, |client, nth| session(client, nth, || connect(address)));
}

#[test]
fn no_request_over_a_unix_socket_fails_or_leaves_its_worker() {
    let path = std::env::temp_dir().join(format!("sticky-run-rolling-{}", std::process::id()));
    let listen = format!("unix:{}", path.display());
    let flags = [&PATIENT[..], &["--listen", &listen]].concat();
    let mut supervisor = sticky_run(WORKERS, &flags).start();
    goes_well(&supervisor, |client, nth| session(client, nth, || UnixStream::connect(&path)));
    supervisor.stop();
    assert!(!path.exists(), "it is still in the file system");
}

#[test]
fn no_request_fails_in_turns() {
    let flags = [&PATIENT[..], &["--by", "none", "--balance", "round-robin"]].concat();
    let supervisor = sticky_run(WORKERS, &flags).start();
    let address = supervisor.address();
    goes_well(&supervisor, |_, _| Ok(vec![ask(connect(address)?, "/")?.into()]));
}

#[test]
fn no_request_by_address_fails_or_leaves_its_worker() {
    let idle = Duration::from_secs(2);
    let flags = [&PATIENT[..], &["--by", "ip", "--key-idle", "2s"]].concat();
    let supervisor = sticky_run(WORKERS, &flags).start();
    let address = supervisor.address();
    goes_well(&supervisor, |client, nth| {
        let source = source(client, nth).into();
        let since = Instant::now();
        let ask = || ask(connect_from(source, address)?, "/");
        let answers = vec![ask()?, ask()?, ask()?];
        // On a machine that is busy enough its key may be unused for too long.
        if since.elapsed() < idle {
            from_one(answers)
        } else {
            Ok(answers.into_iter().map(Served::from).collect())
        }
    });
}

#[test]
fn no_request_by_the_hash_of_an_address_fails_or_leaves_its_slot() {
    let flags = [&PATIENT[..], &["--by", "ip", "--balance", "hash"]].concat();
    let supervisor = sticky_run(WORKERS, &flags).start();
    let address = supervisor.address();
    goes_well(&supervisor, |client, nth| {
        let ask = || ask(connect_from(source(client, nth).into(), address)?, "/");
        let answers = [ask()?, ask()?];
        if answers[0].slot != answers[1].slot {
            return Err(io::Error::other(format!("two slots: {answers:?}")));
        }
        Ok(answers.map(Served::from).into())
    });
}

/// Each signal comes while the one before is still being carried out.
#[test]
fn no_request_fails_when_signals_come_in_the_middle_of_each_other() {
    let flags = [&PATIENT[..], &["--restart-parallel", "2"]].concat();
    let supervisor = sticky_run(WORKERS, &flags).env("TEST_WORKER", "slow=30").start();
    let (address, pid) = (supervisor.address(), supervisor.pid());
    let files = proc::open_files_at_rest(pid);
    let load = Load::during(
        |client, nth| session(client, nth, || connect(address)),
        |load| {
            supervisor.restart_within_upgrades(load, ROUNDS, requests() / 10);
            load.go_on(requests() / 2);
        },
    );
    load.assert_right(requests());
    assert!(supervisor.count_events("restart_begun") > 0);
    supervisor.wait_for_workers(WORKERS.into(), files);
}

/// Real Socket.IO sessions that last longer than all of it.
fn sessions_notice_nothing(transports: &Value) {
    // The workers say that a session is over when their clients would have missed two pings.
    let idle = if full() { "10s" } else { "4s" };
    let flags = [&PATIENT[..], &["--session-idle", idle]].concat();
    let supervisor = sticky_run(WORKERS, &flags).command(&[&programs::example("chat")]).start();
    let (files, address) = (proc::open_files_at_rest(supervisor.pid()), supervisor.address());
    let count = if full() { 200 } else { 12 };
    let url = format!("http://{address}");
    let options = json!({ "url": url, "sessions": count, "transports": transports });
    let Some(mut client) = programs::node("sessions.js", &options) else { return };
    client.next::<Value>();
    let first = supervisor.worker_pids();
    for _ in 0..ROUNDS {
        supervisor.restart();
        supervisor.upgrade();
    }
    assert!(first.iter().all(|pid| proc::is_alive(*pid)), "sessions keep their workers");
    client.end_input();
    let sessions = client.next::<Verdict>().sessions;
    assert_eq!(sessions.len(), count);
    for session in sessions {
        assert!(session.is_undisturbed(), "{session:?}");
        assert_eq!(
            session.transport.as_deref(),
            transports.as_array().unwrap().last().unwrap().as_str()
        );
    }
    supervisor.wait_for_workers(WORKERS.into(), files);
    assert!(first.iter().all(|pid| !proc::is_alive(*pid)));
}

#[test]
fn sessions_by_polling_notice_nothing() {
    sessions_notice_nothing(&json!(["polling"]));
}

#[test]
fn sessions_that_upgraded_notice_nothing() {
    sessions_notice_nothing(&json!(["polling", "websocket"]));
}

/// An upload and a download that begin before all of it and end after.
#[test]
fn large_bodies_arrive_whole() {
    let supervisor = sticky_run(WORKERS, &[&PATIENT[..], &["--by", "none"]].concat()).start();
    let first = supervisor.worker_pids();
    let stream = client::send(supervisor.address(), "GET /mirror HTTP/1.1\r\nHost: test\r\n\r\n");
    mirror(stream, || {
        supervisor.restart();
        supervisor.upgrade();
        assert!(first.iter().any(|pid| proc::is_alive(*pid)), "its worker waits for it");
    });
    eventually("its worker ends", || first.iter().all(|pid| !proc::is_alive(*pid)).then_some(()));
}

/// Sends the beginning of a request whose rest comes later.
fn begin(address: SocketAddr) -> std::net::TcpStream {
    client::send(address, "GET /?si")
}

#[test]
fn connections_that_the_supervisor_holds_go_over_with_an_upgrade() {
    let supervisor = sticky_run(2, &["--stall-timeout", "1h", "--head-timeout", "1h"]).start();
    let address = supervisor.address();
    let files = proc::open_files_at_rest(supervisor.pid());
    let owner = get(address, "/announce/mine");
    proc::signal(owner.pid, Signal::SIGSTOP);
    eventually("the worker is stopped", || proc::is_stopped(owner.pid).then_some(()));
    // The worker has room for 32, the others are held.
    let request = "GET /?sid=mine HTTP/1.1\r\nHost: test\r\n\r\n";
    let held: Vec<_> = (0..100).map(|_| client::send(address, request)).collect();
    let begun: Vec<_> = (0..50).map(|_| begin(address)).collect();
    eventually("all are held", || {
        (proc::open_files(supervisor.pid()) >= files + 118).then_some(())
    });
    for _ in 0..3 {
        supervisor.upgrade();
    }
    for mut stream in begun {
        stream.write_all(b"ze=1 HTTP/1.1\r\nHost: test\r\n\r\n").expect("it is open");
        let answer = read_answer(&mut stream).expect("an answer");
        assert_ne!(answer.pid, owner.pid, "it is stopped");
    }
    proc::signal(owner.pid, Signal::SIGCONT);
    for mut stream in held {
        assert_eq!(read_answer(&mut stream).expect("an answer").pid, owner.pid);
    }
    supervisor.wait_for_workers(2, files);
}

/// All workers are stopped: whoever has no worker yet waits for any.
#[test]
fn clients_that_wait_for_any_worker_go_over_with_an_upgrade() {
    let supervisor = sticky_run(2, &["--by", "none", "--stall-timeout", "1h"]).start();
    let files = proc::open_files_at_rest(supervisor.pid());
    let workers = supervisor.worker_pids();
    for pid in &workers {
        proc::signal(*pid, Signal::SIGSTOP);
        eventually("the worker is stopped", || proc::is_stopped(*pid).then_some(()));
    }
    let request = "GET / HTTP/1.1\r\nHost: test\r\n\r\n";
    let waiting: Vec<_> = (0..100).map(|_| client::send(supervisor.address(), request)).collect();
    eventually("they wait", || (proc::open_files(supervisor.pid()) >= files + 36).then_some(()));
    supervisor.upgrade();
    for pid in &workers {
        proc::signal(*pid, Signal::SIGCONT);
    }
    for mut stream in waiting {
        read_answer(&mut stream).expect("an answer");
    }
    supervisor.wait_for_workers(2, files);
}
