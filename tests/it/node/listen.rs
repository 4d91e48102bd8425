//! Everything that a Node app can listen on, and what it is told when it cannot.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{self, Command, Stdio};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::files::File;
use crate::support::node::{self, App, Port, Running, local};
use crate::support::reply::{self, Kept};
use crate::support::{SOON, client, event, eventually, proc, programs, uninterrupted};

/// An app that listens on these; see `tests/node/apps/listeners.js`.
fn listeners(list: &Value) -> Option<App> {
    Some(App::new("listeners.js")?.env("LISTEN", &list.to_string()))
}

/// What each of two workers said of this listener.
#[track_caller]
fn said(running: &Running, name: &str) -> [Value; 2] {
    let start = format!("listener {name} ");
    running.wait_for_log_times(&start, 2);
    let log = running.log();
    let lines = log.lines().filter_map(|line| line.split(&start).nth(1));
    let mut said = lines.map(|line| serde_json::from_str(line).expect("it is JSON"));
    let mut next = || said.next().expect("both workers said it");
    [next(), next()]
}

/// The port that both workers were told for this listener.
#[track_caller]
fn port_of(running: &Running, name: &str) -> u16 {
    let [one, two] = said(running, name).map(|said| said["address"]["port"].as_u64());
    assert_eq!(one, two, "{name}");
    u16::try_from(one.expect("it listens")).expect("a port")
}

/// Whether both workers answer there, and on behalf of this listener.
#[track_caller]
fn both_answer(address: SocketAddr, name: &str) {
    let mut workers = BTreeSet::new();
    for _ in 0..20 {
        let answer = reply::get(address, "/");
        assert_eq!(answer.value("listener"), name);
        workers.insert(answer.slot());
    }
    assert_eq!(workers.len(), 2, "{name}");
}

#[test]
fn every_port_0_is_one_port_for_all_workers_and_two_of_them_are_two() {
    let list = json!([
        { "name": "first", "port": 0, "host": "127.0.0.1" },
        { "name": "second", "port": 0, "host": "127.0.0.1" },
    ]);
    let Some(app) = listeners(&list) else { return };
    let running = app.flags(&["-b", "round-robin"]).start(2);
    let [first, second] = ["first", "second"].map(|name| port_of(&running, name));
    assert_ne!(first, second);
    both_answer(local(first), "first");
    both_answer(local(second), "second");
    let logged: BTreeSet<u16> = running.addresses().iter().map(SocketAddr::port).collect();
    assert_eq!(logged, BTreeSet::from([first, second]), "the log says where it listens");
}

#[test]
fn several_ports_are_served() {
    let ports = [Port::free(), Port::free(), Port::free()];
    let names = ["a", "b", "c"];
    let list = names.iter().zip(&ports);
    let list: Vec<Value> = list
        .map(|(name, port)| json!({ "name": name, "port": port.number, "host": "127.0.0.1" }))
        .collect();
    let Some(app) = listeners(&list.into()) else { return };
    let running = app.flags(&["-b", "round-robin"]).start(2);
    for (name, port) in names.iter().zip(&ports) {
        assert_eq!(port_of(&running, name), port.number);
        both_answer(local(port.number), name);
    }
}

#[test]
fn without_a_host_both_families_are_served_and_with_ipv6_only_one() {
    let (both, six, only) = (Port::free(), Port::free(), Port::free());
    let list = json!([
        { "name": "both", "port": both.number },
        { "name": "six", "port": six.number, "host": "::1" },
        { "name": "only", "port": only.number, "host": "::", "ipv6Only": true },
    ]);
    let Some(app) = listeners(&list) else { return };
    let running = app.flags(&["-b", "round-robin"]).start(2);
    for (name, port, address) in
        [("both", &both, "::"), ("six", &six, "::1"), ("only", &only, "::")]
    {
        for said in said(&running, name) {
            let expected = json!({ "address": address, "family": "IPv6", "port": port.number });
            assert_eq!(said["address"], expected);
        }
        both_answer((Ipv6Addr::LOCALHOST, port.number).into(), name);
    }
    both_answer(local(both.number), "both");
    for port in [six, only] {
        assert!(client::connect(local(port.number)).is_err(), "nobody listens there");
    }
}

