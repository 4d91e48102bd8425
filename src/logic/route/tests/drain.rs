//! Workers that are draining while others take their slots.

use super::*;
use crate::logic::route::mint::MintKey;

const BALANCES: [Balance; 4] =
    [Balance::LeastConnection, Balance::RoundRobin, Balance::Random, Balance::Hash];
const KEY_IDLE: Duration = Duration::from_secs(3_600);

fn successor(slot: u16) -> Worker {
    Worker { slot, generation: 1 }
}

impl World {
    /// The successor of a slot is ready, and its predecessor is draining.
    fn succeed(&mut self, slot: u16) {
        self.router.ready(self.now, successor(slot));
        self.router.drain(self.now, worker(slot));
    }

    fn all_pick_up(&mut self) {
        for slot in 0..self.router.pool.slots() {
            self.picks_up(slot);
            self.router.note_unread(self.now, successor(slot), 0);
        }
    }

    /// Who gets this one at once.
    #[track_caller]
    fn goes(&mut self, path: &str) -> (Worker, Reason) {
        match self.arrive(path) {
            Verdict::Send(give) => (give.worker, give.reason),
            other => panic!("{path}: {other:?}"),
        }
    }

    fn is_drained(&mut self, worker: Worker) -> bool {
        self.router.is_drained(self.now, worker)
    }
}

#[test]
fn a_draining_worker_gets_its_own_keys_and_its_successor_all_new_ones() {
    for balance in BALANCES {
        let mut world = World::new("sid", balance, 1);
        world.router.announce(world.now, worker(0), b"old").unwrap();
        world.succeed(0);
        world.router.announce(world.now, worker(0), b"late").unwrap();
        for _ in 0..6 {
            assert_eq!(world.goes("/?sid=old"), (worker(0), Reason::OwnedKey), "{balance:?}");
            assert_eq!(world.goes("/?sid=late"), (worker(0), Reason::OwnedKey), "{balance:?}");
            assert_eq!(world.goes("/"), (successor(0), Reason::NoKey), "{balance:?}");
            let back = world.route("/", Some(Returned::Back(successor(0))));
            assert!(matches!(back, Verdict::Send(give) if give.worker == successor(0)));
            world.all_pick_up();
        }
        assert_eq!(world.router.draining().collect::<Vec<_>>(), [worker(0)]);
    }
}

#[test]
fn without_a_successor_new_keys_go_to_other_slots() {
    for balance in BALANCES {
        let mut world = World::new("query:user", balance, 2);
        world.router.drain(world.now, worker(0));
        for user in 0..20 {
            assert_eq!(world.goes(&format!("/?user={user}")).0, worker(1), "{balance:?}");
            world.everybody_picks_up();
        }
        assert!(world.is_drained(worker(0)) && !world.is_drained(worker(1)));
    }
}

#[test]
fn who_becomes_ready_beside_another_takes_its_place_and_gives_it_back() {
    let mut world = World::new("sid", Balance::RoundRobin, 1);
    world.router.ready(world.now, successor(0));
    assert_eq!(world.goes("/").0, successor(0));
    world.router.ready(world.now, worker(0));
    assert_eq!(world.goes("/").0, worker(0));
    assert_eq!(world.router.draining().collect::<Vec<_>>(), [successor(0)]);
    assert_eq!(world.router.open(), 2);
}

#[test]
fn a_presented_key_stays_on_a_draining_worker_until_it_is_unused() {
    let mut world = World::new("query:user", Balance::RoundRobin, 1);
    assert_eq!(world.goes("/?user=ann").0, worker(0));
    world.succeed(0);
    world.pass(KEY_IDLE);
    assert_eq!(world.goes("/?user=ann"), (worker(0), Reason::OwnedKey));
    world.picks_up(0);
    world.router.closed(worker(0), 2);
    world.pass(KEY_IDLE);
    assert!(!world.is_drained(worker(0)));
    assert_eq!(world.router.poll_stalled(world.now), None);
    // The loop has to wake up for it, or a drain without a deadline would never end.
    let end = world.router.poll_timeout(world.now).expect("an idle key may end the drain");
    assert_eq!(end - world.now, Duration::from_secs(1));
    world.now = end;
    assert!(world.is_drained(worker(0)));
    assert_eq!(world.router.poll_timeout(world.now), None);
    assert_eq!(world.goes("/?user=ann"), (successor(0), Reason::NewKey));
}

