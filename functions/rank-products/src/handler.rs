//! One invocation: read the window's counters, rank its products, write the snapshot, report what was done.

use std::{collections::BTreeSet, sync::Arc};

use aws_sdk_dynamodb::Client;
use hot_products::{
    Clock, Minute, Shard, Snapshot, UnixMillis, Window,
    healing::{LateClicks, Lifetimes, MAX_LOOKBACK, RankingRecord, RankingRecords, next_group, plan},
    metrics::{self, Unit},
    ranking::{Ranking, RankingContext},
    schedule,
    store::{BucketRead, CountersTable, PutOutcome, SnapshotsTable, StoreError},
    time::bound,
};
use lambda_runtime::tracing;
use serde::Serialize;
use serde_json::json;
use thiserror::Error;

use crate::{
    RankSettings, Request, RequestError,
    read::{ReadBucket, read_shard},
};

/// What an invocation did: the function returns it and logs it as metrics.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RankSummary {
    /// The window's first instant, RFC 3339.
    pub window_start: String,
    /// The first instant after the window, RFC 3339.
    pub window_end: String,
    /// Clicks in the window.
    pub total_clicks: u64,
    /// Products with a click in the window.
    pub distinct_products: u64,
    /// Products in the snapshot.
    pub ranked: u64,
    /// Whether the snapshot was written; if not, the window already has one that is as new or newer.
    pub written: bool,
    /// Counter items read.
    pub items: u64,
    /// Queries, including those for further pages.
    pub queries: u64,
    /// Read units consumed by the counters.
    pub read_units: f64,
    /// Write units consumed by the snapshot and its clicks per minute.
    pub write_units: u64,
    /// How long after the window's end its ranking began, in milliseconds.
    pub delay_ms: u64,
    /// The ends of the other windows that were ranked again or for the last time, oldest first, RFC 3339.
    pub also_ranked: Vec<String>,
    /// How many of all windows are final now.
    pub finals: u64,
    /// How many other windows were due as well, but there was no time left for them.
    pub postponed: u64,
}

impl RankSummary {
    /// The summary as the line that the function, deployed as `function`, logs.
    pub fn log_line(&self, function: &str, now: UnixMillis) -> String {
        let metrics = [
            ("total_clicks", Unit::Count, self.total_clicks),
            ("distinct_products", Unit::Count, self.distinct_products),
            ("ranked", Unit::Count, self.ranked),
            ("written", Unit::Count, u64::from(self.written)),
            ("items", Unit::Count, self.items),
            ("queries", Unit::Count, self.queries),
            ("read_units", Unit::Count, self.read_units.ceil() as u64),
            ("write_units", Unit::Count, self.write_units),
            ("delay_ms", Unit::Milliseconds, self.delay_ms),
        ]
        .map(|(name, unit, value)| (name, unit, Some(value)));
        let fields = [
            Some(("window_start", json!(self.window_start))),
            Some(("window_end", json!(self.window_end))),
            (!self.also_ranked.is_empty()).then(|| ("also_ranked", json!(self.also_ranked))),
            (self.finals > 0).then(|| ("finals", json!(self.finals))),
            (self.postponed > 0).then(|| ("postponed", json!(self.postponed))),
        ];
        metrics::line(function, now, &metrics, fields.into_iter().flatten())
    }
}

/// The result of a successful invocation.
#[derive(Clone, Debug, PartialEq)]
pub struct RankOutcome {
    /// The window's snapshot: the one that was written, or the stored one that was kept.
    pub snapshot: Snapshot,
    /// What was done.
    pub summary: RankSummary,
}

/// Why an invocation failed.
#[derive(Debug, Error)]
pub enum RankError {
    /// The event does not name a past window.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// Ranking the window could lose clicks.
    #[error(
        "the counters of the window that ends at {window_end} may have expired since {since}: its snapshot stays as it is"
    )]
    Expired {
        /// RFC 3339.
        window_end: String,
        /// When the first of them may have expired, RFC 3339.
        since: String,
    },
    /// Storage failed.
    #[error(transparent)]
    Storage(#[from] StoreError),
}

