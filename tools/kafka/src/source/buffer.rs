//! Records that were read but not delivered, and the batches that they make.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fmt::Write,
};

use aws_lambda_events::kafka::KafkaRecord;
use hot_products::UnixMillis;
use hyper::body::Bytes;
use local_aws::msk::{self, Position};
use rdkafka::{
    Message, Timestamp,
    message::{BorrowedMessage, Headers},
};

use crate::invoke::InvokeError;

/// A record that was read but not delivered.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct BufferedRecord {
    pub(super) partition: i32,
    pub(super) offset: i64,
    /// Its size in a payload, in bytes.
    bytes: usize,
    json: KafkaRecord,
}

impl BufferedRecord {
    fn new(record: KafkaRecord) -> Self {
        // One more byte for the comma.
        let bytes = serde_json::to_vec(&record).map_or(0, |json| json.len()) + 1;
        Self { partition: record.partition as i32, offset: record.offset, bytes, json: record }
    }
}

impl From<&BorrowedMessage<'_>> for BufferedRecord {
    fn from(message: &BorrowedMessage<'_>) -> Self {
        let (kind, timestamp) = match message.timestamp() {
            Timestamp::CreateTime(time) => ("CREATE_TIME", time),
            Timestamp::LogAppendTime(time) => ("LOG_APPEND_TIME", time),
            Timestamp::NotAvailable => ("NO_TIMESTAMP_TYPE", 0),
        };
        let position = Position {
            topic: message.topic(),
            partition: u32::try_from(message.partition()).unwrap_or_default(),
            offset: message.offset(),
        };
        let mut record = msk::record(position, UnixMillis(timestamp), message.key(), message.payload());
        record.timestamp_type = Some(kind.to_owned());
        if let Some(headers) = message.headers() {
            record.headers = headers
                .iter()
                .map(|header| {
                    let value = header.value.unwrap_or_default().iter().map(|byte| byte.cast_signed()).collect();
                    HashMap::from([(header.key.to_owned(), value)])
                })
                .collect();
        }
        Self::new(record)
    }
}

/// Records in the order in which they were read, and the limits of a batch.
#[derive(Debug)]
pub(super) struct Buffer {
    batch_size: usize,
    /// The most bytes of records in a payload.
    max_bytes: usize,
    records: VecDeque<BufferedRecord>,
    /// The size of all records in a payload, in bytes.
    bytes: usize,
}

impl Buffer {
    pub(super) fn new(batch_size: usize, max_bytes: usize) -> Self {
        Self { batch_size, max_bytes, records: VecDeque::new(), bytes: 0 }
    }

    pub(super) fn push(&mut self, record: BufferedRecord) {
        self.bytes += record.bytes;
        self.records.push_back(record);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// An estimate of how many full batches the records make.
    pub(super) fn batches(&self) -> usize {
        (self.records.len() / self.batch_size).max(self.bytes / self.max_bytes)
    }

    /// Whether the next batch is full.
    pub(super) fn is_full(&self) -> bool {
        self.batches() > 0
    }

    /// Takes the largest possible batch from the start. A record that is too large for any batch makes one by itself.
    pub(super) fn take(&mut self) -> BufferedBatch {
        let mut bytes = 0;
        let fit = self
            .records
            .iter()
            .take(self.batch_size)
            .take_while(|record| {
                bytes += record.bytes;
                bytes <= self.max_bytes
            })
            .count();
        let count = fit.max(1).min(self.records.len());
        let records: Vec<BufferedRecord> = self.records.drain(..count).collect();
        self.bytes -= records.iter().map(|record| record.bytes).sum::<usize>();
        BufferedBatch { records, revoked: Vec::new() }
    }

    /// Drops the records of `partitions`.
    pub(super) fn revoke(&mut self, partitions: &[i32]) {
        self.records.retain(|record| !partitions.contains(&record.partition));
        self.bytes = self.records.iter().map(|record| record.bytes).sum();
    }
}

/// The records of one delivery.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct BufferedBatch {
    pub(super) records: Vec<BufferedRecord>,
    /// Partitions that were revoked since the records were read.
    revoked: Vec<i32>,
}

impl BufferedBatch {
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Notes that `partitions` were revoked. Their records may be in flight, so they stay in the batch for now.
    pub(super) fn revoke(&mut self, partitions: &[i32]) {
        self.revoked.extend(partitions);
    }

    /// Drops the records of revoked partitions.
    pub(super) fn drop_revoked(&mut self) {
        let revoked = std::mem::take(&mut self.revoked);
        self.records.retain(|record| !revoked.contains(&record.partition));
    }

    /// By partition that was not revoked, the offset after the last record.
    pub(super) fn next_offsets(&self) -> impl Iterator<Item = (i32, i64)> {
        let offsets = self.offsets().into_iter().map(|(partition, (_, last))| (partition, last + 1));
        offsets.filter(|(partition, _)| !self.revoked.contains(partition))
    }

    /// The batch's size and offsets, for a message.
    pub(super) fn describe(&self, topic: &str) -> String {
        let mut text = format!("{} records", self.records.len());
        for (partition, (first, last)) in self.offsets() {
            let _infallible = write!(text, ", {topic}-{partition} {first}..{last}");
        }
        text
    }

