//! Servers that come and go: what a listener does when its server is closed, moved or replaced, and
//! which server a connection gets to.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::files::{File, Installed};
use crate::support::node::{self, App, Port, Running, local};
use crate::support::reply::{self, Kept, Session};
use crate::support::supervisor::configured;
use crate::support::{SOON, client, event, eventually, proc, programs};

/// The port that the app said the server of this name has.
#[track_caller]
fn port_of(running: &Running, name: &str) -> u16 {
    let start = format!("server {name} ");
    eventually(&format!("{name} listens"), || {
        let log = running.log();
        let (said, _) = log.split(&start).nth(1)?.split_once('\n')?;
        Some(said.parse().expect("a port"))
    })
}

#[test]
fn a_server_that_was_closed_refuses_its_clients_and_a_stop_waits_for_none() {
    let Some(app) = App::new("closes.js") else { return };
    let other = Port::free();
    let app = app.env("OTHER_PORT", &other.number.to_string());
    let mut running = app.flags(&["--grace", "15s"]).start(2);
    running.wait_for_log_times("server other closed", 2);
    eventually("its clients are refused", || {
        let error = client::connect(local(other.number)).err()?;
        (error.kind() == ErrorKind::ConnectionRefused).then_some(())
    });
    let before = proc::open_files_at_rest(running.pid());
    for _ in 0..20 {
        assert!(client::connect(local(other.number)).is_err(), "nobody listens there");
    }
    assert_eq!(proc::open_files_at_rest(running.pid()), before);
    assert_eq!(reply::get(running.address(), "/").value("server"), "main");
    let asked = Instant::now();
    assert!(running.stop().success());
    assert!(asked.elapsed() < Duration::from_secs(6), "it waited for {:?}", asked.elapsed());
}

/// An app that looks for a free port from PORT on, on these addresses, before it listens there.
fn probing(app: &str, addresses: &str) -> Option<App> {
    let path = Path::new(programs::ROOT).join("tests/node/apps").join(app);
    let app = App::new("probe.js")?.env("ADDRESSES", addresses);
    Some(app.env("APP", path.to_str().expect("its path is text")))
}

#[test]
fn a_port_that_an_app_has_tried_is_free_for_it() {
    // The first one is any address.
    let Some(app) = probing("http.js", " 0.0.0.0 127.0.0.1 :: ::1") else { return };
    let mut running = app.spawn(1);
    running.wait_for_log("found ");
    let found = format!("found {}\n", running.address().port());
    assert_eq!(running.count_log(&found), 1, "{}", running.log());
    let answer = || Kept::open_if(running.address())?.get("/").ok();
    assert_eq!(eventually("it serves", answer).status, 200);
    let asked = Instant::now();
    assert!(running.stop().success());
    assert!(asked.elapsed() < Duration::from_secs(6), "it waited for {:?}", asked.elapsed());
}

/// What a port was tried with spoke no HTTP; what listens there then does, and its ids are read.
#[test]
fn sessions_on_a_port_that_was_tried_first_find_their_workers() {
    let Some(app) = probing("socketio.js", "127.0.0.1") else { return };
    let running = app.flags(&["-b", "round-robin"]).spawn(3);
    running.wait_for_log_times("found ", 3);
    eventually("all three serve", || {
        let pids = (0..9).map(|_| Some(Kept::open_if(running.address())?.get("/").ok()?.pid()));
        let mut pids: Vec<i32> = pids.collect::<Option<_>>()?;
        pids.sort_unstable();
        pids.dedup();
        (pids.len() == 3).then_some(())
    });
    for _ in 0..10 {
        let session = Session::open(running.address());
        for _ in 0..3 {
            assert!(session.is_known(running.address()), "{}", session.sid);
        }
    }
}

