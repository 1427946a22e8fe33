//! `hot replay`

use std::{path::PathBuf, time::Duration};

use anyhow::Result;
use clap::Args;
use hot_products::{
    Minute, Snapshot, UnixMillis,
    defaults::{BATCH_SIZE, MAX_EVENT_AGE},
    schedule::RANKING_DELAY,
    snapshot::MAX_TOP_N,
    time::bound,
};
use indicatif::ProgressBar;
use local_aws::embedded::Embedded;
use serde_json::json;
use simulator::{
    Rankings, SimulatorOptions,
    replay::{Replay, ReplayProgress},
};
use terminal::text::{complain, print, safe};

use crate::{
    arguments::{EventArgs, Input},
    parse::{at_least_one, duration, whole},
    progress, show,
};

/// Bytes of input after which the progress bar is drawn again.
const BYTES_PER_STEP: u64 = 1 << 16;

const EXAMPLES: &str = "\
Examples:
  hot replay events/clicks.jsonl
  hot generate --events 30000 --products 500 --minutes 90 | hot replay -
  hot replay events/clicks.jsonl --partitions 12 --batch-size 500 --json

Lines such as {\"item\": {\"id\": \"a7\"}, \"ts\": 1511544070}, each of which counts:
  hot replay - --event-time-field ts --event-time-unit s --product-field item.id --action-field none";

/// Run a file of events through the functions, and print the hot products
///
/// The clock follows the events' own time, so a day of events takes seconds. The lines become MSK batches for
/// count-clicks; every five minutes of event time, rank-products ranks the last hour. Everything runs in this process, on
/// an embedded DynamoDB. Prints the last window; with --json, every window. Lines that were not counted are reported on
/// standard error, by reason.
///
/// Options name the fields of events that other programs write, and do the same as the parameters of the stack with these
/// names. So a replay of some lines of a topic shows which parameters fit: none should be rejected.
#[derive(Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct ReplayArgs {
    #[expect(clippy::doc_markdown, reason = "the help is plain text")]
    /// JSON lines such as {"event_time": 1672131001234, "product_id": "p1234", "action": "click"}; - for standard input
    file: PathBuf,
    /// Print JSON: a line for each snapshot, in order of time, then a line with the summary
    #[arg(long, conflicts_with = "minutes")]
    json: bool,
    /// Partitions of the topic
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    partitions: u32,
    /// Largest number of records in a batch
    #[arg(long, default_value_t = BATCH_SIZE, value_parser = at_least_one)]
    batch_size: usize,
    /// Products in a snapshot
    #[arg(long, default_value_t = 10, value_parser = whole(1..=MAX_TOP_N))]
    top: usize,
    /// Delay between the end of a window and its ranking
    #[arg(long, default_value_t = RANKING_DELAY.into(), value_parser = duration::<humantime::Duration>)]
    settle: humantime::Duration,
    /// Also print the clicks of each product in each minute
    #[arg(long)]
    minutes: bool,
    /// Largest gap between two events. An event further ahead is rejected as a mistake, and does not move the clock
    #[arg(long, default_value = "30d", value_parser = duration::<Duration>)]
    max_gap: Duration,
    #[command(flatten)]
    events: EventArgs,
}

pub(crate) async fn run(args: &ReplayArgs) -> Result<()> {
    let input = Input::open(&args.file)?;
    let options = SimulatorOptions {
        partitions: args.partitions,
        policy: args.events.policy(MAX_EVENT_AGE)?,
        batch_size: args.batch_size,
        top: Some(args.top),
        settle: args.settle.into(),
        // What is printed is each window as it was ranked first.
        rankings: Rankings::DueOnly,
        remember: true,
    };
    let dynamodb = Embedded::start(0, None).await?;
    let mut replay = Replay::new(&dynamodb, options, args.max_gap)?;
    let mut view = ProgressView::new(args.json, input.bytes)?;
    let summary = replay.run(input.lines, &mut view).await?;
    view.bar.finish_and_clear();

    if args.json {
        print(&json!({ "summary": summary }).to_string())?;
    } else {
        if args.minutes {
            print_minutes(&replay).await?;
        }
        if let Some(snapshot) = &view.last {
            print(&show::snapshot(snapshot))?;
        }
        print(&format!(
            "{} records: {} counted, {} ignored, {} stale, {} rejected, {} already counted\n\
             {} windows; {} batches made {} updates of {} write units",
            summary.records,
            summary.counted,
            summary.ignored,
            summary.stale,
            summary.rejected,
            summary.already_counted,
            view.windows,
            summary.batches,
            summary.updates,
            summary.write_units,
        ))?;
    }
    for kind in replay.not_counted() {
        complain(format_args!(
            "{} records not counted, {}: first in line {}",
            kind.records, kind.reason, kind.first_line
        ));
    }
    dynamodb.stop().await
}

async fn print_minutes(replay: &Replay) -> Result<()> {
    print(&format!("{:>10}  {:<20}  product", "clicks", "window end"))?;
    replay
        .minutes(|minute, product, clicks| print(&format!("{clicks:>10}  {}  {}", bound(minute.end()), safe(product))))
        .await?;
    print("")
}

/// Shows the progress on a terminal, and prints snapshots as JSON as soon as they are ranked.
struct ProgressView {
    json: bool,
    bar: ProgressBar,
    bytes_not_shown: u64,
    windows: u64,
    last: Option<Snapshot>,
}

impl ProgressView {
    fn new(json: bool, input_bytes: Option<u64>) -> Result<Self> {
        let template = match input_bytes {
            Some(_) => "{bar:30} {percent:>3} %  {binary_bytes_per_sec}  at {msg}  {eta} left",
            None => "{spinner} {binary_bytes}  {binary_bytes_per_sec}  at {msg}",
        };
        let bar = progress::bar(input_bytes, template)?;
        Ok(Self { json, bar, bytes_not_shown: 0, windows: 0, last: None })
    }
}

impl ReplayProgress for ProgressView {
    fn read(&mut self, bytes: u64, now: Option<UnixMillis>) {
        self.bytes_not_shown += bytes;
        if self.bytes_not_shown >= BYTES_PER_STEP {
            self.bar.inc(std::mem::take(&mut self.bytes_not_shown));
            self.bar.set_message(now.map(|now| bound(Minute::of(now).start())).unwrap_or_default());
        }
    }

    fn ranked(&mut self, snapshot: &Snapshot) -> Result<()> {
        if self.json {
            print(&serde_json::to_string(snapshot)?)?;
        }
        self.windows += 1;
        self.last = Some(snapshot.clone());
        self.bar.tick();
        Ok(())
    }
}
