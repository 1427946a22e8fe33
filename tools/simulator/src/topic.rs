//! The topic: partitions, offsets, and the records that wait for delivery.

use std::collections::HashMap;

use aws_lambda_events::kafka::KafkaRecord;
use hot_products::UnixMillis;
use local_aws::msk::{self, MAX_PAYLOAD_BYTES, Position};
use serde::Serialize;

/// The topic's name.
const TOPIC: &str = "clicks";

/// A partition of the topic and how far it is delivered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PartitionStatus {
    /// Its name, such as `clicks-0`.
    pub source: String,
    /// The offset that the next record gets.
    pub end_offset: i64,
    /// The offset of the next record to deliver.
    pub offset: i64,
    /// How many records wait for delivery.
    pub lag: i64,
}

/// A topic with one reader, so that it only keeps the records that wait for delivery.
#[derive(Debug)]
pub(crate) struct Topic {
    /// Of each partition, the offset that the next record gets, and the waiting records.
    partitions: Vec<(i64, Vec<KafkaRecord>)>,
    batch_size: usize,
    waiting: usize,
    /// An estimate of the payload that the waiting records make, in bytes.
    payload_bytes: usize,
}

impl Topic {
    /// An empty topic with `partitions` partitions, at least one, and at most `batch_size` records in a batch.
    pub(crate) fn new(partitions: u32, batch_size: usize) -> Self {
        Self { partitions: vec![(0, Vec::new()); partitions as usize], batch_size, waiting: 0, payload_bytes: 0 }
    }

    /// Whether no record waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// Appends a record to the partition of its key, or of its value if it has no key, and returns the record.
    pub(crate) fn append(&mut self, timestamp: UnixMillis, key: Option<&[u8]>, value: &[u8]) -> &mut KafkaRecord {
        let number = msk::partition(key.unwrap_or(value), self.partitions.len() as u32);
        let (end_offset, waiting) = &mut self.partitions[number as usize];
        let position = Position { topic: TOPIC, partition: number, offset: *end_offset };
        waiting.push(msk::record(position, timestamp, key, Some(value)));
        *end_offset += 1;
        self.waiting += 1;
        self.payload_bytes += msk::payload_bytes(key, value);
        let last = waiting.len() - 1;
        &mut waiting[last]
    }

    /// Whether the waiting records make a full batch: the most records, or the largest payload.
    pub(crate) fn has_full_batch(&self) -> bool {
        self.waiting >= self.batch_size || self.payload_bytes >= MAX_PAYLOAD_BYTES
    }

    /// Takes the waiting records, as the JSON of one MSK event. `None` if no record waits.
    pub(crate) fn take_batch(&mut self) -> serde_json::Result<Option<String>> {
        let records: HashMap<String, Vec<KafkaRecord>> = (0..)
            .zip(&mut self.partitions)
            .filter(|(_, (_, waiting))| !waiting.is_empty())
            .map(|(number, (_, waiting))| (name(number), std::mem::take(waiting)))
            .collect();
        (self.waiting, self.payload_bytes) = (0, 0);
        if records.is_empty() { Ok(None) } else { serde_json::to_string(&msk::event(records)).map(Some) }
    }

    /// The partitions, by number.
    pub(crate) fn status(&self) -> Vec<PartitionStatus> {
        let status = |(number, (end_offset, waiting)): (u32, &(i64, Vec<KafkaRecord>))| {
            let offset = waiting.first().map_or(*end_offset, |record| record.offset);
            PartitionStatus { source: name(number), end_offset: *end_offset, offset, lag: end_offset - offset }
        };
        (0..).zip(&self.partitions).map(status).collect()
    }
}

fn name(partition: u32) -> String {
    format!("{TOPIC}-{partition}")
}
