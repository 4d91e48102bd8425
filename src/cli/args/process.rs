//! The flags about the process of a worker: user, directory, limits, environment, signals.

use std::ffi::OsString;
use std::path::PathBuf;

use nix::sys::signal::Signal;

use crate::cli::values::{limit, umask, variable_pair};
use crate::logic::config::ResourceLimit;
use crate::os::signals::forwardable;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Process")]
pub(in crate::cli) struct ProcessArgs {
    /// Run workers as this user
    ///
    /// A name in /etc/passwd (no other source of users is asked), or a number. Workers get the user's
    /// group, unless --group names another, the groups that /etc/group gives the user, and HOME, USER
    /// and LOGNAME. Unix sockets of --listen belong to the user, and are created with the rights of
    /// root only where the user cannot move the directory.
    ///
    /// The supervisor does not change its user, but once its listeners are open it drops all
    /// capabilities except those that it needs to start and signal workers and to listen: CAP_KILL,
    /// CAP_SETGID, CAP_SETUID, CAP_NET_BIND_SERVICE, and CAP_SYS_RESOURCE if a --rlimit raises a limit.
    /// Workers cannot get the others back either. Without CAP_DAC_OVERRIDE, root too needs permission
    /// to read the files of --config and COMMAND (for HUP), to execute sticky-run (for USR2) and to
    /// write to the directories of Unix sockets (to remove them). At the start the log warns of what it
    /// is not permitted to do, and if the user can change sticky-run or the file of --config, which
    /// would make the user root at the next upgrade.
    ///
    /// Unix sockets that Node workers ask for are created with the rights of the user alone. Ports
    /// below 1024 are opened for them too: start the supervisor without CAP_NET_BIND_SERVICE if they
    /// should have none.
    #[arg(long, value_name = "NAME|UID", env = "STICKY_USER", hide_env_values = true)]
    pub(in crate::cli) user: Option<String>,

    /// Run workers as this group
    ///
    /// A name in /etc/group, or a number. Without --user, it is the only group that workers have.
    #[arg(long, value_name = "NAME|GID", env = "STICKY_GROUP", hide_env_values = true)]
    pub(in crate::cli) group: Option<String>,

    /// Keep workers from gaining privileges by execve (PR_SET_NO_NEW_PRIVS)
    #[arg(long, env = "STICKY_NO_NEW_PRIVS", hide_env_values = true)]
    pub(in crate::cli) no_new_privs: bool,

    /// Run workers in this directory
    #[arg(
        long,
        value_name = "DIR",
        env = "STICKY_CHDIR",
        hide_env_values = true,
        value_hint = clap::ValueHint::DirPath
    )]
    pub(in crate::cli) chdir: Option<PathBuf>,

    /// The file mode creation mask of workers, such as 027
    #[arg(long, value_name = "OCTAL", env = "STICKY_UMASK", hide_env_values = true,
        value_parser = umask)]
    pub(in crate::cli) umask: Option<u32>,

    /// Limit a resource of each worker; can be given several times
    ///
    /// The names are those of setrlimit(2) in lower case without RLIMIT_, such as nofile, core, as or
    /// nproc. A limit is a number in the unit that is given there, or unlimited. SOFT alone sets the
    /// hard limit as well. In the variable, several are separated by commas.
    #[arg(long, value_name = "NAME=SOFT[:HARD]", env = "STICKY_RLIMIT", hide_env_values = true,
        value_delimiter = ',', value_parser = limit)]
    pub(in crate::cli) rlimit: Vec<ResourceLimit>,

    /// Set a variable in the environment of workers; can be given several times
    ///
    /// {id} in VALUE, as in the arguments of COMMAND, is replaced by the slot of the worker: 0, 1 and so
    /// on. While a worker is replaced, two workers have the same slot. The variable STICKY_ENV holds one
    /// pair. --check and the log do not show values.
    #[arg(long, value_name = "NAME=VALUE", env = "STICKY_ENV", hide_env_values = true,
        value_parser = variable_pair)]
    pub(in crate::cli) env: Vec<(OsString, OsString)>,

    /// Adopt and reap orphaned descendants of workers (PR_SET_CHILD_SUBREAPER)
    ///
    /// Process 1 does that in any case.
    #[arg(long, env = "STICKY_SUBREAPER", hide_env_values = true)]
    pub(in crate::cli) subreaper: bool,

    /// Forward this signal to the workers, as USR1 always is; can be given several times
    ///
    /// It goes to the first process of each worker. Signals that the supervisor handles itself cannot be
    /// forwarded; WINCH, URG, IO, STKFLT, ALRM, VTALRM, PROF and PWR can. In the variable, several are
    /// separated by commas.
    #[arg(long, value_name = "SIGNAL", env = "STICKY_FORWARD", hide_env_values = true,
        value_delimiter = ',', value_parser = forwardable)]
    pub(in crate::cli) forward: Vec<Signal>,
}
