//! Workers that serve some listeners, and ids that they mint.

use super::*;
use crate::logic::route::mint::MintKey;

const WEB: ListenerId = ListenerId(0);
const ADMIN: ListenerId = ListenerId(1);

/// Two workers with listeners of their own.
fn world(keys: &str, balance: Balance) -> World {
    World::with(keys, balance, 2, |config| config.all_listeners = false)
}

fn slot(verdict: Verdict) -> Option<u16> {
    match verdict {
        Verdict::Send(give) => Some(give.worker.slot),
        Verdict::Queued => None,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_connection_goes_only_to_a_worker_that_serves_its_listener() {
    let mut world = world("none", Balance::RoundRobin);
    world.router.add_listener(worker(0), WEB);
    world.router.add_listener(worker(1), WEB);
    world.router.add_listener(worker(1), ADMIN);
    assert_eq!(slot(world.arrive_at(ADMIN, "/", None)), Some(1));
    assert_eq!(slot(world.arrive_at(ADMIN, "/", None)), Some(1));
    assert_eq!(slot(world.arrive_at(WEB, "/", None)), Some(0));
    assert_eq!(slot(world.arrive_at(WEB, "/", None)), Some(1));
}

#[test]
fn who_waits_at_a_listener_that_nobody_serves_keeps_nobody_else_waiting() {
    let mut world = world("none", Balance::RoundRobin);
    world.router.add_listener(worker(0), WEB);
    assert_eq!(slot(world.arrive_at(ADMIN, "/", None)), None);
    assert_eq!(slot(world.arrive_at(WEB, "/", None)), Some(0));
    assert_eq!(world.next(), None);
    world.router.add_listener(worker(1), ADMIN);
    assert_eq!(world.next(), Some((1, 1, Reason::NoKey)));
    assert_eq!(world.router.queue_len(), 0);
}

#[test]
fn who_waits_for_a_worker_that_leaves_the_listener_finds_another() {
    let mut world = world("sid", Balance::RoundRobin);
    for slot in 0..2 {
        world.router.add_listener(worker(slot), WEB);
    }
    world.router.announce(world.now, worker(0), b"abc").unwrap();
    for _ in 0..4 {
        assert_eq!(slot(world.arrive_at(WEB, "/?sid=abc", None)), Some(0));
    }
    assert_eq!(slot(world.arrive_at(WEB, "/?sid=abc", None)), None);
    world.router.remove_listener(worker(0), WEB);
    assert_eq!(world.next(), Some((5, 1, Reason::OwnerGone)));
}

#[test]
fn the_slot_of_a_hashed_key_is_one_that_serves_the_listener() {
    let mut world = world("query:user", Balance::Hash);
    world.router.add_listener(worker(1), ADMIN);
    for user in 0..4 {
        assert_eq!(slot(world.arrive_at(ADMIN, &format!("/?user={user}"), None)), Some(1));
    }
}

#[test]
fn a_key_that_lives_elsewhere_visits_a_listener_and_stays_where_it_lives() {
    let mut world = world("query:user", Balance::RoundRobin);
    world.router.add_listener(worker(0), WEB);
    world.router.add_listener(worker(1), ADMIN);
    assert_eq!(slot(world.arrive_at(WEB, "/?user=a", None)), Some(0));
    assert_eq!(slot(world.arrive_at(ADMIN, "/?user=a", None)), Some(1));
    world.router.add_listener(worker(1), WEB);
    for _ in 0..2 {
        assert_eq!(slot(world.arrive_at(WEB, "/?user=a", None)), Some(0));
    }
}

#[test]
fn a_minted_id_needs_no_announcement_and_dies_with_its_worker() {
    let mut world = World::with("sid", Balance::RoundRobin, 2, |config| {
        config.mint = Some(MintKey([7; 32]));
    });
    // The id is of incarnation 291, see the tests of `mint`.
    let minter = (0..=291).map(|number| {
        let worker = Worker { slot: 1, generation: number };
        world.router.remove(world.now, worker);
        assert_eq!(world.router.incarnate(worker), Some(u16::try_from(number).unwrap()));
        worker
    });
    let minter = minter.last().unwrap();
    world.router.remove(world.now, worker(1));
    world.router.ready(world.now, minter);
    let path = "/?EIO=4&sid=0123456789abcdeBIxN6";
    for _ in 0..2 {
        assert_eq!(world.give(path), (1, Reason::OwnedKey));
    }
    let back = world.arrive_at(WEB, path, Some(Returned::Back(minter)));
    assert_eq!(slot(back), Some(0));
    assert_eq!(world.router.announce(world.now, minter, b"0123456789abcdeBIxN6"), Ok(()));
    world.router.remove(world.now, minter);
    assert_eq!(world.give(path), (0, Reason::OwnerGone));
}
