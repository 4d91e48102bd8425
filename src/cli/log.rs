//! The log: lines on standard error, one for each event. They are escaped here, and rate-limited in `limits`,
//! since others may choose their words and cause them.

mod json;
mod limits;

use std::env;
use std::fmt::{self, Debug};
use std::io::{self, IsTerminal};
use std::mem;
use std::os::fd::AsFd;

use tracing::field::Field;
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, reload};

use self::json::Objects;
use self::limits::Limits;
use crate::logic::config::LogFormat;
use crate::logic::escape::Escaped;
use crate::os::journal;
use crate::os::stderr::{self, Layout, Stderr};

/// How much is logged, which can change.
#[derive(Debug)]
pub(super) struct Level(reload::Handle<LevelFilter, Registry>);

impl Level {
    /// Logs so much from now on; returns how much it was.
    pub(super) fn set(&self, level: LevelFilter) -> LevelFilter {
        let mut before = level;
        let swap = |own: &mut LevelFilter| before = mem::replace(own, level);
        self.0.modify(swap).expect("the log lives as long as the program");
        before
    }
}

/// Begins to log so much, in this format.
pub(super) fn start(level: LevelFilter, format: LogFormat) -> Level {
    let layout = layout(format);
    let (filter, handle) = reload::Layer::new(level);
    let lines = tracing_subscriber::fmt::layer()
        .with_target(false)
        .with_ansi(layout == Layout::Text && io::stderr().is_terminal())
        // A log that cannot be written is no reason to stop, nor to say so on the same way.
        .log_internal_errors(false)
        .with_writer(Stderr::new(layout));
    let lines = match layout {
        Layout::Text => lines.fmt_fields(debug_fn(message_alone)).boxed(),
        Layout::Journal => lines.event_format(Entry).fmt_fields(debug_fn(message_alone)).boxed(),
        Layout::Json => lines.event_format(Objects).boxed(),
    };
    tracing_subscriber::registry().with(filter).with(lines).with(Limits::default()).init();
    Level(handle)
}

/// The last line of the program: why it ends. It is written at every level.
pub(super) fn say_last(line: &str, code: u8, format: LogFormat) {
    let layout = layout(format);
    let line = match layout {
        Layout::Text => format!("sticky-run: {}\n", Escaped(line)),
        Layout::Journal => journal::entry(tracing::Level::ERROR, Escaped(line)),
        Layout::Json => format!("{}\n", json::last(line, code)),
    };
    stderr::say(line.as_bytes(), layout);
}

/// How lines of this format look on standard error, which may be read by the journal.
fn layout(format: LogFormat) -> Layout {
    match format {
        LogFormat::Text if goes_to_journal() => Layout::Journal,
        LogFormat::Text => Layout::Text,
        LogFormat::Json => Layout::Json,
    }
}

#[expect(clippy::disallowed_methods, reason = "the command line includes the environment")]
fn goes_to_journal() -> bool {
    let named = env::var_os("JOURNAL_STREAM");
    named.is_some_and(|named| journal::is_stream(io::stderr().as_fd(), &named))
}

/// Makes an event an entry of the journal.
struct Entry;

impl<S, N> FormatEvent<S, N> for Entry
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut message = String::new();
        context.format_fields(Writer::new(&mut message), event)?;
        writer.write_str(&journal::entry(*event.metadata().level(), Escaped(message)))
    }
}

/// The other fields of an event are for machines; the message has them in words.
fn message_alone(writer: &mut Writer<'_>, field: &Field, value: &dyn Debug) -> fmt::Result {
    if field.name() == "message" {
        write!(writer, "{}", Escaped(format_args!("{value:?}")))
    } else {
        Ok(())
    }
}
