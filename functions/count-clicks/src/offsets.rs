//! Whether the offsets of a topic partition fall back. Exact counting assumes that they do not, see
//! `docs/operations.md`, "Preconditions of exact counting".

use std::sync::{Mutex, PoisonError};

use hashbrown::HashMap;
use hot_products::TopicPartition;

use crate::batch::DecodedBatch;

/// The highest offset of each topic partition that this instance has counted.
///
/// Only batches that succeeded move it, so the redelivery of a failed batch does not fall back.
#[derive(Debug, Default)]
pub(crate) struct CountedOffsets(Mutex<HashMap<TopicPartition, i64>>);

impl CountedOffsets {
    /// By how many offsets the first click of the batch is below the highest counted click of its topic partition; of
    /// several partitions, the most. Zero for partitions that the instance has not counted yet.
    pub(crate) fn fallback(&self, batch: &DecodedBatch) -> u64 {
        let counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fallback = batch.partitions.iter().filter_map(|partition| {
            let first = partition.clicks.iter().map(|click| click.offset).min()?;
            let highest = *counted.get(&partition.partition)?;
            u64::try_from(highest.saturating_sub(first)).ok()
        });
        fallback.max().unwrap_or(0)
    }

    /// The batch has succeeded: all of its clicks are counted.
    pub(crate) fn succeeded(&self, batch: &DecodedBatch) {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for partition in &batch.partitions {
            let Some(last) = partition.clicks.iter().map(|click| click.offset).max() else { continue };
            let highest = counted.entry_ref(&partition.partition).or_insert(last);
            *highest = last.max(*highest);
        }
    }
}

#[cfg(test)]
mod tests {
    use base64_simd::STANDARD;
    use hot_products::{Policy, UnixMillis};
    use serde_json::{Value, json};

    use super::*;

    const NOW: UnixMillis = UnixMillis(1_672_159_800_000);

    /// A batch of clicks with these offsets in each topic partition.
    fn batch(partitions: &[(&str, &[i64])]) -> DecodedBatch {
        let click = json!({"event_time": NOW.0, "product_id": "p1", "action": "click"}).to_string();
        let value = STANDARD.encode_to_string(click);
        let records = |offsets: &[i64]| -> Value {
            offsets.iter().map(|offset| json!({"offset": offset, "value": value})).collect()
        };
        let partitions: serde_json::Map<_, _> =
            partitions.iter().map(|(name, offsets)| ((*name).to_owned(), records(offsets))).collect();
        let event = json!({ "records": partitions }).to_string();
        DecodedBatch::decode(event.as_bytes(), None, &Policy::default(), NOW).unwrap()
    }

    #[test]
    fn a_partition_falls_back_by_the_distance_to_its_highest_counted_offset() {
        let counted = CountedOffsets::default();
        let first = batch(&[("clicks-0", &[100, 150]), ("clicks-1", &[7])]);
        assert_eq!(counted.fallback(&first), 0, "nothing is known yet");
        counted.succeeded(&first);
        assert_eq!(counted.fallback(&batch(&[("clicks-0", &[151]), ("clicks-1", &[8])])), 0, "the next records");
        assert_eq!(counted.fallback(&batch(&[("clicks-0", &[40, 200])])), 110);
        assert_eq!(counted.fallback(&batch(&[("clicks-0", &[151]), ("clicks-1", &[2])])), 5, "the most of all");
        assert_eq!(counted.fallback(&batch(&[("clicks-2", &[0])])), 0, "another partition");
        assert_eq!(counted.fallback(&batch(&[("clicks-0", &[])])), 0, "no clicks");
    }

    #[test]
    fn only_a_batch_that_succeeded_is_remembered() {
        let counted = CountedOffsets::default();
        counted.succeeded(&batch(&[("clicks-0", &[10])]));
        let failed = batch(&[("clicks-0", &[11, 5_000])]);
        assert_eq!(counted.fallback(&failed), 0);
        assert_eq!(counted.fallback(&failed), 0, "its redelivery");
    }

    #[test]
    fn a_partition_that_fell_back_is_reported_until_it_has_caught_up() {
        let counted = CountedOffsets::default();
        counted.succeeded(&batch(&[("clicks-0", &[1_000])]));
        for (offset, fallback) in [(0, 1_000), (900, 100), (1_000, 0), (1_001, 0)] {
            let again = batch(&[("clicks-0", &[offset])]);
            assert_eq!(counted.fallback(&again), fallback, "from {offset}");
            counted.succeeded(&again);
        }
    }
}
