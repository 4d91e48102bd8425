//! Clients that say nothing, or little.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::thread;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use crate::support::{
    client, connect, full, get, one_of_three, proc, read_reply, sticky_run, uninterrupted,
};

const SILENT: usize = 5_000;
/// So many come at once. A second later the kernel asks all that came in one moment whether they are still
/// there, and the queue of the loopback device takes 1000 packets (`netdev_max_backlog`): it asks those
/// that find no room another two seconds later.
const AT_ONCE: usize = 100;
/// The time between two of those.
const BETWEEN: Duration = Duration::from_millis(40);
const SLOW: usize = 500;
const OTHERS: usize = 20;
/// The head timeout in seconds.
const EVERYDAY: u64 = 3;
const FULL: u64 = 10;

/// The median time of an answer to 20 clients at once, each with several requests.
fn median(address: SocketAddr) -> Duration {
    let clients = (0..OTHERS).map(|_| {
        thread::spawn(move || {
            let time = |_| {
                let start = Instant::now();
                get(address, "/?sid=mine");
                start.elapsed()
            };
            (0..20).map(time).collect::<Vec<_>>()
        })
    });
    let clients: Vec<_> = clients.collect();
    let times = clients.into_iter().flat_map(|client| client.join().expect("answers"));
    let mut times: Vec<Duration> = times.collect();
    times.sort();
    times[times.len() / 2]
}

/// A crowd of clients that are not answered, and when each of them was disconnected.
struct Crowd {
    poll: Poll,
    clients: Vec<Client>,
}

struct Client {
    stream: TcpStream,
    opened: Instant,
    lived: Option<Duration>,
}

impl Crowd {
    fn new(address: SocketAddr, count: usize) -> Self {
        let poll = Poll::new().expect("epoll");
        let clients = (0..count).map(|number| {
            if number % AT_ONCE == AT_ONCE - 1 {
                proc::watch(BETWEEN);
            }
            let opened = Instant::now();
            let stream = connect(address).expect("a connection");
            stream.set_nonblocking(true).expect("a mode");
            let fd = stream.as_raw_fd();
            let registered =
                poll.registry().register(&mut SourceFd(&fd), Token(number), Interest::READABLE);
            registered.expect("room in epoll");
            Client { stream, opened, lived: None }
        });
        let clients = clients.collect();
        Self { poll, clients }
    }

    /// Notes who is disconnected until this time.
    fn watch(&mut self, until: Instant) {
        let mut events = Events::with_capacity(1024);
        while let Some(left) = until.checked_duration_since(Instant::now())
            && self.is_waiting()
        {
            if let Err(error) = self.poll.poll(&mut events, Some(left)) {
                assert_eq!(error.kind(), ErrorKind::Interrupted);
                continue;
            }
            for event in &events {
                let client = &mut self.clients[event.token().0];
                match client.stream.read(&mut [0; 16]) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Ok(1..) => panic!("a client without a request was answered"),
                    Ok(0) | Err(_) => {
                        client.lived.get_or_insert(client.opened.elapsed());
                    }
                }
            }
        }
    }

    fn is_waiting(&self) -> bool {
        self.clients.iter().any(|client| client.lived.is_none())
    }

    /// Sends a byte for each that is still connected; one that is being closed may refuse it.
    fn trickle(&mut self, byte: u8) {
        for client in self.clients.iter_mut().filter(|client| client.lived.is_none()) {
            client.stream.write_all(&[byte]).ok();
        }
    }

    /// How long the shortest and the longest connection lasted.
    #[track_caller]
    fn lived(&self) -> (Duration, Duration) {
        let left = self.clients.iter().filter(|client| client.lived.is_none()).count();
        assert_eq!(left, 0, "so many of {} are still connected", self.clients.len());
        let lived = || self.clients.iter().filter_map(|client| client.lived);
        (lived().min().expect("clients"), lived().max().expect("clients"))
    }
}

/// Notes who is disconnected of two crowds until this time.
fn watch(mut crowds: [&mut Crowd; 2], until: Instant) {
    while Instant::now() < until && crowds.iter().any(|crowd| crowd.is_waiting()) {
        for crowd in &mut crowds {
            crowd.watch(Instant::now() + Duration::from_millis(5));
        }
    }
}

