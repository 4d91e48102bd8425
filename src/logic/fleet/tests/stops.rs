//! Stops.

use super::*;

#[test]
fn a_stop_waits_for_connections_then_ends_all() {
    let mut world = World::ready(2, 25_000);
    let (first, second) = (worker(0, 0), worker(1, 0));
    world.handle(Input::Open(0));
    let drain = [Action::CloseListeners, Action::Drain(first), Action::Drain(second)];
    assert_eq!(world.handle(Input::Stop), drain);
    assert_eq!(world.pass(10_000), []);
    assert_eq!(world.handle(Input::Open(2)), []);
    assert_eq!(world.handle(Input::Exited(first, CODE_0)), [Action::RemoveBackend(first)]);
    assert_eq!(world.pass(5_000), []);
    assert_eq!(world.handle(Input::Open(1)), []);
    let end = [Action::RemoveBackend(second), Action::Terminate(second)];
    assert_eq!(world.handle(Input::Open(0)), end);
    let finish = [Action::Finish(Outcome::Stopped)];
    assert_eq!(world.handle(Input::Exited(second, CODE_0)), finish);
    assert_eq!(world.fleet.poll_timeout(), None);
    let grace = Duration::from_secs(25);
    assert_eq!(world.events, [Event::Stopping { grace }, Event::Waiting { open: 2 }]);
}

#[test]
fn a_stop_ends_at_its_deadline_whatever_the_workers_do() {
    let mut world = World::ready(1, 25_000);
    let stuck = worker(0, 0);
    world.handle(Input::Stop);
    assert_eq!(world.pass(19_999), []);
    assert_eq!(world.pass(1), [Action::RemoveBackend(stuck), Action::Terminate(stuck)]);
    assert_eq!(world.pass(4_999), []);
    assert_eq!(world.pass(1), [Action::Kill(stuck)]);
    assert_eq!(world.pass(1_999), []);
    assert_eq!(world.pass(1), [Action::Finish(Outcome::Stopped)]);
    assert_eq!(world.events.last(), Some(&Event::LeftBehind { worker: stuck }));
    assert_eq!(world.handle(Input::Exited(stuck, KILLED)), []);
}

#[test]
fn a_second_stop_ends_fast_and_a_third_kills() {
    let only = worker(0, 0);
    let mut world = World::ready(1, 25_000);
    world.handle(Input::Stop);
    world.pass(500);
    let end = [Action::RemoveBackend(only), Action::Terminate(only)];
    assert_eq!(world.handle(Input::Stop), end);
    assert_eq!(world.pass(999), []);
    assert_eq!(world.pass(1), [Action::Kill(only)]);

    let mut world = World::ready(1, 25_000);
    world.handle(Input::Stop);
    world.pass(500);
    world.handle(Input::Stop);
    world.pass(500);
    assert_eq!(world.handle(Input::Stop), [Action::Kill(only)]);
    world.pass(500);
    assert_eq!(world.handle(Input::Stop), []);
    assert_eq!(world.pass(1_500), [Action::Finish(Outcome::Stopped)]);

    // The second one is never later than the deadline.
    let mut world = World::ready(1, 25_000);
    world.handle(Input::Stop);
    world.pass(24_500);
    assert_eq!(world.handle(Input::Stop), []);
    assert_eq!(world.pass(500), [Action::Kill(only)]);
}

#[test]
fn stops_within_half_a_second_are_one_in_every_phase() {
    let only = worker(0, 0);
    let mut world = World::ready(1, 25_000);
    world.handle(Input::Stop);
    for _ in 0..4 {
        world.pass(99);
        assert_eq!(world.handle(Input::Stop), []);
        assert_eq!(world.events.last(), Some(&Event::DuplicateStop));
    }
    // Counted from the first, so that a key held down is a fast stop after a while.
    world.pass(104);
    assert_eq!(world.handle(Input::Stop), [Action::RemoveBackend(only), Action::Terminate(only)]);
    world.pass(499);
    assert_eq!(world.handle(Input::Stop), []);
    world.pass(1);
    assert_eq!(world.handle(Input::Stop), [Action::Kill(only)]);

    let mut world = World::new(1, 25_000);
    for generation in 0..5 {
        world.actions();
        world.fail(worker(0, generation));
        world.pass(2_000);
    }
    world.handle(Input::Stop);
    let before = format!("{:?}", world.fleet);
    world.handle(Input::Stop);
    assert_eq!(format!("{:?}", world.fleet), before);
}

#[test]
fn a_stop_meets_workers_in_every_state_of_their_start() {
    let mut world = World::new(5, 25_000);
    let [ready, spawning, booting, resting, late] = [0, 1, 2, 3, 4].map(|slot| worker(slot, 0));
    world.actions();
    world.handle(Input::Ready(ready));
    world.handle(Input::Spawned(late));
    world.pass(59_000);
    world.handle(Input::Spawned(booting));
    world.pass(1_000);
    world.fail(resting);
    let drain = [
        Action::CloseListeners,
        Action::Drain(ready),
        Action::RemoveBackend(booting),
        Action::Terminate(booting),
    ];
    assert_eq!(world.handle(Input::Stop), drain);
    let end = [Action::RemoveBackend(spawning), Action::Terminate(spawning)];
    assert_eq!(world.handle(Input::Spawned(spawning)), end);
    assert_eq!(world.pass(5_000), [Action::Kill(late)]);
    assert_eq!(world.handle(Input::Ready(booting)), []);
    for ended in [late, booting, spawning] {
        assert_eq!(world.handle(Input::Exited(ended, KILLED)), []);
    }
    let finish = [Action::RemoveBackend(ready), Action::Finish(Outcome::Stopped)];
    assert_eq!(world.handle(Input::Exited(ready, CODE_0)), finish);
}

