//! How often the log says the same: whoever makes the supervisor say something, a client, a worker or
//! somebody else, cannot fill a disk with it.
//!
//! This holds for every line, so none can be forgotten. What is asked for in full, by the levels debug and trace,
//! is not limited.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber, warn};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::logic::throttle::Throttle;
use crate::logic::time::Time;
use crate::os::clock;

/// So many lines of one kind about one worker, or about none, are written at once: more than anything has to
/// say that is not out of order.
const MOST_LINES: u32 = 100;
const LINES: Throttle = Throttle::new(MOST_LINES, Duration::from_millis(500));

/// What marks the line that stands for others.
const STAND_IN: &str = "stand-in";

/// The layer that lets lines through.
#[derive(Debug, Default)]
pub(super) struct Limits(Mutex<HashMap<Kind, Throttle>>);

/// Where in the program a line comes from, and the slot of the worker that it is about.
type Kind = (Identifier, Option<u64>);

impl Limits {
    /// Whether a line of this kind may be written now; if so, how many before it were not.
    fn let_through(&self, kind: Kind, now: Time) -> Option<u32> {
        // Whatever happened to another thread, numbers are numbers.
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.entry(kind).or_insert(LINES).allow(now)
    }
}

impl<S: Subscriber> Layer<S> for Limits {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        if *metadata.level() > Level::INFO || metadata.target() == STAND_IN {
            return true;
        }
        let mut slot = Slot(None);
        event.record(&mut slot);
        let through = self.let_through((metadata.callsite(), slot.0), clock::now());
        if let Some(missing) = through.filter(|missing| *missing > 0) {
            warn!(
                name: "lines_suppressed", target: STAND_IN, worker = slot.0, count = missing,
                "{missing} lines like the next one were suppressed"
            );
        }
        through.is_some()
    }
}

/// The slot of the worker that an event names.
struct Slot(Option<u64>);

impl Visit for Slot {
    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "worker" {
            self.0 = Some(value);
        }
    }

    /// Of no use here, and dear.
    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;

    use tracing::{debug, info};
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    /// What was written.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn each_worker_has_its_lines_and_what_is_asked_for_in_full_is_whole() {
        let written = Written::default();
        let writer = written.clone();
        let lines =
            tracing_subscriber::fmt::layer().with_ansi(false).with_writer(move || writer.clone());
        let log = tracing_subscriber::registry().with(lines).with(Limits::default());
        tracing::subscriber::with_default(log, || {
            for number in 0..1000 {
                info!("listening on {number}");
                debug!("in full");
                warn!(worker = 0_u16, "of worker {number}");
                if number < 50 {
                    warn!(worker = 1_u16, "of worker {number}");
                }
            }
        });
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        let count = |what: &str| text.matches(what).count();
        assert!((100..110).contains(&count("listening on")), "{}", count("listening on"));
        // One place in the program is one kind of line.
        assert!((100..110).contains(&count("worker=0")), "{}", count("worker=0"));
        assert_eq!((count("worker=1"), count("in full")), (50, 1000));
    }
}
