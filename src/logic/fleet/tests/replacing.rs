//! Rolling restarts and worn workers.

use super::*;

const CODE_1: Exit = Exit::Code(1);

/// What a restart does when a successor is ready.
fn handed_over(old: Worker, new: Worker) -> [Action; 2] {
    [Action::AddBackend(new), Action::DrainBackend(old)]
}

fn ended(worker: Worker) -> [Action; 2] {
    [Action::RemoveBackend(worker), Action::Terminate(worker)]
}

#[test]
fn a_restart_goes_from_slot_to_slot_and_the_old_ones_drain_meanwhile() {
    let mut world = World::ready(3, 25_000);
    let (old, new) = ([0, 1, 2].map(|slot| worker(slot, 0)), [0, 1, 2].map(|slot| worker(slot, 1)));
    assert_eq!(world.handle(Input::Restart), [Action::Spawn(new[0])]);
    assert_eq!(world.line(), "restarting 3 workers");
    assert!(world.fleet.is_rolling() && world.fleet.is_current(old[0]));
    for slot in 0..3 {
        world.handle(Input::Spawned(new[slot]));
        let mut wanted = handed_over(old[slot], new[slot]).to_vec();
        wanted.extend(new.get(slot + 1).map(|next| Action::Spawn(*next)));
        assert_eq!(world.handle(Input::Ready(new[slot])), wanted);
        assert!(world.fleet.is_ready(old[slot]) && !world.fleet.is_current(old[slot]));
        assert!(world.fleet.is_current(new[slot]));
    }
    assert_eq!(world.line(), "restarted 3 workers");
    assert!(!world.fleet.is_rolling());
    // One is drained, one exits by itself, one takes too long.
    assert_eq!(world.handle(Input::Drained(old[0])), ended(old[0]));
    assert_eq!(world.handle(Input::Drained(old[0])), []);
    assert_eq!(world.handle(Input::Exited(old[1], CODE_0)), [Action::RemoveBackend(old[1])]);
    assert_eq!(world.pass(24_999), []);
    assert_eq!(world.pass(1), [Action::Kill(old[0])]);
    assert_eq!(world.pass(4_999), []);
    assert_eq!(world.pass(1), ended(old[2]));
    assert_eq!(world.line(), "previous worker 2 did not drain in time: stopping it");
    assert_eq!(world.handle(Input::Exited(old[0], KILLED)), []);
    assert_eq!(world.handle(Input::Exited(old[2], KILLED)), []);
    assert_eq!(world.fleet.workers().collect::<Vec<_>>(), new);
    assert_eq!(world.fleet.poll_timeout(), None);
}

#[test]
fn a_worker_that_leaves_while_it_drains_goes_on_leaving() {
    let mut world = World::ready(1, 25_000);
    let (old, new) = (worker(0, 0), worker(0, 1));
    world.handle(Input::Restart);
    world.boot(new);
    assert_eq!(world.handle(Input::Leaving(old)), [Action::RemoveBackend(old)]);
    assert!(!world.fleet.is_ready(old));
    assert_eq!(world.pass(10_000), [Action::Terminate(old)]);
    assert_eq!(world.handle(Input::Exited(old, CODE_0)), []);
    assert_eq!(world.pass(60_000), []);
}

#[test]
fn without_a_drain_timeout_a_worker_may_drain_for_ever() {
    let mut world = World::ready_with(FleetConfig { drain_timeout: None, ..config() });
    world.handle(Input::Restart);
    world.boot(worker(0, 1));
    assert_eq!(world.fleet.poll_timeout(), None);
    assert!(world.fleet.is_ready(worker(0, 0)));
}