#[test]
fn a_unix_socket_is_served() {
    let path = node::scratch("unix").join("app.sock");
    let Some(app) = listeners(&json!([{ "name": "unix", "path": path }])) else { return };
    let running = app.start(2);
    for said in said(&running, "unix") {
        assert_eq!(said["address"], json!(path));
    }
    for _ in 0..10 {
        let mut stream = UnixStream::connect(&path).expect("it listens");
        stream.set_read_timeout(Some(SOON)).expect("it is a socket");
        stream.write_all(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n").expect("it is open");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        assert!(answer.contains("listener=unix"), "{answer}");
    }
}

/// A key and a certificate; none, said on standard error, without openssl.
fn certificate(home: &Path) -> Option<()> {
    if !programs::has_with("openssl", "version") {
        return None;
    }
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]);
    openssl.args(["-subj", "/CN=localhost", "-keyout", "key.pem", "-out", "certificate.pem"]);
    let output = openssl.current_dir(home).output().expect("it is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(())
}

#[test]
fn d20_https_is_served_and_its_ticket_keys_are_those_of_all_workers() {
    let home = node::scratch("https");
    let Some(()) = certificate(&home) else { return };
    let list = json!([{
        "name": "tls", "kind": "https", "port": 0, "host": "127.0.0.1",
        "key": home.join("key.pem"), "cert": home.join("certificate.pem"),
    }]);
    for flags in [&["--by", "ip"][..], &["-b", "round-robin"]] {
        let Some(app) = listeners(&list) else { return };
        let running = app.flags(flags).start(2);
        let [one, two] = said(&running, "tls").map(|said| said["keys"].to_string());
        assert_eq!((one.len(), one), (98, two), "48 bytes in hexadecimal, between quotes");
        let url = format!("https://127.0.0.1:{}/", port_of(&running, "tls"));
        for _ in 0..6 {
            let mut curl = Command::new("curl");
            curl.args([
                "--silent",
                "--show-error",
                "--fail",
                "--insecure",
                "--max-time",
                "30",
                &url,
            ]);
            let output = curl.output().expect("curl is installed");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            assert!(String::from_utf8_lossy(&output.stdout).contains("listener=tls"));
        }
    }
}

#[test]
fn datagrams_are_served_by_one_socket_that_all_workers_have() {
    let list = json!([
        { "name": "tcp", "port": 0, "host": "127.0.0.1" },
        { "name": "udp", "kind": "udp", "port": 0, "address": "127.0.0.1" },
    ]);
    let Some(app) = listeners(&list) else { return };
    let running = app.start(2);
    let port = port_of(&running, "udp");
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    socket.set_read_timeout(Some(SOON)).expect("it is a socket");
    for nth in 0..10 {
        socket.send_to(format!("{nth}").as_bytes(), local(port)).expect("it is sent");
        let mut answer = [0; 64];
        let length = uninterrupted(|| socket.recv(&mut answer)).expect("an answer");
        let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
        assert!(answer.ends_with(&format!(" {nth}")), "{answer}");
    }
}

#[test]
fn an_exclusive_port_is_the_first_workers_own() {
    let port = Port::free();
    let list = json!([
        { "name": "shared", "port": 0, "host": "127.0.0.1" },
        { "name": "own", "port": port.number, "host": "127.0.0.1", "exclusive": true },
    ]);
    let Some(app) = listeners(&list) else { return };
    let running = app.start(2);
    let outcomes = said(&running, "own").map(|said| said["error"].clone());
    assert!(
        outcomes.contains(&Value::Null) && outcomes.contains(&"EADDRINUSE".into()),
        "{outcomes:?}"
    );
}

