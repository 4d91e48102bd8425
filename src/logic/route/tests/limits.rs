//! Workers that may have so many connections open, and limits that change.

use super::*;

fn world(keys: &str, balance: Balance, most_open: u32) -> World {
    World::with(keys, balance, 2, |config| config.max_open = Some(most_open))
}

#[test]
fn a_full_worker_is_passed_over_and_connections_wait_when_all_are_full() {
    for balance in [Balance::LeastConnection, Balance::RoundRobin, Balance::Random] {
        let mut world = world("none", balance, 3);
        for _ in 0..6 {
            world.give("/");
            world.everybody_picks_up();
        }
        assert_eq!(world.arrive("/"), Verdict::Queued, "{balance:?}");
        assert_eq!(world.next(), None);
        // It waits for the end of a connection; no look and no time changes that.
        assert!(!world.router.is_watched(worker(0)) && world.router.full().is_empty());
        world.pass(STALL);
        assert_eq!(world.router.poll_stalled(world.now), None);
        assert_eq!(world.router.poll_timeout(world.now), None);
        world.router.closed(worker(1), 1);
        assert_eq!(world.next(), Some((7, 1, Reason::NoKey)), "{balance:?}");
        assert_eq!(world.router.open(), 6);
    }
}

#[test]
fn clients_of_a_full_worker_wait_for_it_and_others_do_not() {
    let mut world = world("sid", Balance::LeastConnection, 2);
    world.router.announce(world.now, worker(0), b"abc").unwrap();
    for _ in 0..2 {
        world.give("/?sid=abc");
        world.everybody_picks_up();
    }
    assert_eq!(world.arrive("/?sid=abc"), Verdict::Queued);
    assert_eq!(world.give("/"), (1, Reason::NoKey));
    assert_eq!(world.next(), None);
    world.router.closed(worker(0), 1);
    assert_eq!(world.next(), Some((3, 0, Reason::OwnedKey)));
}

#[test]
fn other_limits_hold_at_once() {
    let mut world = world("sid", Balance::RoundRobin, 1);
    world.give("/");
    world.give("/");
    assert_eq!(world.arrive("/"), Verdict::Queued);
    let config = RouteConfig {
        max_open: None,
        balance: Balance::Hash,
        keys: "query:user".parse().unwrap(),
        in_flight: 1,
        workers: 99,
        ..world.router.config.clone()
    };
    world.router.reconfigure(config, QUEUES);
    assert_eq!(world.router.pool.slots(), 2);
    assert_eq!(world.next(), None, "there is one in flight to each");
    world.everybody_picks_up();
    assert!(world.next().is_some());
    world.everybody_picks_up();
    let (slot, reason) = world.give("/?user=ann");
    assert_eq!(reason, Reason::OwnedKey);
    world.everybody_picks_up();
    assert_eq!(world.give("/?user=ann"), (slot, Reason::OwnedKey));
}

#[test]
fn a_segment_with_too_many_keys_loses_them_as_new_ones_come() {
    let mut world = World::with("sid", Balance::RoundRobin, 1, |config| config.max_sessions = 100);
    let announce = |world: &mut World, numbers: std::ops::Range<u32>| {
        for number in numbers {
            world.router.announce(world.now, worker(0), format!("{number}").as_bytes()).unwrap();
        }
    };
    announce(&mut world, 0..100);
    let config = RouteConfig { max_sessions: 10, ..world.router.config.clone() };
    world.router.reconfigure(config, QUEUES);
    announce(&mut world, 100..200);
    for number in 0..200 {
        let (_, reason) = world.give(&format!("/?sid={number}"));
        assert_eq!(reason == Reason::OwnedKey, number >= 190, "{number}");
        world.everybody_picks_up();
    }
}
