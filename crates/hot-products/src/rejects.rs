//! What is kept of the records that were rejected: one item for each topic partition and batch, because a broken producer
//! sends bad records by the million. The originals stay in Kafka at the offsets listed here.

mod sample;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

pub use self::sample::{FieldSample, MAX_NAME_BYTES, MAX_OTHER_FIELDS, MAX_VALUE_BYTES, ObjectSample, RejectedSample};
use crate::{
    click::{EventShape, Reason},
    counters::TopicPartition,
    time::{UnixMillis, fixed_width},
};

/// How many samples an item keeps.
pub const MAX_SAMPLES: usize = 5;
/// How many offsets an item lists: all of a batch, because Lambda limits batches from Kafka to 10,000 records (AWS Lambda
/// Developer Guide, "Batching behavior"). Keeps the item below 130 KB; DynamoDB limits it to 400 KB.
pub const MAX_OFFSETS: usize = 10_000;

/// Attribute names of the rejected events' table that expressions need. The other attributes are the fields of
/// [`RejectedBatch`].
pub mod attribute {
    /// Partition key: the topic partition.
    pub const SOURCE: &str = "source";
    /// Sort key: the lowest offset of a rejected record.
    pub const FIRST_OFFSET: &str = "first_offset";
    /// How many records were rejected.
    pub const REJECTED: &str = "rejected";
    /// When they were rejected.
    pub const REJECTED_AT: &str = "rejected_at";
    /// DynamoDB's TTL, in epoch seconds. Not a field of [`RejectedBatch`](super::RejectedBatch): readers do not need it.
    pub const EXPIRES_AT: &str = "expires_at";
}

/// The rejected records of one topic partition in one batch, as stored. Reasons are text: the program that reads them may
/// be older or newer than the one that wrote them.
///
/// Batches that begin with the same rejected record share an item, which then lists the records of all of them. A record
/// can be listed in several items, because a redelivery can be cut elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectedBatch {
    /// The topic partition.
    pub source: String,
    /// The lowest offset of a rejected record.
    pub first_offset: i64,
    /// When the last of them was rejected.
    #[serde(with = "fixed_width")]
    pub rejected_at: UnixMillis,
    /// How many records were rejected.
    pub rejected: u64,
    /// How many of them for each reason.
    pub reasons: BTreeMap<String, u64>,
    /// Their offsets by reason, each offset once; at most [`MAX_OFFSETS`].
    pub offsets: BTreeMap<String, BTreeSet<i64>>,
    /// Samples of the first [`MAX_SAMPLES`].
    pub samples: Vec<RejectedSample>,
}

impl RejectedBatch {
    /// An item without records, whose key is the offset `first_offset` in `source`. `now` is when it is begun.
    pub(crate) fn empty(source: &TopicPartition, first_offset: i64, now: UnixMillis) -> Self {
        Self {
            source: source.as_str().to_owned(),
            first_offset,
            rejected_at: now,
            rejected: 0,
            reasons: BTreeMap::new(),
            offsets: BTreeMap::new(),
            samples: Vec::new(),
        }
    }

    /// Adds those of the rejected records `open` that are missing, with their `samples`, as far as they fit. `now` is when
    /// they were rejected. Returns those that do not fit.
    pub(crate) fn add(
        &mut self,
        open: &BTreeMap<i64, Reason>,
        samples: &[RejectedSample],
        now: UnixMillis,
    ) -> BTreeMap<i64, Reason> {
        let listed: BTreeSet<i64> = self.offsets.values().flatten().copied().collect();
        let mut missing = open.iter().filter(|(offset, _)| !listed.contains(offset));
        let room = MAX_OFFSETS.saturating_sub(listed.len());
        let mut added = BTreeSet::new();
        for (&offset, reason) in missing.by_ref().take(room) {
            self.offsets.entry(reason.name().to_owned()).or_default().insert(offset);
            *self.reasons.entry(reason.name().to_owned()).or_default() += 1;
            added.insert(offset);
        }
        let rest = missing.map(|(offset, reason)| (*offset, *reason)).collect();
        let samples = samples.iter().filter(|sample| added.contains(&sample.offset));
        self.samples.extend(samples.take(MAX_SAMPLES.saturating_sub(self.samples.len())).cloned());
        if !added.is_empty() {
            self.rejected = (listed.len() + added.len()) as u64;
            self.rejected_at = self.rejected_at.max(now);
        }
        rest
    }
}

/// Collects the rejected records of one topic partition while a batch is decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BatchRejects {
    /// How many there are by reason.
    pub by_reason: BTreeMap<Reason, u64>,
    /// Their offsets.
    pub offsets: BTreeMap<i64, Reason>,
    /// Samples of the first [`MAX_SAMPLES`].
    pub samples: Vec<RejectedSample>,
}

impl BatchRejects {
    /// Adds the record at `offset`, with its value if it has one. Events have this `shape`.
    pub fn push(&mut self, offset: i64, reason: Reason, value: Option<&[u8]>, shape: &EventShape) {
        *self.by_reason.entry(reason).or_default() += 1;
        let new = self.offsets.insert(offset, reason).is_none();
        if new && self.samples.len() < MAX_SAMPLES {
            self.samples.push(RejectedSample::of(offset, reason, value, shape));
        }
    }