    /// The batch as the JSON of an MSK event.
    pub(super) fn payload(&self, topic: &str) -> Result<Bytes, InvokeError> {
        let mut records: HashMap<String, Vec<KafkaRecord>> = HashMap::new();
        for record in &self.records {
            records.entry(format!("{topic}-{}", record.partition)).or_default().push(record.json.clone());
        }
        let json =
            serde_json::to_vec(&msk::event(records)).map_err(|error| InvokeError::NoPayload(error.to_string()))?;
        Ok(json.into())
    }

    /// First and last offset, by partition.
    fn offsets(&self) -> BTreeMap<i32, (i64, i64)> {
        let mut offsets = BTreeMap::new();
        for record in &self.records {
            let (_, last) = offsets.entry(record.partition).or_insert((record.offset, record.offset));
            *last = record.offset;
        }
        offsets
    }
}

#[cfg(test)]
mod tests {
    use local_aws::msk::MAX_PAYLOAD_BYTES;

    use super::*;
    use crate::source::ENVELOPE_BYTES;

    fn one(partition: i32, offset: i64, value: &str) -> BufferedRecord {
        let position = Position { topic: "clicks", partition: partition as u32, offset };
        BufferedRecord::new(msk::record(position, UnixMillis(0), None, Some(value.as_bytes())))
    }

    fn offsets(batch: &BufferedBatch) -> Vec<(i32, i64)> {
        batch.records.iter().map(|record| (record.partition, record.offset)).collect()
    }

    #[test]
    fn a_batch_has_at_most_batch_size_records() {
        let mut buffer = Buffer::new(3, usize::MAX);
        for offset in 0..7 {
            assert_eq!(buffer.is_full(), offset >= 3);
            buffer.push(one(0, offset, "x"));
        }
        assert_eq!(offsets(&buffer.take()), [(0, 0), (0, 1), (0, 2)]);
        assert_eq!(offsets(&buffer.take()), [(0, 3), (0, 4), (0, 5)]);
        assert!(!buffer.is_full());
        assert_eq!(offsets(&buffer.take()), [(0, 6)]);
        assert!(buffer.take().is_empty() && buffer.is_empty() && buffer.bytes == 0);
    }

    #[test]
    fn a_batch_ends_before_the_record_that_would_make_it_too_large() {
        let size = one(0, 0, "x").bytes;
        let mut buffer = Buffer::new(100, 2 * size);
        for offset in 0..3 {
            buffer.push(one(0, offset, "x"));
        }
        assert!(buffer.is_full());
        assert_eq!(offsets(&buffer.take()), [(0, 0), (0, 1)]);
        assert!(!buffer.is_full());
        // A record that is too large for any batch must not block the partition.
        buffer.push(one(0, 3, &"x".repeat(3 * size)));
        assert_eq!(offsets(&buffer.take()), [(0, 2)]);
        assert_eq!(offsets(&buffer.take()), [(0, 3)]);
    }

    #[test]
    fn a_full_payload_is_within_lambdas_limit_and_close_to_it() {
        let mut buffer = Buffer::new(100_000, MAX_PAYLOAD_BYTES - ENVELOPE_BYTES);
        let mut offset = 0;
        while !buffer.is_full() {
            buffer.push(one(offset as i32 % 12, offset, &"\"\u{1f600}".repeat(offset as usize % 50)));
            offset += 1;
        }
        let batch = buffer.take();
        let payload = batch.payload("clicks").unwrap();
        assert!(payload.len() <= MAX_PAYLOAD_BYTES, "{}", payload.len());
        assert!(payload.len() > MAX_PAYLOAD_BYTES - 2 * ENVELOPE_BYTES, "{}", payload.len());
    }

    #[test]
    fn a_payload_groups_records_by_topic_partition_as_lambda_does() {
        let batch =
            BufferedBatch { records: vec![one(1, 5, "a"), one(0, 9, "b"), one(1, 6, "c")], revoked: Vec::new() };
        let event: serde_json::Value = serde_json::from_slice(&batch.payload("clicks").unwrap()).unwrap();
        assert_eq!(event["eventSource"], "aws:kafka");
        assert_eq!(event["records"]["clicks-1"][1]["offset"], 6);
        assert_eq!(event["records"]["clicks-1"][1]["value"], "Yw==");
        assert_eq!(event["records"]["clicks-0"].as_array().unwrap().len(), 1);
        assert_eq!(batch.describe("clicks"), "3 records, clicks-0 9..9, clicks-1 5..6");
    }

    #[test]
    fn revoked_partitions_are_neither_delivered_again_nor_committed() {
        let mut buffer = Buffer::new(10, usize::MAX);
        for record in [one(0, 1, "a"), one(1, 1, "b"), one(2, 1, "c"), one(0, 2, "d")] {
            buffer.push(record);
        }
        buffer.revoke(&[2]);
        let mut batch = buffer.take();
        assert_eq!(offsets(&batch), [(0, 1), (1, 1), (0, 2)]);
        assert_eq!(batch.next_offsets().collect::<Vec<_>>(), [(0, 3), (1, 2)]);
        batch.revoke(&[0]);
        assert_eq!(batch.next_offsets().collect::<Vec<_>>(), [(1, 2)]);
        batch.drop_revoked();
        assert_eq!(offsets(&batch), [(1, 1)]);
        // A partition that is assigned again later is read again from the last commit, not through this batch.
        assert!(batch.revoked.is_empty());
    }
}
