//! How the program ends: one line of error and one exit code.

use std::error::Error;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::log;
use crate::engine::CommandError;
use crate::logic::config::LogFormat;
use crate::logic::fleet::Outcome;

/// Nothing else says more.
const FAILURE: u8 = 1;
/// The command line is wrong.
const USAGE: u8 = 2;
/// The command cannot be run (POSIX shell, "Exit Status for Commands").
const CANNOT_RUN: u8 = 126;
/// The command is not found (likewise).
const NOT_FOUND: u8 = 127;

/// What was typed, or is set in the environment, means nothing: the command line is wrong.
#[derive(Debug, thiserror::Error)]
#[error("{0:#} (see sticky-run --help)")]
struct Usage(anyhow::Error);

/// An error of what was typed or is set; one of clap's is that already.
pub(super) fn usage(error: anyhow::Error) -> anyhow::Error {
    if error.is::<clap::Error>() { error } else { Usage(error).into() }
}

/// The exit code of a fleet that has finished.
pub(super) fn code(outcome: Outcome) -> ExitCode {
    match outcome {
        Outcome::Stopped => ExitCode::SUCCESS,
        Outcome::NeverReady => ExitCode::FAILURE,
    }
}

/// Says what went wrong, and the exit code for it.
pub(super) fn fail(error: &anyhow::Error, format: LogFormat) -> ExitCode {
    if let Some(usage) = error.downcast_ref::<clap::Error>() {
        return fail_usage(usage, format);
    }
    let code = match error.downcast_ref::<CommandError>() {
        _ if error.is::<Usage>() => USAGE,
        Some(error) if error.is_not_found() => NOT_FOUND,
        Some(_) => CANNOT_RUN,
        None => FAILURE,
    };
    log::say_last(&format!("{error:#}"), code, format);
    ExitCode::from(code)
}

/// Asked-for help is no failure; everything else is told in one line.
fn fail_usage(error: &clap::Error, format: LogFormat) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        // A reader that went away, such as a pager, is no failure either.
        return match error.print() {
            Ok(()) | Err(_) => ExitCode::SUCCESS,
        };
    }
    let line = format!("{} (see sticky-run --help)", in_one_line(error));
    log::say_last(&line, USAGE, format);
    ExitCode::from(USAGE)
}

/// The first paragraph of clap's message, without its label, and what was probably meant.
pub(super) fn in_one_line(error: &clap::Error) -> String {
    let line = first_paragraph(&error.to_string());
    match meant(error) {
        Some(meant) => format!("{line} (did you mean {meant}?)"),
        None => line,
    }
}

/// Why a value is none, where the type of the value says it.
pub(super) fn reason(error: &clap::Error) -> Option<String> {
    Some(error.source()?.to_string())
}

/// What is similar to what was typed.
fn meant(error: &clap::Error) -> Option<&str> {
    let kinds = [ContextKind::SuggestedArg, ContextKind::SuggestedValue];
    kinds.into_iter().find_map(|kind| match error.get(kind)? {
        ContextValue::String(one) => Some(one.as_str()),
        // The most similar one is the last.
        ContextValue::Strings(several) => several.last().map(String::as_str),
        _ => None,
    })
}

fn first_paragraph(message: &str) -> String {
    let message = message.strip_prefix("error: ").unwrap_or(message);
    let paragraph = message.split("\n\n").next().unwrap_or(message);
    paragraph.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::args::Args;

    #[test]
    fn a_message_of_several_lines_becomes_one() {
        let message = "error: the following are missing:\n  <COMMAND>\n\nUsage: sticky-run\n";
        assert_eq!(first_paragraph(message), "the following are missing: <COMMAND>");
    }

    #[test]
    fn what_was_probably_meant_is_said() {
        for (words, meant) in [
            ("sticky-run --worker 4 -- a", "'--worker' found (did you mean --workers?)"),
            ("sticky-run --kep-alive=close -- a", "(did you mean --keep-alive?)"),
            ("sticky-run --balance roundrobin -- a", "(did you mean round-robin?)"),
            ("sticky-run --log-format jsn -- a", "(did you mean json?)"),
        ] {
            let error = Args::try_parse_from(words.split(' ')).unwrap_err();
            let line = in_one_line(&error);
            assert!(line.ends_with(meant) && !line.contains('\n'), "{line}");
        }
        let error = Args::try_parse_from(["sticky-run", "--xyz"]).unwrap_err();
        assert!(!in_one_line(&error).contains("did you mean"), "{error}");
    }
}
