//! What is made from the declaration of the flags: the manual page and shell completions.

use std::io;

use clap::CommandFactory;
use clap_complete::Shell;

use super::args::{Args, Generate};

/// The text asked for.
pub(super) fn text(what: Generate) -> io::Result<Vec<u8>> {
    let mut command = Args::command();
    let mut text = Vec::new();
    let shell = match what {
        Generate::Man => {
            clap_mangen::Man::new(command).render(&mut text)?;
            return Ok(text);
        }
        Generate::CompleteBash => Shell::Bash,
        Generate::CompleteZsh => Shell::Zsh,
        Generate::CompleteFish => Shell::Fish,
    };
    clap_complete::generate(shell, &mut command, "sticky-run", &mut text);
    Ok(text)
}
