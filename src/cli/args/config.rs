//! The configuration file, and checking a configuration.

use std::path::PathBuf;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Configuration")]
pub(in crate::cli) struct ConfigArgs {
    /// Read flags from this file
    ///
    /// The file is TOML. It uses the names of the flags: workers = 4, by = "sid", grace = "25s",
    /// listen = [":3000", "unix:/run/app.sock"], no-node-preload = true; and command = ["node",
    /// "server.js"]. A flag overrides its variable, and a variable overrides the file; lists are
    /// replaced, not merged. Relative paths are relative to the directory where sticky-run starts.
    #[arg(
        short,
        long,
        value_name = "FILE",
        env = "STICKY_CONFIG",
        hide_env_values = true,
        value_hint = clap::ValueHint::FilePath
    )]
    pub(in crate::cli) config: Option<PathBuf>,

    /// Check the configuration, print it and exit
    ///
    /// The output is a complete file for --config, with a comment that says where each value comes
    /// from. Nothing is listened on and no worker is started. Exit codes are those of a start. The
    /// values of --env may be secrets, so they are left out: a comment says how many there are.
    #[arg(long)]
    pub(in crate::cli) check: bool,
}
