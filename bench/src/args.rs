//! The command line of the bench, declared.

use std::env;
use std::net::SocketAddrV4;
use std::path::PathBuf;

use anyhow::Context;

/// What sticky-run costs, beside the least that any supervisor must do.
#[derive(Debug, clap::Parser)]
#[command(name = "sticky-bench")]
pub struct Args {
    /// What to run; cost, memory and workers when nothing is said.
    #[command(subcommand)]
    pub what: Option<What>,
    /// How to measure.
    #[command(flatten)]
    pub options: Options,
}

/// The parts of the bench.
#[derive(Debug, clap::Subcommand)]
pub enum What {
    /// CPU time of the supervisor per connection, floor and sticky-run in turn
    Cost,
    /// Memory of announced sids, and the price of a lookup among them
    Memory,
    /// CPU time per connection with few workers and with many, for keys that nobody knows
    Workers,
    /// CPU time per connection beside the Node primaries; needs Node and npm, installs the packages
    Node,
    /// Be the floor: the least that any supervisor must do
    Floor(Floor),
    /// Be a worker, for the floor or for sticky-run
    Worker,
}

/// What the floor is told.
#[derive(Debug, clap::Args)]
pub struct Floor {
    /// Where to listen; port 0 picks one, and the line on stderr says which
    #[arg(short, long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    pub listen: SocketAddrV4,
    /// How many workers
    #[arg(short, long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub workers: u16,
    /// The worker's command
    #[arg(last = true, required = true)]
    pub command: Vec<String>,
}

/// How the driver measures.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// The sticky-run to measure [default: the one beside this program]
    #[arg(long, value_name = "PATH", global = true)]
    pub sticky_run: Option<PathBuf>,
    /// Connections in each run
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20_000, global = true, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    pub connections: u32,
    /// How often each pair is run
    #[arg(short, long, value_name = "N", default_value_t = 20, global = true, value_parser = clap::value_parser!(u16).range(1..))]
    pub rounds: u16,
    /// Clients at once, each a thread
    #[arg(long, value_name = "N", default_value_t = 64, global = true, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub at_once: u16,
    /// How many sids the memory bench announces, over both workers
    #[arg(long, value_name = "N", default_value_t = 1_000_000, global = true, value_parser = clap::value_parser!(u32).range(2..=100_000_000))]
    pub sids: u32,
    /// Measure the floor beside itself too: how far from 1.00 this machine's noise goes
    #[arg(long, global = true)]
    pub control: bool,
    /// Count the supervisor's system calls too, in a run of its own (needs perf and the right to use it)
    #[arg(long, global = true)]
    pub syscalls: bool,
}

impl Options {
    /// The program to measure; cargo puts it beside this one. Errors when it is not there.
    pub fn sticky_run(&self) -> anyhow::Result<PathBuf> {
        let path = match &self.sticky_run {
            Some(path) => path.clone(),
            None => own_program()?.with_file_name("sticky-run"),
        };
        path.canonicalize().with_context(|| {
            format!(
                "no sticky-run at {}, build it (cargo build --release) or give --sticky-run",
                path.display()
            )
        })
    }
}

/// This program, which is also the floor and the worker.
pub fn own_program() -> anyhow::Result<PathBuf> {
    env::current_exe().context("cannot find the bench's own program")
}
