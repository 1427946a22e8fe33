//! What an instance of the function remembers from batch to batch: which items are closed, so that it need not ask them.
//!
//! Only a way to save calls. An instance that knows nothing learns it from refusals.

use std::sync::{Mutex, PoisonError};

use hashbrown::HashMap;
use hot_products::{Bucket, Source, UnixMillis};

use crate::count::Tail;

/// The known tails of all buckets and sources that have closed or large items.
#[derive(Debug, Default)]
pub(crate) struct Tails(Mutex<HashMap<Source, HashMap<Bucket, Tail>>>);

impl Tails {
    /// What is known of the items of `source` in `bucket`.
    pub(crate) fn get(&self, bucket: Bucket, source: &Source) -> Tail {
        let tails = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tails.get(source).and_then(|buckets| buckets.get(&bucket)).copied().unwrap_or(Tail::START)
    }

    /// Remembers `tail`.
    pub(crate) fn set(&self, bucket: Bucket, source: &Source, tail: Tail) {
        if tail.matters() {
            let mut tails = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            tails.entry_ref(source).or_default().insert(bucket, tail);
        }
    }

    /// Forgets the minutes that ended by `oldest`.
    pub(crate) fn forget(&self, oldest: UnixMillis) {
        let mut tails = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for buckets in tails.values_mut() {
            buckets.retain(|bucket, _| bucket.minute.end() > oldest);
        }
    }
}
