//! How a Node worker is started: what it finds in its environment.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::iter;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;

use serde_json::json;

use super::{Node, NodeLink};
use crate::engine::links::handoff::Facts;
use crate::logic::Worker;
use crate::logic::config::{KeepAlive, NodeKeys, with_slot};
use crate::logic::inspect::{Inspect, for_worker, is_restricted};
use crate::logic::route::mint::MintKey;
use crate::os::spawn::Launch;

/// The files of the preload; Node loads the first one.
pub(super) const PRELOAD: &[(&str, &str)] = &[
    ("index.cjs", include_str!("../../../../workers/node/preload/index.cjs")),
    ("answers.cjs", include_str!("../../../../workers/node/preload/answers.cjs")),
    ("arrivals.cjs", include_str!("../../../../workers/node/preload/arrivals.cjs")),
    ("close.cjs", include_str!("../../../../workers/node/preload/close.cjs")),
    ("connections.cjs", include_str!("../../../../workers/node/preload/connections.cjs")),
    ("drain.cjs", include_str!("../../../../workers/node/preload/drain.cjs")),
    ("engine.cjs", include_str!("../../../../workers/node/preload/engine.cjs")),
    ("environment.cjs", include_str!("../../../../workers/node/preload/environment.cjs")),
    ("handback.cjs", include_str!("../../../../workers/node/preload/handback.cjs")),
    ("handles.cjs", include_str!("../../../../workers/node/preload/handles.cjs")),
    ("homes.cjs", include_str!("../../../../workers/node/preload/homes.cjs")),
    ("http2.cjs", include_str!("../../../../workers/node/preload/http2.cjs")),
    ("keys.cjs", include_str!("../../../../workers/node/preload/keys.cjs")),
    ("loading.cjs", include_str!("../../../../workers/node/preload/loading.cjs")),
    ("messages.cjs", include_str!("../../../../workers/node/preload/messages.cjs")),
    ("packages.cjs", include_str!("../../../../workers/node/preload/packages.cjs")),
    ("probes.cjs", include_str!("../../../../workers/node/preload/probes.cjs")),
    ("requests.cjs", include_str!("../../../../workers/node/preload/requests.cjs")),
    ("servers.cjs", include_str!("../../../../workers/node/preload/servers.cjs")),
    ("sessions.cjs", include_str!("../../../../workers/node/preload/sessions.cjs")),
    ("sids.cjs", include_str!("../../../../workers/node/preload/sids.cjs")),
    ("supervisor.cjs", include_str!("../../../../workers/node/preload/supervisor.cjs")),
];

/// The number in Node's `cluster` of a worker that is about to be started, which counts from 1: that
/// of its slot, unless a live worker has it. Then the first above those of all slots.
fn free_id(slot: u16, slots: u16, live: &BTreeSet<u32>) -> u32 {
    let above = u32::from(slots) + 1;
    let candidates = iter::once(u32::from(slot) + 1).chain(above..);
    let mut free = candidates.filter(|id| !live.contains(id));
    free.next().expect("there are fewer workers than numbers")
}

impl Node {
    /// Makes a link for a worker that is about to be started, and tells that one about its end of the
    /// channel, and how to be debugged.
    pub(super) fn make_link(
        &mut self,
        worker: Worker,
        facts: &Facts<'_>,
        launch: &mut Launch,
    ) -> io::Result<()> {
        let live = self.links.values().map(|link| link.id).collect();
        let id = free_id(worker.slot, facts.slots, &live);
        let link = NodeLink::new(id, worker)?;
        self.prepare_launch(worker, &link, facts, launch)?;
        self.links.insert(worker, link);
        Ok(())
    }