#[test]
fn a_hashed_key_moves_to_the_successor_of_its_slot_and_an_announced_one_stays() {
    let mut world = World::new("query:user", Balance::Hash, 3);
    let (slot, _) = world.give("/?user=ann");
    world.router.announce(world.now, worker(slot), b"bob").unwrap();
    world.succeed(slot);
    assert_eq!(world.goes("/?user=ann").0, successor(slot));
    assert_eq!(world.goes("/?user=bob").0, worker(slot));
}

#[test]
fn a_worker_is_drained_when_nothing_of_it_is_left() {
    let mut world = World::new("sid", Balance::RoundRobin, 1);
    world.router.announce(world.now, worker(0), b"abc").unwrap();
    world.goes("/?sid=abc");
    assert!(!world.is_drained(worker(0)), "it is present");
    world.succeed(0);
    world.router.closed(worker(0), 1);
    assert!(!world.is_drained(worker(0)), "something is on its way");
    world.picks_up(0);
    assert!(!world.is_drained(worker(0)), "a key is left");
    world.goes("/?sid=abc");
    world.picks_up(0);
    world.router.forget(world.now, worker(0), b"abc");
    assert!(!world.is_drained(worker(0)), "a connection is open");
    world.router.closed(worker(0), 1);
    assert!(world.is_drained(worker(0)));
    assert!(!world.is_drained(successor(0)), "it is present");
    world.router.remove(world.now, worker(0));
    assert!(!world.is_drained(worker(0)), "it is not there");
    assert_eq!(world.router.draining().next(), None);
}

#[test]
fn who_waits_for_a_draining_worker_goes_on_waiting_for_it_and_is_saved_when_it_dies() {
    let mut world = World::new("sid", Balance::RoundRobin, 1);
    world.router.announce(world.now, worker(0), b"abc").unwrap();
    for _ in 0..4 {
        world.goes("/?sid=abc");
    }
    for _ in 0..3 {
        assert_eq!(world.arrive("/?sid=abc"), Verdict::Queued);
    }
    world.succeed(0);
    assert!(world.router.is_watched(worker(0)) && world.router.full().contains(&worker(0)));
    assert_eq!(world.next(), None);
    world.router.note_unread(world.now, worker(0), 3);
    let (conn, give) = world.router.next(world.now).unwrap();
    assert_eq!((conn, give.worker, give.reason), (Conn(5), worker(0), Reason::OwnedKey));
    world.router.remove(world.now, worker(0));
    let next: Vec<_> = std::iter::from_fn(|| world.router.next(world.now)).collect();
    assert!(next.iter().all(|(_, give)| give.worker == successor(0)));
    assert_eq!(next.len(), 2);
    assert_eq!(world.router.open(), 2);
}

#[test]
fn a_draining_worker_that_stops_reading_is_noticed() {
    let mut world = World::new("sid", Balance::RoundRobin, 1);
    world.router.announce(world.now, worker(0), b"abc").unwrap();
    world.succeed(0);
    world.goes("/?sid=abc");
    world.pass(STALL);
    assert_eq!(world.router.poll_stalled(world.now), Some(worker(0)));
    assert_eq!(world.router.note_unread(world.now, worker(0), 1), Health::Stalled);
    assert_eq!(world.router.take_back(world.now, worker(0), 1, 0), [InFlight::Owned]);
    assert!(world.router.is_stalled(worker(0)) && !world.router.is_stalled(successor(0)));
}

#[test]
fn two_workers_of_a_slot_mint_and_the_old_one_says_when_its_sessions_are_over() {
    let mut world = World::with("sid", Balance::RoundRobin, 1, |config| {
        config.mint = Some(MintKey([7; 32]));
    });
    // The id is of incarnation 291, see the tests of `mint`.
    let path = "/?EIO=4&sid=0123456789abcdeBIxN6";
    let incarnate = |world: &mut World, generation| {
        let worker = Worker { slot: 0, generation };
        (worker, world.router.incarnate(worker))
    };
    for generation in 0..291 {
        incarnate(&mut world, generation);
    }
    let (old, incarnation) = incarnate(&mut world, 291);
    assert_eq!(incarnation, Some(291));
    world.router.ready(world.now, old);
    world.router.remove(world.now, worker(0));
    let (new, _) = incarnate(&mut world, 292);
    world.router.ready(world.now, new);
    world.router.drain(world.now, old);
    assert_eq!(world.goes(path), (old, Reason::OwnedKey));
    assert_eq!(world.goes("/").0, new);
    world.router.note_unread(world.now, old, 0);
    world.router.closed(old, 1);
    assert!(!world.is_drained(old));
    world.router.sessions_over(old);
    assert!(world.is_drained(old));
    // Whoever comes to it may begin something there, and it says so.
    world.goes(path);
    assert!(!world.is_drained(old));
    world.router.note_unread(world.now, old, 0);
    world.router.sessions_resumed(old);
    world.router.closed(old, 1);
    assert!(!world.is_drained(old));
    world.router.sessions_over(old);
    assert!(world.is_drained(old));
    // Or it does not.
    world.goes(path);
    world.router.note_unread(world.now, old, 0);
    world.router.closed(old, 1);
    assert!(world.is_drained(old));
}

