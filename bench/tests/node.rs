//! The Node primaries of the bench serve, keep what they promise, and are found out when they do not.

use std::env;
use std::io::{self, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use sticky_bench::load::{Load, Requests, Stays, open_sessions};
use sticky_bench::node::Contender;
use sticky_bench::node::packages::{install, node_version};
use sticky_bench::node::primary::{Kind, PRIMARIES, Primary};

/// Connections that are enough to meet the wrong worker among two.
const CONNECTIONS: u32 = 400;

#[test]
fn the_node_primaries_keep_what_they_promise() {
    let Some(apps) = apps() else { return };
    for primary in PRIMARIES.iter().filter(|one| matches!(one.kind, Kind::Script(_))) {
        let contender = start(primary, apps);
        let address = contender.supervisor.address;
        let sessions = open_sessions(address, 100).unwrap();
        let wrong = |requests, stays| load(requests, stays).run(address).wrong();
        assert_eq!(wrong(Requests::Handshake, primary.without_sid), 0, "{primary:?}");
        if let Some(stays) = primary.with_sid {
            assert_eq!(wrong(Requests::Opened(&sessions), stays), 0, "{primary:?}");
        }
        contender.supervisor.stop().unwrap();
        assert!(TcpStream::connect(address).is_err(), "{primary:?} left somebody behind");
    }
}

#[test]
fn the_clients_notice_that_round_robin_keeps_nobody() {
    let Some(apps) = apps() else { return };
    let cluster = start(&PRIMARIES[0], apps).supervisor;
    let sessions = open_sessions(cluster.address, 100).unwrap();
    let outcome = load(Requests::Opened(&sessions), Stays::WithSid).run(cluster.address);
    assert_eq!(outcome.errors, 0, "{:?}", outcome.last_error);
    assert!((1..CONNECTIONS).contains(&outcome.astray), "{outcome:?}");
    cluster.stop().unwrap();
}

fn load(requests: Requests<'_>, stays: Stays) -> Load<'_> {
    Load { connections: CONNECTIONS, at_once: 8, requests, stays, round: 0 }
}

fn start(primary: &'static Primary, apps: &Path) -> Contender {
    Contender::start(primary, primary.command(apps, Path::new("no sticky-run"))).unwrap()
}

/// The folder of the Node programs, with their packages; none, said on standard error, without Node.
#[expect(clippy::disallowed_methods, reason = "CI must not pass by leaving tests out")]
fn apps() -> Option<&'static Path> {
    static INSTALLED: OnceLock<anyhow::Result<PathBuf>> = OnceLock::new();
    match INSTALLED.get_or_init(|| node_version().and_then(|_| install())) {
        Ok(apps) => Some(apps),
        Err(error) => {
            assert!(env::var_os("CI").is_none(), "Node is needed: {error:#}");
            // Past the capture of the test harness, which hides what a passing test prints.
            writeln!(io::stderr(), "not tested, Node is needed: {error:#}").ok();
            None
        }
    }
}
