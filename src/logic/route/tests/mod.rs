//! The router's promises, one small story each.

mod balance;
mod drain;
mod examples;
mod limits;
mod listeners;
mod saved;

use std::time::Duration;

use super::*;

const STALL: Duration = Duration::from_secs(1);
const QUEUES: QueueLimits = QueueLimits { stalled: 3, reading: 5 };

/// A router, its clock and the connections it has seen.
struct World {
    router: Router,
    now: Time,
    next: u64,
}

impl World {
    fn new(keys: &str, balance: Balance, workers: u16) -> Self {
        Self::with(keys, balance, workers, |_| {})
    }

    fn with(
        keys: &str,
        balance: Balance,
        workers: u16,
        change: impl FnOnce(&mut RouteConfig),
    ) -> Self {
        let mut config = RouteConfig {
            keys: keys.parse().unwrap(),
            balance,
            hash_seed: 0,
            workers,
            max_sessions: 1_000,
            session_idle: Duration::from_secs(3_600),
            max_keys: 1_000,
            key_idle: Duration::from_secs(3_600),
            max_open: None,
            in_flight: 4,
            leeway: 1,
            stall_timeout: STALL,
            all_listeners: true,
            mint: None,
        };
        change(&mut config);
        // Late enough that nobody counts as fresh before a test says so.
        let now = Time::since_zero(Duration::from_secs(1_000));
        let mut world = Self { router: Router::new(now, config, QUEUES, (1, 2), 3), now, next: 0 };
        for slot in 0..workers {
            world.router.ready(now, worker(slot));
        }
        world.pass(Duration::from_secs(100));
        world
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
    }

    fn arrive(&mut self, path: &str) -> Verdict {
        self.route(path, None)
    }

    fn route(&mut self, path: &str, returned: Option<Returned>) -> Verdict {
        self.arrive_at(ListenerId(9), path, returned)
    }

    fn arrive_at(
        &mut self,
        listener: ListenerId,
        path: &str,
        returned: Option<Returned>,
    ) -> Verdict {
        self.arrive_with(listener, &format!("GET {path} HTTP/1.1\r\n\r\n"), returned)
    }

    fn arrive_with(
        &mut self,
        listener: ListenerId,
        bytes: &str,
        returned: Option<Returned>,
    ) -> Verdict {
        self.next += 1;
        let ip = Some("192.0.2.1".parse().unwrap());
        let conn = Conn(self.next);
        let arrival =
            Arrival { conn, listener, ip, bytes: bytes.as_bytes(), last: false, returned };
        match self.router.route(self.now, &arrival) {
            Verdict::LookAgain(candidate) => self.router.route_known(self.now, candidate),
            verdict => verdict,
        }
    }

    /// Routes a connection that is expected to go at once.
    #[track_caller]
    fn give(&mut self, path: &str) -> (u16, Reason) {
        match self.arrive(path) {
            Verdict::Send(give) => (give.worker.slot, give.reason),
            other => panic!("{path}: {other:?}"),
        }
    }

    /// The worker has picked up everything.
    fn picks_up(&mut self, slot: u16) -> Health {
        self.router.note_unread(self.now, worker(slot), 0)
    }

    fn everybody_picks_up(&mut self) {
        for slot in 0..self.router.config.workers {
            self.picks_up(slot);
        }
    }

    fn next(&mut self) -> Option<(u64, u16, Reason)> {
        let (conn, give) = self.router.next(self.now)?;
        Some((conn.0, give.worker.slot, give.reason))
    }
}

fn worker(slot: u16) -> Worker {
    Worker { slot, generation: 0 }
}

#[test]
fn an_announced_key_goes_to_its_worker_until_it_is_over() {
    let mut world = World::new("sid", Balance::RoundRobin, 3);
    world.router.announce(world.now, worker(2), b"abc").unwrap();
    for _ in 0..3 {
        assert_eq!(world.give("/?sid=abc"), (2, Reason::OwnedKey));
    }
    world.router.forget(world.now, worker(1), b"abc");
    assert_eq!(world.give("/?sid=abc"), (2, Reason::OwnedKey));
    world.everybody_picks_up();
    world.router.forget(world.now, worker(2), b"abc");
    assert_eq!(world.give("/?sid=abc"), (0, Reason::UnknownSid));
}

