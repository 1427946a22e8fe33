//! Decoding: Lambda's Kafka event becomes a [`DecodedBatch`], in which every record is classified.
//!
//! The event is read in one pass and borrowed, so that the megabytes of a batch are neither copied nor parsed twice.

use std::{collections::BTreeMap, num::NonZeroU32, ops::Range};

use base64_simd::STANDARD;
use hot_products::{
    Bucket, Classification, EventShape, Minute, PartitionGroup, Policy, Reason, Shard, TopicPartition, UnixMillis,
    click::Text, protocol::Click, rejects::BatchRejects,
};

pub use crate::envelope::NotAnMskBatch;
use crate::{
    envelope::{Envelope, EnvelopeRecord, Object},
    products::Products,
};

/// A batch whose records are classified, and whose clicks are grouped by the items that count them.
#[derive(Debug, Default, PartialEq)]
pub struct DecodedBatch {
    /// The topic partitions, in the order of their names.
    pub partitions: Vec<PartitionBatch>,
    /// All records of the event.
    pub records: u64,
    /// Records whose action is not counted.
    pub ignored: u64,
    /// Records that the batch holds more than once, without the one that is used.
    pub repeated: u64,
    /// The newest event time of the clicks.
    pub newest_event_time: Option<UnixMillis>,
    products: Products,
}

/// The records of one topic partition in a batch.
#[derive(Debug, PartialEq)]
pub struct PartitionBatch {
    /// The topic partition.
    pub partition: TopicPartition,
    /// The clicks to count: bucket after bucket, and by offset within a bucket.
    pub clicks: Vec<Click>,
    /// Which of `clicks` belong to which bucket; each bucket once.
    pub buckets: Vec<(Bucket, Range<usize>)>,
    /// The records that are stale or rejected, in the order of the batch.
    pub left_out: Vec<LeftOut>,
    /// The rejected records, as they are stored.
    pub rejects: BatchRejects,
}

/// A record that should have been counted, but is stale or rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// The record's offset in its topic partition.
    pub offset: i64,
    /// Why it is not counted.
    pub cause: Cause,
}

/// Why a record is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// It is too old, see [`Policy::max_event_age`].
    Stale,
    /// It is not a valid event.
    Rejected(Reason),
}

impl Cause {
    /// The cause's name in reports: `stale`, or the reason's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stale => "stale",
            Self::Rejected(reason) => reason.name(),
        }
    }
}

impl DecodedBatch {
    /// Decodes an event's JSON, and classifies its records at the time `now`.
    ///
    /// # Errors
    /// When the event is not a batch of Lambda's format. No record's value is an error: it is rejected by itself.
    pub fn decode(
        event: &[u8],
        epoch: Option<NonZeroU32>,
        policy: &Policy,
        now: UnixMillis,
    ) -> Result<Self, NotAnMskBatch> {
        let mut decoder = Decoder { policy, now, batch: Self::default(), value: Vec::new() };
        for (name, records) in Envelope::parse(event)?.records {
            decoder.partition(TopicPartition::new(&name.0, epoch), records);
        }
        Ok(decoder.batch)
    }

    /// The id of a product of [`PartitionBatch::clicks`].
    pub fn product(&self, number: u32) -> &str {
        self.products.id(number)
    }

    /// Records to count.
    pub fn clicks(&self) -> u64 {
        self.partitions.iter().map(|partition| partition.clicks.len() as u64).sum()
    }

    /// Records that are too old to be counted.
    pub fn stale(&self) -> u64 {
        let stale = |partition: &PartitionBatch| {
            partition.left_out.iter().filter(|record| record.cause == Cause::Stale).count()
        };
        self.partitions.iter().map(|partition| stale(partition) as u64).sum()
    }

    /// Records that were rejected.
    pub fn rejected(&self) -> u64 {
        self.partitions.iter().map(|partition| partition.rejects.count()).sum()
    }

