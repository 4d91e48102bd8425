//! Events of the log as JSON: what every line has, the event's name among it, then the event's own fields.

use std::fmt::{self, Debug};

use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::os::clock;

/// Makes an event an object.
pub(super) struct Objects;

impl<S, N> FormatEvent<S, N> for Objects
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        let mut fields = Fields { name: metadata.name().into(), message: Value::Null, own: vec![] };
        event.record(&mut fields);
        writeln!(writer, "{}", object(*metadata.level(), fields))
    }
}

/// The last line, of the event `failed`.
pub(super) fn last(message: &str, code: u8) -> String {
    let own = vec![("code", code.into())];
    object(Level::ERROR, Fields { name: "failed".into(), message: message.into(), own })
}

fn object(level: Level, fields: Fields) -> String {
    let always = [
        ("timestamp", clock::timestamp().into()),
        ("level", level.as_str().into()),
        ("event", fields.name),
        ("message", fields.message),
    ];
    let mut text = Vec::new();
    let entries = always.into_iter().chain(fields.own);
    serde::Serializer::collect_map(&mut serde_json::Serializer::new(&mut text), entries)
        .expect("texts and numbers are JSON");
    String::from_utf8(text).expect("JSON is UTF-8")
}

/// What an event says of itself.
struct Fields {
    /// The name of its place in the source, unless it has a field `event`.
    name: Value,
    message: Value,
    own: Vec<(&'static str, Value)>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        match field.name() {
            "event" => self.name = value,
            "message" => self.message = value,
            name => self.own.push((name, value)),
        }
    }
}

impl Visit for Fields {
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.put(field, format!("{value:?}").into());
    }
}
