//! Service managers: the sockets that they pass, and what they are told.

use std::fs;
use std::io::{Read, Write, pipe};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::process::{self, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::support::client::read_answer;
use crate::support::log::Pattern;
use crate::support::node::{self, scratch};
use crate::support::reply;
use crate::support::supervisor::{Builder, without_listener};
use crate::support::{
    Answer, connect, event, eventually, get, ledger, proc, programs, sticky_run, worker,
};

/// A listener, where it is, and what to pass of it.
fn socket() -> (TcpListener, SocketAddr, OwnedFd) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    let passed = listener.try_clone().expect("a descriptor");
    (listener, address, passed.into())
}

/// sticky-run without --listen, whose default is any free port.
fn by_default(flags: &[&str]) -> Builder {
    without_listener(2, flags).env("PORT", "0")
}

fn ask(mut stream: impl Read + Write) -> Answer {
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("a request");
    read_answer(&mut stream).expect("an answer")
}

/// It listens on a socket that was passed under this name.
fn passed_as(name: &str) -> Pattern {
    event("listening").saying(&format!("(from systemd, name {name})"))
}

#[test]
fn sockets_that_are_passed_take_the_place_of_the_default_address() {
    let (ours, address, passed) = socket();
    let mut supervisor = by_default(&[]).pass(passed, "$$").start();
    supervisor.wait_event(passed_as("http").with("address", address.to_string()));
    assert_eq!(supervisor.addresses(), [address]);
    get(address, "/");
    assert_eq!(supervisor.stop().code(), Some(0));
    // It is still systemd's, which starts the service again for whoever comes.
    drop(connect(address).expect("the socket listens on"));
    drop(ours);
}

#[test]
fn a_unix_socket_that_is_passed_stays_when_it_stops() {
    let home = scratch("systemd-unix");
    let path = home.join("s");
    let ours = UnixListener::bind(&path).expect("a socket");
    let passed = ours.try_clone().expect("a descriptor").into();
    let mut supervisor = by_default(&[]).pass(passed, "$$").start();
    let place = format!("unix:{}", path.display());
    supervisor.wait_event(passed_as("http").with("address", place));
    assert_eq!(
        ask(UnixStream::connect(&path).expect("it listens")).value("message"),
        "CONN listener=0"
    );
    assert_eq!(supervisor.stop().code(), Some(0));
    UnixStream::connect(&path).expect("the socket listens on");
}

#[test]
fn sockets_for_another_process_are_left_alone_unless_asked_for() {
    for (flags, pid, taken) in [
        (&[][..], "1", false),
        (&["--listen-fds", "any"], "1", true),
        (&["--listen-fds", "any"], "", true),
        (&["--listen-fds", "off"], "$$", false),
    ] {
        let (_ours, address, passed) = socket();
        let supervisor = by_default(flags).pass(passed, pid).start();
        assert_eq!(supervisor.addresses().contains(&address), taken, "{flags:?} {pid}");
        assert_eq!(supervisor.count_events(event("listening").saying("from systemd")) > 0, taken);
        get(SocketAddr::from(([127, 0, 0, 1], supervisor.address().port())), "/");
    }
}

#[test]
fn addresses_that_are_named_are_opened_besides_and_no_socket_twice() {
    let (_ours, address, passed) = socket();
    let flags = ["--listen", "127.0.0.1:0", "--listen", "fd:3"];
    let supervisor = sticky_run(2, &flags).pass(passed, "$$").start();
    let addresses = supervisor.addresses();
    assert_eq!((addresses.len(), addresses[0]), (2, address));
    for address in addresses {
        get(address, "/");
    }
}

#[test]
fn what_is_passed_and_is_no_listening_stream_socket_is_one_line() {
    let datagrams = UdpSocket::bind("127.0.0.1:0").expect("a free port").into();
    let file = fs::File::open("/dev/null").expect("null(4)").into();
    let closed = by_default(&[]).after("export LISTEN_FDS=9 LISTEN_PID=$$; exec 3<&- 4<&- 5<&-;");
    for (builder, reason) in [
        (by_default(&[]).pass(datagrams, "$$"), "it is no listening stream socket"),
        (by_default(&[]).pass(file, "$$"), "socket operation on non-socket"),
        (closed, "bad file descriptor (the descriptor has to be inherited open"),
    ] {
        let mut supervisor = builder.spawn();
        assert_eq!(supervisor.wait().code(), Some(1));
        let log = supervisor.whole_log();
        assert!(
            log.contains("cannot listen on fd:3 (from systemd") && log.contains(reason),
            "{log}"
        );
        assert_eq!(log.lines().count(), 1, "{log}");
    }
}

