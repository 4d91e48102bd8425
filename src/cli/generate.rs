//! What is generated from the declaration of the flags: the manual page and shell completions.

use std::io;

use clap::{Arg, Command, CommandFactory, ValueHint};
use clap_complete::Shell;
use roff::{Roff, roman};

use super::args::Args;
use super::values::Generate;

/// The text asked for.
pub(super) fn text(what: Generate) -> io::Result<Vec<u8>> {
    let mut command = Args::command();
    let mut text = Vec::new();
    let shell = match what {
        Generate::Man => {
            page(command, &mut text)?;
            return Ok(text);
        }
        Generate::CompleteBash => Shell::Bash,
        Generate::CompleteZsh => Shell::Zsh,
        Generate::CompleteFish => Shell::Fish,
    };
    command = command.mut_args(without_files);
    clap_complete::generate(shell, &mut command, "sticky-run", &mut text);
    Ok(text)
}

/// Has nobody be offered files for a value that is none.
fn without_files(arg: Arg) -> Arg {
    let takes_any = arg.get_value_hint() == ValueHint::Unknown && arg.get_action().takes_values();
    let is_open = takes_any && arg.get_long().is_some();
    if is_open { arg.value_hint(ValueHint::Other) } else { arg }
}

/// The manual page. What the help ends with has its own sections here, each line as it is there.
fn page(command: Command, text: &mut Vec<u8>) -> io::Result<()> {
    let end = command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
    clap_mangen::Man::new(command.after_long_help(None::<&str>)).render(text)?;
    let mut sections = Roff::new();
    for paragraph in end.split("\n\n") {
        let (heading, lines) = match paragraph.split_once(":\n") {
            Some((heading, lines)) if !heading.starts_with(' ') => (Some(heading), lines),
            // It belongs to the heading above.
            Some(_) | None => (None, paragraph),
        };
        match heading {
            Some(heading) => sections.control("SH", [heading.to_uppercase().as_str()]),
            None => sections.control("PP", []),
        };
        sections.control("nf", []).text([roman(lines)]).control("fi", []);
    }
    text.extend_from_slice(sections.to_roff().as_bytes());
    Ok(())
}
