//! The watchdog.

use super::*;

const WATCHDOG: u64 = 8_000;

fn watched() -> FleetConfig {
    FleetConfig { watchdog: Some(Duration::from_millis(WATCHDOG)), ..config() }
}

/// Lets time go by for a worker that answers.
fn answer(world: &mut World, worker: Worker, times: u32) {
    for _ in 0..times {
        assert_eq!(world.pass(WATCHDOG / 2), [Action::Ping(worker)]);
        assert_eq!(world.handle(Input::Pong(worker)), []);
    }
}

#[test]
fn a_worker_that_answers_is_left_alone() {
    let mut world = World::with(watched());
    let only = worker(0, 0);
    world.actions();
    // Whoever boots is not asked.
    world.handle(Input::Spawned(only));
    assert_eq!(world.pass(50_000), []);
    let ready = world.handle(Input::Ready(only));
    assert_eq!(ready, [Action::AddBackend(only), Action::Ping(only)]);
    world.handle(Input::Pong(only));
    answer(&mut world, only, 20);
}

#[test]
fn a_blocked_worker_is_aborted_and_replaced_within_twice_the_time() {
    let mut world = World::ready_with(watched());
    let (old, new) = (worker(0, 0), worker(0, 1));
    world.handle(Input::Pong(old));
    answer(&mut world, old, 20);
    // It is blocked from here on.
    assert_eq!(world.pass(4_000), [Action::Ping(old)]);
    assert_eq!(world.pass(7_999), [Action::Ping(old)]);
    let wanted = [Action::RemoveBackend(old), Action::Abort(old), Action::Spawn(new)];
    assert_eq!(world.pass(1), wanted);
    assert!(
        world.events.contains(&Event::Hung { worker: old, had: Duration::from_millis(WATCHDOG) })
    );
    assert_eq!(world.handle(Input::Pong(old)), []);
    assert_eq!(world.boot(new), [Action::AddBackend(new), Action::Ping(new)]);
    world.handle(Input::Pong(new));
    assert_eq!(world.pass(2_000), [Action::Kill(old)]);
    assert_eq!(world.handle(Input::Exited(old, KILLED)), []);
    // The second time in a row, its slot rests first.
    world.pass(2_000);
    let hung = world.pass(8_000);
    assert_eq!(hung.last(), Some(&Action::Abort(new)));
    assert_eq!(world.pass(159), []);
    assert_eq!(world.pass(81), [Action::Spawn(worker(0, 2))]);
}

#[test]
fn nobody_is_judged_by_a_supervisor_that_was_late_itself() {
    let mut world = World::ready_with(watched());
    let only = worker(0, 0);
    world.now = world.now + Duration::from_secs(30);
    world.fleet.handle_timeout(world.now);
    assert_eq!(world.actions(), [Action::Ping(only)]);
    // From now on it has all of its time again.
    assert_eq!(world.pass(7_999), [Action::Ping(only)]);
    let mut answered = world.fleet.clone();
    assert_eq!(world.pass(1)[..2], [Action::RemoveBackend(only), Action::Abort(only)]);
    // What came in the meantime counts, although it is heard late.
    answered.handle(world.now, Input::Pong(only));
    answered.handle_timeout(world.now);
    assert!(answered.is_current(only));
}

#[test]
fn a_little_lateness_is_no_excuse() {
    let mut world = World::ready_with(watched());
    world.pass(7_000);
    world.now = world.now + Duration::from_millis(2_000);
    world.fleet.handle_timeout(world.now);
    assert!(world.actions().contains(&Action::Abort(worker(0, 0))));
}

#[test]
fn a_draining_worker_is_watched_and_not_replaced() {
    let config = FleetConfig { drain_timeout: None, ..watched() };
    let mut world = World::ready_with(config);
    let (old, new) = (worker(0, 0), worker(0, 1));
    world.handle(Input::Pong(old));
    world.handle(Input::Restart);
    world.boot(new);
    world.handle(Input::Pong(new));
    let mut actions = Vec::new();
    for _ in 0..3 {
        actions.extend(world.pass(4_000));
        world.handle(Input::Pong(new));
    }
    assert!(actions.contains(&Action::Abort(old)));
    assert!(!actions.iter().any(|action| matches!(action, Action::Spawn(_))));
    assert!(world.fleet.is_current(new));
}

#[test]
fn a_stop_or_a_configuration_without_it_ends_it() {
    let mut world = World::ready_with(watched());
    let mut reconfigured = world.fleet.clone();
    assert_eq!(world.handle(Input::Stop), [Action::CloseListeners, Action::Drain(worker(0, 0))]);
    assert_eq!(world.pass(19_999), []);
    reconfigured.reconfigure(world.now, config());
    assert_eq!(reconfigured.poll_timeout(), None);
    reconfigured.reconfigure(world.now, watched());
    assert_eq!(reconfigured.poll_action(), Some(Action::Ping(worker(0, 0))));
}
