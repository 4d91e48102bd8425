//! One table: a row for each primary, with its ratios to the first two and the goals of sticky-run.

use crate::cost::Run;
use crate::node::primary::{Kind, Primary};
use crate::spread::Spread;

/// CPU time per connection of sticky-run to that of Node's cluster: at most.
const CPU_TO_CLUSTER: f64 = 1.0 / 4.0;
/// CPU time per connection of sticky-run to that of @socket.io/sticky: at most.
const CPU_TO_STICKY: f64 = 1.0 / 8.0;
/// Connections per second of sticky-run to those of Node's cluster: more than.
const RATE_TO_CLUSTER: f64 = 1.0;

/// The runs of one primary, one a round.
#[derive(Debug)]
pub struct Row {
    primary: &'static Primary,
    /// In the order of the rounds.
    pub runs: Vec<Run>,
}

impl Row {
    /// Before the first round.
    pub fn new(primary: &'static Primary) -> Self {
        Self { primary, runs: Vec::new() }
    }

    /// The spread over the rounds.
    fn spread(&self, value: impl Fn(&Run) -> f64) -> Spread {
        Spread::of(self.runs.iter().map(value))
    }

    /// The spread of the ratios to another primary, each of the same round.
    fn ratio(&self, to: &Self, value: impl Fn(&Run) -> f64) -> Spread {
        Spread::of(self.runs.iter().zip(&to.runs).map(|(mine, other)| value(mine) / value(other)))
    }
}

/// Prints the table; returns how many connections failed or went astray. The first two rows are those of
/// Node's cluster and @socket.io/sticky.
pub fn print(title: &str, rows: &[Row]) -> u32 {
    println!(
        "| {title} | CPU of the primary, us | to cluster | to @socket.io/sticky | conn/s | to cluster | goals | errors | astray |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    let [cluster, sticky, ..] = rows else {
        unreachable!("both are in every table");
    };
    rows.iter().map(|row| print_row(row, cluster, sticky)).sum()
}

fn print_row(row: &Row, cluster: &Row, sticky: &Row) -> u32 {
    let to_cluster = row.ratio(cluster, |run| run.microseconds);
    let to_sticky = row.ratio(sticky, |run| run.microseconds);
    let rate = row.ratio(cluster, |run| run.per_second);
    let errors: u32 = row.runs.iter().map(|run| run.outcome.errors).sum();
    let astray: u32 = row.runs.iter().map(|run| run.outcome.astray).sum();
    println!(
        "| {} | {} | {to_cluster:.3} | {to_sticky:.3} | {:.0} | {rate} | {} | {errors} | {astray} |",
        row.primary.name,
        row.spread(|run| run.microseconds),
        row.spread(|run| run.per_second),
        match row.primary.kind {
            Kind::Script(_) => "",
            Kind::StickyRun(_) => verdict(to_cluster, to_sticky, rate),
        },
    );
    if let Some(error) = row.runs.iter().find_map(|run| run.outcome.last_error.as_ref()) {
        eprintln!("{}: {error}", row.primary.name);
    }
    errors + astray
}

fn verdict(to_cluster: Spread, to_sticky: Spread, rate: Spread) -> &'static str {
    let cpu = to_cluster.median <= CPU_TO_CLUSTER && to_sticky.median <= CPU_TO_STICKY;
    match (cpu, rate.median > RATE_TO_CLUSTER) {
        (true, true) => "met",
        (true, false) => "conn/s missed",
        (false, true) => "CPU missed",
        (false, false) => "CPU and conn/s missed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict_of(to_cluster: f64, to_sticky: f64, rate: f64) -> &'static str {
        verdict(Spread::of([to_cluster]), Spread::of([to_sticky]), Spread::of([rate]))
    }

    #[test]
    fn every_goal_can_be_missed() {
        assert_eq!(verdict_of(0.25, 0.125, 1.01), "met");
        assert_eq!(verdict_of(0.26, 0.125, 1.01), "CPU missed");
        assert_eq!(verdict_of(0.25, 0.126, 1.01), "CPU missed");
        assert_eq!(verdict_of(0.25, 0.125, 1.0), "conn/s missed");
        assert_eq!(verdict_of(1.0, 1.0, 1.0), "CPU and conn/s missed");
    }
}