#[test]
fn no_more_slots_are_in_hand_and_no_more_workers_drain_than_allowed() {
    let config = FleetConfig { workers: 4, restart_parallel: 2, max_draining: 3, ..config() };
    let mut world = World::ready_with(config);
    let new = [0, 1, 2, 3].map(|slot| worker(slot, 1));
    let spawns = [Action::Spawn(new[0]), Action::Spawn(new[1])];
    assert_eq!(world.handle(Input::Restart), spawns);
    let mut wanted = handed_over(worker(1, 0), new[1]).to_vec();
    wanted.push(Action::Spawn(new[2]));
    assert_eq!(world.boot(new[1]), wanted);
    // One drains and two will.
    assert_eq!(world.boot(new[0]), handed_over(worker(0, 0), new[0]));
    assert_eq!(world.boot(new[2]), handed_over(worker(2, 0), new[2]));
    // It still counts while it ends, but not when not even KILL helps.
    assert_eq!(world.handle(Input::Drained(worker(1, 0))), ended(worker(1, 0)));
    let gone = world.handle(Input::Exited(worker(1, 0), CODE_0));
    assert_eq!(gone, [Action::Spawn(new[3])]);
    assert_eq!(world.boot(new[3]), handed_over(worker(3, 0), new[3]));
    assert_eq!(world.line(), "restarted 4 workers");
}

#[test]
fn a_restart_that_stands_still_says_once_how_many_drain_and_what_to_do() {
    for drain_timeout in [None, Some(Duration::from_secs(30))] {
        let config = FleetConfig { workers: 3, max_draining: 1, drain_timeout, ..config() };
        let mut world = World::ready_with(config.clone());
        world.handle(Input::Restart);
        world.boot(worker(0, 1));
        let waits = Event::from(Replacing::Waits { draining: 1, time: drain_timeout });
        assert_eq!(world.events.last(), Some(&waits));
        assert_eq!(waits.facts().is_trouble, drain_timeout.is_none());
        let told = |world: &World| world.events.iter().filter(|event| **event == waits).count();
        world.handle(Input::Pong(worker(2, 0)));
        world.pass(29_000);
        assert_eq!(told(&world), 1);
        // It goes on, and waits again.
        world.handle(Input::Drained(worker(0, 0)));
        assert_eq!(
            world.handle(Input::Exited(worker(0, 0), CODE_0)),
            [Action::Spawn(worker(1, 1))]
        );
        assert_eq!(told(&world), 1);
        world.boot(worker(1, 1));
        assert_eq!(told(&world), 2);
        // More room has it go on at once.
        world.fleet.reconfigure(world.now, FleetConfig { max_draining: 2, ..config });
        assert_eq!(world.actions(), [Action::Spawn(worker(2, 1))]);
        world.boot(worker(2, 1));
        assert_eq!(told(&world), 2);
    }
}

#[test]
fn a_successor_that_fails_ends_the_round_and_the_old_ones_go_on() {
    for late in [false, true] {
        let config = FleetConfig { workers: 4, restart_parallel: 2, ..config() };
        let mut world = World::ready_with(config);
        world.pass(1_000);
        world.handle(Input::Restart);
        world.boot(worker(0, 1));
        let (failing, other) = (worker(1, 1), worker(2, 1));
        world.handle(Input::Spawned(failing));
        let actions = if late {
            world.pass(5_000);
            world.handle(Input::Spawned(other));
            // The one that was replaced is ended and killed at the end of its drain, before.
            world.pass(55_000).split_off(3)
        } else {
            world.handle(Input::Spawned(other));
            world.handle(Input::Exited(failing, CODE_1))
        };
        let mut wanted =
            if late { ended(failing).to_vec() } else { vec![Action::RemoveBackend(failing)] };
        wanted.extend(ended(other));
        assert_eq!(actions, wanted);
        let why = if late { FailedStart::NotInTime } else { FailedStart::Exited(CODE_1) };
        let failed = Replacing::RestartFailed { worker: failing, why, left: 3 };
        assert_eq!(world.events.last(), Some(&failed.into()));
        assert!(!world.fleet.is_rolling());
        for (slot, generation) in [(0, 1), (1, 0), (2, 0), (3, 0)] {
            assert!(world.fleet.is_current(worker(slot, generation)), "slot {slot}");
        }
        assert_eq!(world.handle(Input::Exited(other, KILLED)), []);
        let next = Action::Spawn(worker(1, 2));
        // The next one starts again with those that are oldest.
        assert_eq!(world.handle(Input::Restart), [next, Action::Spawn(worker(2, 2))]);
    }
}

