//! How connections without an owner are spread.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::Instant;

use nix::sys::signal::Signal;

use crate::support::{Supervisor, connect, event, get, one_of_three, proc, read_reply, sticky_run};

const HOLD: &[u8] = b"GET /hold HTTP/1.1\r\n\r\n";

/// How many connections of a long run each worker got, from several clients at once.
fn spread(placement: &str, connections: usize) -> [usize; 4] {
    let supervisor = sticky_run(4, &["--by", "none", "--balance", placement]).start();
    let address = supervisor.address();
    let clients = (0..4).map(|_| {
        let mine = connections / 4;
        thread::spawn(move || count((0..mine).map(|_| get(address, "/").slot)))
    });
    let clients: Vec<_> = clients.collect();
    clients.into_iter().fold([0; 4], |sum, client| {
        let counts = client.join().expect("every request is answered");
        std::array::from_fn(|slot| sum[slot] + counts[slot])
    })
}

fn count(slots: impl IntoIterator<Item = u16>) -> [usize; 4] {
    let mut counts = [0; 4];
    for slot in slots {
        counts[usize::from(slot)] += 1;
    }
    counts
}

/// How far the workers' counts lie apart.
fn difference(counts: [usize; 4]) -> usize {
    counts.iter().max().unwrap() - counts.iter().min().unwrap()
}

/// A long connection that was answered, and the slot that holds it.
fn hold(address: SocketAddr) -> (TcpStream, u16) {
    let mut stream = connect(address).expect("a connection");
    stream.write_all(HOLD).expect("a request");
    let slot = read_reply(&mut stream).expect("an answer").slot;
    (stream, slot)
}

/// So many long connections, opened as fast as this client can.
fn hold_at_once(address: SocketAddr, count: usize) -> Vec<(TcpStream, u16)> {
    let open = (0..count).map(|_| {
        let mut stream = connect(address).expect("a connection");
        stream.write_all(HOLD).expect("a request");
        stream
    });
    let open: Vec<TcpStream> = open.collect();
    let answered = open.into_iter().map(|mut stream| {
        let slot = read_reply(&mut stream).expect("an answer").slot;
        (stream, slot)
    });
    answered.collect()
}

fn slots(held: &[(TcpStream, u16)]) -> [usize; 4] {
    count(held.iter().map(|(_, slot)| *slot))
}

fn least_connection() -> Supervisor {
    sticky_run(4, &[]).start()
}

#[test]
fn round_robin_spreads_ten_thousand_connections_within_ten_percent() {
    let counts = spread("round-robin", 10_000);
    assert!(counts.iter().all(|count| (2_250..=2_750).contains(count)), "{counts:?}");
}

#[test]
fn random_spreads_ten_thousand_connections_within_ten_percent() {
    let counts = spread("random", 10_000);
    assert!(counts.iter().all(|count| (2_250..=2_750).contains(count)), "{counts:?}");
}

#[test]
fn round_robin_goes_round_and_random_does_not() {
    for (placement, goes_round) in [("round-robin", true), ("random", false)] {
        let supervisor = sticky_run(4, &["--by", "none", "--balance", placement]).start();
        let slots: Vec<u16> = (0..32).map(|_| get(supervisor.address(), "/").slot).collect();
        let round = slots.iter().zip(&slots[4..]).all(|(slot, next)| slot == next);
        assert_eq!(round, goes_round, "{placement}: {slots:?}");
    }
}

#[test]
fn least_connection_levels_long_connections_among_short_ones() {
    let supervisor = least_connection();
    let mut held = Vec::new();
    for _ in 0..200 {
        held.push(hold(supervisor.address()));
        get(supervisor.address(), "/");
    }
    assert!(difference(slots(&held)) <= 2, "{:?}", slots(&held));
}

#[test]
fn least_connection_levels_long_connections_that_come_all_at_once() {
    levels(|supervisor| slots(&hold_at_once(supervisor.address(), 200)));
}

#[test]
fn least_connection_levels_again_what_clients_left_uneven() {
    levels(|supervisor| {
        let held = hold_at_once(supervisor.address(), 120);
        // Two of the workers lose all their clients.
        let (mut held, left): (Vec<_>, Vec<_>) = held.into_iter().partition(|(_, slot)| *slot < 2);
        let count = left.len();
        left.into_iter().for_each(|(stream, _)| finish(stream));
        held.extend(hold_at_once(supervisor.address(), count));
        slots(&held)
    });
}

/// Asserts that the workers' counts are level after this burst, in one of three tries.
///
/// A burst passes over a worker that does not read for 50 ms, be it only that a busy machine does
/// not let it run.
fn levels(burst: impl Fn(&Supervisor) -> [usize; 4]) {
    one_of_three(|| burst(&least_connection()), |counts| difference(*counts) <= 2);
}

#[test]
fn a_worker_with_more_connections_gets_nobody_while_others_have_fewer() {
    let supervisor = sticky_run(4, &["--head-timeout", "500ms"]).start();
    let held = hold_at_once(supervisor.address(), 120);
    let (loaded, left): (Vec<_>, Vec<_>) = held.into_iter().partition(|(_, slot)| *slot == 0);
    left.into_iter().for_each(|(stream, _)| finish(stream));
    // Until a silent client is closed: nothing of the burst is recent any more.
    let mut silent = connect(supervisor.address()).expect("a connection");
    silent.read_to_end(&mut Vec::new()).expect("the end");
    let counts = count((0..60).map(|_| get(supervisor.address(), "/").slot));
    assert_eq!(counts[0], 0, "{counts:?}, with {} on the first", loaded.len());
}

/// Ends a long connection; when this returns, its worker has told that it is closed.
fn finish(mut stream: TcpStream) {
    stream.shutdown(Shutdown::Write).expect("a half-closed connection");
    stream.read_to_end(&mut Vec::new()).expect("the end");
}

#[test]
fn a_fresh_worker_is_not_flooded() {
    let supervisor = least_connection();
    let held = hold_at_once(supervisor.address(), 400);
    let killed = 0;
    proc::signal(supervisor.pid_of(killed), Signal::SIGKILL);
    supervisor.wait_events(event("worker_ready").worker(killed), 2);
    let start = Instant::now();
    let new = slots(&hold_at_once(supervisor.address(), 100));
    let took = start.elapsed();
    // Were it to catch up at once, it would get all of them.
    assert!((1..=60).contains(&new[usize::from(killed)]), "{new:?} in {took:?}");
    drop(held);
}