    fn prepare_launch(
        &mut self,
        worker: Worker,
        link: &NodeLink,
        facts: &Facts<'_>,
        launch: &mut Launch,
    ) -> io::Result<()> {
        let config = &self.config;
        let mut options = with_slot(&config.options, worker.slot);
        inspect(link.id, config.arguments_at, &mut launch.arguments, &mut options);
        let environment = &mut launch.environment;
        let mut set = |name: &str, value: OsString| environment.push((name.into(), Some(value)));
        let end = link.theirs.as_ref().map_or(-1, AsRawFd::as_raw_fd);
        set("NODE_CHANNEL_FD", end.to_string().into());
        set("NODE_CHANNEL_SERIALIZATION_MODE", "advanced".into());
        set("NODE_UNIQUE_ID", link.id.to_string().into());
        if let (Some(keep_alive), Some(preload), Some(key), Some(incarnation)) =
            (config.preload, &mut self.preload, facts.mint, facts.incarnation)
        {
            let (index, _) = PRELOAD[0];
            let path = preload.path(index)?;
            let words = config.arguments_at.and_then(|at| launch.arguments.get(at..));
            if is_restricted(words.unwrap_or_default(), &options) {
                let files = path.with_file_name("*");
                add(&mut options, &option("--allow-fs-read=", &files));
            }
            add(&mut options, &option("--require ", &path));
            let settings = settings(keep_alive, &config.keys, &facts.ports, incarnation, key);
            set("STICKY_NODE", settings.into());
        }
        if !options.is_empty() {
            set("NODE_OPTIONS", options);
        }
        Ok(())
    }
}

/// Gives a worker a debugger port of its own, if the user asked for a debugger.
fn inspect(id: u32, at: Option<usize>, arguments: &mut Vec<OsString>, options: &mut OsString) {
    let words = at.and_then(|at| arguments.get(at..)).unwrap_or_default();
    let Some(Inspect { position, word }) = for_worker(words, options, id) else { return };
    match at {
        Some(at) => arguments.insert(at + position, word),
        None => add(options, &word.to_string_lossy()),
    }
}

/// Adds an option to `NODE_OPTIONS`.
fn add(options: &mut OsString, option: &str) {
    if !options.is_empty() {
        options.push(" ");
    }
    options.push(option);
}

/// An option with a path, as it stands in `NODE_OPTIONS`.
fn option(name: &str, path: &Path) -> String {
    let path = path.to_string_lossy().replace('\\', "\\\\").replace('"', "\\\"");
    format!("{name}\"{path}\"")
}

/// What the preload is told, as JSON.
fn settings(
    keep_alive: KeepAlive,
    keys: &NodeKeys,
    ports: &BTreeSet<u16>,
    incarnation: u16,
    MintKey(key): &MintKey,
) -> String {
    let keep_alive = match keep_alive {
        KeepAlive::Close => "close",
        KeepAlive::HandBack => "handback",
        KeepAlive::Ignore => "off",
    };
    let key: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    let NodeKeys { by, trust, forwarded, session_idle, key_idle } = keys;
    let millis = |time: &Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
    json!({
        "incarnation": incarnation,
        "key": key,
        "keepAlive": keep_alive,
        "ports": ports,
        "by": by,
        "trust": trust,
        "forwarded": forwarded,
        "memory": { "announced": millis(session_idle), "presented": millis(key_idle) },
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_live_workers_never_have_one_number() {
        let live = |ids: &[u32]| ids.iter().copied().collect();
        assert_eq!(free_id(0, 4, &live(&[])), 1);
        assert_eq!(free_id(3, 4, &live(&[1, 2, 3])), 4);
        assert_eq!(free_id(1, 4, &live(&[1, 2, 3, 4])), 5);
        assert_eq!(free_id(1, 4, &live(&[1, 2, 3, 4, 5, 7])), 6);
        // Slots that were removed and came back, while successors have their numbers.
        assert_eq!(free_id(4, 8, &live(&[1, 2, 5])), 9);
        assert_eq!(free_id(u16::MAX, u16::MAX, &live(&[65_536])), 65_537);
    }
}