#[test]
fn a_port_that_a_worker_listens_on_twice_is_in_use_the_second_time() {
    let port = Port::free();
    let list = json!([
        { "name": "once", "port": port.number, "host": "127.0.0.1" },
        { "name": "twice", "port": port.number, "host": "127.0.0.1" },
    ]);
    let Some(app) = listeners(&list) else { return };
    let running = app.flags(&["-b", "round-robin"]).start(2);
    for said in said(&running, "twice") {
        assert_eq!(said["error"], "EADDRINUSE");
    }
    both_answer(local(port.number), "once");
}

#[test]
fn a_port_that_somebody_else_has_is_in_use() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("it is bound").port();
    let list = json!([
        { "name": "free", "port": 0, "host": "127.0.0.1" },
        { "name": "taken", "port": port, "host": "127.0.0.1" },
    ]);
    let Some(app) = listeners(&list) else { return };
    let running = app.start(2);
    for said in said(&running, "taken") {
        assert_eq!(said["error"], "EADDRINUSE");
    }
    assert_eq!(reply::get(local(port_of(&running, "free")), "/").status, 200);
}

#[test]
fn a_port_that_the_supervisor_has_no_right_to_is_refused() {
    let lowest = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    if lowest.is_ok_and(|lowest| lowest.trim() == "0") {
        eprintln!("not tested: everybody may listen on every port here");
        return;
    }
    let list = json!([
        { "name": "free", "port": 0, "host": "127.0.0.1" },
        { "name": "low", "port": 1, "host": "127.0.0.1" },
    ]);
    let Some(mut app) = listeners(&list) else { return };
    let here = i32::try_from(process::id()).expect("a pid fits");
    if proc::status(here, "Uid:") == Some(0) {
        app = app.after(
            "exec setpriv --bounding-set=-net_bind_service \
             --inh-caps=-net_bind_service \"$0\" \"$@\";",
        );
    }
    let running = app.start(2);
    for said in said(&running, "low") {
        assert_eq!(said["error"], "EACCES");
    }
}

/// A full worker refuses what it is given; somebody who has room gets it, or it waits.
#[test]
fn workers_that_take_few_connections_are_given_no_more() {
    let Some(app) = App::new("http.js") else { return };
    let running = app.env("MAX_CONNECTIONS", "2").start(2);
    let mut open: Vec<Kept> = Vec::new();
    for _ in 0..4 {
        let mut kept = Kept::open(running.address());
        assert_eq!(kept.get("/").expect("an answer").status, 200);
        open.push(kept);
    }
    let mut fifth = Kept::open(running.address());
    fifth.send("GET", "/", b"").expect("it is open");
    open.clear();
    // It waited, or was disconnected in the end; in either case the next one is served.
    fifth.reply().ok();
    eventually("there is room again", || Kept::open(running.address()).get("/").ok());
}

/// A configuration with two workers on these addresses.
fn configuration(listen: &[String]) -> String {
    format!("workers = 2\nlisten = {listen:?}\n")
}

#[test]
fn whoever_came_to_an_address_that_an_upgrade_removes_is_served() {
    let ports = [Port::free(), Port::free()];
    let [stays, goes] = ports.each_ref().map(|port| port.address().to_string());
    let list = json!([{ "name": "own", "port": 0, "host": "127.0.0.1" }]);
    let Some(app) = listeners(&list) else { return };
    let file = File::new("node-removed.toml", configuration(&[stays.clone(), goes.clone()]));
    let running = app.flags(&["--config", file.path(), "--by", "sid"]).start(2);
    both_answer(goes.parse().unwrap(), "own");
    let pending = client::send(goes.parse().unwrap(), "GET / HTTP/1.1\r\nHost: a\r\n");
    file.replace(configuration(std::slice::from_ref(&stays)));
    // The connection is forgotten neither at this upgrade nor at the next one.
    for _ in 0..2 {
        running.upgrade();
        running.wait_event(event("listener_closed").with("address", goes.to_string()));
    }
    let mut pending = pending;
    pending.write_all(b"\r\n").unwrap();
    let mut answer = String::new();
    pending.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    both_answer(stays.parse().unwrap(), "own");
}

