//! Where the values of the other flags come from, and what they amount to.

use std::path::PathBuf;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Configuration")]
pub(in crate::cli) struct ConfigArgs {
    /// Read what is not given otherwise from this file
    ///
    /// The file is TOML. Its names are those of the flags: workers = 4, by = "sid", grace = "25s",
    /// listen = [":3000", "unix:/run/app.sock"], no-node-preload = true; and command = ["node",
    /// "server.js"]. A flag wins over its variable, and that over the file; lists replace each other.
    /// Relative paths start where sticky-run was started, as those of flags do.
    #[arg(
        short,
        long,
        value_name = "FILE",
        env = "STICKY_CONFIG",
        hide_env_values = true,
        value_hint = clap::ValueHint::FilePath
    )]
    pub(in crate::cli) config: Option<PathBuf>,

    /// Check everything and print what would be run with, then exit
    ///
    /// It prints a file for --config that says all of it, with where each value comes from. Nothing is
    /// listened on and no worker is started. Exit codes are those of a start. The values of --env may be
    /// secrets, so only their number is printed, in a comment, and the file lacks them.
    #[arg(long)]
    pub(in crate::cli) check: bool,
}
