//! The user, directory and limits of workers, from the command line.

use anyhow::{Context, anyhow, bail};

use crate::cli::args::ProcessArgs;
use crate::cli::command::Place;
use crate::logic::config::{ProcessConfig, ResourceLimit};
use crate::os::{account, capabilities, errors, limits};

/// How the processes of workers are set up.
pub(super) fn process(args: &ProcessArgs) -> anyhow::Result<ProcessConfig> {
    let account = account::find(args.user.as_deref(), args.group.as_deref());
    args.rlimit.iter().try_for_each(check_limit).context("--rlimit")?;
    Ok(ProcessConfig {
        account: account?,
        no_new_privs: args.no_new_privs,
        umask: args.umask,
        limits: args.rlimit.clone(),
        subreaper: args.subreaper,
        forward: args.forward.clone(),
    })
}

/// Where the command is run, with the variables that it has there.
pub(super) fn place(args: &ProcessArgs) -> anyhow::Result<Place> {
    let mut place = Place::of(args.chdir.as_deref()).map_err(|error| {
        anyhow!(
            "cannot find out the current directory: {}; if it was removed, start sticky-run with \
             --chdir DIRECTORY, an absolute one",
            errors::text(&error)
        )
    })?;
    if let Some(directory) = &args.chdir {
        // Whether the workers may enter it, only they can find out.
        match place.directory.metadata() {
            Ok(found) if found.is_dir() => {}
            Ok(_) => bail!("--chdir {}: it is no directory", directory.display()),
            Err(error) => bail!("--chdir {}: {}", directory.display(), errors::text(&error)),
        }
    }
    for (name, value) in &args.env {
        place.set(name, value);
    }
    Ok(place)
}

fn check_limit(limit: &ResourceLimit) -> anyhow::Result<()> {
    let raises = limits::raises(limit).context("cannot read the limit")?;
    if raises && !capabilities::may_raise_limits() {
        let name = limits::name(limit.resource);
        bail!(
            "the hard limit of {name} is lower, and only root with CAP_SYS_RESOURCE can raise it; \
             ask for less, or raise it before sticky-run starts"
        );
    }
    Ok(())
}
