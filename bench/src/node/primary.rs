//! Who takes part: Node's own cluster, the packages, and sticky-run.

use std::path::Path;
use std::process::Command;

use crate::load::Stays;
use crate::supervisor::WORKERS;

/// One row of the tables.
#[derive(Debug)]
pub struct Primary {
    /// As the tables call it.
    pub name: &'static str,
    /// How it is started.
    pub kind: Kind,
    /// What it promises a client without a session.
    pub without_sid: Stays,
    /// What it promises a client with a sid; without, it is not in the table of sids.
    pub with_sid: Option<Stays>,
}

/// How a primary is started.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// As a Node program of the bench.
    Script(&'static str),
    /// As sticky-run with this key list.
    StickyRun(&'static str),
}

/// All of them. The first two are those that the others are measured against, in this order.
pub const PRIMARIES: [Primary; 5] = [
    Primary {
        name: "cluster, round robin",
        kind: Kind::Script("cluster.js"),
        without_sid: Stays::Anywhere,
        // It keeps nobody, but shows what the same requests cost without a look at them.
        with_sid: Some(Stays::Anywhere),
    },
    Primary {
        name: "@socket.io/sticky 2.0.1",
        kind: Kind::Script("socketio-sticky.js"),
        without_sid: Stays::Anywhere,
        with_sid: Some(Stays::WithSid),
    },
    Primary {
        name: "sticky-session 1.1.2",
        kind: Kind::Script("sticky-session.js"),
        without_sid: Stays::WithAddress,
        with_sid: None,
    },
    Primary {
        name: "sticky-run --by sid",
        kind: Kind::StickyRun("sid"),
        without_sid: Stays::Anywhere,
        with_sid: Some(Stays::WithSid),
    },
    Primary {
        name: "sticky-run --by ip",
        kind: Kind::StickyRun("ip"),
        without_sid: Stays::WithAddress,
        with_sid: None,
    },
];

impl Primary {
    /// The command that starts it with the bench's number of workers; `apps` is the folder of the
    /// Node programs.
    pub fn command(&self, apps: &Path, sticky_run: &Path) -> Command {
        let workers = WORKERS.to_string();
        match self.kind {
            Kind::Script(script) => {
                let mut command = Command::new("node");
                command.arg(apps.join(script)).arg(workers);
                command
            }
            Kind::StickyRun(by) => {
                let mut command = Command::new(sticky_run);
                command.args(["--workers", &workers, "--by", by, "--handoff", "node"]);
                command.args(["--", "node"]).arg(apps.join("plain.js"));
                command
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_say_the_versions_that_are_installed() {
        let wanted = include_str!("../../node/package.json");
        for name in PRIMARIES.iter().map(|primary| primary.name) {
            let Some((package, version)) = name.split_once(' ') else { continue };
            if version.starts_with(|first: char| first.is_ascii_digit()) {
                assert!(wanted.contains(&format!("\"{package}\": \"{version}\"")), "{name}");
            }
        }
    }
}
