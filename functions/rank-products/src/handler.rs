//! One invocation: read the window's counters, sum, rank, write the snapshot, say what was done.

use std::{cell::RefCell, sync::Arc};

use aws_sdk_dynamodb::Client;
use futures_util::{StreamExt, TryStreamExt, stream};
use hashbrown::HashMap;
use hot_products::{
    Bucket, Clock, Shard, Snapshot, UnixMillis, Window,
    metrics::{self, Unit},
    store::{CountersTable, Put, SnapshotsTable, StoreError},
    time::bound,
};
use serde::Serialize;
use serde_json::json;
use thiserror::Error;

use crate::{RankSettings, Request, RequestError};

/// What an invocation did: what it returns, and logs as metrics.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
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
    /// Whether the snapshot was written; if not, the window has one that is as new or newer.
    pub written: bool,
    /// Counter items read.
    pub items: u64,
    /// Queries, further pages included.
    pub queries: u64,
    /// Read units consumed by the counters.
    pub read_units: f64,
    /// Write units consumed by the snapshot.
    pub write_units: u64,
    /// How long after the window's end its snapshot was made, in milliseconds.
    pub delay_ms: u64,
}

impl Summary {
    /// The summary as the one line that the function, deployed as `function`, logs.
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

/// Why an invocation failed.
#[derive(Debug, Error)]
pub enum RankError {
    /// The event names no window that has passed.
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

/// The clicks of a window, as far as they are read.
#[derive(Debug)]
struct Totals {
    clicks: HashMap<String, u64>,
    /// Of each of the window's minutes, in order.
    minutes: [u64; Window::MINUTES as usize],
    items: u64,
    queries: u64,
    read_units: f64,
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

    /// Opens the connection to DynamoDB before the first event comes.
    ///
    /// # Errors
    /// When DynamoDB can't be reached or refuses the function.
    pub async fn connect(&self) -> Result<(), StoreError> {
        self.snapshots.get(Window::ended_by(UnixMillis(0))).await.map(drop)
    }

    /// Ranks the window that `request` asks for and writes its snapshot.
    ///
    /// # Errors
    /// When the request names no past window, or storage failed. To run it again is harmless.
    pub async fn handle(&self, request: &Request) -> Result<Summary, RankError> {
        let window = request.window(self.clock.now())?;
        let totals = self.sum(window).await?;
        let previous = self.snapshots.get(window.previous()).await?;
        let mut snapshot =
            Snapshot::rank(window, self.clock.now(), totals.clicks, self.settings.top_n, previous.as_ref());
        snapshot.clicks_per_minute = totals.minutes.to_vec();
        let put = self.snapshots.put(&snapshot, self.settings.snapshot_retention).await?;
        Ok(Summary {
            window_start: bound(window.start()),
            window_end: bound(window.end()),
            total_clicks: snapshot.total_clicks,
            distinct_products: snapshot.distinct_products,
            ranked: snapshot.products.len() as u64,
            written: matches!(put, Put::Written { .. }),
            items: totals.items,
            queries: totals.queries,
            read_units: totals.read_units,
            write_units: match put {
                Put::Written { write_units } => write_units,
                Put::Kept => 0,
            },
            delay_ms: snapshot.generated_at.since(window.end()).as_millis() as u64,
        })
    }

    /// Sums the window's counters: 480 buckets, a bounded number at a time.
    async fn sum(&self, window: Window) -> Result<Totals, StoreError> {
        let minutes = [0; Window::MINUTES as usize];
        let totals = RefCell::new(Totals { clicks: HashMap::new(), minutes, items: 0, queries: 0, read_units: 0.0 });
        let buckets = (0..)
            .zip(window.minutes())
            .flat_map(|(place, minute)| Shard::all().map(move |shard| (place, Bucket { minute, shard })));
        stream::iter(buckets)
            .map(|(place, bucket)| self.read(place, bucket, &totals))
            .buffer_unordered(self.settings.read_concurrency)
            .try_collect::<()>()
            .await?;
        Ok(totals.into_inner())
    }

    /// Adds the counters of `bucket`, which is of the minute at `place` in the window.
    async fn read(&self, place: usize, bucket: Bucket, totals: &RefCell<Totals>) -> Result<(), StoreError> {
        let add = |product: &str, clicks| {
            let mut totals = totals.borrow_mut();
            *totals.clicks.entry_ref(product).or_default() += clicks;
            totals.minutes[place] += clicks;
        };
        let read = self.counters.read(bucket, add).await?;
        let mut totals = totals.borrow_mut();
        totals.items += read.items;
        totals.queries += read.queries;
        totals.read_units += read.read_units;
        Ok(())
    }
}