#[test]
fn a_stop_with_nothing_running_finishes_at_once() {
    let finish = [Action::CloseListeners, Action::Finish(Outcome::Stopped)];
    // The spawns that nobody has fetched are taken back.
    assert_eq!(World::new(3, 25_000).handle(Input::Stop), finish);
    let mut world = World::ready(1, 25_000);
    world.handle(Input::Exited(worker(0, 0), CODE_0));
    assert_eq!(world.handle(Input::Stop), finish);
}

#[test]
fn a_grace_of_zero_kills_at_once_and_catches_late_births() {
    let (ready, spawning) = (worker(0, 0), worker(1, 0));
    let mut world = World::new(2, 0);
    world.actions();
    world.handle(Input::Spawned(ready));
    world.handle(Input::Ready(ready));
    assert_eq!(world.handle(Input::Stop), [Action::CloseListeners, Action::Drain(ready)]);
    let kill = [Action::RemoveBackend(ready), Action::Terminate(ready), Action::Kill(ready)];
    assert_eq!(world.pass(0), kill);
    let late = [Action::RemoveBackend(spawning), Action::Kill(spawning)];
    assert_eq!(world.handle(Input::Spawned(spawning)), late);
    assert_eq!(world.handle(Input::Exited(spawning, KILLED)), []);
    let finish = [Action::Finish(Outcome::Stopped)];
    assert_eq!(world.handle(Input::Exited(ready, KILLED)), finish);
}

/// Workers that end by themselves, as Node does.
fn of_node(workers: u16) -> World {
    World::ready_with(FleetConfig { workers, exits_when_drained: true, ..config() })
}

fn closed(worker: Worker, at_once: bool) -> [Action; 2] {
    [Action::RemoveBackend(worker), Action::RequestExit { worker, at_once }]
}

#[test]
fn a_stop_leaves_the_end_to_workers_that_end_by_themselves_and_term_to_its_handlers() {
    let mut world = of_node(4);
    let [handles, leaves, exits, stuck] = [0, 1, 2, 3].map(|slot| worker(slot, 0));
    assert_eq!(world.handle(Input::HandlesTerm(handles)), [], "nobody has asked");
    world.handle(Input::Stop);
    let term = [Action::RemoveBackend(handles), Action::Terminate(handles)];
    assert_eq!(world.handle(Input::HandlesTerm(handles)), term);
    // Its handlers still run when its last connection has ended.
    assert_eq!(world.handle(Input::Leaving(leaves)), [Action::RemoveBackend(leaves)]);
    assert_eq!(world.handle(Input::Open(0)), []);
    assert_eq!(world.pass(4_999), []);
    assert_eq!(world.pass(1), [Action::Terminate(leaves)]);
    assert_eq!(world.handle(Input::Exited(leaves, CODE_0)), []);
    assert_eq!(world.pass(14_999), [], "the other two have connections");
    let mut close = closed(exits, true).to_vec();
    close.extend(closed(stuck, true));
    assert_eq!(world.pass(1), close);
    assert_eq!(world.handle(Input::Exited(exits, CODE_0)), []);
    assert_eq!(world.pass(999), []);
    assert_eq!(world.pass(1), [Action::Terminate(stuck)]);
    assert_eq!(world.pass(4_000), [Action::Kill(handles), Action::Kill(stuck)]);
}

#[test]
fn a_drained_worker_is_asked_to_end_and_gets_term_if_it_handles_it_or_hears_nothing() {
    for (at_once, time) in [(false, 5_000), (true, 1_000)] {
        for handles in [false, true] {
            let mut world = of_node(1);
            let (old, new) = (worker(0, 0), worker(0, 1));
            world.handle(Input::Restart);
            world.boot(new);
            let close =
                if at_once { world.pass(30_000) } else { world.handle(Input::Drained(old)) };
            assert_eq!(close, closed(old, at_once));
            let term = if handles {
                world.handle(Input::HandlesTerm(old))
            } else {
                assert_eq!(world.pass(time - 1), []);
                world.pass(1)
            };
            assert_eq!(term, [Action::Terminate(old)]);
            let before = if handles { 0 } else { time };
            assert_eq!(world.pass(24_999 - before), []);
            assert_eq!(world.pass(1), [Action::Kill(old)]);
            assert_eq!(world.line(), "worker 0 did not exit in time: sending KILL");
            world.handle(Input::Exited(old, KILLED));
            let lines: Vec<_> = world.events.iter().rev().take(2).map(Event::to_string).collect();
            assert_eq!(lines[1], "previous worker 0 exited (signal 9)");
            assert_eq!(
                lines[0],
                "restart complete: all previous workers have exited, 1 worker took over"
            );
        }
    }
}
