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

    /// How log lines look
    ///
    /// "json" writes one object a line, with "timestamp" (RFC 3339, UTC), "level", "event", "message" and
    /// the event's own fields, such as "worker" (its slot) and "pid". sticky-run-log(7) lists all events;
    /// programs should look at these and not at messages. An error in the flags themselves, or
    /// in the file of --config, ends sticky-run before it knows the format, with a line of text.
    ///
    /// Where standard error is the journal's stream, as systemd says in JOURNAL_STREAM, a line of "text"
    /// has its priority in front, such as <4>, instead of its time and level. The journal takes that
    /// off and keeps both itself: "journalctl -p warning" finds what went wrong. "json" is the same
    /// everywhere, and so are the lines of --prefix-output.
    ///
    /// Names that clients, workers and others choose are shown with "\n", "\u{1b}" and the like in the place
    /// of whatever would end the line, steer a terminal or hide; "json" has its own escapes for these. Of
    /// one kind of line, there are 100 at once about one worker, or about none, and then two in a second; a
    /// line says how many were left out. At the levels "debug" and "trace" none is left out.
    #[arg(
        long,
        value_name = "FORMAT",
        env = "STICKY_LOG_FORMAT",
        hide_env_values = true,
        default_value = "text"
    )]
    pub(in crate::cli) log_format: LogFormatArg,

    /// Say with each line of output of which worker it is
    ///
    /// Without it, workers write to the standard output and error of sticky-run themselves. With it,
    /// sticky-run reads what they write, and writes each line with its slot in front, as in
    /// "[2] ready"; with --log-format json it writes objects with "timestamp", "level", "worker" (its
    /// slot), "pid", "stream" (stdout or stderr) and "text". A line of more than about 4000 bytes is cut;
    /// its further parts begin with "[2+] ", or have "continued". Workers are never held up: when nobody
    /// reads the output and 256 KiB of a slot wait, lines are dropped, and a line in their place says
    /// how many.
    ///
    /// What workers write is theirs and stays as it is, colours and everything else that a terminal obeys
    /// included: look at output that you do not trust with "less" or "cat -v". With json it is escaped as
    /// JSON asks for.
    ///
    /// When a worker has ended, processes that it left behind have 1 s for their last words; then
    /// their pipe is closed, and writing to it is an error (EPIPE) to them.
    #[arg(long, env = "STICKY_PREFIX_OUTPUT", hide_env_values = true)]
    pub(in crate::cli) prefix_output: bool,
}
