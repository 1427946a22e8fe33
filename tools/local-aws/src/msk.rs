//! MSK events as Lambda's event source mapping builds them.

use std::collections::HashMap;

use aws_lambda_events::kafka::{KafkaEvent, KafkaRecord};
use base64_simd::STANDARD;
use hot_products::UnixMillis;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// What a batch's payload may measure at most, in bytes, before Lambda invokes the function (AWS Lambda Developer
/// Guide, "Batching behavior").
pub const MAX_PAYLOAD_BYTES: usize = 6 * 1024 * 1024;

/// A record's size in a payload besides its key and value, in bytes, about.
const RECORD_BYTES: usize = 150;

/// A seed of its own, so that partitions and shards are spread independently.
const PARTITIONER_SEED: u64 = 1;

/// Which of a topic's partitions, at least one, the records with the key `key` go to.
pub fn partition(key: &[u8], partitions: u32) -> u32 {
    (xxh3_64_with_seed(key, PARTITIONER_SEED) % u64::from(partitions)) as u32
}

/// What a record adds to a payload, in bytes, about.
pub fn payload_bytes(key: Option<&[u8]>, value: &[u8]) -> usize {
    RECORD_BYTES + (key.map_or(0, <[u8]>::len) + value.len()).div_ceil(3) * 4
}

/// A record of the topic `topic`.
pub fn record(
    topic: &str,
    partition: u32,
    offset: i64,
    timestamp: UnixMillis,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
) -> KafkaRecord {
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

/// An event with `records`, by topic partition as in `clicks-0`.
pub fn event(records: HashMap<String, Vec<KafkaRecord>>) -> KafkaEvent {
    let mut event = KafkaEvent::default();
    event.event_source = Some("aws:kafka".to_owned());
    event.event_source_arn =
        Some("arn:aws:kafka:us-east-1:123456789012:cluster/shop/6cc0432b-8618-4f44-bccc-e1fbd8fb7c4d-2".to_owned());
    event.bootstrap_servers = Some("b-1.shop.c2.kafka.us-east-1.amazonaws.com:9098".to_owned());
    event.records = records;
    event
}
