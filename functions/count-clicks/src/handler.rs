//! One invocation: decodes a batch, stores what is rejected, counts the clicks, and reports what was done.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use aws_sdk_dynamodb::Client;
use futures_util::{StreamExt, stream};
use hot_products::{
    Bucket, Clock, Reason, TopicPartition, UnixMillis,
    healing::{LateClicks, MAX_WRITE_TIME},
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
    batch::{DecodedBatch, LeftOut, NotAnMskBatch, PartitionBatch},
    count::{ChainCounter, Progress, Stopped},
    cursors::CursorCache,
    offsets::CountedOffsets,
};

/// The part of an invocation's time that is kept for its answer: no write is pending this long before the deadline.
pub const ANSWER_TIME: Duration = Duration::from_secs(1);

/// What an invocation did. The function returns it and logs it as metrics. Each record is in exactly one of `counted`,
/// `ignored`, `stale`, `rejected` and `already_counted`, unless the invocation failed first.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CountSummary {
    /// Records in the batch.
    pub records: u64,
    /// Records that this invocation added to the counters.
    pub counted: u64,
    /// Records whose action is not counted.
    pub ignored: u64,
    /// Records that are too old to be counted.
    pub stale: u64,
    /// Records that are not valid events, or whose event time is too far ahead.
    pub rejected: u64,
    /// How many of them for each reason.
    pub rejected_by_reason: BTreeMap<Reason, u64>,
    /// Records that the counters contained already. Includes those of an update that was retried because its answer was
    /// lost.
    pub already_counted: u64,
    /// Clicks of this batch whose minute was already due to be ranked when they were counted.
    pub late: u64,
    /// By how many offsets a topic partition of the batch starts below what this instance has counted; the most of all
    /// partitions. The redelivery of a batch that failed does not count.
    pub offset_fallback: u64,
    /// Writes to the counters, refused ones included.
    pub updates: u64,
    /// Write units of the writes that were applied, to counters and rejected events.
    pub write_units: u64,
    /// The size of the largest item that was written, in KB, rounded up; `None` when none was.
    pub largest_item_kb: Option<u64>,
    /// The newest event time of the clicks, epoch milliseconds; `None` when there is no click.
    pub newest_event_time: Option<i64>,
    /// How far that is before the clock's time, in milliseconds; zero if it is later.
    pub lag_ms: Option<u64>,
    /// The stale and rejected records of each topic partition that has any. For callers in the same process: it is not
    /// part of the returned JSON, which Lambda limits to 6 MB.
    #[serde(skip)]
    pub left_out: Vec<(TopicPartition, Vec<LeftOut>)>,
}

impl CountSummary {
    /// The summary of a batch of which nothing is written yet.
    fn of(batch: &DecodedBatch, now: UnixMillis) -> Self {
        let left_out = batch.partitions.iter().filter(|partition| !partition.left_out.is_empty());
        Self {
            records: batch.records,
            ignored: batch.ignored,
            stale: batch.stale(),
            rejected: batch.rejected(),
            rejected_by_reason: batch.rejected_by_reason(),
            already_counted: batch.repeated,
            newest_event_time: batch.newest_event_time.map(|time| time.0),
            lag_ms: batch.newest_event_time.map(|time| now.since(time).as_millis() as u64),
            left_out: left_out.map(|partition| (partition.partition.clone(), partition.left_out.clone())).collect(),
            ..Self::default()
        }
    }

    fn add(&mut self, progress: &Progress) {
        self.counted += progress.counted;
        self.already_counted += progress.already_counted;
        self.updates += progress.updates;
        self.write_units += progress.write_units;
        self.largest_item_kb = self.largest_item_kb.max((progress.counted > 0).then_some(progress.largest_update));
    }

    /// The one line that the function, deployed under the name `function`, logs: the summary, and the error if there is
    /// one.
    pub fn log_line(&self, function: &str, now: UnixMillis, error: Option<&CountError>) -> String {
        let count = |value| (Unit::Count, Some(value));
        let metrics = [
            ("records", count(self.records)),
            ("counted", count(self.counted)),
            ("ignored", count(self.ignored)),
            ("stale", count(self.stale)),
            ("rejected", count(self.rejected)),
            ("already_counted", count(self.already_counted)),
            ("offset_fallback", count(self.offset_fallback)),
            ("updates", count(self.updates)),
            ("write_units", count(self.write_units)),
            ("largest_item_kb", (Unit::Kilobytes, self.largest_item_kb)),
            ("lag_ms", (Unit::Milliseconds, self.lag_ms)),
        ]
        .map(|(name, (unit, value))| (name, unit, value));
        let fields = [
            self.newest_event_time.map(|time| ("newest_event_time", json!(time))),
            (self.rejected > 0).then(|| ("rejected_by_reason", json!(self.rejected_by_reason))),
            (self.late > 0).then(|| ("late", json!(self.late))),
            error.map(|error| ("error", json!(error.to_string()))),
        ];
        metrics::line(function, now, &metrics, fields.into_iter().flatten())
    }
}

