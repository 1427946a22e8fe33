//! One invocation: decode, note what was rejected, count the rest, say what was done.

use std::{
    cell::RefCell,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use aws_sdk_dynamodb::Client;
use futures_util::{StreamExt, stream};
use hot_products::{
    Bucket, Clock, Source, UnixMillis,
    metrics::{self, Unit},
    protocol::Click,
    store::{CountersTable, RejectsTable, StoreError},
};
use serde::Serialize;
use serde_json::json;
use thiserror::Error;
use tokio::time::timeout;

use crate::{
    CountSettings,
    batch::{Batch, NoBatch, SourceBatch},
    count::{ChainCounter, Progress, Stopped},
    cursors::CursorCache,
};

/// What is kept of an invocation's time to answer: no work is under way any more this long before the deadline.
pub const ANSWER_TIME: Duration = Duration::from_secs(1);

/// What an invocation did: what it returns, and logs as metrics. Each record is in exactly one of `counted`, `ignored`,
/// `stale`, `rejected` and `already_counted`, unless the invocation failed before it came to it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// Records in the batch.
    pub records: u64,
    /// Records that this invocation added to the counters.
    pub counted: u64,
    /// Records whose action is not counted.
    pub ignored: u64,
    /// Records too old for any window to come.
    pub stale: u64,
    /// Records that are no event, or one that can't be true.
    pub rejected: u64,
    /// Records that the counters held already. Also those of an update whose answer was lost and that was retried.
    pub already_counted: u64,
    /// Writes to the counters, refused ones included.
    pub updates: u64,
    /// Write units consumed by the writes that were applied, of counters and rejected events.
    pub write_units: u64,
    /// The size of the largest item that was written, in KB, rounded up; `None` where none was.
    pub largest_item_kb: Option<u64>,
    /// The newest event time among the clicks, epoch milliseconds; `None` where there is no click.
    pub newest_event_time: Option<i64>,
    /// How far that lies behind the clock, in milliseconds; zero when ahead.
    pub lag_ms: Option<u64>,
}

impl Summary {
    fn add(&mut self, progress: &Progress) {
        self.counted += progress.counted;
        self.already_counted += progress.already_counted;
        self.updates += progress.updates;
        self.write_units += progress.write_units;
        self.largest_item_kb = self.largest_item_kb.max((progress.counted > 0).then_some(progress.largest_update));
    }

    /// The summary as the one line that the function, deployed as `function`, logs, with what went wrong if anything did.
    pub fn log_line(&self, function: &str, now: UnixMillis, error: Option<&CountError>) -> String {
        let count = |value| (Unit::Count, Some(value));
        let metrics = [
            ("records", count(self.records)),
            ("counted", count(self.counted)),
            ("ignored", count(self.ignored)),
            ("stale", count(self.stale)),
            ("rejected", count(self.rejected)),
            ("already_counted", count(self.already_counted)),
            ("updates", count(self.updates)),
            ("write_units", count(self.write_units)),
            ("largest_item_kb", (Unit::Kilobytes, self.largest_item_kb)),
            ("lag_ms", (Unit::Milliseconds, self.lag_ms)),
        ]
        .map(|(name, (unit, value))| (name, unit, value));
        let fields = [
            self.newest_event_time.map(|time| ("newest_event_time", json!(time))),
            error.map(|error| ("error", json!(error.to_string()))),
        ];
        metrics::line(function, now, &metrics, fields.into_iter().flatten())
    }
}

/// Why an invocation failed. Lambda then delivers the batch again, and what was counted is skipped.
#[derive(Debug, Error)]
pub enum CountError {
    /// The event is no Kafka batch.
    #[error(transparent)]
    NoBatch(#[from] NoBatch),
    /// Storage failed.
    #[error("the batch will come again, {done} of {all} writes' items are done: {source}")]
    Storage {
        /// Items whose clicks are all counted.
        done: usize,
        /// Items that the batch has clicks for.
        all: usize,
        /// The first failure.
        source: StoreError,
    },
    /// The invocation's time was up.
    #[error("out of time: the batch will come again, {done} of {all} items are done")]
    OutOfTime {
        /// Items whose clicks are all counted.
        done: usize,
        /// Items that the batch has clicks for.
        all: usize,
    },
}

/// The function, ready for invocations.
#[derive(Debug)]
pub struct CountClicks {
    counters: CountersTable,
    rejects: RejectsTable,
    settings: CountSettings,
    clock: Arc<dyn Clock>,
    cursors: CursorCache,
    /// How many deliveries this instance has had.
    deliveries: AtomicUsize,
}

impl CountClicks {
    /// The function over the tables that `settings` names.
    pub fn new(client: Client, settings: CountSettings, clock: Arc<dyn Clock>) -> Self {
        Self {
            counters: CountersTable::new(client.clone(), settings.counters_table.clone()),
            rejects: RejectsTable::new(client, settings.rejects_table.clone()),
            settings,
            clock,
            cursors: CursorCache::default(),
            deliveries: AtomicUsize::new(0),
        }
    }

