//! Every signal in every state: what wins.

use super::*;

/// The states in which a signal can come, each of two slots.
const STATES: [&str; 6] = ["starting", "running", "rolling", "crash loop", "stopping", "giving up"];

/// A fleet in this state.
fn state(name: &str) -> World {
    match name {
        "starting" => {
            let mut world = World::new(2, 25_000);
            world.actions();
            world.handle(Input::Spawned(worker(0, 0)));
            world
        }
        "running" => World::ready(2, 25_000),
        "rolling" => {
            let mut world = World::ready(2, 25_000);
            world.handle(Input::Restart);
            world.handle(Input::Spawned(worker(0, 1)));
            world
        }
        "crash loop" => {
            let mut world = World::ready(2, 25_000);
            world.handle(Input::Exited(worker(0, 0), KILLED));
            world.handle(Input::Exited(worker(1, 0), KILLED));
            world
        }
        "stopping" => {
            let mut world = World::ready(2, 25_000);
            world.handle(Input::Stop);
            world.pass(500);
            world
        }
        "giving up" => {
            let mut world = World::new(2, 25_000);
            world.actions();
            // One that was ended and does not go.
            world.handle(Input::Spawned(worker(0, 0)));
            world.handle(Input::Restart);
            for (slot, generation) in [(0, 1), (1, 0), (0, 2), (1, 1), (0, 3)] {
                world.fail(worker(slot, generation));
                world.pass(1_000);
            }
            world
        }
        _ => panic!("no state {name}"),
    }
}

/// What a signal leads to in each of [`STATES`].
fn check(input: Input, wanted: [&[Action]; 6]) {
    for (name, wanted) in STATES.into_iter().zip(wanted) {
        assert_eq!(state(name).handle(input), wanted, "{input:?} while {name}");
    }
}

fn end(worker: Worker) -> [Action; 2] {
    [Action::RemoveBackend(worker), Action::Terminate(worker)]
}

#[test]
fn a_stop_wins_over_everything() {
    let [first, second] = [0, 1].map(|slot| worker(slot, 0));
    let drain = [Action::CloseListeners, Action::Drain(first), Action::Drain(second)];
    let mut starting = vec![Action::CloseListeners];
    starting.extend(end(first));
    let mut rolling = vec![Action::CloseListeners, Action::Drain(first)];
    rolling.extend(end(worker(0, 1)));
    rolling.push(Action::Drain(second));
    let over = [Action::CloseListeners, Action::Finish(Outcome::Stopped)];
    let hurry: Vec<_> = end(first).into_iter().chain(end(second)).collect();
    check(Input::Stop, [&starting, &drain, &rolling, &over, &hurry, &[]]);
}

#[test]
fn a_restart_begins_anew_or_mends() {
    let mut starting = end(worker(0, 0)).to_vec();
    starting.push(Action::Spawn(worker(0, 1)));
    let running = [Action::Spawn(worker(0, 1))];
    let mut rolling = end(worker(0, 1)).to_vec();
    rolling.push(Action::Spawn(worker(0, 2)));
    let mended = [0, 1].map(|slot| Action::Spawn(worker(slot, 1)));
    check(Input::Restart, [&starting, &running, &rolling, &mended, &[], &[]]);
}

#[test]
fn the_number_of_workers_changes_until_a_stop() {
    let more = [Action::Resized(3), Action::Spawn(worker(2, 0))];
    check(Input::More, [&more[..1], &more, &more, &more, &[], &[]]);
    let fewer = [Action::DrainBackend(worker(1, 0)), Action::Resized(1)];
    check(Input::Fewer, [&fewer[1..], &fewer, &fewer, &fewer[1..], &[], &[]]);
}

#[test]
fn only_a_ready_worker_can_be_worn() {
    let limit = Input::Recycle(worker(1, 0), Limit::Lifetime);
    // While rolling it waits for its turn.
    check(limit, [&[], &[Action::Spawn(worker(1, 1))], &[], &[], &[], &[]]);
}

/// Nor is it said that it is replaced.
#[test]
fn no_worker_is_recycled_while_everything_stops() {
    let mut world = state("stopping");
    let before = format!("{:?}", world.fleet);
    for limit in [Limit::Connections, Limit::Memory] {
        world.handle(Input::Recycle(worker(0, 0), limit));
        assert_eq!(format!("{:?}", world.fleet), before);
    }
}

#[test]
fn what_comes_too_late_is_refused_with_a_line() {
    for name in ["stopping", "giving up"] {
        let mut world = state(name);
        world.handle(Input::Restart);
        assert_eq!(world.line(), "restart refused: stopping");
        world.handle(Input::More);
        assert_eq!(world.line(), "not scaled: stopping");
    }
}

#[test]
fn a_stop_in_a_round_lets_draining_workers_drain_on() {
    let mut world = World::ready(2, 100_000);
    world.handle(Input::Restart);
    world.boot(worker(0, 1));
    world.handle(Input::Spawned(worker(1, 1)));
    let mut wanted = vec![Action::CloseListeners, Action::Drain(worker(0, 1))];
    wanted.push(Action::Drain(worker(1, 0)));
    wanted.extend(end(worker(1, 1)));
    assert_eq!(world.handle(Input::Stop), wanted);
    // Its own time does not count any more, and neither does being drained.
    assert_eq!(world.pass(94_999), []);
    assert_eq!(world.handle(Input::Drained(worker(0, 0))), []);
    world.handle(Input::Exited(worker(1, 1), KILLED));
    let all: Vec<_> =
        [worker(0, 1), worker(0, 0), worker(1, 0)].into_iter().flat_map(end).collect();
    assert_eq!(world.pass(1), all);
}
