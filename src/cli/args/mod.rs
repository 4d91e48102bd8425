//! The command line. Help, manual page and completions are generated from this declaration.

mod config;
mod life;
mod limits;
mod log;
mod process;
mod proxy;
mod socket;
mod systemd;

use std::ffi::OsString;
use std::time::Duration;

use clap::Parser;

use self::config::ConfigArgs;
pub(in crate::cli) use self::life::LifeArgs;
pub(in crate::cli) use self::limits::LimitsArgs;
use self::log::LogArgs;
pub(in crate::cli) use self::process::ProcessArgs;
pub(in crate::cli) use self::proxy::ProxyArgs;
pub(in crate::cli) use self::socket::SocketArgs;
use self::systemd::SystemdArgs;
use crate::cli::values::{
    BalanceArg, Generate, HandoffArg, KeepAliveArg, KeyListParser, NodePackage, WorkerCount,
    some_time,
};
use crate::logic::route::key::KeyList;

/// Run N copies of a server behind one listening socket, and send each client back to its own copy
///
/// sticky-run owns the listening socket and starts COMMAND several times. It accepts each connection,
/// peeks at its first bytes, picks a worker, and passes the untouched socket to it. A client whose
/// session is held by a worker reaches that worker with every new connection. Workers that die are
/// replaced; connections that they had not yet picked up are served by others.
///
/// Node servers need no change: sticky-run acts as the primary of Node's cluster, see
/// sticky-run-node(7). Other workers do not accept connections themselves, but receive them over a
/// channel, a Unix socket that they inherit. Servers in Rust use the crate sticky-worker; for other
/// languages the protocol is described in sticky-run-channel(7).
#[derive(Debug, Parser)]
#[command(
    name = "sticky-run",
    version,
    max_term_width = 100,
    override_usage = "sticky-run [OPTIONS] -- COMMAND [ARG]...",
    after_long_help = AFTER_HELP
)]
pub(in crate::cli) struct Args {
    /// How many workers to run [default: auto]
    ///
    /// "auto" is the number of CPUs that the supervisor may run on, or the CPU quota of its control
    /// group, rounded up, if that is less. If neither the flag nor STICKY_WORKERS is given,
    /// WEB_CONCURRENCY is used.
    #[arg(short, long, value_name = "N|auto", env = "STICKY_WORKERS", hide_env_values = true)]
    pub(in crate::cli) workers: Option<WorkerCount>,

