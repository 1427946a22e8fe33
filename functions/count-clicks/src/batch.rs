//! Decoding: Lambda's Kafka event becomes a [`Batch`], every record sorted into its outcome.
//!
//! The event is read borrowed and in one pass. Where one record is not of the documented shape, the event is read once
//! more, each record by itself, so that this one is rejected alone; a typed envelope alone
//! (`aws_lambda_events::kafka::KafkaEvent`) would fail the batch, and for Kafka that would block the partition.

use std::{num::NonZeroU32, ops::Range};

use base64_simd::STANDARD;
use hashbrown::{HashMap, hash_map::EntryRef};
use hot_products::{
    Bucket, Minute, Outcome, Policy, Reason, Shard, Source, UnixMillis, click::Text, protocol::Click, rejects::Rejects,
};
use serde_json::value::RawValue;
use thiserror::Error;

use crate::envelope::{Envelope, Record, why_malformed};

/// The event is not what Lambda's event source mapping for Kafka sends: another trigger calls this function, or a hand.
#[derive(Debug, Error)]
#[error("the event is no MSK batch, an object with an object `records`: {0}")]
pub struct NoBatch(#[from] serde_json::Error);

/// A decoded batch.
#[derive(Debug, Default)]
pub struct Batch {
    /// The sources, each once, in the event's order.
    pub sources: Vec<SourceBatch>,
    /// All records of the event.
    pub records: u64,
    /// Records whose action is not counted.
    pub ignored: u64,
    /// Records too old for any window to come.
    pub stale: u64,
    /// Records that came twice in this batch, of which one was left out.
    pub repeated: u64,
    /// The newest event time of the records to count.
    pub newest_event_time: Option<UnixMillis>,
    products: Products,
}

/// The records of one source in a batch.
#[derive(Debug)]
pub struct SourceBatch {
    /// Where they came from.
    pub source: Source,
    /// The clicks to count, of one bucket after the other, by offset within a bucket.
    pub clicks: Vec<Click>,
    /// Which of `clicks` belong to which bucket; each bucket once.
    pub buckets: Vec<(Bucket, Range<usize>)>,
    /// The rejected records.
    pub rejects: Rejects,
}

impl Batch {
    /// Decodes an event as it arrives and sorts its records at the time `now`.
    ///
    /// # Errors
    /// When the event is no Kafka batch at all. What is wrong within one is a reject.
    pub fn decode(event: &[u8], epoch: Option<NonZeroU32>, policy: &Policy, now: UnixMillis) -> Result<Self, NoBatch> {
        let mut decoder = Decoder { policy, now, batch: Self::default(), sources: Vec::new(), value: Vec::new() };
        if let Ok(envelope) = serde_json::from_slice::<Envelope<'_, Vec<Record<'_>>>>(event) {
            for (name, records) in envelope.into_sources() {
                let position = decoder.source(&name.0, epoch);
                for record in records {
                    decoder.record(position, record);
                }
            }
        } else {
            for (name, records) in serde_json::from_slice::<Envelope<'_, &RawValue>>(event)?.into_sources() {
                let position = decoder.source(&name.0, epoch);
                match serde_json::from_str::<Vec<&RawValue>>(records.get()) {
                    Ok(records) => records.iter().for_each(|record| decoder.odd_record(position, record.get())),
                    Err(_) => decoder.odd_record(position, records.get()),
                }
            }
        }
        Ok(decoder.finish())
    }

    /// The id of a product of [`SourceBatch::clicks`].
    pub fn product(&self, number: u32) -> &str {
        &self.products.ids[number as usize]
    }

    /// Records to count.
    pub fn clicks(&self) -> u64 {
        self.sources.iter().map(|source| source.clicks.len() as u64).sum()
    }

    /// Records that were rejected.
    pub fn rejected(&self) -> u64 {
        self.sources.iter().map(|source| source.rejects.count()).sum()
    }
}

