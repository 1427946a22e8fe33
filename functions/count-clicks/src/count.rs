//! Counting: drives the [`protocol`](hot_products::protocol) over DynamoDB for the clicks of one chain of items.

use std::time::Duration;

use hot_products::{
    Bucket, ItemKey, TopicPartition,
    protocol::{Chain, ChainWrite, Click, Limits, UpdateOutcome, uncounted_after},
    store::{CountersTable, StoreError},
};

use crate::{batch::DecodedBatch, cursors::CursorCache};

/// How far counting got with the clicks of one chain.
#[derive(Debug)]
pub(crate) struct Progress {
    /// Clicks that were added to the counters.
    pub(crate) counted: u64,
    /// Clicks that the items had counted already.
    pub(crate) already_counted: u64,
    /// Writes, refused ones and closings included.
    pub(crate) updates: u64,
    /// Write units consumed by the updates that were applied.
    pub(crate) write_units: u64,
    /// The most write units that one of them consumed: the size of the largest item in KB, rounded up.
    pub(crate) largest_update: u64,
    /// Why counting stopped before the last click.
    pub(crate) stopped: Option<Stopped>,
}

/// Why counting stopped before the last click.
#[derive(Debug)]
pub(crate) enum Stopped {
    /// A write failed after all retries.
    Failed(StoreError),
    /// The caller asked for no more writes.
    Asked,
}

/// Counts the clicks of one batch, chain by chain.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChainCounter<'a> {
    /// The minute counters.
    pub(crate) table: &'a CountersTable,
    /// What the instance remembers of the chains.
    pub(crate) cursors: &'a CursorCache,
    /// The batch, which names the products.
    pub(crate) batch: &'a DecodedBatch,
    /// How long items live after their minute's end.
    pub(crate) retention: Duration,
}

impl ChainCounter<'_> {
    /// Counts `clicks`, which belong to the chain of `bucket` and `source` and are in ascending offset order. Asks
    /// `should_continue` before each write.
    pub(crate) async fn count(
        &self,
        (bucket, partition): (Bucket, &TopicPartition),
        clicks: &[Click],
        should_continue: impl Fn() -> bool,
    ) -> Progress {
        let mut chain = Chain::resume(Limits::TABLE, self.cursors.get(bucket, partition));
        let mut progress =
            Progress { counted: 0, already_counted: 0, updates: 0, write_units: 0, largest_update: 0, stopped: None };
        while let Some(write) = chain.next_write(clicks) {
            if !should_continue() {
                progress.stopped = Some(Stopped::Asked);
                break;
            }
            progress.updates += 1;
            let result = match &write {
                ChainWrite::Update(update) => {
                    let key = ItemKey { bucket, partition, overflow: update.overflow };
                    let product = |number| self.batch.product(number);
                    let outcome = self.table.update(key, update, product, self.retention).await;
                    outcome.map(|outcome| {
                        if let UpdateOutcome::Counted { write_units } = outcome {
                            progress.counted += update.counts.clicks as u64;
                            progress.write_units += write_units;
                            progress.largest_update = progress.largest_update.max(write_units);
                        }
                        chain.updated(update, outcome);
                    })
                }
                ChainWrite::Close { overflow } => {
                    let key = ItemKey { bucket, partition, overflow: *overflow };
                    self.table.close(key).await.map(|last_offset| chain.closed(last_offset))
                }
            };
            match result {
                // After each answer: time may be up during the next write.
                Ok(()) => self.cursors.set(bucket, partition, chain.cursor()),
                // Nothing changed. The SDK has waited between its attempts; go on until the invocation's time is up.
                Err(error) if error.is_throttled() => {}
                Err(error) => {
                    progress.stopped = Some(Stopped::Failed(error));
                    break;
                }
            }
        }
        let uncounted = uncounted_after(clicks, chain.cursor().counted_through).len() as u64;
        progress.already_counted = clicks.len() as u64 - uncounted - progress.counted;
        progress
    }
}
