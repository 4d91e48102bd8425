//! What the simulation does not reach: heads that are late, prefaces, sockets without room.

use std::time::Duration;

use super::*;
use crate::logic::fleet::FleetConfig;
use crate::logic::route::{Balance, Reason, Returned};

const WORKER: Worker = Worker { slot: 0, generation: 0 };
const CONN: Conn = Conn(1);
const HEAD_TIMEOUT: Duration = Duration::from_secs(3);

fn at(millis: u64) -> Time {
    Time::since_zero(Duration::from_millis(millis))
}

/// A core with one ready worker that nothing is left to do for.
fn core() -> Core {
    let crew = Footprint { slots: 1, draining: 1, pipes: false };
    let config = CoreConfig {
        head_timeout: HEAD_TIMEOUT,
        most_connections: None,
        connections_of_one: None,
        seed: 0,
        watches: false,
        crew,
    };
    let route = RouteConfig {
        keys: "sid".parse().unwrap(),
        balance: Balance::LeastConnection,
        hash_seed: 0,
        workers: 1,
        max_sessions: 100,
        session_idle: Duration::from_secs(60),
        max_keys: 100,
        key_idle: Duration::from_secs(60),
        in_flight: 4,
        leeway: 1,
        max_open: None,
        stall_timeout: Duration::from_secs(5),
        all_listeners: true,
        mint: None,
    };
    let room = Capacity::new(100, crew);
    let fleet = Fleet::new(at(0), FleetConfig { workers: 1, ..FleetConfig::default() });
    let router = Router::new(at(0), route, room.queue_limits(), (1, 2), 3);
    let mut core = Core::new(config, fleet, router, room);
    core.handle(at(0), Input::Spawned(WORKER, Reports::Ends));
    core.handle(at(0), Input::Said(WORKER, Said::Ready));
    core.begin_turn(0);
    while core.advance(at(0)) {
        while core.poll_action(at(0)).is_some() {}
    }
    core
}

/// What is to be done after this has happened.
fn after(core: &mut Core, millis: u64, input: Input<'_>) -> Vec<Action> {
    core.handle(at(millis), input);
    std::iter::from_fn(|| core.poll_action(at(millis))).collect()
}

/// A connection whose first bytes are awaited.
fn awaited(core: &mut Core, arrived: Arrived) {
    let look = Action::Look { conn: CONN, look: Look::Whole };
    assert_eq!(after(core, 0, Input::Arrived(CONN, arrived)), [look]);
    let seen = Seen { bytes: b"GET /?s", ..Seen::default() };
    let wait = Action::Await { conn: CONN, seen: 7 };
    assert_eq!(after(core, 0, Input::Seen(CONN, seen)), [wait]);
}

fn late(core: &mut Core) -> Vec<Action> {
    let due = at(0) + HEAD_TIMEOUT;
    assert_eq!(core.poll_timeout(at(0)), Some(due));
    core.handle_timeout(due);
    std::iter::from_fn(|| core.poll_action(due)).collect()
}

#[test]
fn a_client_whose_head_is_late_is_closed() {
    let mut core = core();
    awaited(&mut core, Arrived::default());
    assert_eq!(late(&mut core), [Action::Close(CONN, Closing::Silent)]);
    assert_eq!(core.held(), 0);
}

#[test]
fn a_late_head_is_judged_where_the_server_may_speak_first_or_the_buffer_is_not_ours_to_see() {
    let mut local = core();
    awaited(&mut local, Arrived { is_unix: true, ..Arrived::default() });
    let look = Action::Look { conn: CONN, look: Look::Whole };
    assert_eq!(late(&mut local), std::slice::from_ref(&look));
    let mut core = core();
    let listener = ListenerId(7);
    core.handle(at(0), Input::Leads(listener, Some(First::Unknown)));
    awaited(&mut core, Arrived { listener: Some(listener), ..Arrived::default() });
    assert_eq!(late(&mut core), [look]);
    let seen = Seen { bytes: b"GET /?s", ..Seen::default() };
    let send = Action::Send { conn: CONN, worker: WORKER, reason: Reason::NoKey };
    assert_eq!(after(&mut core, 3_000, Input::Seen(CONN, seen)), [send]);
}