/// The product ids of a batch, each once, so that a click is two numbers.
#[derive(Debug, Default)]
struct Products {
    numbers: HashMap<Box<str>, u32>,
    ids: Vec<Box<str>>,
}

impl Products {
    fn number(&mut self, id: &str) -> u32 {
        match self.numbers.entry_ref(id) {
            EntryRef::Occupied(number) => *number.get(),
            EntryRef::Vacant(entry) => {
                let number = self.ids.len() as u32;
                self.ids.push(id.into());
                entry.insert_with_key(id.into(), number);
                number
            }
        }
    }
}

/// A click on its way into its bucket.
type Sorted = (Bucket, i64, u32);

struct Decoder<'p> {
    policy: &'p Policy,
    now: UnixMillis,
    batch: Batch,
    /// The clicks of each of `batch.sources`.
    sources: Vec<Vec<Sorted>>,
    /// The decoded value of the record at hand; kept for its room.
    value: Vec<u8>,
}

impl Decoder<'_> {
    /// The position of the source in `batch.sources`: a new one, unless the event names it twice.
    fn source(&mut self, name: &str, epoch: Option<NonZeroU32>) -> usize {
        // DynamoDB takes no empty key. Kafka has no topic without a name, but a batch must not fail for one.
        let source = Source::new(if name.is_empty() { "unknown" } else { name }, epoch);
        if let Some(position) = self.batch.sources.iter().position(|known| known.source == source) {
            return position;
        }
        let rejects = Rejects::default();
        self.batch.sources.push(SourceBatch { source, clicks: Vec::new(), buckets: Vec::new(), rejects });
        self.sources.push(Vec::new());
        self.sources.len() - 1
    }

    /// Takes a record that may not be of the documented shape.
    fn odd_record(&mut self, position: usize, record: &str) {
        if let Ok(record) = serde_json::from_str(record) {
            return self.record(position, record);
        }
        self.batch.records += 1;
        let (offset, reason) = why_malformed(record);
        self.batch.sources[position].rejects.push(offset, reason, Some(record.as_bytes()));
    }

    fn record(&mut self, position: usize, Record { offset, value }: Record<'_>) {
        self.batch.records += 1;
        let source = &mut self.batch.sources[position];
        let Some(Text(value)) = value else {
            return source.rejects.push(offset, Reason::NoValue, None);
        };
        self.value.clear();
        if STANDARD.decode_append(value.as_bytes(), &mut self.value).is_err() {
            return source.rejects.push(offset, Reason::NotBase64, Some(value.as_bytes()));
        }
        match self.policy.sort(self.now, &self.value) {
            Outcome::Counted(event) => {
                let product = event.product_id.as_str();
                let bucket = Bucket { minute: Minute::of(event.event_time), shard: Shard::of(product) };
                self.sources[position].push((bucket, offset, self.batch.products.number(product)));
                self.batch.newest_event_time = self.batch.newest_event_time.max(Some(event.event_time));
            }
            Outcome::Ignored => self.batch.ignored += 1,
            Outcome::Stale(_) => self.batch.stale += 1,
            Outcome::Rejected(reason) => source.rejects.push(offset, reason, Some(&self.value)),
        }
    }

    /// Brings the clicks of each source into runs of one bucket each.
    fn finish(mut self) -> Batch {
        for (source, mut clicks) in self.batch.sources.iter_mut().zip(self.sources) {
            clicks.sort_unstable();
            let before = clicks.len();
            clicks.dedup_by_key(|(bucket, offset, _)| (*bucket, *offset));
            self.batch.repeated += (before - clicks.len()) as u64;
            let mut start = 0;
            for run in clicks.chunk_by(|(a, ..), (b, ..)| a == b) {
                source.buckets.push((run[0].0, start..start + run.len()));
                start += run.len();
            }
            source.clicks = clicks.into_iter().map(|(_, offset, product)| Click { offset, product }).collect();
        }
        self.batch
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use aws_lambda_events::kafka::KafkaEvent;

    use hot_products::rejects::NO_OFFSET;

    use super::*;

    const BATCH: &str = include_str!("../../../events/msk-batch.json");
    const REJECTS: &str = include_str!("../../../events/msk-rejects.json");

    fn decode(event: &str) -> Batch {
        let now = UnixMillis::parse_rfc3339("2022-12-27T16:50:30Z").unwrap();
        let policy = Policy { counted_actions: vec!["click".into()], max_event_age: Duration::from_hours(2) };
        Batch::decode(event.as_bytes(), None, &policy, now).unwrap()
    }

    /// A batch with one record, whose JSON is given.
    fn one(record: &str) -> Batch {
        let batch = decode(&format!(r#"{{"records":{{"clicks-0":[{record}]}}}}"#));
        assert_eq!(batch.records, 1, "{record}");
        assert_eq!(batch.clicks() + batch.ignored + batch.stale + batch.repeated + batch.rejected(), 1, "{record}");
        batch
    }

    /// The clicks of a batch in words: source, bucket, offset and product.
    fn told(batch: &Batch) -> Vec<String> {
        let mut told = Vec::new();
        for source in &batch.sources {
            for (bucket, clicks) in &source.buckets {
                for click in &source.clicks[clicks.clone()] {
                    told.push(format!("{} {bucket} {} {}", source.source, click.offset, batch.product(click.product)));
                }
            }
        }
        told.sort();
        told
    }

    fn click(event: &str) -> String {
        STANDARD.encode_to_string(event)
    }

    fn good() -> String {
        click(r#"{"event_time":1672159800000,"product_id":"p1","action":"click"}"#)
    }

    #[test]
    fn a_batch_is_sorted_by_source_and_bucket() {
        let batch = decode(BATCH);
        assert_eq!((batch.records, batch.clicks(), batch.ignored, batch.rejected()), (12, 11, 1, 0));
        let told = told(&batch);
        assert_eq!(told[0], "clicks-0 2022-12-27T16:45Z#1 102 p7");
        let product = "7 caffè ☕ \"doppio\" #1";
        assert!(told.iter().any(|click| click.ends_with(product)), "{told:#?}");
        for source in &batch.sources {
            for (_, clicks) in &source.buckets {
                assert!(source.clicks[clicks.clone()].is_sorted_by_key(|click| click.offset));
            }
        }
        assert_eq!(batch.newest_event_time, Some(UnixMillis(1_672_159_799_000)));
    }

    #[test]
    fn the_samples_are_of_the_shape_that_lambda_sends() {
        // Through the published type and back: what it reads, and what it writes, decodes alike.
        let event: KafkaEvent = serde_json::from_str(BATCH).unwrap();
        assert_eq!(event.records.len(), 3);
        assert_eq!(told(&decode(&serde_json::to_string(&event).unwrap())), told(&decode(BATCH)));
    }

    #[test]
    fn every_kind_of_bad_record_is_rejected_for_its_own_reason() {
        let batch = decode(REJECTS);
        let rejects = &batch.sources[0].rejects;
        let reasons: Vec<_> = rejects.by_reason.iter().map(|(reason, count)| (reason.name(), *count)).collect();
        assert_eq!(
            reasons,
            [
                ("malformed_record", 1),
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
        assert_eq!((batch.records, batch.clicks()), (20, 3), "the good ones among them are counted");
        assert!(rejects.samples.iter().all(|sample| !sample.value.contains("u_1233")));
    }

    #[test]
    fn an_odd_envelope_costs_nothing() {
        let value = good();
        for record in [
            format!(r#"{{"offset":1,"value":"{value}"}}"#),
            format!(
                r#"{{"topic":"clicks","partition":0,"offset":1,"timestamp":1,"timestampType":"X","key":null,"headers":[],"value":"{value}"}}"#
            ),
            format!(
                r#"{{"offset":1,"value":"{value}","headers":[{{}},{{"h":[-128,127]}}],"key":"AA==","new":{{"a":[[[1]]]}}}}"#
            ),
            format!(r#"{{"offset":1,"value":"{value}","headers":null,"topic":7,"partition":"x"}}"#),
            format!(r#"{{"offset":0,"offset":1,"value":null,"value":"{value}"}}"#),
            format!(r#"{{"offset":1,"value":"{}"}}"#, value.replace('=', "\\u003d").replace('/', "\\/")),
        ] {
            assert_eq!(told(&one(&record)), ["clicks-0 2022-12-27T16:50Z#4 1 p1"], "{record}");
        }
    }

    #[test]
    fn a_record_that_is_none_is_rejected_with_its_offset_where_it_has_one() {
        let value = good();
        for (record, reason, offset) in [
            (r#"{"offset":5,"value":null}"#.to_owned(), Reason::NoValue, 5),
            (r#"{"offset":5}"#.to_owned(), Reason::NoValue, 5),
            (r#"{"offset":5,"value":7}"#.to_owned(), Reason::NotBase64, 5),
            (r#"{"offset":5,"value":1e400}"#.to_owned(), Reason::NotBase64, 5),
            (r#"{"offset":5,"value":"AAA"}"#.to_owned(), Reason::NotBase64, 5),
            (format!(r#"{{"value":"{value}"}}"#), Reason::MalformedRecord, NO_OFFSET),
            (format!(r#"{{"offset":-1,"value":"{value}"}}"#), Reason::MalformedRecord, NO_OFFSET),
            (format!(r#"{{"offset":1.5,"value":"{value}"}}"#), Reason::MalformedRecord, NO_OFFSET),
            (format!(r#"[5,"{value}"]"#), Reason::MalformedRecord, NO_OFFSET),
            ("null".to_owned(), Reason::MalformedRecord, NO_OFFSET),
            ("[]".to_owned(), Reason::MalformedRecord, NO_OFFSET),
        ] {
            let batch = one(&record);
            let rejects = &batch.sources[0].rejects;
            assert_eq!(rejects.by_reason.keys().collect::<Vec<_>>(), [&reason], "{record}");
            assert_eq!(rejects.offsets, [offset], "{record}");
        }
        assert_eq!(decode(r#"{"records":{"clicks-0":"no list"}}"#).rejected(), 1);
    }

    #[test]
    fn a_record_that_comes_twice_in_a_batch_is_counted_once() {
        let record = format!(r#"{{"offset":1,"value":"{}"}}"#, good());
        let batch =
            decode(&format!(r#"{{"records":{{"a-0":[{record},{record}],"a-1":[{record}],"a-0":[{record}]}}}}"#));
        assert_eq!((batch.records, batch.clicks(), batch.repeated, batch.sources.len()), (4, 2, 2, 2));
    }

    #[test]
    fn records_out_of_order_are_brought_into_order() {
        let record = |offset| format!(r#"{{"offset":{offset},"value":"{}"}}"#, good());
        let batch = decode(&format!(r#"{{"records":{{"a-0":[{},{},{}]}}}}"#, record(9), record(3), record(5)));
        let offsets: Vec<_> = batch.sources[0].clicks.iter().map(|click| click.offset).collect();
        assert_eq!(offsets, [3, 5, 9]);
    }

    #[test]
    fn an_event_of_another_kind_is_an_error_and_an_empty_batch_is_none() {
        let policy = Policy { counted_actions: vec!["click".into()], max_event_age: Duration::from_hours(2) };
        for event in ["{}", "[]", "null", r#"{"Records":[]}"#, r#"{"records":[]}"#, r#"{"records":null}"#] {
            let error = Batch::decode(event.as_bytes(), None, &policy, UnixMillis(0)).unwrap_err();
            assert!(error.to_string().starts_with("the event is no MSK batch"), "{event}: {error}");
        }
        assert_eq!(decode(r#"{"records":{}}"#).records, 0);
        assert_eq!(decode(r#"{"records":{"clicks-0":[]},"eventSource":7}"#).records, 0);
    }
}
