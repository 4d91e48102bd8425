//! Who gets a connection that may go anywhere.

use super::*;

#[test]
fn least_connection_levels_open_connections_and_breaks_ties_in_turn() {
    let mut world = World::new("none", Balance::LeastConnection, 4);
    let mut slots = Vec::new();
    for _ in 0..8 {
        slots.push(world.give("/").0);
        world.everybody_picks_up();
    }
    assert_eq!(slots, [0, 1, 2, 3, 0, 1, 2, 3]);
    assert!(world.router.closed(worker(2), 2));
    assert_eq!((world.give("/").0, world.give("/").0, world.give("/").0), (2, 2, 3));
    assert!(!world.router.closed(worker(0), 100));
}

#[test]
fn a_fresh_worker_is_not_flooded_and_catches_up_with_time() {
    let mut world = World::new("none", Balance::LeastConnection, 2);
    for _ in 0..40 {
        world.give("/");
        world.everybody_picks_up();
    }
    world.router.remove(world.now, worker(1));
    let fresh = Worker { slot: 1, generation: 1 };
    world.router.ready(world.now, fresh);
    let share = |world: &mut World| {
        let mut count = 0;
        for _ in 0..20 {
            count += world.give("/").0;
            world.picks_up(0);
            world.router.note_unread(world.now, fresh, 0);
        }
        count
    };
    assert_eq!(share(&mut world), 10);
    world.pass(Duration::from_secs(10));
    assert!(share(&mut world) >= 15);
}

#[test]
fn a_full_worker_is_passed_over_and_connections_wait_only_when_all_are_full() {
    let mut world = World::new("none", Balance::RoundRobin, 2);
    for _ in 0..8 {
        assert!(matches!(world.arrive("/"), Verdict::Send(_)));
    }
    assert_eq!(world.arrive("/"), Verdict::Queued);
    assert_eq!(world.next(), None);
    assert!(world.router.is_watched(worker(0)) && world.router.is_watched(worker(1)));
    world.router.note_unread(world.now, worker(1), 3);
    assert_eq!(world.next(), Some((9, 1, Reason::NoKey)));
    assert_eq!(world.router.queue_len(), 0);
}

#[test]
fn a_burst_is_level_at_its_end_whichever_worker_picked_up_first() {
    for (slow, burst) in (0..4).flat_map(|slow| (1..64).map(move |burst| (slow, burst))) {
        let mut world =
            World::with("none", Balance::LeastConnection, 4, |config| config.in_flight = 8);
        let mut counts = [0; 4];
        for _ in 0..burst {
            match world.arrive("/") {
                Verdict::Send(give) => counts[usize::from(give.worker.slot)] += 1,
                verdict => assert_eq!(verdict, Verdict::Queued),
            }
        }
        while world.router.queue_len() > 0 {
            for quick in (0..4).filter(|slot| *slot != slow) {
                world.picks_up(quick);
            }
            while let Some((_, slot, _)) = world.next() {
                counts[usize::from(slot)] += 1;
            }
            world.picks_up(slow);
        }
        let most = counts.iter().max().unwrap();
        assert!(counts.iter().all(|count| most - count <= 2), "{slow} is slow: {counts:?}");
    }
}
