//! Starts, and workers that end by themselves.

use super::*;

#[test]
fn a_start_spawns_every_slot_and_then_sleeps() {
    let mut world = World::new(2, 1_000);
    let (first, second) = (worker(0, 0), worker(1, 0));
    assert_eq!(world.actions(), [Action::Spawn(first), Action::Spawn(second)]);
    for worker in [first, second] {
        assert_eq!(world.handle(Input::Spawned(worker)), []);
        assert!(!world.fleet.is_ready(worker));
        assert_eq!(world.handle(Input::Ready(worker)), [Action::Place(worker)]);
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
    assert_eq!(world.handle(Input::Exited(old, KILLED)), [Action::Retire(old)]);
    assert!(!world.fleet.is_ready(old));
    assert_eq!(world.events[0], Event::Ended { worker: old, exit: KILLED });
    assert_eq!(world.pass(79), []);
    assert_eq!(world.pass(41), [Action::Spawn(new)]);
}

#[test]
fn a_worker_that_leaves_gets_nothing_more_and_its_successor_comes_when_it_is_gone() {
    let mut world = World::ready(1, 1_000);
    let (old, new) = (worker(0, 0), worker(0, 1));
    assert_eq!(world.handle(Input::Leaving(old)), [Action::Retire(old)]);
    assert!(!world.fleet.is_ready(old));
    assert_eq!(world.pass(9_999), []);
    assert_eq!(world.handle(Input::Exited(old, CODE_0)), []);
    assert_eq!(world.events[0], Event::Ended { worker: old, exit: CODE_0 });
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
    assert_eq!(world.events[2], Event::Ended { worker: old, exit: KILLED });
    assert_eq!(world.pass(120), [Action::Spawn(new)]);
}

#[test]
fn what_is_said_of_others_than_the_present_worker_changes_nothing() {
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
    assert_eq!(world.pass(1), [Action::Retire(late), Action::Terminate(late)]);
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
    let mut world = World::new(2, 1_000);
    world.actions();
    world.handle(Input::Spawned(worker(0, 0)));
    world.handle(Input::Spawned(worker(1, 0)));
    world.now = world.now + Duration::from_secs(300);
    assert_eq!(world.handle(Input::Ready(worker(0, 0))), [Action::Place(worker(0, 0))]);
    assert_eq!(world.handle(Input::Ready(worker(1, 0))), [Action::Place(worker(1, 0))]);
    assert_eq!(world.pass(1_000), []);
}

#[test]
fn it_gives_up_when_no_worker_was_ever_ready() {
    let mut world = World::new(2, 25_000);
    world.actions();
    world.handle(Input::Spawned(worker(1, 0)));
    for generation in 0..4 {
        assert_eq!(world.fail(worker(0, generation)), [Action::Retire(worker(0, generation))]);
        assert_eq!(world.pass(2_000), [Action::Spawn(worker(0, generation + 1))]);
    }
    let other = worker(1, 0);
    let last = [
        Action::Retire(worker(0, 4)),
        Action::CloseListeners,
        Action::Retire(other),
        Action::Terminate(other),
    ];
    assert_eq!(world.fail(worker(0, 4)), last);
    assert_eq!(world.events.last(), Some(&Event::GaveUp { worker: worker(0, 4), failed: 5 }));
    assert!(world.fleet.is_stopping());
    assert_eq!(world.handle(Input::Ready(other)), []);
    assert_eq!(world.handle(Input::Stop), []);
    assert_eq!(world.pass(999), []);
    assert_eq!(world.pass(1), [Action::Kill(other)]);
    let finish = [Action::Finish(Outcome::NeverReady)];
    assert_eq!(world.handle(Input::Exited(other, KILLED)), finish);
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
            assert_eq!(world.fail(next), [Action::Retire(next)]);
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