    /// Opens the connection to DynamoDB before the first batch comes.
    ///
    /// # Errors
    /// When DynamoDB can't be reached or refuses the function.
    pub async fn connect(&self) -> Result<(), StoreError> {
        self.counters.connect().await
    }

    /// Counts the batch `event`, an MSK event's JSON, and is done [`ANSWER_TIME`] before `deadline`. The summary says
    /// what was done also where the invocation failed.
    ///
    /// # Errors
    /// When storage failed or the time was up: the batch has to come again. No record's content is an error.
    pub async fn handle(&self, event: impl AsRef<[u8]>, deadline: UnixMillis) -> (Summary, Result<(), CountError>) {
        let mut summary = Summary::default();
        let now = self.clock.now();
        let batch = match Batch::decode(event.as_ref(), self.settings.source_epoch, &self.settings.policy, now) {
            Ok(batch) => batch,
            Err(error) => return (summary, Err(error.into())),
        };
        summary.records = batch.records;
        summary.ignored = batch.ignored;
        summary.stale = batch.stale;
        summary.rejected = batch.rejected();
        summary.already_counted = batch.repeated;
        summary.newest_event_time = batch.newest_event_time.map(|time| time.0);
        summary.lag_ms = batch.newest_event_time.map(|time| now.since(time).as_millis() as u64);

        let all = batch.sources.iter().map(|source| source.buckets.len()).sum();
        let mut done = 0;
        let time_left = deadline.minus(ANSWER_TIME).since(now);
        if time_left.is_zero() {
            return (summary, Err(CountError::OutOfTime { done, all }));
        }
        let result = match timeout(time_left, self.write(&batch, now, &mut summary, &mut done)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(source)) => Err(CountError::Storage { done, all, source }),
            // What was under way is dropped. Should DynamoDB apply it all the same, the next delivery finds it counted.
            Err(_) => Err(CountError::OutOfTime { done, all }),
        };
        (summary, result)
    }

    /// Writes the rejects, then the counters.
    ///
    /// In this order, for whether an event time lies too far ahead depends on the delivery's time: a record that was
    /// rejected for it, and is well when the batch comes again, may find its item's `last_offset` beyond it. It is
    /// then at least among the rejected.
    async fn write(
        &self,
        batch: &Batch,
        now: UnixMillis,
        summary: &mut Summary,
        done: &mut usize,
    ) -> Result<(), StoreError> {
        let width = self.settings.write_concurrency;
        let mut rejects = stream::iter(batch.sources.iter().filter(|source| source.rejects.count() > 0))
            .map(|source| self.rejects.put(&source.source, &source.rejects, now, self.settings.reject_retention))
            .buffer_unordered(width);
        while let Some(write_units) = rejects.next().await {
            summary.write_units += write_units?;
        }

        self.cursors.forget(now.minus(self.settings.policy.max_event_age));
        let failed = RefCell::new(None);
        let should_continue = || failed.borrow().is_none();
        let counter =
            ChainCounter { table: &self.counters, cursors: &self.cursors, batch, retention: self.settings.retention };
        // Where writes are throttled, only the first chains of a delivery get through: let the next start with others.
        let mut chains: Vec<_> = chains(batch).collect();
        let start = self.deliveries.fetch_add(1, Ordering::Relaxed).wrapping_mul(width);
        let start = start.checked_rem(chains.len()).unwrap_or(0);
        chains.rotate_left(start);
        let mut counts = stream::iter(chains.iter().copied())
            .map(|(bucket, source, clicks)| counter.count((bucket, source), clicks, should_continue))
            .buffer_unordered(width);
        while let Some(progress) = counts.next().await {
            summary.add(&progress);
            match progress.stopped {
                None => *done += 1,
                // The first failure tells; what is under way may end, so that the next delivery has less to do.
                Some(Stopped::Failed(error)) if should_continue() => *failed.borrow_mut() = Some(error),
                Some(_) => {}
            }
        }
        drop(counts);
        if let Some(error) = failed.into_inner() {
            return Err(error);
        }
        for (bucket, source, _) in chains {
            self.cursors.settle(bucket, source);
        }
        Ok(())
    }
}

/// The chains of a batch: bucket and topic partition, with their clicks.
fn chains(batch: &Batch) -> impl Iterator<Item = (Bucket, &Source, &[Click])> {
    batch.sources.iter().flat_map(|SourceBatch { source, clicks, buckets, .. }| {
        buckets.iter().map(move |(bucket, range)| (*bucket, source, &clicks[range.clone()]))
    })
}