    /// Where to listen; can be given several times [default: what Node workers ask for; for others
    /// $PORT on all addresses, or :3000]
    ///
    /// 127.0.0.1:3000 or [::1]:3000 or localhost:3000 is an address, :3000 or 3000 is that port on all
    /// addresses of both families (as two sockets), unix:/run/app.sock is a Unix socket, unix:@app an
    /// abstract one, fd:3 an inherited listening socket. Port 0 picks a free port; the log says which.
    /// In the variable, several are separated by commas.
    ///
    /// Node workers also get the listeners that they ask for. A worker that asks for an address given
    /// here gets that listener; a listener that no worker asks for serves the first server of each.
    #[arg(
        short,
        long,
        value_name = "ADDR",
        env = "STICKY_LISTEN",
        hide_env_values = true,
        value_delimiter = ','
    )]
    pub(in crate::cli) listen: Vec<String>,

    /// What identifies a client: sid, ip, query:NAME, header:NAME, cookie:NAME or none
    ///
    /// "sid" is the Engine.IO session id in the query of the request, as Socket.IO clients send it.
    /// "ip" is the client's address; for IPv6, its /64. The next three are a query parameter, a
    /// request header and a cookie. "none" identifies nobody. With several keys, such as
    /// cookie:session,ip, the first one that is present in the request is used. A request without
    /// any of them goes to any worker.
    ///
    /// A key that a worker has announced, such as the id of a session that it keeps, belongs to that
    /// worker. Any other key belongs to the worker where --balance first placed it, until it has been
    /// unused for --key-idle.
    #[arg(
        short = 'k',
        long,
        value_name = "KEY[,KEY]...",
        env = "STICKY_BY",
        hide_env_values = true,
        default_value = "sid",
        value_parser = KeyListParser,
        hide_possible_values = true
    )]
    pub(in crate::cli) by: KeyList,

    /// How to choose a worker for a new client
    #[arg(
        short,
        long,
        value_name = "METHOD",
        env = "STICKY_BALANCE",
        hide_env_values = true,
        default_value = "least-connection"
    )]
    pub(in crate::cli) balance: BalanceArg,

    /// How connections get into a worker
    ///
    /// "auto" is node for a command that runs Node: directly, by a script's first line, through env or
    /// sh -c, or by npm, yarn or pnpm with a script of package.json. Otherwise it is channel.
    #[arg(
        long,
        value_name = "HOW",
        env = "STICKY_HANDOFF",
        hide_env_values = true,
        default_value = "auto"
    )]
    pub(in crate::cli) handoff: HandoffArg,

    /// What to do with keep-alive connections that may carry the sessions of several workers
    ///
    /// Browsers with several tabs and reverse proxies send requests of many sessions over the same
    /// connection. With "close", the response to each Engine.IO polling request closes its connection;
    /// other responses keep it open. With "handback", all stay open. Either way, a request that belongs
    /// to another worker is handed back with its connection and goes there. For Node workers with the
    /// preload.
    #[arg(
        long,
        value_name = "HOW",
        env = "STICKY_KEEP_ALIVE",
        hide_env_values = true,
        default_value = "close"
    )]
    pub(in crate::cli) keep_alive: KeepAliveArg,

    /// The package that takes the connections of Node workers, instead of a listening server
    ///
    /// With "auto", the preload detects which package the workers load. Such workers need --listen.
    /// Without the preload, name it.
    #[arg(
        long,
        value_name = "PACKAGE",
        env = "STICKY_NODE_PACKAGE",
        hide_env_values = true,
        default_value = "auto"
    )]
    pub(in crate::cli) node_package: NodePackage,

    /// Do not preload anything into Node workers
    ///
    /// Without the preload, --by sid knows only the sids that @socket.io/sticky reports, which it
    /// does after its response has left: a fast client may reach another worker. Sids of plain
    /// servers are not known at all, so their clients need --by ip. Which worker issued a cookie or a
    /// header of --by is not known, so it may come back to another worker. Closed connections are not
    /// known either: least-connection counts all that a worker was sent, and a replaced worker stays
    /// for all of its --drain-timeout.
    #[arg(long, env = "STICKY_NO_NODE_PRELOAD", hide_env_values = true)]
    pub(in crate::cli) no_node_preload: bool,

    /// Time for a client to send its first bytes
    ///
    /// It applies while the key is not yet known, so not with --by ip or none, where connections are
    /// handed over at once. A client that is late is disconnected; on a Unix socket, one that has sent
    /// part of its request is handed over as it is. It is a second at most while other clients may wait
    /// for a place: at --max-connections or the limit of open files, and in a stop.
    #[arg(long, value_name = "TIME", env = "STICKY_HEAD_TIMEOUT", hide_env_values = true,
        default_value = "10s", value_parser = some_time)]
    pub(in crate::cli) head_timeout: Duration,

    /// How long a worker may pick up nothing before its connections go to others
    ///
    /// Connections whose key the worker owns stay queued for it, since only it knows their session.
    #[arg(long, value_name = "TIME", env = "STICKY_STALL_TIMEOUT", hide_env_values = true,
        default_value = "1s", value_parser = some_time)]
    pub(in crate::cli) stall_timeout: Duration,

    /// The seed of --balance hash; equal seeds place equal keys alike on every host
    #[arg(
        long,
        value_name = "N",
        env = "STICKY_HASH_SEED",
        hide_env_values = true,
        default_value_t = 0
    )]
    pub(in crate::cli) hash_seed: u64,

    /// Print this to standard output and exit
    #[arg(long, value_name = "WHAT")]
    pub(in crate::cli) generate: Option<Generate>,

    /// The command of every worker, and its arguments
    ///
    /// {id} in an argument is the slot of the worker, see --env.
    #[arg(trailing_var_arg = true, value_name = "COMMAND")]
    pub(in crate::cli) command: Vec<OsString>,

    // Groups with a heading of their own stand last, since what follows one is shown under it.
    #[command(flatten)]
    pub(in crate::cli) life: LifeArgs,

    #[command(flatten)]
    pub(in crate::cli) socket: SocketArgs,

    #[command(flatten)]
    pub(in crate::cli) proxy: ProxyArgs,

    #[command(flatten)]
    pub(in crate::cli) limits: LimitsArgs,

    #[command(flatten)]
    pub(in crate::cli) process: ProcessArgs,

    #[command(flatten)]
    pub(in crate::cli) config: ConfigArgs,

    #[command(flatten)]
    pub(in crate::cli) log: LogArgs,

    #[command(flatten)]
    pub(in crate::cli) systemd: SystemdArgs,
}

const AFTER_HELP: &str = "\
Examples:
  Four copies of a Node server, unmodified, on the port that it listens on:
      sticky-run -w 4 -- node server.js
  Four copies of a Socket.IO server that uses the crate sticky-worker:
      sticky-run -w 4 -l 127.0.0.1:3000 -- ./my-server
  By address, the same after a restart of the supervisor:
      sticky-run --by ip --balance hash -- ./my-server
  MCP sessions, else by address:
      sticky-run --by header:mcp-session-id,ip -- ./my-server
  By address, behind a proxy in 10.0.0.0/8 that sends PROXY headers:
      sticky-run --by ip --proxy-protocol --trust 10.0.0.0/8 -- ./my-server

Times:
  250ms, 10s, 2m, 1h

Environment:
  Every flag but --check and --generate has a variable, named in its
  description; a flag overrides its variable, and a variable overrides the
  file of --config. An empty variable counts as unset; that of a flag without
  a value is 1 or 0, true or false. PORT and WEB_CONCURRENCY are the defaults
  of --listen and --workers. Workers have STICKY_CHANNEL,
  STICKY_CHANNEL_INODE, STICKY_PROTOCOL, STICKY_WORKER_ID and STICKY_WORKERS
  in their environment, see sticky-run-channel(7).