/// Who answers on a Unix socket.
fn answer_on(path: &Path) -> Option<String> {
    let mut stream = UnixStream::connect(path).ok()?;
    stream.set_read_timeout(Some(SOON)).expect("it is a socket");
    stream.write_all(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.starts_with("HTTP/1.1 200").then_some(answer)
}

/// Each worker removes the file of those before it, as if it were left by an earlier run. Several that
/// boot at once remove each other's, which no primary can help.
#[test]
fn a_unix_socket_that_every_worker_removes_first_is_served() {
    let path = node::scratch("replaced").join("app.sock");
    let Some(app) = App::new("unix.js") else { return };
    let running = app.env("SOCKET", path.to_str().expect("its path is text")).start(1);
    assert!(answer_on(&path).is_some());
    proc::signal(running.pid_of(0), Signal::SIGKILL);
    running.wait_events(event("worker_ready").worker(0), 2);
    for _ in 0..5 {
        assert!(answer_on(&path).is_some());
    }
    assert_eq!(running.count_log("ENOENT"), 0, "{}", running.log());
    assert_eq!(running.count_events("worker_started"), 2);
}

#[test]
fn a_client_of_a_server_that_is_closed_gets_to_no_other() {
    let Some(app) = App::new("closes.js") else { return };
    let other = Port::free();
    let app = app.env("OTHER_PORT", &other.number.to_string());
    let running = app.flags(&["--by", "none"]).start(1);
    let first = port_of(&running, "first");
    running.wait_for_log("server other closed");
    let mut asked = Kept::open(running.address());
    asked.send("GET", "/swap?ms=500", b"").expect("it is open");
    // The worker stands still from now on, and more come than may be on their way to it.
    assert_eq!(asked.reply_without_body().expect("a head").status, 200);
    let clients: Vec<_> = (0..8)
        .map(|_| client::send(local(first), "GET / HTTP/1.1\r\nHost: test\r\n\r\n"))
        .collect();
    for client in clients {
        let heard = Kept::over(client).end().unwrap_or_default();
        assert_eq!(String::from_utf8_lossy(&heard), "", "it is closed or reset");
    }
    let second = port_of(&running, "second");
    assert_eq!(reply::get(local(second), "/").value("server"), "second");
    assert_eq!(reply::get(running.address(), "/").value("server"), "main");
}

/// The first server may be one that is not for everybody.
#[test]
fn an_address_that_leads_to_the_first_of_several_servers_is_said() {
    for asked in [false, true] {
        let Some(app) = App::new("two.js") else { return };
        let (own, other, third) = (app.port(), Port::free(), Port::free());
        let address = format!("127.0.0.1:{}", if asked { own } else { third.number });
        let app = app.env("OTHER_PORT", &other.number.to_string()).flags(&["--listen", &address]);
        let running = app.start(2);
        for port in [own, other.number] {
            assert_eq!(reply::get(local(port), "/").status, 200);
        }
        assert_eq!(reply::get(local(if asked { own } else { third.number }), "/").status, 200);
        if !asked {
            running.wait_event("listen_ambiguous");
        }
        assert_eq!(running.count_events("listen_ambiguous"), usize::from(!asked));
    }
}

/// What a worker asks for is heard before the listener is closed that nobody else asks for any more.
#[test]
fn a_server_that_opens_where_an_upgrade_stops_to_listen_is_served() {
    let Some(node) = node::binary() else { return };
    let (program, [port, other]) = (Installed::new("asked"), [Port::free(), Port::free()]);
    let app = format!("{}/tests/node/apps/late.js", programs::ROOT);
    let configuration = |listen: &str| {
        format!(
            "workers = 1\nlisten = ['unix:@asked-{}'{listen}]\ncommand = {:?}\n",
            port.number,
            [&node, &app]
        )
    };
    let with = configuration(&format!(", '127.0.0.1:{}'", other.number));
    let file = File::new("asked.toml", with);
    let when = program.path().with_file_name("when");
    let when = when.to_str().expect("its path is text");
    let builder = configured(1, file.path()).program(&program.path()).env("HOST", "127.0.0.1");
    let builder = builder.env("PORT", &port.number.to_string()).env("NOT", "/nowhere");
    let builder = builder.env("OTHER_PORT", &other.number.to_string()).env("WHEN", when);
    let mut supervisor = builder.start();
    program.script(&format!(
        "#!/bin/sh\ncase $STICKY_UPGRADE in resume:*) : >'{when}'; sleep 1;; esac\nexec $REAL \"$@\"\n"
    ));
    file.replace(configuration(""));
    supervisor.upgrade();
    supervisor.wait_event(
        event("listener_closed").with("address", format!("127.0.0.1:{}", other.number)),
    );
    assert_eq!(reply::get(local(other.number), "/").status, 200);
    assert_eq!(supervisor.stop().code(), Some(0));
}
