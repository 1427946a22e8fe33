//! What an instance of the function remembers from batch to batch: how far it knows each chain of items, so that it
//! need not ask.
//!
//! It only saves writes. An instance that knows nothing learns it from refusals.

use std::sync::{Mutex, PoisonError};

use hashbrown::HashMap;
use hot_products::{Bucket, Source, UnixMillis, protocol::Cursor};

/// The cursors of all chains that have closed or large items.
#[derive(Debug, Default)]
pub(crate) struct CursorCache(Mutex<HashMap<Source, HashMap<Bucket, Cursor>>>);

impl CursorCache {
    /// What is known of the chain of `source` in `bucket`.
    pub(crate) fn get(&self, bucket: Bucket, source: &Source) -> Cursor {
        let cursors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        cursors.get(source).and_then(|buckets| buckets.get(&bucket)).copied().unwrap_or(Cursor::START)
    }

    /// Remembers `cursor`, if another batch can save a write by it.
    pub(crate) fn set(&self, bucket: Bucket, source: &Source, cursor: Cursor) {
        if cursor.saves_writes() {
            let mut cursors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            cursors.entry_ref(source).or_default().insert(bucket, cursor);
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