#[test]
fn a_process_that_cannot_be_made_ends_the_round_too() {
    let mut world = World::ready(2, 25_000);
    world.handle(Input::Restart);
    assert_eq!(world.handle(Input::SpawnFailed(worker(0, 1))), []);
    assert!(world.line().contains("the successor of worker 0 could not be started"));
    assert!(world.fleet.is_current(worker(0, 0)));
    assert_eq!(world.fleet.poll_timeout(), None);
}

#[test]
fn a_second_restart_begins_anew_with_the_oldest() {
    let mut world = World::ready(2, 25_000);
    world.pass(1_000);
    world.handle(Input::Restart);
    world.boot(worker(0, 1));
    world.handle(Input::Spawned(worker(1, 1)));
    let mut wanted = ended(worker(1, 1)).to_vec();
    wanted.push(Action::Spawn(worker(1, 2)));
    assert_eq!(world.handle(Input::Restart), wanted);
    assert_eq!(world.line(), "restarting 2 workers from the beginning");
    // What the ended one still says is nothing.
    assert_eq!(world.handle(Input::Ready(worker(1, 1))), []);
    let mut wanted = handed_over(worker(1, 0), worker(1, 2)).to_vec();
    wanted.push(Action::Spawn(worker(0, 2)));
    assert_eq!(world.boot(worker(1, 2)), wanted);
    assert_eq!(world.boot(worker(0, 2)), handed_over(worker(0, 1), worker(0, 2)));
    assert_eq!(world.line(), "restarted 2 workers");
}

#[test]
fn slots_without_a_ready_worker_start_at_once_or_in_their_turn() {
    let mut world = World::ready(3, 25_000);
    let [resting, booting, ready] = [0, 1, 2].map(|slot| worker(slot, 0));
    world.handle(Input::Exited(booting, CODE_1));
    world.pass(120);
    let booting = worker(1, 1);
    world.handle(Input::Spawned(booting));
    for generation in 0..4 {
        world.handle(Input::Exited(worker(0, generation), CODE_1));
        world.pass(2_000);
        world.handle(Input::Spawned(worker(0, generation + 1)));
    }
    world.handle(Input::Exited(worker(0, 4), CODE_1));
    assert_eq!(resting.slot, 0);
    // The resting one is in hand, so the others wait.
    assert_eq!(world.handle(Input::Restart), [Action::Spawn(worker(0, 5))]);
    let mut wanted = vec![Action::RemoveBackend(worker(0, 5)), Action::Spawn(worker(2, 1))];
    assert_eq!(world.fail(worker(0, 5)), wanted);
    let delay = world.events.iter().rev().find_map(|event| match event {
        Event::Restarting { delay, .. } => Some(*delay),
        _ => None,
    });
    assert!(
        delay <= Some(Duration::from_millis(120)),
        "the failures were not forgotten: {delay:?}"
    );
    wanted = handed_over(ready, worker(2, 1)).to_vec();
    wanted.extend(ended(booting));
    wanted.push(Action::Spawn(worker(1, 2)));
    assert_eq!(world.boot(worker(2, 1)), wanted);
    assert_eq!(world.boot(worker(1, 2)), [Action::AddBackend(worker(1, 2))]);
    assert_eq!(world.line(), "restarted 2 workers");
}

#[test]
fn a_worker_that_dies_beside_its_successor_is_not_replaced_twice() {
    for leaves in [false, true] {
        let mut world = World::ready(1, 25_000);
        let (old, new) = (worker(0, 0), worker(0, 1));
        world.handle(Input::Restart);
        world.handle(Input::Spawned(new));
        let input = if leaves { Input::Leaving(old) } else { Input::Exited(old, CODE_1) };
        assert_eq!(world.handle(input), [Action::RemoveBackend(old)]);
        assert_eq!(world.pass(5_000), []);
        let mut failing = world.fleet.clone();
        assert_eq!(world.handle(Input::Ready(new)), [Action::AddBackend(new)]);
        let restarted = world.events.contains(&Replacing::Restarted { workers: 1 }.into());
        let over = world.events.contains(&Replacing::RestartOver { workers: 1 }.into());
        assert_eq!((restarted, over), (true, !leaves));
        // If it fails, this is as any failed start.
        failing.handle(world.now, Input::Exited(new, CODE_1));
        assert!(failing.poll_timeout().is_some());
        assert!(!failing.is_rolling());
    }
}

