//! The log of a supervisor under test: its lines as text, and the events in it.
//!
//! Tests wait for events and their fields, which `sticky-run-log(7)` names; how an event is worded is for the tests
//! of the wording.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use super::programs::ROOT;

/// What was logged so far.
#[derive(Default)]
pub struct Log {
    /// As the other format has it, with what workers have written to the same descriptor.
    pub text: String,
    /// As it was written.
    pub raw: String,
    /// In their order.
    pub events: Vec<Event>,
}

/// An event that was logged.
#[derive(Clone, Debug)]
pub struct Event(Map<String, Value>);

/// Events that a test asks for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pattern {
    name: &'static str,
    fields: Vec<(&'static str, Value)>,
    words: Vec<String>,
}

/// Events of this name.
#[track_caller]
pub fn event(name: &'static str) -> Pattern {
    assert!(documented().contains_key(name), "sticky-run-log(7) has no event {name}");
    Pattern { name, fields: Vec::new(), words: Vec::new() }
}

/// The events of the manual page, and their fields.
pub fn documented() -> &'static BTreeMap<String, Vec<String>> {
    static EVENTS: LazyLock<BTreeMap<String, Vec<String>>> = LazyLock::new(|| {
        let page = fs::read_to_string(Path::new(ROOT).join("man/sticky-run-log.7"));
        let page = page.expect("it is in the repository");
        let (_, events) = page.split_once("\n.SH EVENTS\n").expect("a section with the events");
        let events = events.split("\n.SH ").next().unwrap_or_default();
        let tags = events.lines().filter_map(|line| line.strip_prefix(".B"));
        let words = tags.map(|tag| tag.trim_start_matches('I').replace('"', ""));
        let names = words.map(|words| {
            let mut words = words.split_whitespace().map(str::to_owned);
            (words.next().expect("an event has a name"), words.collect())
        });
        names.collect()
    });
    &EVENTS
}

impl Log {
    /// One more line.
    pub fn push(&mut self, line: &str) {
        self.raw += line;
        self.raw.push('\n');
        let object = line.starts_with('{').then(|| serde_json::from_str(line).ok()).flatten();
        let event = object.map(Event).filter(|event| event.0.contains_key("event"));
        self.text += &event.as_ref().map_or_else(|| line.to_owned(), Event::line);
        self.text.push('\n');
        self.events.extend(event.or_else(|| start_in_text(line)));
    }
}

/// Of a log in text only what a test needs that starts a supervisor: the addresses and the workers.
fn start_in_text(line: &str) -> Option<Event> {
    let object = if let Some((_, rest)) = line.split_once("listening on ") {
        json!({ "event": "listening", "address": rest.split(' ').next() })
    } else {
        let (_, rest) = line.split_once("worker ")?;
        let (head, pid) = rest.strip_suffix(')')?.split_once(" (pid ")?;
        let (slot, what) = head.split_once(' ')?;
        let name = match what {
            "started" => "worker_started",
            "is ready" => "worker_ready",
            _ => return None,
        };
        json!({ "event": name, "worker": slot.parse::<u16>().ok()?, "pid": pid.parse::<i32>().ok()? })
    };
    object.as_object().cloned().map(Event)
}

impl Event {
    /// Its name.
    pub fn name(&self) -> &str {
        self.text("event")
    }

    /// What it says to people.
    pub fn message(&self) -> &str {
        self.text("message")
    }

    /// Whether something went wrong.
    pub fn is_trouble(&self) -> bool {
        ["WARN", "ERROR"].contains(&self.text("level"))
    }

    /// A field that is a text; empty if there is none.
    pub fn text(&self, field: &str) -> &str {
        self.0.get(field).and_then(Value::as_str).unwrap_or_default()
    }

    /// A field that is a number.
    #[track_caller]
    pub fn number<T: TryFrom<i64>>(&self, field: &str) -> T {
        let number = self.0.get(field).and_then(Value::as_i64);
        number
            .and_then(|number| number.try_into().ok())
            .unwrap_or_else(|| panic!("{field} {self:?}"))
    }

    /// The line that it is in the text format.
    fn line(&self) -> String {
        match self.name() {
            "failed" => format!("sticky-run: {}", self.message()),
            _ => format!("{} {:>5} {}", self.text("timestamp"), self.text("level"), self.message()),
        }
    }
}

impl Pattern {
    /// About the worker in this slot.
    pub fn worker(self, slot: u16) -> Self {
        self.with("worker", slot)
    }

    /// With this in one of its fields.
    #[track_caller]
    pub fn with(mut self, field: &'static str, value: impl Into<Value>) -> Self {
        let fields = &documented()[self.name];
        assert!(fields.iter().any(|known| known == field), "{} has no field {field}", self.name);
        self.fields.push((field, value.into()));
        self
    }

    /// With these words in its message, which are then what the test is about.
    pub fn saying(mut self, words: &str) -> Self {
        self.words.push(words.to_owned());
        self
    }

    /// Whether it is about events of this name.
    pub fn is_named(&self, name: &str) -> bool {
        self.name == name
    }

    /// Whether this is such an event.
    pub fn is(&self, event: &Event) -> bool {
        event.name() == self.name
            && self.fields.iter().all(|(name, value)| event.0.get(*name) == Some(value))
            && self.words.iter().all(|words| event.message().contains(words))
    }
}

impl From<&'static str> for Pattern {
    #[track_caller]
    fn from(name: &'static str) -> Self {
        event(name)
    }
}

impl From<&Pattern> for Pattern {
    fn from(pattern: &Pattern) -> Self {
        pattern.clone()
    }
}
