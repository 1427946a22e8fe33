//! Decoding: Lambda's Kafka event becomes a [`Batch`], every record sorted into its outcome.
//!
//! The event is read in two borrowed passes, first the envelope down to each record's text, then each record by itself.
//! So one record that is not of the documented shape is rejected alone, where a typed envelope
//! (`aws_lambda_events::kafka::KafkaEvent`) would fail the batch, and for Kafka that would block the partition.

use std::{borrow::Cow, fmt, num::NonZeroU32, ops::Range};

use base64_simd::STANDARD;
use hashbrown::{HashMap, hash_map::EntryRef};
use hot_products::{
    Bucket, Minute, Outcome, Policy, Reason, Shard, Source, UnixMillis,
    counters::Click,
    rejects::{NO_OFFSET, Rejects},
};
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::{Value, value::RawValue};
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
        for (name, records) in &envelope.records.0 {
            let position = decoder.source(name, epoch);
            match serde_json::from_str::<Vec<&RawValue>>(records.get()) {
                Ok(records) => records.into_iter().for_each(|record| decoder.record(position, record.get())),
                Err(_) => decoder.record(position, records.get()),
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

    fn record(&mut self, position: usize, record: &str) {
        self.batch.records += 1;
        let source = &mut self.batch.sources[position];
        let (offset, value) = match parse_record(record) {
            Ok(Record { offset, value: Some(value) }) => (offset, value.0),
            Ok(Record { offset, value: None }) => return source.rejects.push(offset, Reason::NoValue, None),
            Err(Malformed { offset, reason }) => {
                return source.rejects.push(offset, reason, Some(record.as_bytes()));
            }
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

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    records: Entries<'a>,
}

/// The entries of an object in their order, a name that stands twice included.
struct Entries<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

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
                while let Some((name, value)) = map.next_entry::<Text<'de>, _>()? {
                    entries.push((name.0, value));
                }
                Ok(Entries(entries))
            }
        }

        deserializer.deserialize_map(EntriesVisitor)
    }
}

/// Text that is borrowed where it has no escapes; serde borrows a bare `Cow` only when told to.
#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// What counts of a record; the source is known from the records' name, and keys, headers and timestamps don't matter.
struct Record<'a> {
    offset: i64,
    value: Option<Text<'a>>,
}

struct Malformed {
    offset: i64,
    reason: Reason,
}

fn parse_record(record: &str) -> Result<Record<'_>, Malformed> {
    match serde_json::from_str::<Fields<'_>>(record) {
        Ok(Fields { offset: Some(offset @ 0..), value }) => Ok(Record { offset, value }),
        _ => Err(why_malformed(record)),
    }
}

/// Reads a record of the wrong shape once more, slowly, to save its offset if it has one.
fn why_malformed(record: &str) -> Malformed {
    let record: Value = serde_json::from_str(record).unwrap_or_default();
    match record["offset"].as_i64() {
        Some(offset @ 0..) if !record["value"].is_string() => Malformed { offset, reason: Reason::NotBase64 },
        Some(offset @ 0..) => Malformed { offset, reason: Reason::MalformedRecord },
        _ => Malformed { offset: NO_OFFSET, reason: Reason::MalformedRecord },
    }
}

struct Fields<'a> {
    offset: Option<i64>,
    value: Option<Text<'a>>,
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
impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;

        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a Kafka record")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Fields { offset: None, value: None };
                while let Some(field) = map.next_key()? {
                    match field {
                        Field::Offset => fields.offset = Some(map.next_value()?),
                        Field::Value => fields.value = map.next_value()?,
                        Field::Other => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(fields)
            }
        }

        deserializer.deserialize_map(FieldsVisitor)
    }
}