    /// The rejected records by reason.
    pub fn rejected_by_reason(&self) -> BTreeMap<Reason, u64> {
        let mut rejected = BTreeMap::new();
        for (reason, count) in self.partitions.iter().flat_map(|partition| &partition.rejects.by_reason) {
            *rejected.entry(*reason).or_default() += count;
        }
        rejected
    }
}

struct Decoder<'p> {
    policy: &'p Policy,
    now: UnixMillis,
    batch: DecodedBatch,
    /// The decoded value of the current record; kept to reuse its memory.
    value: Vec<u8>,
}

impl Decoder<'_> {
    /// Adds the records of one topic partition.
    fn partition(&mut self, partition: TopicPartition, records: Vec<Object<EnvelopeRecord<'_>>>) {
        let mut partition = PartitionBatch {
            partition,
            clicks: Vec::new(),
            buckets: Vec::new(),
            left_out: Vec::new(),
            rejects: BatchRejects::default(),
        };
        let group = PartitionGroup::of(&partition.partition);
        let mut clicks: BTreeMap<Bucket, Vec<Click>> = BTreeMap::new();
        self.batch.records += records.len() as u64;
        for Object(record) in records {
            if let Some((bucket, click)) = self.record(record, group, &mut partition) {
                clicks.entry(bucket).or_default().push(click);
            }
        }
        self.batch.repeated += partition.group(clicks);
        self.batch.partitions.push(partition);
    }

    /// Classifies a record. Returns it when it is a click to count.
    fn record(
        &mut self,
        record: EnvelopeRecord<'_>,
        group: PartitionGroup,
        partition: &mut PartitionBatch,
    ) -> Option<(Bucket, Click)> {
        let EnvelopeRecord { offset, value } = record;
        let shape = &self.policy.shape;
        let Some(Text(value)) = value else {
            partition.reject(offset, Reason::NoValue, None, shape);
            return None;
        };
        self.value.clear();
        if STANDARD.decode_append(value.as_bytes(), &mut self.value).is_err() {
            partition.reject(offset, Reason::NotBase64, Some(value.as_bytes()), shape);
            return None;
        }
        match self.policy.classify(self.now, &self.value) {
            Classification::Counted(event) => {
                let product = event.product_id.as_str();
                let bucket = Bucket { minute: Minute::of(event.event_time), shard: Shard::of(product), group };
                self.batch.newest_event_time = self.batch.newest_event_time.max(Some(event.event_time));
                return Some((bucket, Click { offset, product: self.batch.products.number(product) }));
            }
            Classification::Ignored => self.batch.ignored += 1,
            Classification::Stale(_) => partition.left_out.push(LeftOut { offset, cause: Cause::Stale }),
            Classification::Rejected(reason) => partition.reject(offset, reason, Some(&self.value), shape),
        }
        None
    }
}

impl PartitionBatch {
    fn reject(&mut self, offset: i64, reason: Reason, value: Option<&[u8]>, shape: &EventShape) {
        self.left_out.push(LeftOut { offset, cause: Cause::Rejected(reason) });
        self.rejects.push(offset, reason, value, shape);
    }

    /// Takes the clicks of each bucket. Returns how many of them are repeated.
    fn group(&mut self, buckets: BTreeMap<Bucket, Vec<Click>>) -> u64 {
        let mut repeated = 0;
        self.clicks.reserve_exact(buckets.values().map(Vec::len).sum());
        for (bucket, mut clicks) in buckets {
            // They usually are in order, as in Kafka.
            if !clicks.is_sorted_by(|a, b| a.offset < b.offset) {
                let before = clicks.len();
                clicks.sort_unstable_by_key(|click| (click.offset, click.product));
                clicks.dedup_by_key(|click| click.offset);
                repeated += before - clicks.len();
            }
            let start = self.clicks.len();
            self.clicks.append(&mut clicks);
            self.buckets.push((bucket, start..self.clicks.len()));
        }
        repeated as u64
    }
}

#[cfg(test)]
mod tests {
    use aws_lambda_events::kafka::KafkaEvent;

