//! The door: everything is behind [`sticky_run::cli::run`].

use std::process::ExitCode;

fn main() -> ExitCode {
    sticky_run::cli::run()
}
