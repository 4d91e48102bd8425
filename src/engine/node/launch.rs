//! How a Node worker is started: what it finds in its environment.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::AsRawFd;

use serde_json::json;

use super::{Node, NodeLink};
use crate::channel::node::Serialization;
use crate::engine::Engine;
use crate::logic::Worker;
use crate::logic::config::KeepAlive;
use crate::logic::route::mint::MintKey;

/// The files of the preload; Node loads the first one.
pub(super) const PRELOAD: &[(&str, &str)] = &[
    ("index.cjs", include_str!("../../../workers/node/preload/index.cjs")),
    ("connections.cjs", include_str!("../../../workers/node/preload/connections.cjs")),
    ("engine.cjs", include_str!("../../../workers/node/preload/engine.cjs")),
    ("environment.cjs", include_str!("../../../workers/node/preload/environment.cjs")),
    ("handback.cjs", include_str!("../../../workers/node/preload/handback.cjs")),
    ("handles.cjs", include_str!("../../../workers/node/preload/handles.cjs")),
    ("loading.cjs", include_str!("../../../workers/node/preload/loading.cjs")),
    ("packages.cjs", include_str!("../../../workers/node/preload/packages.cjs")),
    ("requests.cjs", include_str!("../../../workers/node/preload/requests.cjs")),
    ("servers.cjs", include_str!("../../../workers/node/preload/servers.cjs")),
    ("sessions.cjs", include_str!("../../../workers/node/preload/sessions.cjs")),
    ("sids.cjs", include_str!("../../../workers/node/preload/sids.cjs")),
    ("supervisor.cjs", include_str!("../../../workers/node/preload/supervisor.cjs")),
];

/// The number of a worker in Node's `cluster`, which counts from 1 (`cluster.worker.id`).
pub(super) fn id(worker: Worker) -> u32 {
    u32::from(worker.slot) + 1
}

impl Node {
    /// A link for a worker that is about to be started.
    pub(in crate::engine) fn new_link(&self) -> io::Result<NodeLink> {
        NodeLink::new(self.config.serialization)
    }
}

impl Engine {
    /// What a worker finds in its environment.
    pub(in crate::engine) fn node_environment(
        &mut self,
        worker: Worker,
        link: &NodeLink,
    ) -> io::Result<Vec<(OsString, OsString)>> {
        let incarnation = self.router.incarnate(worker);
        let mint = self.mint.clone();
        let node = self.node_mut();
        let serialization = match node.config.serialization {
            Serialization::Json => "json",
            Serialization::Advanced => "advanced",
        };
        let channel = link.workers_end().as_raw_fd();
        let mut environment = node.config.environment.clone();
        environment.extend([
            ("NODE_CHANNEL_FD".into(), channel.to_string().into()),
            ("NODE_CHANNEL_SERIALIZATION_MODE".into(), serialization.into()),
            ("NODE_UNIQUE_ID".into(), id(worker).to_string().into()),
        ]);
        if let (Some(keep_alive), Some(preload), Some(key), Some(incarnation)) =
            (node.config.preload, &mut node.preload, mint, incarnation)
        {
            let (index, _) = PRELOAD[0];
            let path = preload.path(index)?;
            let options = with_require(&node.config.options, &path.to_string_lossy());
            environment.extend([
                ("NODE_OPTIONS".into(), options),
                ("STICKY_NODE".into(), settings(keep_alive, incarnation, &key).into()),
            ]);
        }
        Ok(environment)
    }
}

/// The user's `NODE_OPTIONS` and one more.
fn with_require(options: &OsStr, path: &str) -> OsString {
    let mut options = options.to_owned();
    if !options.is_empty() {
        options.push(" ");
    }
    options.push(format!("--require \"{}\"", path.replace('\\', "\\\\").replace('"', "\\\"")));
    options
}

/// What the preload is told, as JSON.
fn settings(keep_alive: KeepAlive, incarnation: u16, MintKey(key): &MintKey) -> String {
    let keep_alive = match keep_alive {
        KeepAlive::Close => "close",
        KeepAlive::HandBack => "handback",
        KeepAlive::Ignore => "off",
    };
    let key: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    json!({ "incarnation": incarnation, "key": key, "keepAlive": keep_alive }).to_string()
}