#[test]
fn a_recycled_worker_is_replaced_in_its_turn_and_only_the_current_one_can_be() {
    let mut world = World::ready(3, 25_000);
    world.pass(60_000);
    let limit_reached = |slot| Input::Recycle(worker(slot, 0), Limit::Connections);
    assert_eq!(world.handle(limit_reached(1)), [Action::Spawn(worker(1, 1))]);
    assert_eq!(world.line(), "worker 1 is being recycled: it reached --max-lifetime-connections");
    let before = format!("{:?}", world.fleet);
    for input in [limit_reached(1), Input::Recycle(worker(1, 1), Limit::Memory), limit_reached(7)] {
        assert_eq!(world.handle(input), []);
        assert_eq!(format!("{:?}", world.fleet), before, "{input:?}");
    }
    assert_eq!(world.handle(limit_reached(0)), []);
    let mut wanted = handed_over(worker(1, 0), worker(1, 1)).to_vec();
    wanted.push(Action::Spawn(worker(0, 1)));
    assert_eq!(world.boot(worker(1, 1)), wanted);
    assert_eq!(world.handle(limit_reached(1)), []);
    assert_eq!(world.boot(worker(0, 1)), handed_over(worker(0, 0), worker(0, 1)));
}

#[test]
fn a_recycled_worker_goes_on_when_its_successor_fails_until_the_next_one() {
    let mut world = World::ready(1, 25_000);
    world.pass(60_000);
    world.handle(Input::Recycle(worker(0, 0), Limit::Memory));
    assert_eq!(world.fail(worker(0, 1)), [Action::RemoveBackend(worker(0, 1))]);
    assert!(world.line().contains("the old one keeps running, next attempt in "));
    assert!(world.fleet.is_current(worker(0, 0)));
    assert_eq!(world.pass(79), []);
    assert_eq!(world.pass(41), [Action::Spawn(worker(0, 2))]);
    assert_eq!(world.fail(worker(0, 2)), [Action::RemoveBackend(worker(0, 2))]);
    // Later every time, but a restart comes at once.
    assert_eq!(world.pass(159), []);
    assert_eq!(world.handle(Input::Restart), [Action::Spawn(worker(0, 3))]);
    assert_eq!(world.boot(worker(0, 3)), handed_over(worker(0, 0), worker(0, 3)));
}

#[test]
fn a_limit_that_is_too_low_for_any_worker_replaces_them_ever_later_and_is_warned_of_once() {
    // One that holds too much memory may hold ever more.
    for (limit, later) in [(Limit::Memory, 1..2), (Limit::Connections, 24..37)] {
        let mut world = World::ready(1, 25_000);
        let mut rests = Vec::new();
        for generation in 0..20 {
            let old = worker(0, generation);
            let since = world.now;
            assert_eq!(world.handle(Input::Recycle(old, limit)), []);
            assert!(world.fleet.is_current(old));
            while !world.pass(10).contains(&Action::Spawn(worker(0, generation + 1))) {}
            rests.push((world.now - since).as_secs());
            // A slow boot makes nobody prove itself who has not.
            world.handle(Input::Spawned(worker(0, generation + 1)));
            world.pass(50_000);
            world.handle(Input::Ready(worker(0, generation + 1)));
            world.handle(Input::Drained(old));
            world.handle(Input::Exited(old, CODE_0));
        }
        assert_eq!(rests[0], 0, "{rests:?}");
        assert!(rests[12..].iter().all(|delay| later.contains(delay)), "{rests:?}");
        let warnings: Vec<_> =
            world.events.iter().filter(|event| event.facts().is_trouble).collect();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].to_string().contains(limit.flag()), "{warnings:?}");
    }
}