    /// How many records were rejected. A record that a batch holds twice counts twice.
    pub fn count(&self) -> u64 {
        self.by_reason.values().sum()
    }
}

#[cfg(test)]
mod tests {
    use serde_dynamo::aws_sdk_dynamodb_1::{from_item, to_item};

    use super::*;

    /// An item with all of `rejects` that fit, and the rest.
    fn batch(rejects: &BatchRejects) -> (RejectedBatch, BTreeMap<i64, Reason>) {
        let first_offset = *rejects.offsets.first_key_value().unwrap().0;
        let now = UnixMillis(1_672_159_861_000);
        let mut batch = RejectedBatch::empty(&TopicPartition::new("clicks-0", None), first_offset, now);
        let rest = batch.add(&rejects.offsets, &rejects.samples, now);
        (batch, rest)
    }

    fn offsets(batch: &RejectedBatch) -> Vec<i64> {
        let all: BTreeSet<i64> = batch.offsets.values().flatten().copied().collect();
        assert_eq!(all.len() as u64, batch.rejected);
        let listed = batch.offsets.iter().map(|(reason, offsets)| (reason.clone(), offsets.len() as u64));
        assert_eq!(listed.collect::<BTreeMap<_, _>>(), batch.reasons);
        all.into_iter().collect()
    }

    #[test]
    fn an_item_takes_as_many_offsets_as_a_batch_has_and_returns_the_rest() {
        let mut rejects = BatchRejects::default();
        for offset in 0..20_000 {
            rejects.push(
                offset + 7,
                if offset % 2 == 0 { Reason::NotJson } else { Reason::NoValue },
                Some(b"x"),
                &EventShape::default(),
            );
        }
        assert_eq!((rejects.count(), rejects.by_reason[&Reason::NotJson]), (20_000, 10_000));
        let (batch, rest) = batch(&rejects);
        assert_eq!((batch.first_offset, batch.reasons["not_json"], batch.samples.len()), (7, 5_000, MAX_SAMPLES));
        assert_eq!(offsets(&batch), (7..10_007).collect::<Vec<_>>());
        assert_eq!(rest.into_keys().collect::<Vec<_>>(), (10_007..20_007).collect::<Vec<_>>());
    }

    #[test]
    fn an_item_takes_what_it_misses_and_nothing_twice() {
        let rejects = |offsets: &[i64]| {
            let mut rejects = BatchRejects::default();
            for offset in offsets {
                rejects.push(*offset, Reason::NotJson, Some(b"x"), &EventShape::default());
            }
            rejects
        };
        let later = UnixMillis(1_672_159_999_000);
        let (first, _) = batch(&rejects(&[10, 12, 12, 14]));
        assert_eq!(offsets(&first), [10, 12, 14]);
        let mut both = first.clone();
        let more = rejects(&[10, 11, 14, 16, 17]);
        assert!(both.add(&more.offsets, &more.samples, later).is_empty());
        assert_eq!(offsets(&both), [10, 11, 12, 14, 16, 17]);
        assert_eq!(both.samples.iter().map(|sample| sample.offset).collect::<Vec<_>>(), [10, 12, 14, 11, 16]);
        assert_eq!((first.rejected_at < later, both.rejected_at), (true, later));
        let all = both.clone();
        for again in [&more, &rejects(&[10, 12, 14]), &rejects(&[17])] {
            assert!(both.add(&again.offsets, &again.samples, UnixMillis(i64::MAX)).is_empty());
            assert_eq!(both, all);
        }
    }

    #[test]
    fn an_item_has_the_attributes_that_expressions_name() {
        let mut rejects = BatchRejects::default();
        rejects.push(9, Reason::NotJson, Some(b"x"), &EventShape::default());
        rejects.push(4, Reason::NoValue, None, &EventShape::default());
        rejects.push(5, Reason::MissingAction, Some(br#"{"product_id":"p1","user_id":"u_1"}"#), &EventShape::default());
        let (batch, _) = batch(&rejects);
        let item = to_item(&batch).unwrap();
        let mut names: Vec<_> = item.keys().map(String::as_str).collect();
        names.sort_unstable();
        let mut expected = [
            attribute::SOURCE,
            attribute::FIRST_OFFSET,
            attribute::REJECTED,
            attribute::REJECTED_AT,
            "reasons",
            "offsets",
            "samples",
        ];
        expected.sort_unstable();
        assert_eq!(names, expected);
        assert_eq!(item["first_offset"].as_n().unwrap(), "4");
        assert_eq!(item["rejected_at"].as_s().unwrap(), "2022-12-27T16:51:01.000Z");
        assert_eq!(item["reasons"].as_m().unwrap()["not_json"].as_n().unwrap(), "1");
        assert_eq!(item["offsets"].as_m().unwrap()["not_json"].as_l().unwrap()[0].as_n().unwrap(), "9");
        let sample = item["samples"].as_l().unwrap()[2].as_m().unwrap();
        assert_eq!(sample["content"].as_s().unwrap(), "json_object");
        let object = sample["object"].as_m().unwrap();
        assert_eq!(object["other_fields"].as_m().unwrap()["user_id"].as_s().unwrap(), "string");
        assert_eq!(from_item::<RejectedBatch>(item).unwrap(), batch);
    }
}
