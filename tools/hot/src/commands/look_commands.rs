//! The commands that look at a stack's tables, and write nothing.

use std::{io::IsTerminal, ops::ControlFlow, pin::pin, time::Duration};

use anyhow::{Context, Result, bail};
use clap::{Args, builder::RangedU64ValueParser};
use console::Term;
use hot_products::{
    Clock, Minute, ProductId, Snapshot, SystemClock, UnixMillis, Window,
    store::{CountersTable, RejectsPage, RejectsTable, SnapshotsTable},
    time::bound,
};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use local_aws::{
    tables::{self, advise},
    template::{DEFAULT_STACK, TableNames},
};
use read_board::{
    cache::until_next_snapshot,
    query::{MAX_MINUTES, Minutes},
};
use serde_json::json;

use terminal::{
    shutdown::Stop,
    text::{complain, print, safe},
};

use crate::{
    product,
    rejected::{self, Tally},
    show,
    status::{self, StackTables},
    time,
};

/// How long `hot top --watch` waits for what should be there before it looks again.
const AGAIN: Duration = Duration::from_secs(5);

/// Lines of `hot top --watch` that are no products, where long ones wrap.
const FRAME_LINES: usize = 11;

const NO_SNAPSHOT: &str = "there is no snapshot yet: rank-products writes one every five minutes";

/// Where the tables are.
#[derive(Args)]
pub(crate) struct Place {
    /// The endpoint, such as <http://127.0.0.1:8000>; without it, AWS with the usual credentials
    #[arg(long, value_name = "URL")]
    endpoint_url: Option<String>,
    /// The stack whose tables they are: their names begin with it
    #[arg(long, default_value = DEFAULT_STACK)]
    stack: String,
}

impl Place {
    async fn tables(&self) -> StackTables {
        let client = tables::client(self.endpoint_url.as_deref()).await;
        let names = TableNames::of(&self.stack);
        StackTables {
            counters: CountersTable::new(client.clone(), names.counters),
            snapshots: SnapshotsTable::new(client.clone(), names.snapshots),
            rejects: RejectsTable::new(client, names.rejects),
        }
    }
}

/// Print the newest hot products, or those of a past window, or each as it comes
///
/// Reads the snapshots of a stack in AWS, with the usual credentials, or of a local endpoint: one query a snapshot. Exits
/// with 1 where there is none.
///
/// With --watch, looks again when the next snapshot is due, and every 5 seconds while it is overdue. A terminal shows the
/// newest one; anything else gets each new one once. Ctrl-C ends it, with 0.
#[derive(Args)]
pub(crate) struct Top {
    #[command(flatten)]
    place: Place,
    /// The last window to have ended at this time, RFC 3339
    #[arg(long, value_name = "RFC3339", value_parser = time)]
    at: Option<UnixMillis>,
    /// Print each snapshot as it comes
    #[arg(long, conflicts_with = "at")]
    watch: bool,
    /// Print JSON, a snapshot in one line
    #[arg(long)]
    json: bool,
}

/// Print a product's clicks in each of the last minutes
///
/// Counts the whole minutes before now, or before --at, from all sources: clicks that are late are not in them yet. Makes
/// one query a minute, which costs half a read unit for each 4 KB of an eighth of that minute's counters. Counters live
/// for a day or so (the stack's Retention): there are no clicks in older minutes.
#[derive(Args)]
pub(crate) struct Product {
    /// The product's id, as the click events have it
    #[arg(value_name = "ID", value_parser = product_id)]
    id: ProductId<'static>,
    #[command(flatten)]
    place: Place,
    /// How many minutes, up to a day
    #[arg(long, default_value_t = 60, value_parser = RangedU64ValueParser::<usize>::new().range(1..=MAX_MINUTES as u64))]
    minutes: usize,
    /// The last of them is the last to have ended at this time, RFC 3339
    #[arg(long, value_name = "RFC3339", value_parser = time)]
    at: Option<UnixMillis>,
    /// Print JSON, in one line, as the read API answers it
    #[arg(long)]
    json: bool,
}

/// Print whether snapshots are fresh, how far each source is counted, and what was rejected of late
///
/// Exits with 0 where the newest snapshot is fresh; with 1 where there is none, or the next is overdue: not there two
/// minutes and ten seconds after its window's end; and where the tables can't be read.
///
/// A source is a topic's partition. Its last offset is that of the last record counted in the minutes looked at; how far
/// that is from the topic's end, only Kafka knows: hot topic --group. A quiet source counts nothing, and is not behind.
///
/// Reads the last six snapshots, eight queries for each of the minutes, and the rejected events up to 8 MB. That is about
/// half a read unit for each 4 KB of the counters of these minutes, at least half a unit a query, and no more than 1,000
/// for the rejected events. What it was is part of the output.
#[derive(Args)]
pub(crate) struct Status {
    #[command(flatten)]
    place: Place,
    /// Look for sources in the counters of so many minutes, this one included
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=120))]
    minutes: u64,
    /// Print JSON, in one line
    #[arg(long)]
    json: bool,
}

/// Print the rejected events by source and reason, with samples
///
/// Shows how many records of each source were rejected for each reason, the first offsets of the batches that held them,
/// and some of them as they came; users' ids were blotted out before they were stored. The originals are in Kafka at
/// these offsets, for as long as Kafka keeps them.
///
/// Scans the whole table, at half a read unit for each 4 KB, however few are found: it holds the rejected events of 14
/// days, one item a source and batch. Where producers go wrong for days, that takes a while; progress shows on a
/// terminal.
#[derive(Args)]
pub(crate) struct Rejects {
    #[command(flatten)]
    place: Place,
    /// Since when: a time, RFC 3339, or a time span back from now, such as 90s, 1h or 7d
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = since)]
    since: Since,
    /// Print JSON: a line for each source and batch as it is stored, in no order, then a line with the summary
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy)]
enum Since {
    Time(UnixMillis),
    Back(Duration),
}