#[test]
fn an_address_that_workers_ask_for_themselves_stays_when_the_user_names_it_no_more() {
    let port = Port::free();
    let address = port.address().to_string();
    let list = json!([{ "name": "own", "port": port.number, "host": "127.0.0.1" }]);
    let Some(app) = listeners(&list) else { return };
    let file = File::new("node-own.toml", configuration(std::slice::from_ref(&address)));
    let running = app.flags(&["--config", file.path()]).start(2);
    both_answer(address.parse().unwrap(), "own");
    file.replace(configuration(&[]));
    running.upgrade();
    running.wait_event(event("listener_kept").with("address", address.to_string()));
    both_answer(address.parse().unwrap(), "own");
    running.signal(Signal::SIGHUP);
    running.wait_event(event("restart_done").with("count", 2));
    both_answer(address.parse().unwrap(), "own");
    file.replace(configuration(std::slice::from_ref(&address)));
    running.signal(Signal::SIGUSR2);
    running.wait_event(event("upgrade_failed").saying(&format!(
        "cannot listen on {address}: address already in use (workers listen there themselves: leave \
         that address out, or stop and start anew)"
    )));
}

#[test]
fn a_listener_of_two_servers_that_the_user_names_no_more_stays_as_long_as_one_of_them() {
    let [port, other] = [Port::free(), Port::free()];
    let address = port.address().to_string();
    let stays = json!({ "name": "stays", "port": port.number, "host": "127.0.0.1" });
    let goes = json!({ "name": "goes", "port": port.number, "host": "0.0.0.0" });
    let last = json!({ "name": "last", "port": other.number, "host": "127.0.0.1" });
    let listen = |listen: &[String], list: &Value| {
        format!("env = {:?}\n{}", [format!("LISTEN={list}")], configuration(listen))
    };
    let all = json!([stays, goes, last]);
    let Some(app) = App::new("listeners.js") else { return };
    let file = File::new("node-two.toml", listen(std::slice::from_ref(&address), &all));
    let running = app.flags(&["--config", file.path()]).start(1);
    running.wait_for_log("listener last ");
    file.replace(listen(&[], &all));
    running.upgrade();
    running.wait_event(event("listener_kept").with("address", address.to_string()));
    file.replace(listen(&[], &json!([stays])));
    running.signal(Signal::SIGHUP);
    running.wait_event(
        event("listener_closed").with("address", format!("127.0.0.1:{}", other.number)),
    );
    assert_eq!(reply::get(address.parse().unwrap(), "/").value("listener"), "stays");
    assert_eq!(running.count_events("listener_closed"), 1, "{}", running.log());
}

/// What an app says of Unix sockets of all kinds, in a directory whose path is too long for any.
#[test]
fn unix_sockets_are_what_they_are_without_us() {
    let home = node::scratch("pipes");
    let directory = home.join("d".repeat(120));
    let alone = directory.join("alone");
    let under_us = directory.join("under");
    for path in [&alone, &under_us] {
        fs::create_dir_all(path).expect("it is ours");
    }
    let said = |text: &str| {
        let lines = text.lines().filter(|line| line.starts_with("case "));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let Some(app) = App::new("pipes.js") else { return };
    let name = format!("sticky-run-pipes-{}", std::process::id());
    let (binary, socket) = (node::binary().expect("it is there"), home.join("last"));
    let mut node = Command::new(binary)
        .arg(Path::new(programs::ROOT).join("tests/node/apps/pipes.js"))
        .current_dir(&alone)
        .env("NAME", &name)
        .env("SOCKET", "/nowhere/at/all")
        .stderr(Stdio::piped())
        .stdin(Stdio::null())
        .spawn()
        .expect("it runs");
    let mut text = String::new();
    node.stderr.take().expect("it is piped").read_to_string(&mut text).expect("it ends");
    node.wait().expect("it ends");
    let expected = said(&text);
    assert!(expected.len() >= 7, "{text}");

    let app = app.env("NAME", &name).env("SOCKET", socket.to_str().expect("it is text"));
    let running = app.after(&format!("cd '{}' </dev/null &&", under_us.display())).start(1);
    running.wait_for_log("no more cases");
    assert_eq!(said(&running.log()), expected);
}