/// Why an invocation failed. Lambda redelivers the batch, and counted clicks are skipped.
#[derive(Debug, Error)]
pub enum CountError {
    /// The event is not an MSK batch.
    #[error(transparent)]
    NotAnMskBatch(#[from] NotAnMskBatch),
    /// Storage failed.
    #[error("the batch will be redelivered, {done} of {all} items are done: {source}")]
    Storage {
        /// Items whose clicks are all counted.
        done: usize,
        /// Items that the batch has clicks for.
        all: usize,
        /// The first failure.
        source: StoreError,
    },
    /// The invocation's time was up.
    #[error("out of time: the batch will be redelivered, {done} of {all} items are done")]
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
    offsets: CountedOffsets,
    /// How many deliveries this instance has had.
    deliveries: AtomicUsize,
    /// Whether the counters table is known to have this program's layout.
    layout_claimed: AtomicBool,
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
            offsets: CountedOffsets::default(),
            deliveries: AtomicUsize::new(0),
            layout_claimed: AtomicBool::new(false),
        }
    }

    /// Opens the connection to DynamoDB before the first batch arrives, and claims the counters table for this program's
    /// layout. If that fails, the first batch tries again before it writes anything.
    ///
    /// # Errors
    /// When DynamoDB can't be reached or refuses the function, or the table has another layout.
    pub async fn connect(&self) -> Result<(), StoreError> {
        if !self.layout_claimed.load(Ordering::Relaxed) {
            self.counters.claim_layout(self.clock.now()).await?;
            self.layout_claimed.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Counts the batch `event`, the JSON of an MSK event, and finishes [`ANSWER_TIME`] before `deadline`. If the invocation
    /// fails, the summary contains what was done until then.
    ///
    /// # Errors
    /// If storage failed, the time was up, or the event is not an MSK batch. The batch must be redelivered. A record's value
    /// is never an error.
    pub async fn handle(
        &self,
        event: impl AsRef<[u8]>,
        deadline: UnixMillis,
    ) -> (CountSummary, Result<(), CountError>) {
        let now = self.clock.now();
        let policy = &self.settings.policy;
        let batch = match DecodedBatch::decode(event.as_ref(), self.settings.source_epoch, policy, now) {
            Ok(batch) => batch,
            Err(error) => return (CountSummary::default(), Err(error.into())),
        };
        let mut summary =
            CountSummary { offset_fallback: self.offsets.fallback(&batch), ..CountSummary::of(&batch, now) };

        let all = batch.partitions.iter().map(|partition| partition.buckets.len()).sum();
        let mut done = 0;
        let time_left = deadline.minus(ANSWER_TIME).since(now).min(MAX_WRITE_TIME);
        if time_left.is_zero() {
            return (summary, Err(CountError::OutOfTime { done, all }));
        }
        let result = match timeout(time_left, self.write(&batch, now, &mut summary, &mut done)).await {
            Ok(Ok(())) => {
                self.offsets.succeeded(&batch);
                Ok(())
            }
            Ok(Err(source)) => Err(CountError::Storage { done, all, source }),
            // Pending writes are dropped. If DynamoDB applies one, the redelivery finds it counted.
            Err(_) => Err(CountError::OutOfTime { done, all }),
        };
        (summary, result)
    }

    /// Writes the rejects, then the counters.
    ///
    /// In this order, because whether an event time is too far ahead depends on the time of the delivery. A record that is
    /// rejected for it can be valid in a redelivery, but its item's `last_offset` can be above it by then. So it is at
    /// least stored among the rejected events.
    async fn write(
        &self,
        batch: &DecodedBatch,
        now: UnixMillis,
        summary: &mut CountSummary,
        done: &mut usize,
    ) -> Result<(), StoreError> {
        until_accepted(|| self.connect()).await?;
        let width = self.settings.write_concurrency;
        let mut rejects = stream::iter(batch.partitions.iter().filter(|partition| partition.rejects.count() > 0))
            .map(|partition| {
                until_accepted(|| {
                    self.rejects.put(&partition.partition, &partition.rejects, now, self.settings.reject_retention)
                })
            })
            .buffer_unordered(width);
        while let Some(write_units) = rejects.next().await {
            summary.write_units += write_units?;
        }

        self.cursors.forget(now.minus(self.settings.policy.max_event_age));
        let failed = RefCell::new(None);
        let should_continue = || failed.borrow().is_none();
        let counter =
            ChainCounter { table: &self.counters, cursors: &self.cursors, batch, retention: self.settings.retention };
        // Under throttling, only the first chains of a delivery are written. So each delivery starts with others.
        let mut chains: Vec<_> = chains(batch).collect();
        let start = self.deliveries.fetch_add(1, Ordering::Relaxed).wrapping_mul(width);
        let start = start.checked_rem(chains.len()).unwrap_or(0);
        chains.rotate_left(start);
        let mut counts = stream::iter(chains.iter().copied())
            .map(|(bucket, partition, clicks)| counter.count((bucket, partition), clicks, should_continue))
            .buffer_unordered(width);
        while let Some(progress) = counts.next().await {
            summary.add(&progress);
            match progress.stopped {
                None => *done += 1,
                // Report the first failure. Pending writes may end, so that the redelivery has less to do.
                Some(Stopped::Failed(error)) if should_continue() => *failed.borrow_mut() = Some(error),
                Some(_) => {}
            }
        }
        drop(counts);
        if let Some(error) = failed.into_inner() {
            return Err(error);
        }
        // After the counters: whoever ranks a window because of a note finds its clicks. All late clicks of the batch, not
        // only those of this delivery: an earlier one may have counted some and then failed.
        let mut late = LateClicks::default();
        let counted_at = self.clock.now();
        for (bucket, _, clicks) in &chains {
            if LateClicks::is_late(bucket.minute, counted_at) {
                late.add(bucket.minute, clicks.len() as u64);
                summary.late += clicks.len() as u64;
            }
        }
        if !late.is_empty() {
            let retention = self.settings.retention;
            summary.write_units += until_accepted(|| self.counters.note_late(&late, retention)).await?;
        }
        for (bucket, partition, _) in chains {
            self.cursors.settle(bucket, partition);
        }
        Ok(())
    }
}

/// Repeats a call as long as DynamoDB throttles it. The SDK waits between its attempts, and the end of the invocation's time
/// drops the call. A note of late clicks may be added more than once, which does no harm.
async fn until_accepted<T>(call: impl AsyncFn() -> Result<T, StoreError>) -> Result<T, StoreError> {
    loop {
        match call().await {
            Err(error) if error.is_throttled() => {}
            result => return result,
        }
    }
}

/// The chains of a batch: bucket and topic partition, with their clicks.
fn chains(batch: &DecodedBatch) -> impl Iterator<Item = (Bucket, &TopicPartition, &[Click])> {
    batch.partitions.iter().flat_map(|PartitionBatch { partition, clicks, buckets, .. }| {
        buckets.iter().map(move |(bucket, range)| (*bucket, partition, &clicks[range.clone()]))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::batch::Cause;

    fn summary() -> CountSummary {
        CountSummary {
            records: 3,
            rejected: 2,
            stale: 1,
            rejected_by_reason: BTreeMap::from([(Reason::NotJson, 2)]),
            left_out: vec![(TopicPartition::new("clicks-0", None), vec![LeftOut { offset: 7, cause: Cause::Stale }])],
            ..CountSummary::default()
        }
    }

    #[test]
    fn the_returned_json_has_the_rejects_by_reason_and_no_list_of_records() {
        let json = serde_json::to_value(summary()).unwrap();
        assert_eq!(json["rejected_by_reason"], json!({"not_json": 2}));
        assert_eq!(json.get("left_out"), None);
    }

    #[test]
    fn the_log_line_has_the_rejects_by_reason_as_a_field_and_not_as_a_metric() {
        let line: Value = serde_json::from_str(&summary().log_line("shop", UnixMillis(5), None)).unwrap();
        assert_eq!(line["rejected_by_reason"], json!({"not_json": 2}));
        let metrics = line["_aws"]["CloudWatchMetrics"][0]["Metrics"].as_array().unwrap();
        assert!(metrics.iter().any(|metric| metric["Name"] == "rejected"));
        assert!(metrics.iter().all(|metric| metric["Name"] != "rejected_by_reason"));
        let without = CountSummary::default().log_line("shop", UnixMillis(5), None);
        assert!(!without.contains("rejected_by_reason"), "{without}");
    }
}
