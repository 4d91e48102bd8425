//! A router that is written down and read in another process goes on as if it had never been.

use proptest::prelude::*;

use super::*;
use crate::logic::route::mint::MintKey;

type Step = (u8, u16, u32, u8);

fn written(router: &Router) -> Vec<u8> {
    rmp_serde::to_vec_named(router).expect("a router can be written")
}

/// The same router as another process has it, with the rules of this one.
fn reread(router: &Router) -> Router {
    let saved = rmp_serde::from_slice(&written(router)).expect("what was written can be read");
    Router::restore(router.config.clone(), router.queue_limits, saved)
}

fn new_world(kind: u8) -> World {
    let balances = [Balance::LeastConnection, Balance::RoundRobin, Balance::Random, Balance::Hash];
    World::with("sid,query:user,ip", balances[usize::from(kind % 4)], 3, |config| {
        config.max_open = (kind % 3 == 1).then_some(6);
        config.all_listeners = kind % 2 == 1;
        config.mint = (kind % 5 < 2).then_some(MintKey([7; 32]));
        config.max_sessions = 12;
        config.max_keys = 8;
        config.key_idle = Duration::from_secs(20);
    })
}

/// Has something happen; returns whatever can be seen of it.
fn happens(world: &mut World, (what, slot, number, some): Step) -> String {
    let worker = Worker { slot: slot % 4, generation: u32::from(some % 3) };
    let now = world.now;
    let key = format!("k{}", number % 16);
    let returned = [Returned::Back(worker), Returned::Moved(worker), Returned::Recovered];
    let returned = returned.get(usize::from(some)).copied();
    let listener = ListenerId(number % 2);
    let router = &mut world.router;
    match what % 18 {
        0..5 => format!("{:?}", world.arrive_at(listener, &format!("/?sid={key}"), returned)),
        5 => format!("{:?}", world.arrive_at(listener, &format!("/?user={key}"), returned)),
        // The id is of the first incarnation.
        6 => format!("{:?}", world.arrive_at(listener, "/?sid=0123456789abcdeAAE9n", returned)),
        7 => format!("{:?}", router.announce(now, worker, key.as_bytes())),
        8 => format!("{:?}", router.forget(now, worker, key.as_bytes())),
        9 => format!("{:?}", (router.incarnate(worker), router.ready(now, worker))),
        10 => format!(
            "{:?}",
            (router.add_listener(worker, listener), router.closed(worker, number % 3))
        ),
        11 => {
            router.drain(now, worker);
            format!("{:?}", router.draining().collect::<Vec<_>>())
        }
        12 => format!("{:?}", (router.remove(now, worker), router.queue_len())),
        13 => format!("{:?}", router.note_unread(now, worker, number as usize % 5)),
        14 => {
            if some > 5 {
                router.resize(now, slot % 5 + 1);
            }
            router.sessions_over(worker);
            format!("{:?}", router.is_drained(now, worker))
        }
        15 => {
            world.pass(Duration::from_millis(u64::from(number) * 50));
            format!(
                "{:?} {:?}",
                world.router.poll_stalled(now),
                world.router.take_back(now, worker, 2, 1)
            )
        }
        16 => format!("{:?} {:?}", router.remove_listener(worker, listener), router.open()),
        _ => {
            let Some((conn, give)) = router.next(now) else { return "nobody".to_owned() };
            if some == 0 {
                router.not_sent(give);
            }
            format!("{conn:?} {give:?}")
        }
    }
}

fn steps(count: usize) -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec((any::<u8>(), 0..6_u16, 0..500_u32, 0..9_u8), 0..count)
}

