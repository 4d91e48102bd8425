//! Every state of a worker, and what it makes of events, of time and of orders.

use super::*;

const BOOT: Duration = Duration::from_secs(60);
const LEAVING: Duration = Duration::from_secs(7);

/// Seconds after the clock's zero.
fn at(seconds: u64) -> Time {
    Time::since_zero(Duration::from_secs(seconds))
}

fn process(state: State) -> Process {
    Process { state, ..Process::new(Worker { slot: 0, generation: 0 }, at(0)) }
}

fn states() -> [State; 9] {
    [
        State::Gone,
        State::Spawning,
        State::Booting { until: at(1) },
        State::Ready { since: at(0) },
        State::Draining { until: Some(at(1)) },
        State::ExitRequested { until: at(1), kill_at: Some(at(2)) },
        State::Leaving { until: at(1) },
        State::Terminating { kill_at: Some(at(1)) },
        State::Killed,
    ]
}

#[test]
fn every_state_answers_every_news() {
    use Transition::{
        BecameReady, ExitedBooting, ExitedReady, Ignored, Leaving, SpawnFailed, Started, Terminated,
    };
    let exit = Exit::Code(0);
    let booting = Some(State::Booting { until: at(70) });
    let ready = Some(State::Ready { since: at(10) });
    let gone = Some(State::Gone);
    let ignored = (None, Ignored);
    let leaves = (Some(State::Leaving { until: at(17) }), Leaving);
    // What each state makes of spawned, spawn failed, ready, leaving and exited. `None`: it
    // stays.
    let died = (gone, ExitedBooting(exit));
    let died_ready = (gone, ExitedReady(exit));
    let table = [
        [ignored; 5],
        [(booting, Started), (gone, SpawnFailed), (ready, BecameReady), ignored, died],
        [ignored, ignored, (ready, BecameReady), ignored, died],
        [ignored, ignored, ignored, leaves, died_ready],
        [ignored, ignored, ignored, leaves, died_ready],
        [ignored, ignored, ignored, ignored, (gone, Terminated)],
        [ignored, ignored, ignored, ignored, (gone, Terminated)],
        [ignored, ignored, ignored, ignored, (gone, Terminated)],
        [ignored, ignored, ignored, ignored, (gone, Terminated)],
    ];
    let event = [
        ProcessEvent::Spawned,
        ProcessEvent::SpawnFailed,
        ProcessEvent::Ready,
        ProcessEvent::Leaving,
        ProcessEvent::Exited(exit),
    ];
    for (state, answers) in states().into_iter().zip(table) {
        for (event, (after, change)) in event.into_iter().zip(answers) {
            let mut process = process(state);
            assert_eq!(
                process.apply(at(10), event, BOOT, LEAVING),
                change,
                "{state:?} at {event:?}"
            );
            assert_eq!(process.state, after.unwrap_or(state), "{state:?} at {event:?}");
        }
    }
}

#[test]
fn every_state_answers_time_and_orders() {
    use Expiry::{BootTimeout, DrainTimeout, ExitTimeout, Kill, LeaveTimeout};
    let due = [
        None,
        None,
        Some(BootTimeout),
        None,
        Some(DrainTimeout),
        Some(ExitTimeout(Some(at(2)))),
        Some(LeaveTimeout),
        Some(Kill),
        None,
    ];
    let ends = [false, false, true, true, true, true, true, false, false];
    let kills = [false, false, true, true, true, true, true, true, false];
    let closes = [false, false, false, true, true, false, false, false, false];
    for (index, state) in states().into_iter().enumerate() {
        let process = process(state);
        assert_eq!(process.expired(at(1)), due[index], "{state:?}");
        assert_eq!(process.expired(at(0)), None, "{state:?}");
        assert_eq!(process.timeout().is_some(), due[index].is_some(), "{state:?}");
        assert_eq!(process.clone().terminate(None), ends[index], "{state:?}");
        assert_eq!(process.clone().request_exit(at(1), None), closes[index], "{state:?}");
        assert_eq!(process.clone().kill(), kills[index], "{state:?}");
    }
}

#[test]
fn a_stable_minute_proves_a_ready_worker() {
    for (until, stable) in [(59, false), (60, true)] {
        let process = process(State::Ready { since: at(0) });
        assert_eq!(process.is_stable(at(until)), stable, "after {until} s");
    }
    assert!(!process(State::Booting { until: at(0) }).is_stable(at(100)));
}
