//! What workers are besides their command.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use nix::sys::resource::{Resource, rlim_t};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

/// What stands for the slot in arguments and variables.
const SLOT: &[u8] = b"{id}";

/// How the processes of workers are set up.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ProcessConfig {
    /// Who workers are, if not who the supervisor is.
    pub account: Option<Account>,
    /// Whether nothing that they execute can give them more rights.
    pub no_new_privs: bool,
    /// The file mode creation mask, if not that of the supervisor.
    pub umask: Option<u32>,
    /// Limits that differ from those of the supervisor, the later ones in front.
    pub limits: Vec<ResourceLimit>,
    /// Whether the supervisor adopts what workers leave behind.
    pub subreaper: bool,
    /// Signals that are forwarded besides `USR1`.
    pub forward: Vec<Signal>,
}

/// Who a worker is.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Account {
    /// The user; none, where only the group differs.
    pub uid: Option<u32>,
    /// The group.
    pub gid: u32,
    /// All supplementary groups.
    pub groups: Vec<u32>,
    /// The name and the home of the user, if the user has an entry.
    pub home: Option<(OsString, OsString)>,
}

/// A limit of `setrlimit(2)`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ResourceLimit {
    /// Of what.
    pub resource: Resource,
    /// In force.
    pub soft: rlim_t,
    /// The most that the worker can raise it to.
    pub hard: rlim_t,
}

impl Account {
    /// Whether workers are somebody without the rights of root.
    pub fn is_unprivileged(&self) -> bool {
        self.uid.is_some_and(|uid| uid != 0)
    }
}

/// The text with the number of a slot in place of each `{id}`; other braces stay as they are.
pub fn with_slot(text: &OsStr, slot: u16) -> OsString {
    let mut replaced = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some(byte) = rest.first() {
        if let Some(after) = rest.strip_prefix(SLOT) {
            replaced.extend_from_slice(slot.to_string().as_bytes());
            rest = after;
        } else {
            replaced.push(*byte);
            rest = &rest[1..];
        }
    }
    OsString::from_vec(replaced)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_placeholder_is_replaced() {
        for (text, replaced) in [
            ("", ""),
            ("--port=300{id}", "--port=30012"),
            ("{id}{id}", "1212"),
            ("{\"id\":1}", "{\"id\":1}"),
            ("{ id} {ID} {id", "{ id} {ID} {id"),
            ("{{id}}", "{12}"),
            ("{i{id}d}", "{i12d}"),
        ] {
            assert_eq!(with_slot(OsStr::new(text), 12), replaced);
        }
        let bytes = OsStr::from_bytes(b"\xff{id}\xfe");
        assert_eq!(with_slot(bytes, 3).as_bytes(), b"\xff3\xfe");
    }
}