proptest! {
    #[test]
    fn it_goes_on_as_before(kind in any::<u8>(), before in steps(150), after in steps(150)) {
        let mut world = new_world(kind);
        for step in before {
            happens(&mut world, step);
        }
        let World { now, next, .. } = world;
        let mut other = World { router: reread(&world.router), now, next };
        prop_assert_eq!(written(&other.router), written(&world.router));
        for step in after {
            prop_assert_eq!(happens(&mut other, step), happens(&mut world, step));
        }
        prop_assert_eq!(written(&other.router), written(&world.router));
        prop_assert_eq!(world.router.queued().count(), world.router.queue_len());
    }

    #[test]
    fn the_watchlist_says_what_a_look_at_all_workers_would(
        kind in any::<u8>(),
        steps in steps(150),
    ) {
        let mut world = new_world(kind);
        for step in steps {
            happens(&mut world, step);
            let World { ref mut router, now, .. } = world;
            let backends = || router.pool.all().filter(|backend| backend.worker.is_some());
            let stops = backends().filter_map(|backend| Some((router.stalls_at(backend)?, backend.worker?)));
            let (first, is_any_still) = (stops.min(), backends().any(|backend| backend.stalled));
            let mut full: Vec<_> = backends().filter(|backend| !backend.window.has_room()).collect();
            full.sort_by_key(|backend| backend.worker);
            let full: Vec<_> = full.into_iter().filter_map(|backend| backend.worker).collect();
            let mut all: Vec<_> = backends().filter_map(|backend| backend.worker).collect();
            all.sort();
            all.retain(|worker| router.is_watched(*worker));
            prop_assert_eq!(router.watched(), all);
            prop_assert_eq!(router.has_stalled(), is_any_still);
            prop_assert_eq!(router.full(), full);
            if let Some((at, _)) = first {
                prop_assert!(router.poll_timeout(now).is_some_and(|wake| wake <= at));
            }
            let due = first.filter(|(at, _)| *at <= now).map(|(_, worker)| worker);
            prop_assert_eq!(router.poll_stalled(now), due);
        }
    }

    #[test]
    fn damage_is_an_error_or_harmless(
        kind in any::<u8>(),
        before in steps(80),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
        is_cut in any::<bool>(),
        after in steps(80),
    ) {
        let mut world = new_world(kind);
        for step in before {
            happens(&mut world, step);
        }
        let mut bytes = written(&world.router);
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if is_cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(saved) = rmp_serde::from_slice::<SavedRouter>(&bytes) {
            let config = world.router.config.clone();
            world.router = Router::restore(config, QUEUES, saved);
            for step in after {
                happens(&mut world, step);
            }
        }
    }

    #[test]
    fn anything_else_is_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(rmp_serde::from_slice::<SavedRouter>(&bytes).is_err());
    }
}

#[test]
fn a_worker_in_the_wrong_place_is_an_error() {
    let mut world = World::new("sid", Balance::RoundRobin, 2);
    world.router.ready(world.now, Worker { slot: 0, generation: 1 });
    let backends = &mut world.router.pool;
    backends.get_mut(worker(1)).unwrap().worker = Some(worker(5));
    let error = rmp_serde::from_slice::<SavedRouter>(&written(&world.router)).unwrap_err();
    assert!(error.to_string().contains("worker 5 is in the wrong place"), "{error}");
}

#[test]
fn another_configuration_holds_for_what_was_saved() {
    let mut world = World::new("sid", Balance::RoundRobin, 2);
    world.router.announce(world.now, worker(1), b"abc").unwrap();
    world.router.resize(world.now, 3);
    let saved = rmp_serde::from_slice(&written(&world.router)).unwrap();
    let config = RouteConfig {
        workers: 7,
        balance: Balance::LeastConnection,
        session_idle: Duration::from_secs(5),
        ..world.router.config.clone()
    };
    world.router = Router::restore(config, QUEUES, saved);
    assert_eq!(world.router.pool.slots(), 3);
    assert_eq!(world.give("/?sid=abc"), (1, Reason::OwnedKey));
    world.pass(Duration::from_secs(6));
    assert_eq!(world.give("/?sid=abc").1, Reason::UnknownSid);
}
