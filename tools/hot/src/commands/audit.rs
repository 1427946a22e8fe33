//! `hot audit`

use std::{num::NonZeroU32, ops::Range, time::Duration};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use hot_products::{
    Clock, Minute, SystemClock, UnixMillis, defaults, healing::Lifetimes, schedule, snapshot::MAX_TOP_N,
};
use terminal::text::print;

use crate::{
    arguments::{EventArgs, KafkaArgs, StackArgs},
    audit::{AuditOptions, audit, tally::Rules},
    parse::{duration, time, whole},
    show,
};

/// The most minutes of an audit: 31 days. Snapshots live for 30 days by default.
const MAX_MINUTES: usize = 31 * 24 * 60;

const EXAMPLES: &str = "\
Examples:
  hot audit --brokers b-1.example:9096 -X @kafka.conf --topic clicks --group hot-products-count-clicks
  hot audit --brokers 127.0.0.1:9092 --topic clicks --minutes 240 --endpoint-url http://127.0.0.1:8000
  hot audit --brokers 127.0.0.1:9092 --topic clicks --from 2022-12-27T00:00:00Z --to 2022-12-27T12:00:00Z --json";

/// Compare a topic's records with the counters and the snapshots made of them
///
/// Reads the topic's records of some minutes, groups them by the rules of count-clicks, and compares each minute, topic
/// partition and product with its counter, and each window that lies within these minutes with its snapshot: total, products,
/// clicks per minute and ranks. Prints what differs. Exits with 0 if nothing does, and with 1 otherwise. Writes nothing, and
/// joins no consumer group.
///
/// Names what it could not check: expired counters, records that Kafka has deleted, windows without a snapshot, clicks that
/// may be counted or not. A snapshot that is not final may miss clicks that were counted after its ranking, as many as
/// count-clicks has noted. A snapshot that has clicks of another topic or epoch is not compared.
///
/// It can run while clicks are counted. With --group, what the group has committed must be counted, and later records may be.
/// Without, everything that was written more than --max-lag ago must be counted; if counting is further behind, that is
/// reported as differences. Records from before the stack's first batch are differences too: choose a later --from.
///
/// Whether an event is stale or too far ahead depends on the time at which it was delivered: within --max-lag after its
/// timestamp in Kafka. Producers' clocks may set that timestamp. `hot rejects` lists events that were too far ahead.
///
/// The options for events must say the same as the stack's parameters.
///
/// Makes eight queries for each minute, which cost half a read unit for each 4 KB of counters, and reads the whole topic from
/// --margin before the first minute until now. Needs about 50 bytes of memory for each counter.
#[derive(Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct AuditArgs {
    #[command(flatten)]
    kafka: KafkaArgs,
    /// The topic
    #[arg(long)]
    topic: String,
    /// The consumer group that counts the topic; its commits show what was delivered
    #[arg(long)]
    group: Option<String>,
    #[command(flatten)]
    stack: StackArgs,
    /// First minute, RFC 3339
    #[arg(long, value_name = "RFC3339", value_parser = time, conflicts_with = "minutes")]
    from: Option<UnixMillis>,
    /// End of the last minute, RFC 3339; without it, the end of the newest window whose snapshot is due
    #[arg(long, value_name = "RFC3339", value_parser = time)]
    to: Option<UnixMillis>,
    /// Number of minutes before --to
    #[arg(long, default_value_t = 120, value_parser = whole(1..=MAX_MINUTES))]
    minutes: usize,
    /// How far counting may be behind, or have been
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = duration::<Duration>)]
    max_lag: Duration,
    /// How long before the first minute records with its clicks may have been written, by their timestamps in Kafka
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration::<Duration>)]
    margin: Duration,
    /// `SourceEpoch` of the stack
    #[arg(long, value_name = "N")]
    source_epoch: Option<NonZeroU32>,
    #[command(flatten)]
    events: EventArgs,
    /// `MaxEventAge` of the stack
    #[arg(long, value_name = "DURATION", default_value_t = defaults::MAX_EVENT_AGE.into())]
    #[arg(value_parser = duration::<humantime::Duration>)]
    max_event_age: humantime::Duration,
    /// `Retention` of the stack
    #[arg(long, value_name = "DURATION", default_value_t = defaults::RETENTION.into())]
    #[arg(value_parser = duration::<humantime::Duration>)]
    retention: humantime::Duration,
    /// `TopN` of the stack
    #[arg(long, value_name = "N", default_value_t = defaults::TOP_N, value_parser = whole(1..=MAX_TOP_N))]
    top: usize,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: &AuditArgs) -> Result<()> {
    let now = SystemClock.now();
    let max_event_age = args.max_event_age.into();
    let lifetimes =
        Lifetimes::new(max_event_age, args.retention.into()).context("--retention does not fit --max-event-age")?;
    if args.max_lag > max_event_age {
        bail!("--max-lag must not exceed --max-event-age: clicks that wait for longer are stale");
    }
    let policy = args.events.policy(max_event_age)?;
    let options = AuditOptions {
        cluster: args.kafka.cluster().await?,
        topic: args.topic.clone(),
        group: args.group.clone(),
        range: range(args, now)?,
        epoch: args.source_epoch,
        lifetimes,
        rules: Rules { policy, max_lag: args.max_lag, now },
        margin: args.margin,
        top_n: args.top,
    };
    let report = audit(&args.stack.tables().await, &options).await?;
    print(&if args.json { serde_json::to_string(&report)? } else { show::audit::report(&report) })?;
    match report.differences() {
        0 => Ok(()),
        1 => bail!("the tables differ from the topic in 1 figure"),
        count => bail!("the tables differ from the topic in {count} figures"),
    }
}

/// The whole minutes to audit.
fn range(args: &AuditArgs, now: UnixMillis) -> Result<Range<UnixMillis>> {
    let end = args.to.map_or_else(|| schedule::last_due(now).end(), |to| Minute::of(to).start());
    let length = Duration::from_mins(args.minutes as u64);
    let start = args.from.map_or_else(|| end.minus(length), |from| Minute::of(from).start());
    if end > now {
        bail!("--to is in the future");
    }
    if start >= end {
        bail!("--from and --to do not contain a full minute");
    }
    if end.since(start) > Duration::from_mins(MAX_MINUTES as u64) {
        bail!("give --from and --to of at most 31 days");
    }
    Ok(start..end)
}