#[test]
fn a_successor_is_neither_flooded_nor_starved_while_all_are_replaced() {
    let mut world = World::new("none", Balance::LeastConnection, 4);
    for _ in 0..400 {
        world.give("/");
        world.everybody_picks_up();
    }
    let mut given = [0_u32; 4];
    for slot in 0..4 {
        world.succeed(slot);
        for _ in 0..40 {
            let (worker, _) = world.goes("/");
            given[usize::from(worker.slot)] += u32::from(worker == successor(worker.slot));
            world.all_pick_up();
        }
        world.pass(Duration::from_millis(500));
    }
    // In all 25 each of the first 100, and 40 of the last; those that came first have a little more.
    assert!(given.iter().all(|given| (10..=70).contains(given)), "{given:?}");
    world.pass(Duration::from_secs(10));
    for _ in 0..160 {
        let (worker, _) = world.goes("/");
        given[usize::from(worker.slot)] += 1;
        world.all_pick_up();
    }
    let (least, most) = (given.iter().min().unwrap(), given.iter().max().unwrap());
    assert!(most - least <= 1, "{given:?}");
}

#[test]
fn workers_of_slots_that_are_no_more_drain_and_new_slots_take_their_share() {
    for balance in BALANCES {
        let mut world = World::new("sid", balance, 4);
        for slot in 0..4_u16 {
            world.router.announce(world.now, worker(slot), &slot.to_string().into_bytes()).unwrap();
        }
        world.router.resize(world.now, 2);
        assert_eq!(world.router.draining().collect::<Vec<_>>(), [worker(2), worker(3)]);
        for number in 0..100 {
            assert!(world.goes(&format!("/?sid=new-{number}")).0.slot < 2, "{balance:?}");
            world.all_pick_up();
        }
        for slot in 0..4 {
            assert_eq!(world.goes(&format!("/?sid={slot}")).0, worker(slot));
        }
        world.router.resize(world.now, 6);
        for slot in 2..6 {
            world.router.ready(world.now, successor(slot));
            let key = format!("late-{slot}");
            world.router.announce(world.now, successor(slot), key.as_bytes()).unwrap();
        }
        world.pass(Duration::from_secs(20));
        let mut got = [0; 6];
        for number in 0..300 {
            got[usize::from(world.goes(&format!("/?sid=newer-{number}")).0.slot)] += 1;
            world.all_pick_up();
        }
        assert!(got.iter().all(|got| *got > 0), "{balance:?}: {got:?}");
        for slot in 2..6 {
            assert_eq!(world.goes(&format!("/?sid=late-{slot}")).0, successor(slot));
        }
        for slot in 0..4 {
            assert_eq!(world.goes(&format!("/?sid={slot}")).0, worker(slot));
        }
    }
}

#[test]
fn a_draining_worker_leaves_its_listeners_by_itself() {
    let mut world =
        World::with("sid", Balance::RoundRobin, 1, |config| config.all_listeners = false);
    let listener = ListenerId(1);
    world.router.add_listener(worker(0), listener);
    world.router.announce(world.now, worker(0), b"abc").unwrap();
    world.succeed(0);
    assert_eq!(world.arrive_at(listener, "/", None), Verdict::Queued);
    let own = world.arrive_at(listener, "/?sid=abc", None);
    assert!(matches!(own, Verdict::Send(give) if give.worker == worker(0)));
    world.router.add_listener(successor(0), listener);
    assert_eq!(world.next(), Some((1, 0, Reason::NoKey)));
    world.router.remove_listener(worker(0), listener);
    let moved = world.arrive_at(listener, "/?sid=abc", None);
    assert!(matches!(moved, Verdict::Send(give) if give.worker == successor(0)));
}