#[test]
fn a_wrong_number_of_sockets_is_an_error_of_usage() {
    let mut supervisor = by_default(&[]).after("export LISTEN_FDS=many LISTEN_PID=$$;").spawn();
    assert_eq!(supervisor.wait().code(), Some(2));
    assert!(supervisor.whole_log().contains("LISTEN_FDS is \"many\", which is no number"));
}

#[test]
fn a_node_server_that_asks_for_the_address_gets_the_socket_that_was_passed() {
    let Some(node) = node::binary() else { return };
    let (_ours, address, passed) = socket();
    let app = Path::new(programs::ROOT).join("tests/node/apps/http.js");
    let builder = without_listener(2, &[]).command(&[&node, app.to_str().expect("it is text")]);
    let builder = builder.env("HOST", "127.0.0.1").env("PORT", &address.port().to_string());
    let mut supervisor = builder.pass(passed, "$$").start();
    supervisor.wait_event(passed_as("http").with("address", address.to_string()));
    assert_eq!(supervisor.count_events("listening"), 1);
    reply::get(address, "/").pid();
    assert_eq!(supervisor.stop().code(), Some(0));
    drop(connect(address).expect("the socket listens on"));
}

#[test]
fn systemd_itself_passes_sockets() {
    if !programs::has("systemd-socket-activate") {
        return;
    }
    let path = scratch("systemd-activate").join("s");
    let prefix =
        format!("exec systemd-socket-activate -l '{}' --fdname=web \"$0\" \"$@\";", path.display());
    // The first client starts it, without most variables.
    let mut supervisor = by_default(&[]).text_log().after(&prefix).spawn();
    let client = eventually("systemd listens", || UnixStream::connect(&path).ok());
    ask(client);
    supervisor.wait_for_log("(from systemd, name web)");
    assert_eq!(supervisor.stop().code(), Some(0));
}

/// A service manager that hears what it is told.
struct Manager {
    socket: UnixDatagram,
    address: String,
}