/// The function, ready for invocations. It reads counters from `B`.
#[derive(Debug)]
pub struct RankProducts<B = CountersTable> {
    buckets: B,
    counters: CountersTable,
    snapshots: SnapshotsTable,
    settings: RankSettings,
    clock: Arc<dyn Clock>,
}

impl RankProducts {
    /// The function over the tables that `settings` names.
    pub fn new(client: Client, settings: RankSettings, clock: Arc<dyn Clock>) -> Self {
        let counters = CountersTable::new(client.clone(), settings.counters_table.clone());
        Self::reading_from(counters, client, settings, clock)
    }
}

impl<B: ReadBucket> RankProducts<B> {
    /// The function over the tables that `settings` names, except that it reads the counters from `buckets`.
    pub fn reading_from(buckets: B, client: Client, settings: RankSettings, clock: Arc<dyn Clock>) -> Self {
        Self {
            buckets,
            counters: CountersTable::new(client.clone(), settings.counters_table.clone()),
            snapshots: SnapshotsTable::new(client, settings.snapshots_table.clone()),
            settings,
            clock,
        }
    }

    /// Opens the connection to DynamoDB before the first event arrives.
    ///
    /// # Errors
    /// If DynamoDB can't be reached or denies access.
    pub async fn connect(&self) -> Result<(), StoreError> {
        self.snapshots.get(Window::ended_by(UnixMillis(0))).await.map(drop)
    }

    /// Ranks the window that `request` asks for and writes its snapshot. A scheduled run also ranks windows again that
    /// have late clicks, were missed, or are final, as [`plan`] says, as long as there is time until `deadline`.
    ///
    /// # Errors
    /// If the request does not name a past window, the window's counters may have expired, or storage failed. It is safe
    /// to repeat.
    pub async fn handle(&self, request: &Request, deadline: UnixMillis) -> Result<RankOutcome, RankError> {
        let now = self.clock.now();
        let due = request.window(now)?;
        let lifetimes = self.settings.lifetimes;
        if lifetimes.expires_from(due) <= now {
            return Err(self.expired(due));
        }
        let counted_since = self.counters.check_layout().await?;
        // A backfill ranks no other windows.
        let oldest = if request.is_backfill() { due } else { oldest_planned(due, now, lifetimes) };
        // Before the counters: what is noted later is compared with what this run has known.
        let late = self.counters.late_clicks(oldest, due).await?;
        let mut records = RankingRecords::new();
        if !request.is_backfill() {
            records = self.snapshots.rankings(oldest, due).await?;
            // Windows of which nothing is known were missed if they were due since the first click was counted. Older ones only
            // have clicks that were late, and notes of them.
            let before = counted_since.map(schedule::last_ranked);
            if let Some(before) = before.filter(|before| records.keys().next().is_none_or(|first| first > before)) {
                records.insert(before, RankingRecord::default());
            }
        }

        let mut run = Run { late, read: BucketRead::default(), write_units: 0, finals: 0 };
        let (snapshot, written) = self.rank(&[due], &mut run).await?.pop().ok_or_else(|| self.expired(due))?;
        let mut slowest = self.clock.now().since(now);
        let mut extra = Vec::new();
        if !request.is_backfill() {
            extra = plan(due, now, lifetimes, &run.late, &records);
            extra.retain(|window| *window != due);
        }
        let mut also_ranked = Vec::new();
        loop {
            let begun = self.clock.now();
            let size = next_group(&extra, slowest, deadline.since(begun));
            let group: Vec<Window> = extra.drain(..size).collect();
            if group.is_empty() {
                break;
            }
            let ranked = self.rank(&group, &mut run).await?;
            slowest = slowest.max(self.clock.now().since(begun) / size as u32);
            also_ranked.extend(ranked.iter().map(|(snapshot, _)| bound(snapshot.window.end())));
        }
        let summary = RankSummary {
            window_start: bound(due.start()),
            window_end: bound(due.end()),
            total_clicks: snapshot.total_clicks,
            distinct_products: snapshot.distinct_products,
            ranked: snapshot.products.len() as u64,
            written,
            items: run.read.items,
            queries: run.read.queries,
            read_units: run.read.read_units,
            write_units: run.write_units,
            delay_ms: now.since(due.end()).as_millis() as u64,
            also_ranked,
            finals: run.finals,
            postponed: extra.len() as u64,
        };
        Ok(RankOutcome { snapshot, summary })
    }

