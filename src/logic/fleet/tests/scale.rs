//! More slots and fewer.

use super::*;

#[test]
fn a_slot_more_starts_and_a_slot_less_drains() {
    let mut world = World::ready(2, 25_000);
    let (last, again) = (worker(2, 0), worker(2, 1));
    assert_eq!(world.handle(Input::More), [Action::Resized(3), Action::Spawn(last)]);
    assert_eq!(world.line(), "scaled to 3 workers");
    assert_eq!(world.boot(last), [Action::AddBackend(last)]);
    assert_eq!(world.handle(Input::Fewer), [Action::DrainBackend(last), Action::Resized(2)]);
    assert!(world.fleet.is_ready(last) && !world.fleet.is_current(last));
    // It comes back as another generation while the old one still drains.
    assert_eq!(world.handle(Input::More), [Action::Resized(3), Action::Spawn(again)]);
    assert_eq!(world.boot(again), [Action::AddBackend(again)]);
    let gone = [Action::RemoveBackend(last), Action::Terminate(last)];
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
    let end = [Action::RemoveBackend(booting), Action::Terminate(booting), Action::Resized(2)];
    assert_eq!(world.handle(Input::Fewer), end);
    // The last one is asked for, but nobody has said yet that it exists.
    let spawning = worker(1, 0);
    assert_eq!(world.handle(Input::Fewer), [Action::Resized(1)]);
    let end = [Action::RemoveBackend(spawning), Action::Terminate(spawning)];
    assert_eq!(world.handle(Input::Spawned(spawning)), end);
    assert_eq!(world.handle(Input::Ready(booting)), []);
    assert_eq!(world.pass(5_000), [Action::Kill(spawning), Action::Kill(booting)]);
    assert_eq!(world.pass(60_000), []);
}

#[test]
fn there_is_a_least_and_a_most() {
    let mut world = World::ready(1, 25_000);
    assert_eq!(world.handle(Input::Fewer), []);
    assert_eq!(world.line(), "not scaled: still 1 worker, from 1 to 1024 are possible");
    let mut world = World::ready(MAX_WORKERS, 25_000);
    assert_eq!(world.handle(Input::More), []);
    assert_eq!(world.line(), "not scaled: still 1024 workers, from 1 to 1024 are possible");
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
    // It rolls.
    assert_eq!((world.actions(), world.fleet.target_size()), (vec![], 4));
    let mut still = World::ready(2, 25_000);
    still.fleet.reconfigure(still.now, FleetConfig { workers: 1, ..config() });
    assert_eq!(still.actions(), [Action::DrainBackend(worker(1, 0)), Action::Resized(1)]);
}

#[test]
fn a_slot_is_taken_away_in_the_middle_of_its_turn() {
    let mut world = World::ready(2, 25_000);
    world.handle(Input::Restart);
    world.boot(worker(0, 1));
    world.handle(Input::Spawned(worker(1, 1)));
    let wanted = [
        Action::RemoveBackend(worker(1, 1)),
        Action::Terminate(worker(1, 1)),
        Action::DrainBackend(worker(1, 0)),
        Action::Resized(1),
    ];
    assert_eq!(world.handle(Input::Fewer), wanted);
    assert_eq!(world.line(), "restarted 1 worker");
}

/// The configuration of the fleet with so many slots.
fn with_workers(workers: u16) -> FleetConfig {
    FleetConfig { workers, ..config() }
}

impl World {
    /// HUP with a configuration of so many slots.
    fn restart_with(&mut self, workers: u16) -> Vec<Action> {
        self.fleet.restart_with(self.now, with_workers(workers));
        self.actions()
    }
}

/// What it takes to take this slot away, whose worker is ready.
fn removed(worker: Worker) -> [Action; 2] {
    [Action::DrainBackend(worker), Action::Resized(worker.slot)]
}

#[test]
fn a_restart_with_fewer_slots_takes_them_away_when_those_that_stay_are_new() {
    let mut world = World::ready(4, 25_000);
    assert_eq!(world.restart_with(2), [Action::Spawn(worker(0, 1))]);
    assert_eq!(world.line(), "restarting 2 workers");
    assert_eq!((world.fleet.size(), world.fleet.target_size()), (4, 2));
    world.boot(worker(0, 1));
    world.handle(Input::Spawned(worker(1, 1)));
    let mut wanted = vec![Action::AddBackend(worker(1, 1)), Action::DrainBackend(worker(1, 0))];
    wanted.extend(removed(worker(3, 0)));
    wanted.extend(removed(worker(2, 0)));
    assert_eq!(world.handle(Input::Ready(worker(1, 1))), wanted);
    assert!(world.events.contains(&Replacing::Restarted { workers: 2 }.into()));
    assert_eq!((world.fleet.size(), world.fleet.is_rolling()), (2, false));
    // More again are as new as any other.
    assert_eq!(world.restart_with(3)[..2], [Action::Resized(3), Action::Spawn(worker(2, 1))]);
}

#[test]
fn slots_that_a_restart_adds_are_started_once() {
    let mut world = World::ready(1, 25_000);
    let mut wanted = Vec::new();
    for slot in 1..3 {
        wanted.extend([Action::Resized(slot + 1), Action::Spawn(worker(slot, 0))]);
    }
    assert_eq!(world.restart_with(3), wanted);
    assert_eq!(world.boot(worker(1, 0)), [Action::AddBackend(worker(1, 0))]);
    let wanted = [Action::AddBackend(worker(2, 0)), Action::Spawn(worker(0, 1))];
    assert_eq!(world.boot(worker(2, 0)), wanted);
    world.boot(worker(0, 1));
    assert_eq!((world.line().as_str(), world.fleet.is_rolling()), ("restarted 3 workers", false));
    // One that fails is no reason to wait.
    assert_eq!(world.restart_with(4), [Action::Resized(4), Action::Spawn(worker(3, 0))]);
    assert_eq!(world.fail(worker(3, 0))[1], Action::Spawn(worker(0, 2)));
}