Configuration file:
  The file of --config is TOML. It uses the names of the flags, and command:
      workers = 4
      listen = [\"127.0.0.1:3000\", \"unix:/run/app.sock\"]
      grace = \"30s\"
      no-node-preload = true
      command = [\"node\", \"server.js\"]
  A flag that can be given several times takes a list; one whose values are
  NAME=VALUE also takes a table.
  On HUP the file is read again. The log says what has changed, and which
  changes need an upgrade (USR2) or a stop and a start. If the file is invalid,
  the log says so: nothing is restarted, and the old values stay. They are
  restored too if the restart fails. With fewer workers than before, the
  surplus ones drain when the others have been replaced.

Signals:
  TERM, INT, QUIT  graceful stop (see --grace); a second one, half a second
                   later or more: fast stop
  PWR              likewise; LXC sends it to process 1
  ALRM, PROF,      likewise: a timer or a limit that the supervisor inherited
  VTALRM, XCPU     has expired
  HUP              rolling restart of the workers; when the terminal hung up:
                   graceful stop, unless HUP was ignored at the start (nohup)
  USR2             upgrade in place, see below
  TTIN, TTOU       one worker more, one worker less
  USR1             forwarded to the first process of each worker, as are the
                   signals of --forward
  CHLD             a child has exited and is reaped, or has stopped, which is
                   logged
  PIPE, WINCH, XFSZ, IO, STKFLT and the real-time signals
                   ignored
  TSTP, CONT       stop and continue the supervisor alone
  ABRT, BUS, FPE, ILL, SEGV, SYS, TRAP
                   default action: the supervisor ends, and every worker
                   with it
  KILL             the supervisor ends, and every worker with it
  The same holds for process 1, except that ABRT and its like, TSTP and KILL
  do nothing if a process of its own container sends them. Workers inherit the
  signal dispositions of the supervisor's start; PIPE has its default. They
  have no controlling terminal, so Ctrl-C and Ctrl-Z reach the supervisor
  alone. A stopped worker is continued (CONT) before it is terminated.

Processes that workers start:
  When a worker exits, the rest of its process group is killed. Processes that
  have left the group on purpose, such as daemons (setsid(1), Node's detached),
  stay. When a worker has to be killed (KILL, at the end of --grace and similar
  times), all its descendants are killed too, in whatever group or session,
  except those that were orphaned on purpose, such as daemons that fork twice.
  Processes that fork while they are killed may leave some behind: where that
  matters, use a control group (KillMode= of systemd.kill(5), or a container).

Upgrade in place:
  On USR2 the supervisor replaces itself with the program that is now at its
  path. First it has that program check whether it can take over: the program
  reads the state and the configuration, looks for COMMAND and tries addresses
  that are new. If it cannot, the log says why, and the old supervisor stays.
  Otherwise the process calls execve(2): the pid, the listening sockets, the
  workers and all connections are kept. Current workers keep running; later
  ones run the new configuration, or the old one if the new one does not start.
  A state is read by its own release and the next. The variable STICKY_UPGRADE
  is internal.

Exit status:
  0    stopped as asked
  1    failed, or no worker ever became ready
  2    usage error, or an unknown user
  126  COMMAND cannot be executed
  127  COMMAND is not found";

#[cfg(test)]
mod tests {
    use std::num::NonZeroU16;

    use clap::CommandFactory;

    use super::*;

    fn parse(words: &str) -> Result<Args, clap::Error> {
        Args::try_parse_from(words.split_whitespace())
    }

    #[test]
    fn the_declaration_holds_together() {
        Args::command().debug_assert();
    }

    #[test]
    fn everything_after_the_command_belongs_to_it() {
        for words in ["sticky-run -w 2 -- server -w 3 --by x", "sticky-run -w 2 server -w 3 --by x"]
        {
            let args = parse(words).unwrap();
            assert_eq!(args.command, ["server", "-w", "3", "--by", "x"]);
            assert_eq!(args.workers, Some(WorkerCount::Exactly(NonZeroU16::new(2).unwrap())));
        }
    }

    #[test]
    fn wrong_values_are_refused_with_a_way_out() {
        let wrong = |words| parse(words).unwrap_err().to_string();
        assert!(wrong("sticky-run -w 0 -- a").contains("a number from 1 to 1024, or auto"));
        assert!(wrong("sticky-run -w 9999 -- a").contains("a number from 1 to 1024, or auto"));
        assert!(wrong("sticky-run --grace 10 -- a").contains("write it as 250ms, 10s, 2m or 1h"));
        assert!(wrong("sticky-run --stall-timeout 0s -- a").contains("more than 0"));
        assert!(wrong("sticky-run --by sib -- a").contains("unknown key \"sib\""));
        assert!(wrong("sticky-run --max-connections 0 -- a").contains("0 is not in 1.."));
        assert!(wrong("sticky-run --trust 10.0.0.0/33 -- a").contains("use an address, a network"));
    }
}
