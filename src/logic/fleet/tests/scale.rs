//! More slots and fewer.

use super::*;

#[test]
fn a_slot_more_starts_and_a_slot_less_drains() {
    let mut world = World::ready(2, 25_000);
    let (last, again) = (worker(2, 0), worker(2, 1));
    assert_eq!(world.handle(Input::More), [Action::Resized(3), Action::Spawn(last)]);
    assert_eq!(world.line(), "workers from now on: 3");
    assert_eq!(world.boot(last), [Action::Place(last)]);
    assert_eq!(world.handle(Input::Fewer), [Action::Withdraw(last), Action::Resized(2)]);
    assert!(world.fleet.is_ready(last) && !world.fleet.is_present(last));
    // It comes back as another generation while the old one still drains.
    assert_eq!(world.handle(Input::More), [Action::Resized(3), Action::Spawn(again)]);
    assert_eq!(world.boot(again), [Action::Place(again)]);
    let gone = [Action::Retire(last), Action::Terminate(last)];
    assert_eq!(world.handle(Input::Drained(last)), gone);
    assert_eq!(world.fleet.size(), 3);
}

#[test]
fn a_slot_that_is_taken_away_starts_nothing_more() {
    let mut world = World::new(4, 25_000);
    let [first, booting, resting] = [0, 2, 3].map(|slot| worker(slot, 0));
    world.actions();
    world.handle(Input::Spawned(first));
    world.handle(Input::Ready(first));
    world.fail(resting);
    assert_eq!(world.handle(Input::Fewer), [Action::Resized(3)]);
    world.handle(Input::Spawned(booting));
    let end = [Action::Retire(booting), Action::Terminate(booting), Action::Resized(2)];
    assert_eq!(world.handle(Input::Fewer), end);
    // The last one is asked for, but nobody has said yet that it exists.
    let spawning = worker(1, 0);
    assert_eq!(world.handle(Input::Fewer), [Action::Resized(1)]);
    let end = [Action::Retire(spawning), Action::Terminate(spawning)];
    assert_eq!(world.handle(Input::Spawned(spawning)), end);
    assert_eq!(world.handle(Input::Ready(booting)), []);
    assert_eq!(world.pass(5_000), [Action::Kill(spawning), Action::Kill(booting)]);
    assert_eq!(world.pass(60_000), []);
}

#[test]
fn there_is_a_least_and_a_most() {
    let mut world = World::ready(1, 25_000);
    assert_eq!(world.handle(Input::Fewer), []);
    assert_eq!(world.line(), "workers: still 1, from 1 to 1024 are possible");
    let mut world = World::ready(MOST_WORKERS, 25_000);
    assert_eq!(world.handle(Input::More), []);
    assert_eq!(world.line(), "workers: still 1024, from 1 to 1024 are possible");
}

#[test]
fn the_number_outlives_a_restart_and_a_configuration_that_says_the_same() {
    let mut world = World::ready(2, 25_000);
    world.handle(Input::More);
    world.boot(worker(2, 0));
    world.fleet.reconfigure(world.now, FleetConfig { workers: 2, ..config() });
    assert_eq!(world.actions(), []);
    world.handle(Input::Restart);
    assert_eq!(world.fleet.size(), 3);
    world.fleet.reconfigure(world.now, FleetConfig { workers: 5, ..config() });
    let mut wanted = Vec::new();
    for slot in 3..5 {
        wanted.extend([Action::Resized(slot + 1), Action::Spawn(worker(slot, 0))]);
    }
    assert_eq!(world.actions(), wanted);
    world.fleet.reconfigure(world.now, FleetConfig { workers: 4, ..config() });
    assert_eq!(world.actions(), [Action::Resized(4)]);
}

#[test]
fn a_slot_is_taken_away_in_the_middle_of_its_turn() {
    let mut world = World::ready(2, 25_000);
    world.handle(Input::Restart);
    world.boot(worker(0, 1));
    world.handle(Input::Spawned(worker(1, 1)));
    let wanted = [
        Action::Retire(worker(1, 1)),
        Action::Terminate(worker(1, 1)),
        Action::Withdraw(worker(1, 0)),
        Action::Resized(1),
    ];
    assert_eq!(world.handle(Input::Fewer), wanted);
    assert_eq!(world.line(), "restarted workers: 1");
}
