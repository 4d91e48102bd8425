//! What the supervisor does about its own rights, once everything is open that needs them.

use std::process;

use anyhow::Context;
use tracing::{error, info, warn};

use crate::logic::config::{Account, ProcessConfig};
use crate::os::listen::Listener;
use crate::os::{capabilities, errors, limits, reap};

/// Gives up what only the start needed, and says what is kept.
///
/// Rights that cannot be given up are an error in the log and no reason not to serve. After an upgrade
/// in place it is done again, to what came by it.
pub(super) fn settle<'a>(
    config: &ProcessConfig,
    listeners: impl Iterator<Item = &'a Listener>,
) -> anyhow::Result<()> {
    if process::id() != 1 {
        reap::adopt_orphans(config.subreaper)
            .context("cannot adopt what workers leave behind (--subreaper)")?;
    }
    let Some(account) = &config.account else { return Ok(()) };
    for listener in listeners {
        if let Err(error) = listener.give_to(account.uid, account.gid) {
            let error = errors::text(&error);
            warn!("cannot give {listener} to the user and group of the workers: {error}");
        }
    }
    if !account.is_unprivileged() {
        info!("workers run as {}", name(account));
        return Ok(());
    }
    let raises = config.limits.iter().any(|limit| limits::raises(limit).unwrap_or(false));
    match capabilities::keep_needed(raises) {
        Ok(kept) => info!(
            "workers run as {}; the supervisor keeps {} and no other capability",
            name(account),
            kept.join(", ")
        ),
        Err(error) => error!(
            "workers run as {}, but the supervisor cannot give up its capabilities: {}",
            name(account),
            errors::text(&error)
        ),
    }
    Ok(())
}

fn name(account: &Account) -> String {
    let user = account.uid.map(|uid| format!("user {uid}, ")).unwrap_or_default();
    let groups: Vec<_> = account.groups.iter().map(ToString::to_string).collect();
    let groups = if groups.is_empty() { "none".to_owned() } else { groups.join(", ") };
    format!("{user}group {} (supplementary: {groups})", account.gid)
}
