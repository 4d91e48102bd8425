//! The flags about the log and the output of workers.

use crate::cli::values::{LogFormatArg, LogLevel};

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Log")]
pub(in crate::cli) struct LogArgs {
    /// How much to log
    #[arg(
        long,
        value_name = "LEVEL",
        env = "STICKY_LOG_LEVEL",
        hide_env_values = true,
        default_value = "info"
    )]
    pub(in crate::cli) log_level: LogLevel,

    /// The format of log lines
    ///
    /// "json" writes one object a line, with "timestamp" (RFC 3339, UTC), "level", "event", "message" and
    /// the event's own fields, such as "worker" (its slot) and "pid". sticky-run-log(7) lists all events;
    /// programs should match these and not messages. An error in the flags themselves, or in the file of
    /// --config, is reported as text, since the format is not known by then.
    ///
    /// Where standard error is connected to the journal, as systemd says in JOURNAL_STREAM, lines of
    /// "text" begin with a priority such as <4> instead of time and level. The journal removes it and
    /// records both itself: "journalctl -p warning" finds what went wrong. "json" is the same
    /// everywhere, and so are the lines of --prefix-output.
    ///
    /// In names that clients, workers and others choose, line breaks, control characters and invisible
    /// characters are escaped, as "\n" or "\u{1b}"; "json" has its own escapes for these. Lines of one
    /// kind about one worker, or about none, are limited to a burst of 100 and two a second after it; a
    /// line says how many were left out. At the levels "debug" and "trace" none is left out.
    #[arg(
        long,
        value_name = "FORMAT",
        env = "STICKY_LOG_FORMAT",
        hide_env_values = true,
        default_value = "text"
    )]
    pub(in crate::cli) log_format: LogFormatArg,

    /// Prefix each line of worker output with the number of the worker
    ///
    /// Without it, workers write to the standard output and error of sticky-run directly. With it,
    /// sticky-run reads what they write, and writes each line with its slot in front, as in
    /// "[2] ready"; with --log-format json it writes objects with "timestamp", "level", "worker" (its
    /// slot), "pid", "stream" (stdout or stderr) and "text". A line of more than about 4000 bytes is
    /// split; its further parts begin with "[2+] ", or have "continued". Workers are never blocked: when
    /// nobody reads the output and 256 KiB of a slot are buffered, lines are dropped, and a line in
    /// their place says how many.
    ///
    /// The output itself is not changed, colours and other terminal sequences included: read output that
    /// you do not trust with "less" or "cat -v". With json it is escaped as JSON requires.
    ///
    /// When a worker has exited, processes that it left behind may write for another second; then their
    /// pipe is closed, and writing to it fails (EPIPE).
    #[arg(long, env = "STICKY_PREFIX_OUTPUT", hide_env_values = true)]
    pub(in crate::cli) prefix_output: bool,
}