#[test]
fn an_unknown_key_is_asked_about_again_before_it_is_placed() {
    let mut world = World::new("sid", Balance::RoundRobin, 2);
    let bytes = b"GET /?sid=new HTTP/1.1\r\n";
    let listener = ListenerId::default();
    let arrival = Arrival { conn: Conn(1), listener, ip: None, bytes, last: false, returned: None };
    let verdict = world.router.route(world.now, &arrival);
    let Verdict::LookAgain(candidate) = verdict else { panic!("{verdict:?}") };
    world.router.announce(world.now, worker(1), b"new").unwrap();
    let verdict = world.router.route_known(world.now, candidate);
    assert!(matches!(verdict, Verdict::Send(Assignment { worker: Worker { slot: 1, .. }, .. })));
    // An address is never announced, so nothing is gained by a second look.
    let mut world = World::new("ip", Balance::RoundRobin, 2);
    let arrival = Arrival { ip: Some("::1".parse().unwrap()), ..arrival };
    assert!(matches!(world.router.route(world.now, &arrival), Verdict::Send(_)));
}

#[test]
fn a_key_of_another_live_worker_cannot_be_taken_but_that_of_a_dead_one_can() {
    let mut world = World::new("sid", Balance::RoundRobin, 2);
    world.router.announce(world.now, worker(0), b"abc").unwrap();
    let refused = world.router.announce(world.now, worker(1), b"abc");
    assert_eq!(refused, Err(OwnedByAnother(worker(0))));
    world.router.remove(world.now, worker(0));
    assert_eq!(world.give("/?sid=abc"), (1, Reason::OwnerGone));
    assert_eq!(world.router.announce(world.now, worker(1), b"abc"), Ok(()));
}

#[test]
fn a_presented_key_stays_where_it_was_placed_and_an_announcement_beats_that() {
    let mut world = World::new("query:user", Balance::RoundRobin, 3);
    assert_eq!(world.give("/?user=ann"), (0, Reason::NewKey));
    assert_eq!(world.give("/?user=bob"), (1, Reason::NewKey));
    assert_eq!(world.give("/?user=ann"), (0, Reason::OwnedKey));
    assert_eq!(world.give("/"), (2, Reason::NoKey));
    world.router.announce(world.now, worker(2), b"ann").unwrap();
    assert_eq!(world.give("/?user=ann"), (2, Reason::OwnedKey));
}

#[test]
fn a_generation_does_not_inherit_the_keys_of_the_one_before() {
    let mut world = World::new("sid", Balance::RoundRobin, 1);
    world.router.announce(world.now, worker(0), b"abc").unwrap();
    world.router.remove(world.now, worker(0));
    world.router.ready(world.now, Worker { slot: 0, generation: 1 });
    assert_eq!(world.give("/?sid=abc"), (0, Reason::OwnerGone));
}

#[test]
fn a_connection_of_a_full_owner_waits_for_it_and_for_no_other() {
    let mut world = World::new("sid", Balance::RoundRobin, 2);
    world.router.announce(world.now, worker(0), b"abc").unwrap();
    for _ in 0..4 {
        world.give("/?sid=abc");
    }
    for _ in 0..3 {
        assert_eq!(world.arrive("/?sid=abc"), Verdict::Queued);
    }
    // As long as the owner was just seen reading, even more may wait; they are few then.
    assert_eq!(world.arrive("/?sid=abc"), Verdict::Queued);
    world.pass(Duration::from_millis(50));
    assert!(matches!(world.arrive("/?sid=abc"), Verdict::Refuse(owner, _) if owner == worker(0)));
    assert_eq!(world.give("/"), (1, Reason::NoKey));
    assert_eq!(world.next(), None);
    world.picks_up(0);
    assert_eq!(world.next(), Some((5, 0, Reason::OwnedKey)));
    // Those behind are not overtaken by one that comes now.
    assert_eq!(world.arrive("/?sid=abc"), Verdict::Queued);
    assert_eq!(world.next(), Some((6, 0, Reason::OwnedKey)));
}

