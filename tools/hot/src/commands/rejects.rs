//! `hot rejects`

use std::{ops::ControlFlow, time::Duration};

use anyhow::Result;
use clap::Args;
use hot_products::{Clock, SystemClock, UnixMillis, store::RejectsPage};
use serde_json::json;
use terminal::text::print;

use crate::{
    arguments::StackArgs,
    aws::advise,
    parse::{duration, time},
    progress,
    rejected::Tally,
    show,
};

const EXAMPLES: &str = "\
Examples:
  hot rejects --since 1h
  hot rejects --since 2022-12-27T16:50:00Z --stack hot-products-test
  hot rejects --endpoint-url http://127.0.0.1:8000 --json";

/// Print the rejected events by topic partition and reason, with samples
///
/// Shows how many records of each topic partition were rejected for each reason, their first offsets, and samples. Each
/// record counts once, however many batches hold it. A sample shows what kind of value the record had: of a JSON object the
/// fields of an event and the names and types of other fields, otherwise length and hash. Nothing else of a value is stored,
/// so no user's id is. The original records are in Kafka at these offsets, for as long as Kafka keeps them:
/// `hot topic --topic clicks --partition 3 --offset 102` shows one.
///
/// Scans the whole table, which holds the rejected events of 14 days with one item for each topic partition and batch.
/// The scan costs half a read unit for each 4 KB, however few events it finds. A terminal shows its progress.
#[derive(Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct RejectsArgs {
    #[command(flatten)]
    stack: StackArgs,
    /// Start of the time to search: a time, RFC 3339, or a duration before now, such as 90s, 1h or 7d
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = since)]
    since: Since,
    /// Print JSON: a line for each item as it is stored, in no order, then a line with the summary
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy)]
enum Since {
    Time(UnixMillis),
    Ago(Duration),
}

fn since(text: &str) -> Result<Since, String> {
    time(text)
        .map(Since::Time)
        .or_else(|_| duration(text).map(Since::Ago))
        .map_err(|_| "give a time such as 2022-12-27T16:50:00Z, or a duration such as 90s, 1h or 7d".to_owned())
}

pub(crate) async fn run(args: &RejectsArgs) -> Result<()> {
    let table = args.stack.tables().await.rejects;
    let since = match args.since {
        Since::Time(time) => time,
        Since::Ago(duration) => SystemClock.now().minus(duration),
    };
    let spinner = progress::bar(None, "{spinner} {msg}")?;
    let mut tally = Tally::new(since);
    let mut printed = Ok(());
    let each = |page: RejectsPage| {
        tally.add(&page);
        if args.json {
            printed = page.batches.iter().try_for_each(|batch| print(&serde_json::to_string(batch)?));
        }
        let (scanned, records) = tally.so_far();
        spinner.set_message(format!("{scanned} items read, {records} rejected records found"));
        spinner.tick();
        if printed.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    table.since(since, each).await.map_err(advise)?;
    spinner.finish_and_clear();
    printed?;
    let summary = tally.summary();
    print(&if args.json { json!({ "summary": summary }).to_string() } else { show::rejected::summary(&summary) })
}
