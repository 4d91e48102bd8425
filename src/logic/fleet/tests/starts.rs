//! Starts, and workers that end by themselves.

use super::*;

#[test]
fn a_start_spawns_one_worker_then_all_others_and_then_sleeps() {
    let mut world = World::new(3, 1_000);
    let [first, second, third] = [0, 1, 2].map(|slot| worker(slot, 0));
    assert_eq!(world.actions(), [Action::Spawn(first)]);
    let others = [Action::AddBackend(first), Action::Spawn(second), Action::Spawn(third)];
    for (worker, expected) in [
        (first, &others[..]),
        (third, &[Action::AddBackend(third)]),
        (second, &[Action::AddBackend(second)]),
    ] {
        assert_eq!(world.handle(Input::Spawned(worker)), []);
        assert!(!world.fleet.is_ready(worker));
        assert_eq!(world.handle(Input::Ready(worker)), expected);
        assert!(world.fleet.is_ready(worker));
        assert_eq!(world.handle(Input::Ready(worker)), []);
    }
    assert_eq!(world.fleet.poll_timeout(), None);
    assert_eq!(world.events, []);
}

#[test]
fn a_killed_worker_is_back_within_120_ms_as_the_next_generation() {
    let mut world = World::ready(2, 1_000);
    let (old, new) = (worker(1, 0), worker(1, 1));
    assert_eq!(world.handle(Input::Exited(old, KILLED)), [Action::RemoveBackend(old)]);
    assert!(!world.fleet.is_ready(old));
    assert_eq!(world.events[0], Event::Exited { worker: old, exit: KILLED });
    assert_eq!(world.pass(79), []);
    assert_eq!(world.pass(41), [Action::Spawn(new)]);
}

#[test]
fn a_worker_that_leaves_gets_nothing_more_and_its_successor_comes_when_it_is_gone() {
    let mut world = World::ready(1, 1_000);
    let (old, new) = (worker(0, 0), worker(0, 1));
    assert_eq!(world.handle(Input::Leaving(old)), [Action::RemoveBackend(old)]);
    assert!(!world.fleet.is_ready(old));
    assert_eq!(world.pass(9_999), []);
    assert_eq!(world.handle(Input::Exited(old, CODE_0)), []);
    assert_eq!(world.events[0], Event::Exited { worker: old, exit: CODE_0 });
    assert_eq!(world.pass(120), [Action::Spawn(new)]);
}

#[test]
fn a_worker_that_leaves_and_does_not_go_is_ended_and_not_counted_as_a_failed_start() {
    let mut world = World::ready(1, 1_000);
    let (old, new) = (worker(0, 0), worker(0, 1));
    world.handle(Input::Leaving(old));
    assert_eq!(world.pass(10_000), [Action::Terminate(old)]);
    assert_eq!(world.pass(5_000), [Action::Kill(old)]);
    world.handle(Input::Exited(old, KILLED));
    assert_eq!(world.events[2], Event::Exited { worker: old, exit: KILLED });
    assert_eq!(world.pass(120), [Action::Spawn(new)]);
}

#[test]
fn what_is_said_of_others_than_the_current_worker_changes_nothing() {
    let mut world = World::ready(1, 1_000);
    world.handle(Input::Exited(worker(0, 0), CODE_0));
    world.pass(120);
    let before = format!("{:?}", world.fleet);
    for stranger in [worker(0, 0), worker(0, 2), worker(1, 0), worker(u16::MAX, 1)] {
        assert_eq!(world.handle(Input::Spawned(stranger)), []);
        assert_eq!(world.handle(Input::SpawnFailed(stranger)), []);
        assert_eq!(world.handle(Input::Ready(stranger)), []);
        assert_eq!(world.handle(Input::Exited(stranger, CODE_0)), []);
    }
    assert_eq!(world.handle(Input::Open(3)), []);
    world.fleet.handle_timeout(world.now);
    world.fleet.handle_timeout(Time::default());
    assert_eq!(format!("{:?}", world.fleet), before);
}

#[test]
fn a_worker_that_is_late_gets_term_then_kill_and_counts_as_failed() {
    let mut world = World::new(1, 1_000);
    let late = worker(0, 0);
    world.actions();
    world.handle(Input::Spawned(late));
    assert_eq!(world.pass(59_999), []);
    assert_eq!(world.pass(1), [Action::RemoveBackend(late), Action::Terminate(late)]);
    assert_eq!(world.events, [Event::BootTimeout { worker: late, had: Duration::from_secs(60) }]);
    assert_eq!(world.handle(Input::Ready(late)), []);
    assert_eq!(world.pass(4_999), []);
    assert_eq!(world.pass(1), [Action::Kill(late)]);
    assert_eq!(world.pass(60_000), []);
    assert_eq!(world.handle(Input::Exited(late, KILLED)), []);
    let why = FailedStart::NotInTime;
    let failed = Event::FailedStart { worker: late, why, failed: 1, allowed: Some(5) };
    assert_eq!(world.events[1], Event::KillTimeout { worker: late });
    assert_eq!(world.events[2], failed);
    assert_eq!(world.pass(120), [Action::Spawn(worker(0, 1))]);
}

#[test]
fn a_ready_that_waited_for_a_late_supervisor_is_in_time() {
    let mut world = World::new(1, 1_000);
    world.actions();
    world.handle(Input::Spawned(worker(0, 0)));
    world.now = world.now + Duration::from_secs(300);
    assert_eq!(world.handle(Input::Ready(worker(0, 0))), [Action::AddBackend(worker(0, 0))]);
    assert_eq!(world.pass(1_000), []);
}