#[test]
fn those_who_waited_for_a_worker_that_is_gone_find_another_in_their_order() {
    let mut world = World::new("sid", Balance::RoundRobin, 2);
    world.router.announce(world.now, worker(0), b"abc").unwrap();
    for _ in 0..4 {
        world.give("/?sid=abc");
    }
    for _ in 0..3 {
        assert_eq!(world.arrive("/?sid=abc"), Verdict::Queued);
    }
    world.router.remove(world.now, worker(0));
    let next: Vec<_> = std::iter::from_fn(|| world.next()).collect();
    assert_eq!(next.first(), Some(&(5, 1, Reason::OwnerGone)));
    // The first one took the key with it, so the others belong to its worker by now.
    assert!(next[1..].iter().all(|(_, slot, reason)| (*slot, *reason) == (1, Reason::OwnedKey)));
    assert!(next.is_sorted_by_key(|next| next.0) && next.len() == 3, "{next:?}");
}

#[test]
fn a_new_key_that_waits_twice_goes_to_one_worker() {
    let mut world = World::new("query:user", Balance::RoundRobin, 2);
    for number in 0..8 {
        world.give(&format!("/?user={number}"));
    }
    assert_eq!(world.arrive("/?user=ann"), Verdict::Queued);
    assert_eq!(world.arrive("/?user=ann"), Verdict::Queued);
    world.everybody_picks_up();
    let (first, second) = (world.next().unwrap(), world.next().unwrap());
    assert_eq!((first.1, first.2), (0, Reason::NewKey));
    assert_eq!((second.1, second.2), (0, Reason::OwnedKey));
}

#[test]
fn a_worker_that_stopped_reading_loses_what_may_go_elsewhere_and_gets_nobody_new() {
    let mut world = World::new("sid", Balance::RoundRobin, 2);
    world.router.announce(world.now, worker(0), b"abc").unwrap();
    world.give("/");
    world.give("/?sid=abc");
    world.picks_up(1);
    world.router.note_unread(world.now, worker(0), 2);
    assert_eq!(world.router.poll_stalled(world.now), None);
    assert_eq!(world.router.poll_timeout(world.now), Some(world.now + STALL));
    world.pass(STALL);
    assert_eq!(world.router.poll_stalled(world.now), Some(worker(0)));
    assert_eq!(world.router.note_unread(world.now, worker(0), 2), Health::Stalled);
    let taken = world.router.take_back(world.now, worker(0), 2, 0);
    assert_eq!(taken, [InFlight::Movable, InFlight::Owned]);
    let moved = world.route("/", Some(Returned::Moved(worker(0))));
    assert!(matches!(
        moved,
        Verdict::Send(Assignment { reason: Reason::Moved, worker: Worker { slot: 1, .. }, .. })
    ));
    world.picks_up(1);
    world.router.note_sent(world.now, worker(0));
    assert_eq!(world.router.poll_stalled(world.now + STALL), None);
    assert_eq!(world.router.watched(), [worker(0)]);
    assert_eq!(world.give("/").0, 1);
    assert_eq!(world.give("/?sid=abc"), (0, Reason::OwnedKey));
    assert_eq!(world.picks_up(0), Health::Resumed);
    assert!(world.router.watched().is_empty() && !world.router.has_stalled());
    assert_eq!(world.give("/").0, 0);
}

#[test]
fn a_key_moves_with_its_first_connection_when_that_was_never_picked_up() {
    let mut world = World::new("query:user", Balance::RoundRobin, 2);
    assert_eq!(world.give("/?user=ann"), (0, Reason::NewKey));
    world.router.note_unread(world.now, worker(0), 1);
    world.pass(STALL);
    assert_eq!(world.router.note_unread(world.now, worker(0), 1), Health::Stalled);
    world.router.take_back(world.now, worker(0), 1, 0);
    world.route("/?user=ann", Some(Returned::Moved(worker(0))));
    assert_eq!(world.give("/?user=ann"), (1, Reason::OwnedKey));
}