#[test]
fn thousands_of_silent_and_slow_clients_are_closed_in_time_and_slow_nobody_down() {
    let seconds = if full() { FULL } else { EVERYDAY };
    let timeout = Duration::from_secs(seconds);
    let time = format!("{seconds}s");
    let supervisor = sticky_run(4, &["--head-timeout", &time]).start();
    let address = supervisor.address();
    // The machine has moods of its own, and this one has no crowd.
    let other = sticky_run(4, &["--head-timeout", &time]).start();

    let mut silent = Crowd::new(address, SILENT);
    let mut slow = Crowd::new(address, SLOW);
    let start = Instant::now();
    let after = |second| start + Duration::from_secs(second);
    // What the others are answered takes its time, in which nobody would notice who is closed.
    let medians = || {
        let each_second = (1..=seconds).map(|second| {
            proc::watch(after(second).saturating_duration_since(Instant::now()));
            (median(address), median(other.address()))
        });
        each_second.unzip()
    };
    let (mut crowded, mut alone): (Vec<_>, Vec<_>) = thread::scope(|scope| {
        let medians = scope.spawn(medians);
        // One byte every second; a whole head would take far longer than the timeout.
        for (second, byte) in (1..=seconds).zip(b"GET /?EIO=4&sid=".iter().cycle()) {
            slow.trickle(*byte);
            watch([&mut silent, &mut slow], after(second));
        }
        watch([&mut silent, &mut slow], after(seconds + 5));
        medians.join().expect("the others are answered")
    });

    for times in [&mut crowded, &mut alone] {
        times.sort();
    }
    // What lasts is meant.
    let [usual, bare] = [&crowded, &alone].map(|times| times[times.len() / 2]);
    assert!(usual < 3 * bare + Duration::from_millis(3), "{crowded:?}, alone {alone:?}");
    for (name, crowd) in [("silent", silent), ("slow", slow)] {
        let (shortest, longest) = crowd.lived();
        assert!(shortest > timeout - Duration::from_millis(250), "{name}: {shortest:?}");
        assert!(longest < timeout + Duration::from_secs(2), "{name}: {longest:?}");
    }
    assert_eq!(get(address, "/").value("message").split(' ').next(), Some("CONN"));
}

#[test]
fn a_silent_client_is_closed_at_the_head_timeout_held_back_by_the_kernel_or_not() {
    // The kernel holds silent clients back for a second, but not if the timeout is shorter.
    for timeout in [Duration::from_millis(700), Duration::from_millis(2_200)] {
        let time = format!("{}ms", timeout.as_millis());
        let supervisor = sticky_run(1, &["--head-timeout", &time]).start();
        let live = || {
            let mut crowd = Crowd::new(supervisor.address(), 10);
            crowd.watch(Instant::now() + timeout + Duration::from_secs(5));
            let (shortest, longest) = crowd.lived();
            assert!(shortest > timeout - Duration::from_millis(150), "{shortest:?} of {timeout:?}");
            longest
        };
        one_of_three(live, |longest| *longest < timeout + Duration::from_millis(500));
    }
}

#[test]
fn where_no_key_needs_bytes_a_server_may_speak_first() {
    for by in ["ip", "none", "ip,sid"] {
        let supervisor = sticky_run(2, &["--by", by]).env("TEST_WORKER", "greet").start();
        let greet = || {
            let mut stream = connect(supervisor.address()).expect("a connection");
            let start = Instant::now();
            read_reply(&mut stream).expect("the server speaks");
            start.elapsed()
        };
        // The kernel would hold a silent client back for a second.
        one_of_three(greet, |time| *time < Duration::from_millis(900));
    }
}

#[test]
fn where_a_key_needs_bytes_a_silent_client_hears_nothing() {
    let supervisor =
        sticky_run(2, &["--head-timeout", "300ms"]).env("TEST_WORKER", "greet").start();
    let mut stream = connect(supervisor.address()).expect("a connection");
    assert_eq!(uninterrupted(|| stream.read(&mut [0; 16])).expect("the end"), 0);
}

#[test]
fn silent_clients_that_are_all_that_may_be_open_make_room_after_a_second() {
    let flags = ["--max-connections", "4", "--head-timeout", "1h"];
    let supervisor = sticky_run(1, &flags).start();
    let silent: Vec<_> = (0..4).map(|_| client::send(supervisor.address(), "G")).collect();
    let asked = Instant::now();
    get(supervisor.address(), "/");
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    drop(silent);
}