impl Manager {
    fn at_path(name: &str) -> Self {
        let path = scratch(name).join("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        Self { socket, address: path.to_str().expect("its path is text").to_owned() }.ready()
    }

    fn at_name(name: &str) -> Self {
        let name = format!("sticky-run-it-{name}-{}", process::id());
        let address = UnixAddress::from_abstract_name(&name).expect("a short name");
        let socket = UnixDatagram::bind_addr(&address).expect("a socket");
        Self { socket, address: format!("@{name}") }.ready()
    }

    fn ready(self) -> Self {
        self.socket.set_nonblocking(true).expect("it is a socket");
        self
    }

    /// Everything that it was told by now.
    fn heard(&self) -> Vec<String> {
        let mut buffer = [0; 512];
        let one = || self.socket.recv(&mut buffer).ok().map(|len| buffer[..len].to_vec());
        std::iter::from_fn(one).map(|text| String::from_utf8(text).expect("it is text")).collect()
    }

    /// What it is told until this line, which is the last one.
    #[track_caller]
    fn heard_until(&self, last: &str) -> Vec<String> {
        let mut heard = Vec::new();
        eventually(&format!("the manager hears {last}"), || {
            heard.extend(self.heard());
            heard.last().is_some_and(|message| message.contains(last)).then_some(())
        });
        heard
    }
}

#[test]
fn the_manager_hears_of_the_start_of_changes_and_of_the_stop() {
    for manager in [Manager::at_path("notify-path"), Manager::at_name("life")] {
        let mut supervisor = sticky_run(2, &[]).env("NOTIFY_SOCKET", &manager.address).start();
        let heard = manager.heard_until("STATUS=2 of 2 workers ready");
        assert_eq!(heard[0], "STATUS=0 of 2 workers ready");
        // Both may be ready in the same turn of the loop.
        assert_eq!(heard[1], "READY=1");
        assert_eq!(heard.iter().filter(|message| *message == "READY=1").count(), 1);
        proc::signal(supervisor.pid_of(1), Signal::SIGKILL);
        let heard = manager.heard_until("STATUS=2 of 2 workers ready");
        assert_eq!(heard, ["STATUS=1 of 2 workers ready", "STATUS=2 of 2 workers ready"]);
        get(supervisor.address(), "/");
        assert_eq!(supervisor.stop().code(), Some(0));
        assert_eq!(manager.heard(), ["STOPPING=1\nSTATUS=stopping"]);
    }
}

#[test]
fn the_manager_hears_of_the_begin_and_the_end_of_a_reload_and_why_one_failed() {
    let manager = Manager::at_name("reload");
    let home = scratch("systemd-reload");
    let broken = home.join("broken");
    let script = format!("[ -e '{}' ] && exit 1; exec \"$0\" \"$@\"", broken.display());
    let command = worker::command();
    let mut words = vec!["sh", "-c", &script];
    words.extend(command.iter().map(String::as_str));
    let builder = sticky_run(2, &[]).command(&words).env("NOTIFY_SOCKET", &manager.address);
    let mut supervisor = builder.start();
    manager.heard_until("STATUS=2 of 2 workers ready");
    supervisor.signal(Signal::SIGHUP);
    let heard = manager.heard_until("READY=1");
    assert!(heard[0].starts_with("RELOADING=1\nMONOTONIC_USEC="), "{heard:?}");
    fs::write(&broken, "").expect("target can be written to");
    supervisor.signal(Signal::SIGHUP);
    let heard = manager.heard_until("STATUS=reload failed: ");
    assert!(heard.iter().any(|message| message.starts_with("RELOADING=1")), "{heard:?}");
    assert_eq!(heard[heard.len() - 2], "READY=1");
    get(supervisor.address(), "/");
    assert_eq!(supervisor.stop().code(), Some(0));
}

/// systemd takes no notice of a reload that began before it asked for one.
#[test]
fn a_reload_begins_after_the_signal_for_it_whatever_came_just_before() {
    let manager = Manager::at_name("later");
    let supervisor = sticky_run(1, &[]).env("NOTIFY_SOCKET", &manager.address).start();
    manager.heard_until("STATUS=1 of 1 workers ready");
    for _ in 0..20 {
        supervisor.signal(Signal::SIGWINCH);
        let asked = ledger::now();
        supervisor.signal(Signal::SIGHUP);
        let heard = manager.heard_until("READY=1");
        let began = heard[0].strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect("it reloads");
        let began = Duration::from_micros(began.parse().expect("a number"));
        // Theirs is cut to microseconds.
        assert!(began + Duration::from_micros(1) > asked, "{began:?}, asked at {asked:?}");
    }
}

#[test]
fn after_an_upgrade_the_manager_is_told_and_passed_sockets_and_output_go_on() {
    let manager = Manager::at_name("upgrade");
    let (_ours, address, passed) = socket();
    let (mut reader, writer) = pipe().expect("a pipe");
    let script = "(printf 'one '; cat > /dev/null; echo two) < \"$FIFO\" & exec \"$0\" \"$@\"";
    let fifo = scratch("systemd-upgrade").join("fifo");
    mkfifo(&fifo, Mode::S_IRWXU).expect("target can be written to");
    let command = worker::command();
    let mut words = vec!["sh", "-c", script];
    words.extend(command.iter().map(String::as_str));
    let builder = without_listener(1, &["--prefix-output"]).command(&words);
    let builder =
        builder.env("NOTIFY_SOCKET", &manager.address).env("FIFO", fifo.to_str().unwrap());
    let mut supervisor = builder.output_to(writer.into()).text_log().pass(passed, "$$").start();
    manager.heard_until("STATUS=1 of 1 workers ready");
    let end = fs::File::options().write(true).open(&fifo).expect("somebody reads it");
    supervisor.signal(Signal::SIGUSR2);
    let heard = manager.heard_until("MAINPID=");
    let expected = format!("READY=1\nMAINPID={}\nSTATUS=1 of 1 workers ready", supervisor.pid());
    assert_eq!(heard, [expected]);
    get(address, "/");
    drop(end);
    let mut said = Vec::new();
    while !said.ends_with(b"two\n") {
        let mut chunk = [0; 512];
        let len = reader.read(&mut chunk).expect("a pipe can be read");
        said.extend_from_slice(&chunk[..len]);
    }
    assert!(String::from_utf8_lossy(&said).contains("one "), "{said:?}");
    assert_eq!(supervisor.stop().code(), Some(0));
}

#[test]
fn the_manager_never_hears_ready_of_workers_that_are_not() {
    let manager = Manager::at_name("never");
    let builder = sticky_run(1, &[]).env("NOTIFY_SOCKET", &manager.address);
    let mut supervisor = builder.env("TEST_WORKER", "exit=3").spawn();
    assert_eq!(supervisor.wait().code(), Some(1));
    assert_eq!(manager.heard(), ["STATUS=0 of 1 workers ready", "STOPPING=1\nSTATUS=stopping"]);
}

#[test]
fn a_manager_that_asks_for_signs_of_life_gets_them() {
    let manager = Manager::at_name("beat");
    let builder = sticky_run(1, &[]).env("NOTIFY_SOCKET", &manager.address);
    let supervisor = builder.env("WATCHDOG_USEC", "100000").start();
    let mut beats = 0;
    eventually("three signs of life", || {
        beats += manager.heard().iter().filter(|message| *message == "WATCHDOG=1").count();
        (beats >= 3).then_some(())
    });
    drop(supervisor);
    let builder = sticky_run(1, &[]).env("NOTIFY_SOCKET", &manager.address);
    let builder = builder.env("WATCHDOG_USEC", "1000").env("WATCHDOG_PID", "1");
    let supervisor = builder.start();
    manager.heard_until("STATUS=1 of 1 workers ready");
    proc::watch(Duration::from_millis(100));
    assert_eq!(manager.heard(), [""; 0], "it watches another process");
    drop(supervisor);
}

#[test]
fn a_manager_that_hears_nothing_hinders_nobody() {
    let full = Manager::at_name("full");
    let address = UnixAddress::from_abstract_name(&full.address[1..]).expect("a short name");
    let client = UnixDatagram::unbound().expect("a socket");
    client.set_nonblocking(true).expect("it is a socket");
    while client.send_to_addr(b"X=1", &address).is_ok() {}
    for address in [&full.address[..], "/no/such/socket", "vsock:2:1", "nonsense"] {
        let mut supervisor = sticky_run(2, &[]).env("NOTIFY_SOCKET", address).start();
        get(supervisor.address(), "/");
        assert_eq!(supervisor.stop().code(), Some(0), "{address}");
    }
    // One that listens again hears how things are.
    let mut supervisor = sticky_run(2, &[]).env("NOTIFY_SOCKET", &full.address).start();
    let heard = full.heard_until("STATUS=2 of 2 workers ready");
    assert!(heard.iter().any(|message| message.lines().any(|line| line == "READY=1")), "{heard:?}");
    assert_eq!(supervisor.stop().code(), Some(0));
}

#[test]
fn an_abstract_address_is_served_and_refuses_clients_after_the_stop() {
    let name = format!("sticky-run-it-abstract-{}", process::id());
    let listen = format!("unix:@{name}");
    let mut supervisor = sticky_run(2, &["--listen", &listen]).start();
    supervisor.wait_event(event("listening").with("address", listen.as_str()));
    let address = UnixAddress::from_abstract_name(&name).expect("a short name");
    let connect = || UnixStream::connect_addr(&address);
    assert_eq!(ask(connect().expect("it listens")).value("message"), "CONN listener=0");
    let mut second = sticky_run(1, &["--listen", &listen]).spawn();
    assert_eq!(second.wait().code(), Some(1));
    assert!(
        second.whole_log().contains(&format!("cannot listen on {listen}: address already in use"))
    );
    assert_eq!(supervisor.stop().code(), Some(0));
    connect().expect_err("nobody listens any more");
}

/// `systemd-analyze verify` says everything that systemd would complain about.
#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    if !programs::has("systemd-analyze") {
        return;
    }
    let home = scratch("systemd-units");
    let examples = Path::new(programs::ROOT).join("examples/systemd");
    let mut units = Vec::new();
    for name in ["sticky-run.service", "sticky-run.socket"] {
        let unit = fs::read_to_string(examples.join(name)).expect("the example");
        // The program has to be there.
        let program = env!("CARGO_BIN_EXE_sticky-run");
        let unit = unit.replace("/usr/local/bin/sticky-run", program);
        let path = home.join(name);
        fs::write(&path, unit).expect("target can be written to");
        units.push(path);
    }
    let mut verify = Command::new("systemd-analyze");
    let verify = verify.args(["verify", "--man=no"]).args(&units).stdin(Stdio::null());
    let output = verify.output().expect("it is there");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let ours: Vec<_> = said.lines().filter(|line| line.contains("sticky-run")).collect();
    assert!(output.status.success() && ours.is_empty(), "{said}");
}
