//! Connections that workers give back: each a limited number of times.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How often workers may give one connection back before it is closed. More than there are workers
/// in most fleets, so that each of them is asked. As often it may come back for its next request until
/// somebody looks whether it is the same one still.
pub const MAX_RETURNS: u32 = 64;
/// How often such a look may find as many bytes unread as the one before, where nobody can tell how many were
/// read. Clients that ask before they are answered may make it look like that for a while.
const MAX_ALIKE: u32 = 16;
/// How many connections are remembered.
const REMEMBERED: usize = 4096;

/// How far the workers are with what a client has sent.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Progress {
    /// They have read so many bytes.
    Read(u64),
    /// So many are left to be read; the kernel does not say more.
    Unread(u64),
}

/// How often connections came back, by the identity of their sockets.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Returns {
    counts: BTreeMap<u64, u32>,
    #[serde(default)]
    next: BTreeMap<u64, Streak>,
}

/// The returns of a connection for its next request.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
struct Streak {
    /// How often it came back since the last look.
    count: u32,
    /// What the last look found, and how many before it.
    found: Option<(Progress, u32)>,
}

/// Whether somebody has to look at a connection that came back for its next request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Next {
    /// Not this time.
    Fine,
    /// Look how far the workers are with it, and say so to [`Returns::goes_round`].
    Look,
}

impl Returns {
    /// Counts that this connection came back; returns whether that was once too often.
    pub fn count(&mut self, socket: u64) -> bool {
        let count = entry(&mut self.counts, socket);
        *count += 1;
        *count > MAX_RETURNS
    }

    /// Counts that this connection came back for its next request; says now and then that somebody has to look
    /// whether anybody reads it.
    pub fn count_next(&mut self, socket: u64) -> Next {
        let streak = entry(&mut self.next, socket);
        streak.count += 1;
        if streak.count <= MAX_RETURNS {
            return Next::Fine;
        }
        streak.count = 0;
        Next::Look
    }

    /// What such a look has found; returns whether the connection goes round without anybody reading it.
    pub fn goes_round(&mut self, socket: u64, progress: Progress) -> bool {
        let streak = entry(&mut self.next, socket);
        let alike = match streak.found {
            Some((before, alike)) if before == progress && progress != Progress::Unread(0) => {
                alike + 1
            }
            Some(_) | None => 0,
        };
        streak.found = Some((progress, alike));
        match progress {
            Progress::Read(_) => alike > 0,
            Progress::Unread(_) => alike > MAX_ALIKE,
        }
    }
}

/// What is remembered of a socket. Sockets get rising numbers, so the one that is forgotten for a new one is the
/// oldest.
fn entry<T: Default>(entries: &mut BTreeMap<u64, T>, socket: u64) -> &mut T {
    if entries.len() >= REMEMBERED && !entries.contains_key(&socket) {
        entries.pop_first();
    }
    entries.entry(socket).or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_holds_however_many_come_back_at_once() {
        let mut returns = Returns::default();
        for _ in 0..MAX_RETURNS {
            assert!((0..2_000).all(|socket| !returns.count(socket)));
        }
        assert!((0..2_000).all(|socket| returns.count(socket)));
        // What is forgotten starts anew, and memory stays bounded.
        (10_000..20_000).for_each(|socket| assert!(!returns.count(socket)));
        assert_eq!(returns.counts.len(), REMEMBERED);
    }

    /// After how many returns a connection is too much, if that is soon.
    fn limit(progress: impl Fn(u64) -> Progress) -> Option<u64> {
        let mut returns = Returns::default();
        (1..100_000).find(|nth| {
            returns.count_next(7) == Next::Look && returns.goes_round(7, progress(*nth))
        })
    }

    #[test]
    fn a_connection_may_come_back_for_its_next_request_as_long_as_somebody_reads_it() {
        assert_eq!(limit(Progress::Read), None);
        // Not all of its requests have to be read in between.
        assert_eq!(limit(|nth| Progress::Read(nth / 60)), None);
        assert_eq!(limit(|_| Progress::Read(5)), Some(130));
        // The kernel does not always say what was read.
        assert_eq!(limit(|_| Progress::Unread(0)), None);
        assert_eq!(limit(|nth| Progress::Unread(nth % 3)), None);
        assert_eq!(limit(|_| Progress::Unread(9)), Some(18 * 65));
    }
}