    use super::*;

    const BATCH: &str = include_str!("../../../events/msk-batch.json");
    const REJECTS: &str = include_str!("../../../events/msk-rejects.json");

    fn decode(event: &str) -> DecodedBatch {
        let now = UnixMillis::parse_rfc3339("2022-12-27T16:50:30Z").unwrap();
        DecodedBatch::decode(event.as_bytes(), None, &Policy::default(), now).unwrap()
    }

    /// A batch with one record, given as JSON.
    fn one(record: &str) -> DecodedBatch {
        let batch = decode(&format!(r#"{{"records":{{"clicks-0":[{record}]}}}}"#));
        assert_eq!(batch.records, 1, "{record}");
        assert_eq!(batch.clicks() + batch.ignored + batch.stale() + batch.repeated + batch.rejected(), 1, "{record}");
        batch
    }

    /// The clicks of a batch as text: topic partition, bucket, offset and product.
    fn clicks(batch: &DecodedBatch) -> Vec<String> {
        let mut texts = Vec::new();
        for partition in &batch.partitions {
            for (bucket, clicks) in &partition.buckets {
                for click in &partition.clicks[clicks.clone()] {
                    texts.push(format!(
                        "{} {bucket} {} {}",
                        partition.partition,
                        click.offset,
                        batch.product(click.product)
                    ));
                }
            }
        }
        texts.sort();
        texts
    }

    /// The value of a click, in Base64.
    fn click() -> String {
        STANDARD.encode_to_string(r#"{"event_time":1672159800000,"product_id":"p1","action":"click"}"#)
    }

    #[test]
    fn clicks_are_grouped_by_topic_partition_and_bucket() {
        let batch = decode(BATCH);
        assert_eq!((batch.records, batch.clicks(), batch.ignored, batch.rejected()), (12, 11, 1, 0));
        let texts = clicks(&batch);
        assert_eq!(texts[0], "clicks-0 2022-12-27T16:45Z#2 100 p1234");
        let product = "7 caffè ☕ \"doppio\" #1";
        assert!(texts.iter().any(|click| click.ends_with(product)), "{texts:#?}");
        for partition in &batch.partitions {
            for (_, clicks) in &partition.buckets {
                assert!(partition.clicks[clicks.clone()].is_sorted_by_key(|click| click.offset));
            }
        }
        assert_eq!(batch.newest_event_time, Some(UnixMillis(1_672_159_799_000)));
    }

    #[test]
    fn the_sample_event_has_the_format_that_aws_publishes() {
        // What the published type reads and writes again decodes to the same clicks.
        let event: KafkaEvent = serde_json::from_str(BATCH).unwrap();
        assert_eq!(event.records.len(), 3);
        assert_eq!(clicks(&decode(&serde_json::to_string(&event).unwrap())), clicks(&decode(BATCH)));
    }

    #[test]
    fn every_kind_of_bad_record_is_rejected_for_its_own_reason() {
        let batch = decode(REJECTS);
        let rejects = &batch.partitions[0].rejects;
        let by_reason = &rejects.by_reason;
        let reasons: Vec<_> = by_reason.iter().map(|(reason, count)| (reason.name(), *count)).collect();
        assert_eq!(
            reasons,
            [
                ("no_value", 1),
                ("not_base64", 1),
                ("not_json", 3),
                ("not_an_object", 1),
                ("missing_event_time", 1),
                ("mistyped_event_time", 2),
                ("missing_product_id", 1),
                ("mistyped_product_id", 1),
                ("empty_product_id", 1),
                ("product_id_too_long", 1),
                ("missing_action", 1),
                ("mistyped_action", 1),
                ("event_time_in_future", 1),
            ]
        );
        assert_eq!(batch.rejected_by_reason(), *by_reason);
        assert_eq!((batch.records, batch.clicks()), (19, 3), "the valid ones among them are counted");
        assert_eq!(batch.rejected(), 16);
        let left_out =
            |offset| batch.partitions[0].left_out.iter().find(|record| record.offset == offset).unwrap().cause;
        assert_eq!(left_out(301), Cause::Rejected(Reason::NoValue));
        assert_eq!(left_out(316), Cause::Rejected(Reason::EventTimeInFuture));
        assert_eq!(batch.partitions[0].left_out.len(), 16);
        assert!(!format!("{rejects:?}").contains("1233"));
    }

    #[test]
    fn unused_and_unknown_fields_of_the_envelope_may_be_anything() {
        let value = click();
        for record in [
            format!(r#"{{"offset":1,"value":"{value}"}}"#),
            format!(
                r#"{{"topic":"clicks","partition":0,"offset":1,"timestamp":1,"timestampType":"X","key":null,"headers":[],"value":"{value}"}}"#
            ),
            format!(
                r#"{{"offset":1,"value":"{value}","headers":[{{}},{{"h":[-128,127]}}],"key":"AA==","new":{{"a":[[[1]]]}}}}"#
            ),
            format!(r#"{{"offset":1,"value":"{value}","headers":null,"topic":7,"partition":"x"}}"#),
            format!(r#"{{"offset":1,"value":"{}"}}"#, value.replace('=', "\\u003d").replace('/', "\\/")),
        ] {
            assert_eq!(clicks(&one(&record)), ["clicks-0 2022-12-27T16:50Z#0 1 p1"], "{record}");
        }
    }

    #[test]
    fn a_record_without_a_usable_value_is_rejected() {
        for (record, reason) in [
            (r#"{"offset":5,"value":null}"#, Reason::NoValue),
            (r#"{"offset":5}"#, Reason::NoValue),
            (r#"{"offset":5,"value":"AAA"}"#, Reason::NotBase64),
            (r#"{"offset":5,"value":"😀"}"#, Reason::NotBase64),
        ] {
            let batch = one(record);
            let partition = &batch.partitions[0];
            assert_eq!(partition.rejects.by_reason.keys().collect::<Vec<_>>(), [&reason], "{record}");
            assert_eq!(partition.rejects.offsets, [(5, reason)].into(), "{record}");
            assert_eq!(partition.left_out, [LeftOut { offset: 5, cause: Cause::Rejected(reason) }], "{record}");
        }
    }

    #[test]
    fn a_stale_record_is_left_out() {
        let value = STANDARD.encode_to_string(r#"{"event_time":0,"product_id":"p1","action":"click"}"#);
        let batch = one(&format!(r#"{{"offset":7,"value":"{value}"}}"#));
        assert_eq!((batch.stale(), batch.rejected()), (1, 0));
        assert_eq!(batch.partitions[0].left_out, [LeftOut { offset: 7, cause: Cause::Stale }]);
    }

    #[test]
    fn a_record_that_a_batch_holds_twice_is_counted_once() {
        let record = format!(r#"{{"offset":1,"value":"{}"}}"#, click());
        let batch = decode(&format!(r#"{{"records":{{"a-0":[{record},{record},{record}],"a-1":[{record}]}}}}"#));
        assert_eq!((batch.records, batch.clicks(), batch.repeated, batch.partitions.len()), (4, 2, 2, 2));
    }

    #[test]
    fn clicks_are_sorted_by_offset() {
        let record = |offset| format!(r#"{{"offset":{offset},"value":"{}"}}"#, click());
        let batch = decode(&format!(r#"{{"records":{{"a-0":[{},{},{}]}}}}"#, record(9), record(3), record(5)));
        let offsets: Vec<_> = batch.partitions[0].clicks.iter().map(|click| click.offset).collect();
        assert_eq!(offsets, [3, 5, 9]);
    }

    #[test]
    fn an_empty_batch_has_no_records() {
        assert_eq!(decode(r#"{"records":{}}"#).records, 0);
        assert_eq!(decode(r#"{"records":{"clicks-0":[]},"eventSource":7}"#).records, 0);
    }
}
