//! The load client of `tests/node/clients/load.js`, and what is right to see with it.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::support::full;
use crate::support::node::{self, Running};
use crate::support::programs::Client;

/// What all sessions of one run saw, in numbers. A pid is text in it, as names are in JSON.
#[derive(Debug, Deserialize)]
pub(super) struct Verdict {
    /// Messages that were sent.
    pub(super) said: u32,
    /// Those that came back.
    pub(super) answered: u32,
    /// Those that were under way when their connection ended.
    pub(super) lost: u32,
    /// Answers that were not what was sent.
    pub(super) wrong: u32,
    /// Answers from another worker than the session's.
    pub(super) strangers: u32,
    /// Answers of 150 KB, among those that came back.
    pub(super) binary: u32,
    /// How many sessions each worker greeted.
    pub(super) greetings: BTreeMap<String, u32>,
    /// How many sessions of each worker were disconnected.
    pub(super) disconnects: BTreeMap<String, u32>,
    /// How many of those were greeted again, by whom they had been greeted before.
    pub(super) reconnected: BTreeMap<String, u32>,
    /// The transport of each session at the end.
    pub(super) transports: BTreeMap<String, u32>,
    /// Statuses of refused requests.
    pub(super) statuses: BTreeMap<String, u32>,
    /// The first errors, in words.
    pub(super) errors: Vec<String>,
    /// The longest time, in ms, that a message was under way.
    slowest: u64,
    pub(super) broadcasts: Option<Broadcasts>,
    pub(super) cluster: Option<Cluster>,
    /// The address that each session had for its worker, if the sessions have addresses of their
    /// own.
    pub(super) addresses: Vec<String>,
}

/// What was heard of the messages to all sessions.
#[derive(Debug, Deserialize)]
pub(super) struct Broadcasts {
    pub(super) said: u32,
    pub(super) right: u32,
    wrong: u32,
    missing: u32,
    doubled: u32,
}

/// What a cluster adapter answered.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Cluster {
    sockets: Option<u32>,
    server_error: Option<String>,
    servers: Option<Vec<i32>>,
    client_error: Option<String>,
    answers: Option<u32>,
    right: Option<u32>,
}

/// How many sessions a load has.
pub(super) fn count() -> u32 {
    if full() { 400 } else { 21 }
}

/// A load client with these arguments besides the usual ones. None, said on standard error, without
/// Node.
pub(super) fn begin(running: &Running, more: &Value) -> Option<Client> {
    begin_at(&running.url(), more)
}

/// Likewise, through another address than the app's own.
pub(super) fn begin_at(url: &str, more: &Value) -> Option<Client> {
    let millis = if full() { 5_000 } else { 500 };
    let mut all = json!({ "url": url, "sessions": count(), "millis": millis });
    let arguments = all.as_object_mut().expect("it was written as one");
    arguments.extend(more.as_object().expect("it was written as one").clone());
    node::client("load.js", &all)
}

/// What a load client with these arguments sees.
pub(super) fn talk(running: &Running, more: &Value) -> Option<Verdict> {
    talk_at(&running.url(), more)
}

/// Likewise, through another address than the app's own.
pub(super) fn talk_at(url: &str, more: &Value) -> Option<Verdict> {
    let client = begin_at(url, more)?;
    client.next::<Value>();
    Some(client.next())
}

impl Verdict {
    /// Whether all went well for so many sessions over three workers, and ended on this transport.
    #[track_caller]
    pub(super) fn assert_right(&self, sessions: u32, transport: &str) {
        self.assert_undisturbed(sessions, transport);
        assert_eq!(self.greetings.len(), 3, "all workers have sessions: {self:?}");
    }

    /// Likewise, over any workers.
    #[track_caller]
    pub(super) fn assert_undisturbed(&self, sessions: u32, transport: &str) {
        self.assert_accounted_for();
        assert_eq!(self.errors, Vec::<String>::new(), "{self:?}");
        assert_eq!((self.statuses.len(), self.disconnects.len(), self.lost), (0, 0, 0), "{self:?}");
        assert_eq!(self.greetings.values().sum::<u32>(), sessions, "{self:?}");
        assert_eq!(self.transports, BTreeMap::from([(transport.to_owned(), sessions)]), "{self:?}");
        assert!(self.slowest < 10_000, "a message stuck: {self:?}");
        assert!(self.binary >= sessions, "too few large messages: {self:?}");
    }

    /// Whether every message was answered rightly or lost with its connection.
    #[track_caller]
    pub(super) fn assert_accounted_for(&self) {
        assert_eq!(self.said, self.answered + self.lost, "{self:?}");
        assert_eq!((self.wrong, self.strangers), (0, 0), "{self:?}");
    }

    /// Whether every session heard every broadcast, once and rightly.
    #[track_caller]
    pub(super) fn assert_heard(&self, sessions: u32) {
        let heard = self.broadcasts.as_ref().expect("broadcasts were asked for");
        assert_eq!((heard.wrong, heard.missing, heard.doubled), (0, 0, 0), "{self:?}");
        assert_eq!(heard.right, heard.said * sessions, "{self:?}");
    }

    /// Whether the adapter answered for all sessions and all three workers.
    #[track_caller]
    pub(super) fn assert_one_cluster(&self, sessions: u32) {
        self.assert_adapter_answers(sessions);
        let servers = self.cluster.as_ref().and_then(|cluster| cluster.servers.as_ref());
        assert_eq!(servers.map(Vec::len), Some(2), "the other two: {self:?}");
    }

    /// Whether it answered for all sessions, however many workers they live in.
    #[track_caller]
    pub(super) fn assert_adapter_answers(&self, sessions: u32) {
        let cluster = self.cluster.as_ref().expect("the cluster was asked");
        assert_eq!((&cluster.server_error, &cluster.client_error), (&None, &None), "{self:?}");
        assert_eq!(cluster.sockets, Some(sessions), "{self:?}");
        assert_eq!((cluster.answers, cluster.right), (Some(sessions), Some(sessions)), "{self:?}");
    }
}