#[test]
fn a_connection_given_back_goes_to_another_worker_if_there_is_one() {
    for balance in [Balance::RoundRobin, Balance::LeastConnection, Balance::Random, Balance::Hash] {
        let mut world = World::new("sid", balance, 2);
        world.router.announce(world.now, worker(0), b"abc").unwrap();
        let back = Some(Returned::Back(worker(0)));
        let verdict = world.route("/?sid=abc", back);
        let Verdict::Send(give) = verdict else { panic!("{verdict:?}") };
        assert_eq!(give.worker, worker(1), "{balance:?}");
        world.router.remove(world.now, worker(1));
        let verdict = world.route("/?sid=abc", back);
        assert!(matches!(verdict, Verdict::Send(give) if give.worker == worker(0)));
    }
}

#[test]
fn hash_needs_no_memory_and_moves_only_the_keys_of_a_slot_that_is_gone() {
    let slots = |world: &mut World| -> Vec<u16> {
        let mut slot = |user| {
            let slot = world.give(&format!("/?user={user}")).0;
            world.everybody_picks_up();
            slot
        };
        (0..200).map(&mut slot).collect()
    };
    let mut world = World::new("query:user", Balance::Hash, 8);
    let before = slots(&mut world);
    assert_eq!(slots(&mut World::new("query:user", Balance::Hash, 8)), before);
    world.router.remove(world.now, worker(3));
    for (before, after) in before.iter().zip(slots(&mut world)) {
        assert!(*before == after || *before == 3);
        assert_ne!(after, 3);
    }
    world.router.ready(world.now, worker(3));
    assert_eq!(slots(&mut world), before);
}

#[test]
fn what_the_kernel_had_no_room_for_waits_in_front() {
    let mut world = World::new("none", Balance::RoundRobin, 1);
    let Verdict::Send(give) = world.arrive("/") else { panic!("there is room") };
    world.router.not_sent(give);
    assert_eq!((world.router.open(), world.router.queue_len()), (0, 1));
    assert_eq!(world.arrive("/"), Verdict::Queued);
    assert_eq!(world.next(), Some((1, 0, Reason::NoKey)));
    assert_eq!(world.next(), Some((2, 0, Reason::NoKey)));
}

#[test]
fn made_up_keys_never_push_out_announced_ones() {
    let mut world = World::new("sid", Balance::RoundRobin, 2);
    world.router.announce(world.now, worker(1), b"abc").unwrap();
    for number in 0..3_000 {
        world.give(&format!("/?sid=made-up-{number}"));
        world.everybody_picks_up();
    }
    assert_eq!(world.give("/?sid=abc"), (1, Reason::OwnedKey));
}

#[test]
fn a_minted_id_is_the_same_key_wherever_it_stands_and_stays_somewhere_when_its_worker_is_gone() {
    // Of the first incarnation.
    const MINTED: &str = "0123456789abcdeAAE9n";
    for keys in ["sid", "query:sid", "header:io", "cookie:io"] {
        let mut world = World::with(keys, Balance::RoundRobin, 3, |config| {
            config.mint = Some(mint::MintKey([7; 32]));
        });
        assert_eq!(world.router.incarnate(worker(2)), Some(0));
        let give = |world: &mut World| {
            let head = format!(
                "GET /?sid={MINTED} HTTP/1.1\r\nIo: {MINTED}\r\nCookie: io={MINTED}\r\n\r\n"
            );
            world.everybody_picks_up();
            match world.arrive_with(ListenerId(9), &head, None) {
                Verdict::Send(give) => give.worker.slot,
                other => panic!("{keys}: {other:?}"),
            }
        };
        assert_eq!([(); 4].map(|()| give(&mut world)), [2; 4], "{keys}");
        // The announcement of an id that says so itself needs no memory.
        world.router.announce(world.now, worker(2), MINTED.as_bytes()).unwrap();
        assert_eq!(give(&mut world), 2, "{keys}");
        world.router.remove(world.now, worker(2));
        let after = give(&mut world);
        assert_eq!([(); 4].map(|()| give(&mut world)), [after; 4], "{keys}");
    }
}
