//! Reads the counters of a shard: several buckets at a time, on all cores that the runtime uses.

use std::{collections::BTreeSet, fmt::Debug, panic, sync::Arc};

use hot_products::{
    Bucket, Minute, Shard,
    counters::CounterList,
    ranking::ShardCounters,
    store::{BucketRead, CountersTable, StoreError},
};
use tokio::task::JoinSet;

/// What a ranking reads counters from: the table, or what a tool knows of it.
pub trait ReadBucket: Clone + Debug + Send + Sync + 'static {
    /// Reads a bucket, and calls `each` with the counters of each of its pages.
    ///
    /// # Errors
    /// As [`CountersTable::read_pages`].
    fn read_bucket(
        &self,
        bucket: Bucket,
        each: impl FnMut(&CounterList) + Send,
    ) -> impl Future<Output = Result<BucketRead, StoreError>> + Send;
}

impl ReadBucket for CountersTable {
    async fn read_bucket(
        &self,
        bucket: Bucket,
        each: impl FnMut(&CounterList) + Send,
    ) -> Result<BucketRead, StoreError> {
        self.read_pages(bucket, each).await
    }
}

/// Reads the counters of `shard` in `minutes`, with up to `concurrency` buckets at a time.
///
/// Each bucket is a task of its own, which also parses the pages and adds their counters. So a runtime with several threads
/// does that on several cores.
pub(crate) async fn read_shard<B: ReadBucket>(
    buckets: &B,
    shard: Shard,
    minutes: &BTreeSet<Minute>,
    concurrency: usize,
) -> Result<(Arc<ShardCounters>, BucketRead), StoreError> {
    let counters = Arc::new(ShardCounters::new());
    let mut total = BucketRead::default();
    let mut waiting = minutes.iter().flat_map(|minute| Bucket::of_shard(*minute, shard));
    let mut reads = JoinSet::new();
    loop {
        for bucket in waiting.by_ref().take(concurrency - reads.len()) {
            let (buckets, counters) = (buckets.clone(), Arc::clone(&counters));
            reads
                .spawn(async move { buckets.read_bucket(bucket, |page| counters.add_page(bucket.minute, page)).await });
        }
        match reads.join_next().await {
            Some(Ok(read)) => total += read?,
            // Nothing cancels a task while its set lives.
            Some(Err(error)) => panic::resume_unwind(error.into_panic()),
            None => return Ok((counters, total)),
        }
    }
}
