//! The events that Lambda's event source mapping sends for an MSK topic (AWS Lambda Developer Guide, "Using Lambda with
//! Amazon MSK").

use std::collections::HashMap;

use aws_lambda_events::kafka::{KafkaEvent, KafkaRecord};
use base64_simd::STANDARD;
use hot_products::UnixMillis;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The largest payload of a batch, in bytes: Lambda invokes the function when it is reached (AWS Lambda Developer Guide,
/// "Batching behavior").
pub const MAX_PAYLOAD_BYTES: usize = 6 * 1024 * 1024;

/// An estimate of a record's size in a payload without its key and value, in bytes.
const RECORD_BYTES: usize = 150;

/// Differs from the seed of the shards' hash, so that partitions and shards are independent of each other.
const PARTITIONER_SEED: u64 = 1;

/// The partition of records with the key `key`, of `partitions`, at least one. The same in the simulator and in the cost
/// model. Kafka's own clients use another hash.
pub fn partition(key: &[u8], partitions: u32) -> u32 {
    (xxh3_64_with_seed(key, PARTITIONER_SEED) % u64::from(partitions)) as u32
}

/// An estimate of what a record adds to a payload, in bytes.
pub fn payload_bytes(key: Option<&[u8]>, value: &[u8]) -> usize {
    RECORD_BYTES + (key.map_or(0, <[u8]>::len) + value.len()).div_ceil(3) * 4
}

/// The place of a record in Kafka.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position<'a> {
    /// The topic's name.
    pub topic: &'a str,
    /// The partition's number.
    pub partition: u32,
    /// The offset in the partition.
    pub offset: i64,
}

/// A record of an event, with its key and value in base64. Its timestamp type is `CREATE_TIME`.
pub fn record(position: Position<'_>, timestamp: UnixMillis, key: Option<&[u8]>, value: Option<&[u8]>) -> KafkaRecord {
    let Position { topic, partition, offset } = position;
    let mut record = KafkaRecord::default();
    record.topic = Some(topic.to_owned());
    record.partition = i64::from(partition);
    record.offset = offset;
    record.timestamp.0 = timestamp.utc();
    record.timestamp_type = Some("CREATE_TIME".to_owned());
    record.key = key.map(|key| STANDARD.encode_to_string(key));
    record.value = value.map(|value| STANDARD.encode_to_string(value));
    record
}

/// An event with `records` by topic partition, such as `clicks-0`.
pub fn event(records: HashMap<String, Vec<KafkaRecord>>) -> KafkaEvent {
    let mut event = KafkaEvent::default();
    event.event_source = Some("aws:kafka".to_owned());
    event.event_source_arn =
        Some("arn:aws:kafka:us-east-1:123456789012:cluster/shop/6cc0432b-8618-4f44-bccc-e1fbd8fb7c4d-2".to_owned());
    event.bootstrap_servers = Some("b-1.shop.c2.kafka.us-east-1.amazonaws.com:9098".to_owned());
    event.records = records;
    event
}