#[test]
fn a_preface_is_read_before_the_head_and_closes_a_client_without_one() {
    let prefaced = Arrived { is_prefaced: true, ..Arrived::default() };
    let mut core = core();
    let read = Action::ReadPreface { conn: CONN, last: false };
    assert_eq!(after(&mut core, 0, Input::Arrived(CONN, prefaced)), std::slice::from_ref(&read));
    let wait = Action::Await { conn: CONN, seen: 3 };
    assert_eq!(after(&mut core, 0, Input::Preface(CONN, Preface::Awaited(3))), [wait]);
    let readable = Input::Readable { conn: CONN, closed: false };
    assert_eq!(after(&mut core, 1, readable), [read]);
    let whole = Preface::Read { length: 20, client: None };
    let look = Action::Look { conn: CONN, look: Look::Whole };
    assert_eq!(after(&mut core, 1, Input::Preface(CONN, whole)), [look]);
    assert_eq!(after(&mut core, 1, Input::Gone(CONN)), []);
    core.handle(at(1), Input::Arrived(CONN, prefaced));
    core.handle(at(1), Input::Preface(CONN, Preface::Awaited(0)));
    while core.poll_action(at(1)).is_some() {}
    core.handle_timeout(at(1) + HEAD_TIMEOUT);
    let close = core.poll_action(at(1) + HEAD_TIMEOUT);
    assert_eq!(close, Some(Action::Close(CONN, Closing::NoPreface)));
}

#[test]
fn a_head_that_fills_its_socket_is_judged_as_it_is() {
    let mut core = core();
    awaited(&mut core, Arrived::default());
    let look = Action::Look { conn: CONN, look: Look::Whole };
    assert_eq!(after(&mut core, 1, Input::NoRoomForMore(CONN)), [look]);
    let seen = Seen { bytes: b"GET /?s", ..Seen::default() };
    let actions = after(&mut core, 1, Input::Seen(CONN, seen));
    assert!(matches!(actions[..], [Action::Send { conn: CONN, .. }]), "{actions:?}");
}

#[test]
fn what_the_kernel_has_no_room_for_waits_a_moment_and_goes_first() {
    let mut core = core();
    let look = |core: &mut Core, conn| {
        core.handle(at(0), Input::Arrived(conn, Arrived { is_read: true, ..Arrived::default() }));
        let seen = Seen { bytes: b"GET / HTTP/1.1\r\n\r\n", last: true, ..Seen::default() };
        _ = core.poll_action(at(0));
        after(core, 0, Input::Seen(conn, seen))
    };
    let send = |conn| Action::Send { conn, worker: WORKER, reason: Reason::NoKey };
    assert_eq!(look(&mut core, CONN), [send(CONN)]);
    let queue = [Action::Queue(CONN)];
    assert_eq!(after(&mut core, 0, Input::NotSent(CONN, NotSent::NoRoom)), queue);
    core.begin_turn(0);
    while core.advance(at(1)) {}
    assert_eq!(core.poll_action(at(1)), None, "it waits");
    assert_eq!(core.poll_timeout(at(1)), Some(at(0) + BLOCKED));
    core.begin_turn(0);
    assert!(core.advance(at(10)));
    assert_eq!(core.poll_action(at(10)), Some(send(CONN)));
    assert_eq!(after(&mut core, 10, Input::Sent(CONN)), []);
    assert_eq!((core.held(), core.router().open()), (0, 1));
}

#[test]
fn one_that_is_given_back_again_and_again_is_closed() {
    let mut core = core();
    core.handle(at(0), Input::Arrived(CONN, Arrived::default()));
    while core.poll_action(at(0)).is_some() {}
    core.handle(at(0), Input::Gone(CONN));
    for nth in 2.. {
        let conn = Conn(nth);
        let how = How::NotServed(Returned::Back(WORKER), Some(7));
        core.handle(at(0), Input::Returned(conn, Arrived::default(), how));
        core.begin_turn(0);
        assert!(core.advance(at(0)));
        match core.poll_action(at(0)) {
            Some(Action::Look { .. }) => core.handle(at(0), Input::Gone(conn)),
            closed => {
                assert_eq!(closed, Some(Action::Close(conn, Closing::Said)));
                return assert_eq!(nth, 66);
            }
        }
        while core.poll_action(at(0)).is_some() {}
    }
}
