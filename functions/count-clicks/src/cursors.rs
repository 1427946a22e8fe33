//! What an instance of the function remembers from delivery to delivery: how far it knows each chain of items.
//!
//! It only saves writes: an instance that knows nothing learns the rest from refusals, which cost as much as writes.
//! While a batch fails, its redelivery must not pay again for what the instance already knows, so the cursors of its
//! chains stay until it has succeeded. After that, only those of closed and large items do.

use std::sync::{Mutex, PoisonError};

use hashbrown::HashMap;
use hot_products::{Bucket, TopicPartition, UnixMillis, protocol::Cursor};

/// The cursors by topic partition and bucket.
#[derive(Debug, Default)]
pub(crate) struct CursorCache(Mutex<HashMap<TopicPartition, HashMap<Bucket, Cursor>>>);

impl CursorCache {
    /// What is known of the chain of `source` in `bucket`.
    pub(crate) fn get(&self, bucket: Bucket, partition: &TopicPartition) -> Cursor {
        let cursors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        cursors.get(partition).and_then(|buckets| buckets.get(&bucket)).copied().unwrap_or(Cursor::START)
    }

    /// Remembers `cursor`.
    pub(crate) fn set(&self, bucket: Bucket, partition: &TopicPartition, cursor: Cursor) {
        let mut cursors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        cursors.entry_ref(partition).or_default().insert(bucket, cursor);
    }

    /// The batch that moved the cursor has succeeded: keeps it only if it can save a write of another batch.
    pub(crate) fn settle(&self, bucket: Bucket, partition: &TopicPartition) {
        let mut cursors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(buckets) = cursors.get_mut(partition)
            && buckets.get(&bucket).is_some_and(|cursor| !cursor.saves_writes())
        {
            buckets.remove(&bucket);
        }
    }

    /// Forgets the minutes that ended by `oldest`.
    pub(crate) fn forget(&self, oldest: UnixMillis) {
        let mut cursors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for buckets in cursors.values_mut() {
            buckets.retain(|bucket, _| bucket.minute.end() > oldest);
        }
    }
}
