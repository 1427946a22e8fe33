//! One invocation: read the window's counters, rank its products, write the snapshot, report what was done.

use std::{cell::RefCell, sync::Arc};

use aws_sdk_dynamodb::Client;
use futures_util::{StreamExt, TryStreamExt, stream};
use hot_products::{
    Bucket, Clock, Shard, Snapshot, UnixMillis, Window,
    metrics::{self, Unit},
    ranking::{Ranking, ShardCounters},
    store::{BucketRead, CountersTable, PutOutcome, SnapshotsTable, StoreError},
    time::bound,
};
use serde::Serialize;
use serde_json::json;
use thiserror::Error;

use crate::{RankSettings, Request, RequestError};

/// What an invocation did: the function returns it and logs it as metrics.
#[derive(Clone, Debug, PartialEq, Serialize)]
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
    /// How long after the window's end its snapshot was made, in milliseconds.
    pub delay_ms: u64,
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
        let fields = [("window_start", json!(self.window_start)), ("window_end", json!(self.window_end))];
        metrics::line(function, now, &metrics, fields)
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
    /// Storage failed.
    #[error(transparent)]
    Storage(#[from] StoreError),
}

/// The function, ready for invocations.
#[derive(Debug)]
pub struct RankProducts {
    counters: CountersTable,
    snapshots: SnapshotsTable,
    settings: RankSettings,
    clock: Arc<dyn Clock>,
}

impl RankProducts {
    /// The function over the tables that `settings` names.
    pub fn new(client: Client, settings: RankSettings, clock: Arc<dyn Clock>) -> Self {
        Self {
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

    /// Ranks the window that `request` asks for and writes its snapshot.
    ///
    /// # Errors
    /// If the request does not name a past window, or storage failed. It is safe to repeat.
    pub async fn handle(&self, request: &Request) -> Result<RankOutcome, RankError> {
        let window = request.window(self.clock.now())?;
        let mut ranking = Ranking::new(window, self.settings.top_n);
        let mut read = BucketRead::default();
        for shard in Shard::all() {
            ranking.add(self.read(window, shard, &mut read).await?);
        }
        let previous = self.snapshots.get(window.previous()).await?;
        let ranked = ranking.finish(self.clock.now(), previous.as_ref());
        let put = self.snapshots.put(&ranked, self.settings.snapshot_retention).await?;
        let snapshot = ranked.snapshot;
        let summary = RankSummary {
            window_start: bound(window.start()),
            window_end: bound(window.end()),
            total_clicks: snapshot.total_clicks,
            distinct_products: snapshot.distinct_products,
            ranked: snapshot.products.len() as u64,
            written: matches!(put, PutOutcome::Written { .. }),
            items: read.items,
            queries: read.queries,
            read_units: read.read_units,
            write_units: match put {
                PutOutcome::Written { write_units } => write_units,
                PutOutcome::Kept { .. } => 0,
            },
            delay_ms: snapshot.generated_at.since(window.end()).as_millis() as u64,
        };
        let snapshot = match put {
            PutOutcome::Written { .. } => snapshot,
            PutOutcome::Kept { stored } => *stored,
        };
        Ok(RankOutcome { snapshot, summary })
    }

    /// Reads the counters of a shard in the window's sixty minutes, a bounded number of minutes at a time, and adds to
    /// `total` what that took.
    async fn read(&self, window: Window, shard: Shard, total: &mut BucketRead) -> Result<ShardCounters, StoreError> {
        let counters = RefCell::new(ShardCounters::new());
        let read_minute = async |(number, minute)| {
            let add = |product: &str, clicks| counters.borrow_mut().add(number, product, clicks);
            self.counters.read(Bucket { minute, shard }, add).await
        };
        let mut reads =
            stream::iter((0..).zip(window.minutes())).map(read_minute).buffer_unordered(self.settings.read_concurrency);
        while let Some(read) = reads.try_next().await? {
            total.items += read.items;
            total.queries += read.queries;
            total.read_units += read.read_units;
        }
        drop(reads);
        Ok(counters.into_inner())
    }
}