#[test]
fn a_restart_with_fewer_slots_that_fails_takes_nothing_away() {
    let mut world = World::ready(4, 25_000);
    world.restart_with(1);
    assert_eq!(world.fail(worker(0, 1)), [Action::RemoveBackend(worker(0, 1))]);
    assert!(world.line().contains("still running as before: 4 workers"), "{}", world.line());
    for slot in 0..4 {
        assert!(world.fleet.is_current(worker(slot, 0)));
    }
    // That of before holds again, which changes nothing.
    world.fleet.reconfigure(world.now, with_workers(4));
    assert_eq!(world.actions(), []);
    // The same again, with a command that was mended.
    assert_eq!(world.restart_with(1), [Action::Spawn(worker(0, 2))]);
    let removed: Vec<_> = [3, 2, 1].into_iter().flat_map(|slot| removed(worker(slot, 0))).collect();
    assert_eq!(world.boot(worker(0, 2))[2..], removed);
}

#[test]
fn a_restart_that_fails_leaves_as_many_slots_as_there_were_and_not_as_were_configured() {
    for (wanted, added) in [(1, 0), (6, 2)] {
        let mut world = World::ready(3, 25_000);
        world.handle(Input::More);
        world.boot(worker(3, 0));
        world.restart_with(wanted);
        for slot in 4..4 + added {
            world.boot(worker(slot, 0));
        }
        world.fail(worker(0, 1));
        assert_eq!((world.fleet.size(), world.fleet.target_size()), (4, 4));
        // That of before holds again, which changes nothing.
        world.fleet.reconfigure(world.now, with_workers(3));
        assert_eq!((world.actions(), world.fleet.size()), (vec![], 4));
        for slot in 0..4 {
            assert!(world.fleet.is_current(worker(slot, 0)));
        }
        // And the same is wanted again.
        world.restart_with(wanted);
        assert_eq!(world.fleet.target_size(), wanted);
    }
}

#[test]
fn a_slot_that_goes_shows_whether_new_workers_do_if_no_other_can() {
    for fails in [true, false] {
        let mut world = World::ready(2, 25_000);
        world.handle(Input::Exited(worker(0, 0), CODE_0));
        assert_eq!(world.restart_with(1), [Action::Spawn(worker(0, 1))]);
        let wanted = [Action::RemoveBackend(worker(0, 1)), Action::Spawn(worker(1, 1))];
        assert_eq!(world.fail(worker(0, 1)), wanted);
        if fails {
            world.fail(worker(1, 1));
            assert!(world.line().contains("still running as before: 1 worker"), "{}", world.line());
            assert!(world.fleet.is_current(worker(1, 0)));
        } else {
            world.boot(worker(1, 1));
            assert_eq!(world.line(), "scaled to 1 worker");
            assert!(!world.fleet.is_current(worker(1, 1)));
        }
    }
}

#[test]
fn without_any_ready_worker_slots_go_at_once() {
    let mut world = World::new(3, 25_000);
    world.actions();
    world.fail(worker(0, 0));
    assert_eq!(world.restart_with(1), [Action::Spawn(worker(0, 1))]);
    let wanted = [Action::RemoveBackend(worker(0, 1)), Action::Resized(2), Action::Resized(1)];
    assert_eq!(world.fail(worker(0, 1)), wanted);
}

#[test]
fn how_many_slots_stay_can_change_while_the_restart_rolls() {
    let begin = || {
        let mut world = World::ready(4, 25_000);
        world.restart_with(2);
        world
    };
    let mut world = begin();
    assert_eq!(world.handle(Input::Fewer), []);
    assert_eq!(world.line(), "scaling to 1 worker when the restart is done");
    assert_eq!(world.handle(Input::Fewer), []);
    assert_eq!(world.line(), "not scaled: still 1 worker, from 1 to 1024 are possible");
    assert_eq!(world.boot(worker(0, 1)).len(), 2 + 3 * 2);
    let mut world = begin();
    world.handle(Input::More);
    assert_eq!(world.line(), "scaling to 3 workers when the restart is done");
    assert_eq!(world.handle(Input::More), []);
    assert_eq!(world.line(), "scaled to 4 workers");
    assert_eq!(world.handle(Input::More), [Action::Resized(5), Action::Spawn(worker(4, 0))]);
    // Nothing goes, and all are new in the end.
    for slot in 0..4 {
        world.boot(worker(slot, 1));
    }
    assert_eq!(world.line(), "restarted 4 workers");
    // Another restart meanwhile.
    let mut world = begin();
    world.handle(Input::Spawned(worker(0, 1)));
    assert_eq!(world.restart_with(2).last(), Some(&Action::Spawn(worker(0, 2))));
    assert_eq!(world.fleet.target_size(), 2);
    world.restart_with(4);
    assert_eq!(
        (world.fleet.target_size(), world.line().as_str()),
        (4, "restarting 4 workers from the beginning")
    );
    // Another program goes on with it, with another configuration.
    let mut world = begin();
    let text = serde_json::to_string(&world.fleet).unwrap();
    world.fleet = serde_json::from_str(&text).unwrap();
    world.fleet.reconfigure(world.now, with_workers(1));
    assert_eq!((world.actions(), world.fleet.target_size()), (vec![], 1));
    assert_eq!(world.boot(worker(0, 1)).len(), 2 + 3 * 2);
    // A stop is a stop.
    let mut world = begin();
    world.handle(Input::Stop);
    assert_eq!(world.fleet.target_size(), 4);
}
