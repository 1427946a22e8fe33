//! `hot status`

use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use hot_products::{Clock, SystemClock, time::bound};
use terminal::text::{duration as in_words, print};

use crate::{
    arguments::StackArgs,
    aws::advise,
    parse::within_an_hour,
    show,
    status::{NO_SNAPSHOT, StackStatus},
};

const EXAMPLES: &str = "\
Examples:
  hot status
  hot status --stack hot-products-test --minutes 60
  hot status --max-behind 10m
  hot status --endpoint-url http://127.0.0.1:8000 --json";

/// Print whether snapshots are fresh, how far clicks are counted, and what was rejected
///
/// Exits with 0 if the newest snapshot is fresh. Exits with 1 if there is no snapshot, if the next one is overdue (not
/// there two minutes and ten seconds after the end of its window), or if the tables can't be read.
///
/// With --max-behind, also exits with 1 if a topic partition counted nothing for longer than that before the end of the
/// newest snapshot's window, and names it. It had no clicks, or is behind: the tables can't tell. Partitions are those with
/// clicks in the newest window or in the one an hour before; after two hours without clicks a partition is not known.
///
/// A source is a topic partition. Its last offset is the offset of the last record counted in the minutes read. The tables
/// do not contain the end of the topic: `hot topic --group` shows how far a source is behind. A quiet source counts
/// nothing, and is not behind.
///
/// Reads the last six snapshots, makes eight queries for each of the minutes, and reads up to 8 MB of rejected events. The
/// queries cost half a read unit for each 4 KB of counters and at least half a unit each, the rejected events at most 1,000
/// units. The output contains what they have cost.
#[derive(Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    stack: StackArgs,
    /// Number of minutes whose counters to search for sources, including the current minute
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=120))]
    minutes: u64,
    /// Exit with 1 if a topic partition counted nothing for longer than this before the newest window's end, 1m to 1h
    #[arg(long, value_name = "DURATION", value_parser = within_an_hour)]
    max_behind: Option<Duration>,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: &StatusArgs) -> Result<()> {
    let tables = args.stack.tables().await;
    let status = StackStatus::read(&tables, SystemClock.now(), args.minutes).await.map_err(advise)?;
    print(&if args.json { serde_json::to_string(&status)? } else { show::status::status(&status) })?;
    match &status.newest {
        None => bail!(NO_SNAPSHOT),
        Some(newest) if newest.overdue => {
            bail!(
                "the snapshot that was due at {} is overdue; see the logs and alarms of rank-products",
                bound(newest.next_due)
            )
        }
        Some(_) => args.max_behind.map_or(Ok(()), |longest| check_behind(&status, longest)),
    }
}

/// Fails if a topic partition counted nothing for longer than `longest`, or if none is known to have counted.
fn check_behind(status: &StackStatus, longest: Duration) -> Result<()> {
    if status.counted_through.is_empty() {
        bail!("the newest snapshots name no topic partition with counted clicks");
    }
    let behind: Vec<String> = status
        .counted_through
        .iter()
        .filter(|partition| partition.is_quiet_for(longest))
        .map(show::quiet_partition)
        .collect();
    if !behind.is_empty() {
        bail!("more than {} before the newest window's end: {}", in_words(longest), behind.join("; "));
    }
    Ok(())
}
