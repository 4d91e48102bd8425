//! What the supervisor does about its own rights, once everything is open that needs them.

use std::{io, process};

use anyhow::{Context, bail};
use nix::unistd::geteuid;
use tracing::{error, info, warn};

use super::Source;
use crate::logic::config::{Account, Config, SocketConfig};
use crate::os::exposed::weak_spot;
use crate::os::listen::Listener;
use crate::os::upgrade::Program;
use crate::os::{capabilities, errors, limits, reap};

/// Gives up what only the start needed, and says what is kept.
///
/// Rights that cannot be given up are an error in the log and no reason not to serve. After an upgrade
/// in place it is done again, to what came by it.
pub(super) fn settle<'a>(
    config: &Config,
    listeners: impl Iterator<Item = &'a Listener> + Clone,
    program: &Program,
    source: &dyn Source,
) -> anyhow::Result<()> {
    let process = &config.process;
    if process::id() != 1 {
        reap::adopt_orphans(process.subreaper)
            .context("cannot adopt what workers leave behind (--subreaper)")?;
    }
    set_files(config, listeners.clone())?;
    let Some(account) = &process.account else { return Ok(()) };
    if !account.is_unprivileged() {
        info!(name: "account_changed", "workers run as {}", name(account));
        return Ok(());
    }
    let raises = process.limits.iter().any(|limit| limits::raises(limit).unwrap_or(false));
    match capabilities::keep_needed(raises) {
        Ok(kept) => {
            info!(
                name: "privileges_dropped", kept = kept.join(","),
                "workers run as {}; the supervisor keeps {} and no other capability",
                name(account),
                kept.join(", ")
            );
            warn_of_loss(config, listeners, program, source);
            warn_of_exposure(account, program, source);
        }
        Err(error) => error!(
            name: "privileges_kept", %error,
            "workers run as {}, but the supervisor cannot drop its capabilities: {}",
            name(account),
            errors::text(&error)
        ),
    }
    Ok(())
}

/// Has the files of Unix sockets be whose they should, and have the mode that they should.
///
/// Those that workers have asked for are the workers', and so are those of which nobody said otherwise.
/// Only what was asked for has to be had.
fn set_files<'a>(
    config: &Config,
    listeners: impl Iterator<Item = &'a Listener>,
) -> anyhow::Result<()> {
    let account = config.process.account.as_ref();
    let (uid, gid) = (account.and_then(|account| account.uid), account.map(|account| account.gid));
    for listener in listeners {
        let is_asked = listener.about().asked().is_some();
        let asked = if is_asked { config.socket } else { SocketConfig::default() };
        let SocketConfig { mode, uid: own_uid, gid: own_gid } = asked;
        let Err(error) = listener.set_file(own_uid.or(uid), own_gid.or(gid), mode) else {
            continue;
        };
        let error = errors::text(&error);
        if asked == SocketConfig::default() {
            warn!(
                name: "socket_file_failed", address = listener.bound_to(), error,
                "cannot give {listener} to the user and group of the workers: {error}"
            );
        } else {
            bail!(
                "cannot give {listener} the user, group and mode of --socket-user, --socket-group and \
                 --socket-mode: {error} (only root can give files away, others to a group that they are in)"
            );
        }
    }
    Ok(())
}

/// Says what will fail later for want of the rights that were given up, before anybody needs it.
fn warn_of_loss<'a>(
    config: &Config,
    listeners: impl Iterator<Item = &'a Listener>,
    program: &Program,
    source: &dyn Source,
) {
    let why = "since the supervisor has given up CAP_DAC_OVERRIDE (--user)";
    let me = me();
    match source.rehearse() {
        Ok(again) if again.handoff.name() == config.handoff.name() => {}
        Ok(_) => warn!(
            name: "reload_unavailable",
            "HUP and USR2 will fail, {why}: the command's files cannot be read, so it is no longer \
             recognised as Node; let {me} read them, or add --handoff"
        ),
        Err(error) => warn!(
            name: "reload_unavailable", %error,
            "HUP and USR2 will fail, {why}: {error:#}; let {me} read it"
        ),
    }
    if let Err(error) = program.may_be_executed()
        && error.kind() == io::ErrorKind::PermissionDenied
    {
        let (path, error) = (program.path().display(), errors::text(&error));
        warn!(
            name: "upgrade_unavailable", error,
            "USR2 will fail, {why}: cannot execute {path}: {error}; let {me} execute it"
        );
    }
    for listener in listeners {
        if let Err(error) = listener.file_may_be_removed() {
            let error = errors::text(&error);
            warn!(
                name: "socket_file_kept", address = listener.bound_to(), error,
                "{listener} will not be removed at a stop, {why}: cannot write to its directory: \
                 {error}; let {me} write there, or remove it by other means"
            );
        }
    }
}

/// Says what workers could change of what the supervisor runs and obeys with more rights than they have.
fn warn_of_exposure(account: &Account, program: &Program, source: &dyn Source) {
    if account.uid == Some(geteuid().as_raw()) {
        return;
    }
    let things = [Some(("program", program.path())), source.file().map(|file| ("file", file))];
    let weak = things.into_iter().flatten().filter_map(|(what, path)| {
        let spot = weak_spot(path, account)?;
        let by = if spot == path { String::new() } else { format!(" by {}", spot.display()) };
        Some(format!("its {what} {}{by}", path.display()))
    });
    let weak: Vec<_> = weak.collect();
    if !weak.is_empty() {
        let (weak, me) = (weak.join(" and "), me());
        warn!(
            name: "supervisor_exposed",
            "workers can run code as {me} at the next HUP, USR2 or start: they can change {weak}; \
             let only {me} write there"
        );
    }
}

/// Who this process is, for the log.
fn me() -> String {
    match geteuid() {
        uid if uid.is_root() => "root".to_owned(),
        uid => format!("user {uid}"),
    }
}

fn name(account: &Account) -> String {
    let user = account.uid.map(|uid| format!("user {uid}, ")).unwrap_or_default();
    let groups: Vec<_> = account.groups.iter().map(ToString::to_string).collect();
    let groups = if groups.is_empty() { "none".to_owned() } else { groups.join(", ") };
    format!("{user}group {} (supplementary: {groups})", account.gid)
}
