//! Decoding: Lambda's Kafka event becomes a [`Batch`], every record sorted into its outcome.
//!
//! The event is read borrowed: first down to the text of each source's records, then these. Where one record of a source
//! is not of the documented shape, each is read by itself, so that this one is rejected alone; a typed envelope
//! (`aws_lambda_events::kafka::KafkaEvent`) would fail the batch, and for Kafka that would block the partition.

use std::{fmt, num::NonZeroU32, ops::Range};

use base64_simd::STANDARD;
use hashbrown::{HashMap, hash_map::EntryRef};
use hot_products::{
    Bucket, Minute, Outcome, Policy, Reason, Shard, Source, UnixMillis,
    click::Text,
    counters::Click,
    rejects::{NO_OFFSET, Rejects},
};
use serde::{
    Deserialize, Deserializer,
    de::{self, IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;
use thiserror::Error;

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
    pub fn decode(event: &str, epoch: Option<NonZeroU32>, policy: &Policy, now: UnixMillis) -> Result<Self, NoBatch> {
        let envelope: Envelope<'_> = serde_json::from_str(event)?;
        let mut decoder = Decoder { policy, now, batch: Self::default(), sources: Vec::new(), value: Vec::new() };
        for (name, records) in envelope.0.iter().flat_map(|entries| &entries.0) {
            let position = decoder.source(&name.0, epoch);
            if let Ok(records) = serde_json::from_str::<Vec<Record<'_>>>(records.get()) {
                for record in records {
                    decoder.record(position, record);
                }
            } else if let Ok(records) = serde_json::from_str::<Vec<&RawValue>>(records.get()) {
                for record in records {
                    decoder.odd_record(position, record.get());
                }
            } else {
                decoder.odd_record(position, records.get());
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

/// What counts of an event: the entries of `records`, also where it stands twice.
struct Envelope<'a>(Vec<Entries<'a>>);

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum EnvelopeField {
    Records,
    #[serde(other)]
    Other,
}

impl<'de: 'a, 'a> Deserialize<'de> for Envelope<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EnvelopeVisitor;

        impl<'de> Visitor<'de> for EnvelopeVisitor {
            type Value = Envelope<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with `records`")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut records = Vec::new();
                while let Some(field) = map.next_key()? {
                    match field {
                        EnvelopeField::Records => records.push(map.next_value()?),
                        EnvelopeField::Other => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                if records.is_empty() { Err(de::Error::missing_field("records")) } else { Ok(Envelope(records)) }
            }
        }

        deserializer.deserialize_map(EnvelopeVisitor)
    }
}

/// The entries of an object in their order, a name that stands twice included.
struct Entries<'a>(Vec<(Text<'a>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Entries<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntriesVisitor;

        impl<'de> Visitor<'de> for EntriesVisitor {
            type Value = Entries<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of records by topic partition")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }

        deserializer.deserialize_map(EntriesVisitor)
    }
}

/// What counts of a record; the source is known from the records' name, and keys, headers and timestamps don't matter.
struct Record<'a> {
    /// From 0.
    offset: i64,
    value: Option<Text<'a>>,
}

/// Reads a record of the wrong shape once more, slowly, to save its offset if it has one, and to name what is wrong.
fn why_malformed(record: &str) -> (i64, Reason) {
    let fields = serde_json::from_str(record).map_or(Vec::new(), |Entries(fields)| fields);
    let last = |name| fields.iter().rfind(|(field, _)| field.0 == name).map(|(_, value)| value.get());
    match last("offset").and_then(|offset| serde_json::from_str(offset).ok()) {
        Some(offset @ 0..) if !last("value").is_some_and(|value| value.starts_with('"')) => (offset, Reason::NotBase64),
        Some(offset @ 0..) => (offset, Reason::MalformedRecord),
        _ => (NO_OFFSET, Reason::MalformedRecord),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Field {
    Offset,
    Value,
    #[serde(other)]
    Other,
}

/// By hand, for a derived `Deserialize` would take an array for a record and refuse a field that stands twice.
impl<'de> Deserialize<'de> for Record<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RecordVisitor;

        impl<'de> Visitor<'de> for RecordVisitor {
            type Value = Record<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a Kafka record")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let (mut offset, mut value) = (None, None);
                while let Some(field) = map.next_key()? {
                    match field {
                        Field::Offset => offset = Some(map.next_value()?),
                        Field::Value => value = map.next_value()?,
                        Field::Other => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                match offset {
                    Some(offset @ 0..) => Ok(Record { offset, value }),
                    _ => Err(de::Error::custom("a record has an offset from 0")),
                }
            }
        }

        deserializer.deserialize_map(RecordVisitor)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use aws_lambda_events::kafka::KafkaEvent;

    use super::*;

    const BATCH: &str = include_str!("../../../events/msk-batch.json");
    const REJECTS: &str = include_str!("../../../events/msk-rejects.json");

    fn decode(event: &str) -> Batch {
        let now = UnixMillis::parse_rfc3339("2022-12-27T16:50:30Z").unwrap();
        let policy = Policy { counted_actions: vec!["click".into()], max_event_age: Duration::from_hours(2) };
        Batch::decode(event, None, &policy, now).unwrap()
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
            let error = Batch::decode(event, None, &policy, UnixMillis(0)).unwrap_err();
            assert!(error.to_string().starts_with("the event is no MSK batch"), "{event}: {error}");
        }
        assert_eq!(decode(r#"{"records":{}}"#).records, 0);
        assert_eq!(decode(r#"{"records":{"clicks-0":[]},"eventSource":7}"#).records, 0);
    }
}