    fn expired(&self, window: Window) -> RankError {
        let since = bound(self.settings.lifetimes.expires_from(window));
        RankError::Expired { window_end: bound(window.end()), since }
    }

    /// Ranks `windows`, which overlap and are in ascending order, from one read of their counters, and writes their
    /// snapshots. Returns the snapshot of each, and whether it was written. Leaves out a window whose counters may have
    /// expired before all of them were read.
    async fn rank(&self, windows: &[Window], run: &mut Run) -> Result<Vec<(Snapshot, bool)>, StoreError> {
        let generated_at = self.clock.now();
        let minutes: BTreeSet<Minute> = windows.iter().flat_map(|window| window.minutes()).collect();
        let mut rankings: Vec<_> = windows.iter().map(|window| Ranking::new(*window, self.settings.top_n)).collect();
        for shard in Shard::all() {
            let (counters, read) = read_shard(&self.buckets, shard, &minutes, self.settings.read_concurrency).await?;
            run.read += read;
            for ranking in &mut rankings {
                ranking.add(&counters);
            }
        }
        let read_at = self.clock.now();
        rankings.retain(|ranking| self.settings.lifetimes.expires_from(ranking.window()) > read_at);
        let mut snapshots: Vec<(Snapshot, bool)> = Vec::new();
        for ranking in rankings {
            let window = ranking.window();
            let before = match snapshots.last() {
                Some((snapshot, _)) if snapshot.window == window.previous() => Some(snapshot.clone()),
                // Without it, the snapshot only lacks the movement.
                _ => self.snapshots.get(window.previous()).await.unwrap_or_else(|error| {
                    tracing::warn!(%error, "could not read the snapshot before: this one has no previous ranks");
                    None
                }),
            };
            let is_final = self.settings.lifetimes.final_from(window) <= generated_at;
            let context = RankingContext { generated_at, is_final, previous: before.as_ref() };
            let ranked = ranking.finish(context);
            let put = self.snapshots.put(&ranked, self.settings.snapshot_retention).await?;
            let (snapshot, written) = match put {
                PutOutcome::Written { write_units } => {
                    run.write_units += write_units;
                    (ranked.snapshot, true)
                }
                PutOutcome::Kept { stored } => (*stored, false),
            };
            // The ranking whose snapshot was kept has its own record: it may have missed what this one knows.
            if written {
                let noted = run.late.within(window);
                let record = RankingRecord { noted, clicks: snapshot.total_clicks, is_final: snapshot.is_final };
                run.write_units +=
                    self.snapshots.record_ranking(window, record, self.settings.lifetimes.retention()).await?;
            }
            run.finals += u64::from(snapshot.is_final);
            snapshots.push((snapshot, written));
        }
        Ok(snapshots)
    }
}

/// The oldest window that a scheduled run may rank again.
fn oldest_planned(due: Window, now: UnixMillis, lifetimes: Lifetimes) -> Window {
    let lookback = Window::ended_by(due.end().minus(MAX_LOOKBACK));
    lifetimes.oldest_complete(now).max(lookback).min(due)
}

/// What a run knows and has consumed.
struct Run {
    /// The late clicks that were noted before it read any counter.
    late: LateClicks,
    read: BucketRead,
    write_units: u64,
    finals: u64,
}