fn since(text: &str) -> Result<Since, String> {
    let back = || humantime::parse_duration(text).map(Since::Back);
    time(text)
        .map(Since::Time)
        .or_else(|_| back())
        .map_err(|_| "give a time such as 2022-12-27T16:50:00Z, or a time span such as 90s, 1h or 7d".to_owned())
}

fn product_id(text: &str) -> Result<ProductId<'static>, String> {
    ProductId::parse(text.to_owned().into()).map_err(|_| format!("give an id of 1 to {} bytes", ProductId::MAX_BYTES))
}

pub(crate) async fn top(args: &Top) -> Result<()> {
    let table = args.place.tables().await.snapshots;
    if args.watch {
        return watch(&table, args.json).await;
    }
    let snapshot = match args.at {
        None => table.newest().await.map_err(advise)?.context(NO_SNAPSHOT)?,
        Some(at) => {
            let window = Window::ended_by(at);
            table
                .get(window)
                .await
                .map_err(advise)?
                .with_context(|| format!("there is no snapshot of {}", bound(window.end())))?
        }
    };
    print(&if args.json { serde_json::to_string(&snapshot)? } else { show::snapshot(&snapshot) })
}

/// Shows each new snapshot until somebody asks to stop.
async fn watch(table: &SnapshotsTable, json: bool) -> Result<()> {
    let mut stop = pin!(Stop::listen()?.asked());
    let redraws = !json && Term::stdout().is_term();
    let mut shown: Option<Snapshot> = None;
    let mut said: Option<String> = None;
    let mut begun = false;
    loop {
        let found = tokio::select! {
            found = table.newest() => found,
            () = &mut stop => return Ok(()),
        };
        let mut wait = AGAIN;
        let trouble = match found {
            Ok(Some(newest)) => {
                wait = until_next_snapshot(newest.window, SystemClock.now());
                if shown.as_ref() != Some(&newest) && !redraws {
                    print(&if json { serde_json::to_string(&newest)? } else { show::snapshot(&newest) })?;
                }
                shown = Some(newest);
                None
            }
            Ok(None) => Some(NO_SNAPSHOT.to_owned()),
            // What is wrong from the start, time does not heal.
            Err(error) if !begun => return Err(advise(error)),
            Err(error) => Some(error.to_string()),
        };
        if redraws {
            redraw(shown.as_ref(), trouble.as_deref())?;
        } else if let Some(trouble) = trouble.as_deref().filter(|trouble| said.as_deref() != Some(*trouble)) {
            complain(trouble);
        }
        (said, begun) = (trouble, true);
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = &mut stop => return Ok(()),
        }
    }
}

/// Clears the terminal and shows as many products as it has room for, and how fresh they are.
fn redraw(snapshot: Option<&Snapshot>, trouble: Option<&str>) -> Result<()> {
    let now = SystemClock.now();
    let mut text = String::new();
    if let Some(snapshot) = snapshot {
        let rows = Term::stdout().size_checked().map_or(usize::MAX, |(rows, _)| usize::from(rows));
        text = show::snapshot_top(snapshot, rows.saturating_sub(FRAME_LINES).max(1));
        text.push_str(&status::freshness_line(&status::freshness(snapshot, now), now));
    }
    if let Some(trouble) = trouble {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&safe(trouble));
    }
    let terminal = Term::buffered_stdout();
    terminal.clear_screen()?;
    terminal.write_line(&text)?;
    terminal.flush()?;
    Ok(())
}

pub(crate) async fn product(args: &Product) -> Result<()> {
    let counters = args.place.tables().await.counters;
    let end = args.at.unwrap_or_else(|| SystemClock.now());
    let minutes = Minutes { minutes: args.minutes, to: Minute::of(end).start() };
    let clicks = read_board::clicks::read(&counters, &args.id, minutes).await.map_err(advise)?;
    print(&if args.json { serde_json::to_string(&clicks)? } else { product::show(&clicks) })
}

pub(crate) async fn status(args: &Status) -> Result<()> {
    let status = status::status(&args.place.tables().await, SystemClock.now(), args.minutes).await.map_err(advise)?;
    print(&if args.json { serde_json::to_string(&status)? } else { status::show(&status) })?;
    match status.newest {
        None => bail!(NO_SNAPSHOT),
        Some(newest) if newest.overdue => {
            bail!("the snapshot that was due at {} is overdue", bound(newest.next_due))
        }
        Some(_) => Ok(()),
    }
}

pub(crate) async fn rejects(args: &Rejects) -> Result<()> {
    let table = args.place.tables().await.rejects;
    let since = match args.since {
        Since::Time(time) => time,
        Since::Back(span) => SystemClock.now().minus(span),
    };
    let spinner = spinner()?;
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
    let rejected = tally.end();
    print(&if args.json { json!({ "summary": rejected }).to_string() } else { rejected::show(&rejected) })
}

fn spinner() -> Result<ProgressBar> {
    let target =
        if std::io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let spinner = ProgressBar::with_draw_target(None, target);
    spinner.set_style(ProgressStyle::with_template("{spinner} {msg}")?);
    Ok(spinner)
}
