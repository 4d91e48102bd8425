//! Who workers are and what surrounds them, from what was typed.

use std::ffi::OsString;

use anyhow::{Context, bail};

use crate::cli::args::ProcessArgs;
use crate::cli::command::Place;
use crate::logic::config::{Account, Limit, ProcessConfig};
use crate::os::{account, capabilities, limits};

/// How the processes of workers are set up.
pub(super) fn process(args: &ProcessArgs) -> anyhow::Result<ProcessConfig> {
    let account = account::find(args.user.as_deref(), args.group.as_deref());
    args.rlimit.iter().try_for_each(check_limit).context("--rlimit")?;
    Ok(ProcessConfig {
        account: account.context("--user or --group")?,
        no_new_privs: args.no_new_privs,
        umask: args.umask,
        limits: args.rlimit.clone(),
        subreaper: args.subreaper,
        forward: args.forward.clone(),
    })
}

/// Where the command is run, and the variables that differ there from those of the supervisor.
pub(super) fn place(
    args: &ProcessArgs,
    account: Option<&Account>,
) -> anyhow::Result<(Place, Vec<(OsString, OsString)>)> {
    let mut place = Place::here().context("cannot find out the current directory")?;
    if let Some(directory) = &args.chdir {
        place.enter(directory);
        let found = place
            .directory
            .metadata()
            .with_context(|| format!("--chdir: cannot look at {}", place.directory.display()))?;
        if !found.is_dir() {
            bail!("--chdir: {} is no directory", place.directory.display());
        }
    }
    let mut variables = Vec::new();
    if let Some((name, home)) = account.and_then(|account| account.home.clone()) {
        variables.push(("LOGNAME".into(), name.clone()));
        variables.push(("USER".into(), name));
        variables.push(("HOME".into(), home));
    }
    variables.extend(args.env.iter().cloned());
    for (name, value) in &variables {
        place.set(name, value);
    }
    Ok((place, variables))
}

fn check_limit(limit: &Limit) -> anyhow::Result<()> {
    let raises = limits::raises(limit).context("cannot read the limit")?;
    if raises && !capabilities::may_raise_limits() {
        let name = limits::name(limit.resource);
        bail!("only root can raise the hard limit of {name}; ask for less, or raise it outside");
    }
    Ok(())
}