#[test]
fn a_worker_that_proved_itself_is_replaced_at_once_after_some_that_were_recycled_early() {
    let mut world = World::ready(1, 25_000);
    for generation in 0..6 {
        world.handle(Input::Recycle(worker(0, generation), Limit::Memory));
        world.pass(10_000);
        world.boot(worker(0, generation + 1));
    }
    world.pass(60_000);
    let limit_reached = world.handle(Input::Recycle(worker(0, 6), Limit::Memory));
    assert_eq!(limit_reached, [Action::Spawn(worker(0, 7))]);
}

#[test]
fn a_slot_whose_workers_are_recycled_early_rests_no_longer_when_one_crashes() {
    let mut world = World::ready(1, 25_000);
    for generation in 0..6 {
        world.handle(Input::Recycle(worker(0, generation), Limit::Memory));
        world.pass(10_000);
        world.boot(worker(0, generation + 1));
    }
    world.handle(Input::Exited(worker(0, 6), KILLED));
    assert!(world.pass(120).contains(&Action::Spawn(worker(0, 7))));
    world.boot(worker(0, 7));
    // Limits may be others after a restart.
    world.handle(Input::Recycle(worker(0, 7), Limit::Memory));
    world.fleet.restart_with(world.now, FleetConfig { workers: 1, ..config() });
    world.actions();
    world.boot(worker(0, 8));
    world.handle(Input::Recycle(worker(0, 8), Limit::Memory));
    assert!(world.pass(120).contains(&Action::Spawn(worker(0, 9))));
}

#[test]
fn lifetimes_end_within_a_tenth_and_not_all_at_once() {
    let lifetime = Some(Duration::from_secs(1_000));
    let config = FleetConfig { workers: 50, lifetime, restart_parallel: 50, ..config() };
    let mut world = World::ready_with(config);
    assert_eq!(world.pass(900_000 - 1), []);
    let first = world.pass(100_000).len();
    assert!((10..40).contains(&first), "{first}");
    let delay = world.pass(100_000);
    let replaced = delay.iter().filter(|action| matches!(action, Action::Spawn(_))).count();
    assert_eq!(first + replaced, 50);
}

#[test]
fn a_fleet_that_was_written_down_in_the_middle_of_a_round_goes_on_the_same() {
    let config = FleetConfig { workers: 2, watchdog: Some(Duration::from_secs(10)), ..config() };
    let mut world = World::ready_with(config);
    world.handle(Input::Restart);
    world.boot(worker(0, 1));
    world.handle(Input::Spawned(worker(1, 1)));
    world.handle(Input::More);
    let text = serde_json::to_string(&world.fleet).unwrap();
    let fleet = serde_json::from_str(&text).unwrap();
    let mut read = World { fleet, now: world.now, events: world.events.clone() };
    let inputs = [
        Input::Spawned(worker(2, 0)),
        Input::Ready(worker(1, 1)),
        Input::Drained(worker(0, 0)),
        Input::Stop,
    ];
    for input in inputs {
        assert_eq!(world.handle(input), read.handle(input));
        assert_eq!(world.pass(1_000), read.pass(1_000));
    }
    assert_eq!(format!("{:?}", world.fleet), format!("{:?}", read.fleet));
    assert_eq!(world.events, read.events);
}

#[test]
fn a_restart_is_over_when_the_last_retired_worker_has_ended() {
    let mut world = World::ready(2, 25_000);
    let over = Event::from(Replacing::RestartOver { workers: 2 });
    world.handle(Input::Restart);
    for slot in [0, 1] {
        world.boot(worker(slot, 1));
    }
    assert_eq!(world.line(), "restarted 2 workers");
    world.handle(Input::Exited(worker(1, 0), CODE_0));
    assert!(!world.events.contains(&over));
    // What is begun anew is over when that is.
    world.handle(Input::Restart);
    world.handle(Input::Exited(worker(0, 0), CODE_0));
    assert!(!world.events.contains(&over));
    for slot in [0, 1] {
        world.boot(worker(slot, 2));
        world.handle(Input::Exited(worker(slot, 1), CODE_0));
    }
    assert_eq!(world.events.last(), Some(&over));
}