#[test]
fn it_gives_up_when_no_worker_was_ever_ready() {
    let mut world = World::new(4, 25_000);
    assert_eq!(world.actions(), [Action::Spawn(worker(0, 0))]);
    // The fault may be that of a slot alone, so each one has its try.
    let tries = [(0, 0), (1, 0), (2, 0), (3, 0), (0, 1)].map(|(slot, number)| worker(slot, number));
    for (failed, next) in tries.into_iter().zip(&tries[1..]) {
        assert_eq!(world.fail(failed), [Action::RemoveBackend(failed)]);
        assert_eq!(world.pass(1_000), [Action::Spawn(*next)]);
    }
    let last = [
        Action::RemoveBackend(worker(0, 1)),
        Action::CloseListeners,
        Action::Finish(Outcome::NeverReady),
    ];
    assert_eq!(world.fail(worker(0, 1)), last);
    let why = FailedStart::Exited(Exit::Code(1));
    assert_eq!(world.events.last(), Some(&Event::GaveUp { why, failed: 5 }));
    assert!(world.fleet.is_stopping());
}

#[test]
fn one_slot_that_cannot_start_keeps_no_other_from_starting() {
    let mut world = World::new(3, 25_000);
    world.actions();
    world.fail(worker(0, 0));
    assert_eq!(world.pass(120), [Action::Spawn(worker(1, 0))]);
    let others = [Action::Spawn(worker(0, 1)), Action::Spawn(worker(2, 0))];
    let expected = [&[Action::AddBackend(worker(1, 0))], &others[..]].concat();
    assert_eq!(world.handle(Input::Ready(worker(1, 0))), expected);
    for generation in 1..9 {
        assert_eq!(
            world.fail(worker(0, generation)),
            [Action::RemoveBackend(worker(0, generation))]
        );
        assert_eq!(world.pass(20_000), [Action::Spawn(worker(0, generation + 1))]);
    }
}

#[test]
fn whatever_is_asked_for_one_slot_alone_tries_until_a_worker_has_been_ready() {
    let mut world = World::new(2, 25_000);
    world.actions();
    world.fail(worker(0, 0));
    assert_eq!(world.handle(Input::More), [Action::Resized(3)]);
    assert_eq!(world.handle(Input::Fewer), [Action::Resized(2)]);
    assert_eq!(world.pass(120), [Action::Spawn(worker(1, 0))]);
    world.handle(Input::Spawned(worker(1, 0)));
    let ended = [Action::RemoveBackend(worker(1, 0)), Action::Terminate(worker(1, 0))];
    let expected = [&ended[..], &[Action::Resized(1), Action::Spawn(worker(0, 1))]].concat();
    assert_eq!(world.handle(Input::Fewer), expected, "somebody has to try");
    assert_eq!(world.handle(Input::More), [Action::Resized(2)]);
    world.fail(worker(0, 1));
    // Somebody has mended something, so there is no rest.
    assert_eq!(world.handle(Input::Restart), [Action::Spawn(worker(0, 2))]);
    let expected = [Action::AddBackend(worker(0, 2)), Action::Spawn(worker(1, 1))];
    assert_eq!(world.handle(Input::Ready(worker(0, 2))), expected);
    // One that was ready once is no reason to wait any more.
    world.handle(Input::Exited(worker(0, 2), KILLED));
    assert_eq!(world.handle(Input::More), [Action::Resized(3), Action::Spawn(worker(2, 0))]);
}

#[test]
fn a_process_that_never_came_to_be_is_a_failed_start_too() {
    let mut world = World::new(1, 25_000);
    for generation in 0..5 {
        assert_eq!(world.actions(), [Action::Spawn(worker(0, generation))]);
        world.fleet.handle(world.now, Input::SpawnFailed(worker(0, generation)));
        world.now = world.now + Duration::from_secs(2);
        world.fleet.handle_timeout(world.now);
    }
    let finish = [Action::CloseListeners, Action::Finish(Outcome::NeverReady)];
    assert_eq!(world.actions(), finish);
}

#[test]
fn it_never_gives_up_once_a_worker_was_ready_but_slows_down() {
    let mut world = World::ready(2, 25_000);
    world.handle(Input::Exited(worker(0, 0), CODE_0));
    let mut spawned = 0;
    for _ in 0..60_000 {
        for action in world.pass(1) {
            let Action::Spawn(next) = action else { panic!("{action:?}") };
            spawned += 1;
            assert_eq!(world.fail(next), [Action::RemoveBackend(next)]);
        }
    }
    assert!((8..=11).contains(&spawned), "{spawned} starts in a minute");
    assert!(!world.fleet.is_stopping());
}

#[test]
fn failed_starts_are_counted_from_the_last_ready_worker() {
    let mut world = World::new(1, 25_000);
    world.actions();
    for (generation, expected) in [(0, 1), (1, 2), (3, 1)] {
        world.fail(worker(0, generation));
        let Some(Event::FailedStart { failed, .. }) = world.events.iter().rev().nth(1) else {
            panic!("{:?}", world.events)
        };
        assert_eq!(*failed, expected);
        assert_eq!(world.pass(2_000), [Action::Spawn(worker(0, generation + 1))]);
        if generation == 1 {
            world.handle(Input::Ready(worker(0, 2)));
            world.handle(Input::Exited(worker(0, 2), KILLED));
            world.pass(2_000);
        }
    }
}
