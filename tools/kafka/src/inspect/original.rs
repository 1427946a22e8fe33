//! One record as its producer wrote it.

use std::fmt::Write;

use anyhow::{Context as _, Result, bail};
use base64_simd::STANDARD;
use hot_products::{EventShape, UnixMillis};
use rdkafka::{
    Message, Offset, Timestamp, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, RDKafkaErrorCode},
    message::{BorrowedMessage, Headers},
};
use serde::Serialize;
use terminal::text::safe;

use super::{RecordContent, read::content};
use crate::{
    client::{Log, READER, RECORD_TIMEOUT, RESPONSE_TIMEOUT, metadata},
    cluster::{Cluster, create},
};

/// A record as its producer wrote it, with everything that it says about users.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OriginalRecord {
    /// Its topic.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Its timestamp in Kafka, RFC 3339, if it has one.
    pub timestamp: Option<String>,
    /// Who set the timestamp: `producer` or `broker`.
    pub timestamp_by: Option<&'static str>,
    /// Its key, if it has one.
    pub key: Option<Bytes>,
    /// Its value, if it has one.
    pub value: Option<Bytes>,
    /// Its headers, in order.
    pub headers: Vec<OriginalHeader>,
    /// What the functions read from its value.
    pub read_as: RecordContent,
}

/// A header of a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OriginalHeader {
    /// Its name.
    pub name: String,
    /// Its value, if it has one.
    pub value: Option<Bytes>,
}

/// Bytes of a record: as text if they are UTF-8, otherwise in Base64.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bytes {
    /// The text.
    Text(String),
    /// The bytes in Base64.
    Base64(String),
}

impl Bytes {
    fn new(bytes: &[u8]) -> Self {
        match str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Base64(STANDARD.encode_to_string(bytes)),
        }
    }

    /// Safe for a terminal.
    fn line(bytes: Option<&Self>) -> String {
        match bytes {
            None => "none".to_owned(),
            Some(Self::Text(text)) => safe(text),
            Some(Self::Base64(text)) => format!("not text, in Base64: {text}"),
        }
    }
}

/// Reads the record of `topic` at `offset` of `partition`. Events have this `shape`.
///
/// # Errors
/// When the brokers can't be reached, or there is no such topic, partition or record.
pub fn original(
    cluster: &Cluster,
    topic: &str,
    partition: i32,
    offset: i64,
    shape: &EventShape,
) -> Result<OriginalRecord> {
    let fixed = [
        ("group.id", READER),
        ("enable.auto.commit", "false"),
        ("enable.partition.eof", "true"),
        ("auto.offset.reset", "error"),
    ];
    let client: BaseConsumer<Log> = create(&cluster.config(&[], &fixed)?, cluster.log())?;
    let metadata = metadata(&client, Some(topic))?;
    let partitions = metadata.topics().first().map_or(0, |topic| topic.partitions().len());
    if !metadata.topics().iter().any(|found| found.partitions().iter().any(|one| one.id() == partition)) {
        bail!("{topic} has no partition {partition}: it has {partitions}, from 0 to {}", partitions.saturating_sub(1));
    }
    let (first, end) = client
        .fetch_watermarks(topic, partition, RESPONSE_TIMEOUT)
        .with_context(|| format!("can't get the offsets of {topic}-{partition}"))?;
    check_range(&format!("{topic}-{partition}"), offset, first, end)?;

    let mut start = TopicPartitionList::new();
    start.add_partition_offset(topic, partition, Offset::Offset(offset))?;
    client.assign(&start)?;
    let no_record =
        || format!("{topic}-{partition} has no record at offset {offset}: a transaction's marker, or compacted away");
    loop {
        match client.poll(RECORD_TIMEOUT) {
            None => bail!("the brokers sent no record for {}", humantime::format_duration(RECORD_TIMEOUT)),
            Some(Ok(message)) if message.offset() == offset => return Ok(record(&message, shape)),
            Some(Ok(_) | Err(KafkaError::PartitionEOF(_))) => bail!(no_record()),
            Some(Err(KafkaError::MessageConsumption(RDKafkaErrorCode::BrokerTransportFailure))) => {}
            Some(Err(error)) => bail!("can't read the record at offset {offset} of {topic}-{partition}: {error}"),
        }
    }
}

/// Fails unless `offset` is among those that the brokers have, from `first` to before `end`.
fn check_range(partition: &str, offset: i64, first: i64, end: i64) -> Result<()> {
    if first >= end {
        bail!("{partition} has no records; its next offset is {end}");
    }
    let range = format!("it has the offsets from {first} to {}", end - 1);
    if offset < first {
        bail!("the record at offset {offset} of {partition} is no longer in Kafka: {range}");
    }
    if offset >= end {
        bail!("{partition} has no record at offset {offset} yet: {range}");
    }
    Ok(())
}

fn record(message: &BorrowedMessage<'_>, shape: &EventShape) -> OriginalRecord {
    let (timestamp, timestamp_by) = match message.timestamp() {
        Timestamp::NotAvailable => (None, None),
        Timestamp::CreateTime(time) => (Some(time), Some("producer")),
        Timestamp::LogAppendTime(time) => (Some(time), Some("broker")),
    };
    let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
    OriginalRecord {
        topic: message.topic().to_owned(),
        partition: message.partition(),
        offset: message.offset(),
        timestamp: timestamp.map(|time| UnixMillis(time).to_string()),
        timestamp_by,
        key: message.key().map(Bytes::new),
        value: message.payload().map(Bytes::new),
        headers: headers
            .map(|header| OriginalHeader { name: header.key.to_owned(), value: header.value.map(Bytes::new) })
            .collect(),
        read_as: content(message.payload(), shape),
    }
}

/// The record for people, safe for a terminal.
pub fn original_text(record: &OriginalRecord) -> String {
    let mut text = format!("{}-{}, offset {}\n", safe(&record.topic), record.partition, record.offset);
    let written = match (&record.timestamp, record.timestamp_by) {
        (Some(time), Some(by)) => format!("{time}, by the {by}'s clock"),
        _ => "unknown".to_owned(),
    };
    let read_as = match &record.read_as {
        RecordContent::Event { event_time, product_id, action } => {
            let action = action.as_ref().map(|action| format!("{} on ", safe(action))).unwrap_or_default();
            format!("{action}{} at {event_time}", safe(product_id))
        }
        RecordContent::Rejected { rejected } => format!("rejected: {rejected}"),
    };
    let _infallible = writeln!(text, "written  {written}\nread as  {read_as}");
    for header in &record.headers {
        let _infallible = writeln!(text, "header   {}: {}", safe(&header.name), Bytes::line(header.value.as_ref()));
    }
    let _infallible = writeln!(text, "key      {}", Bytes::line(record.key.as_ref()));
    let _infallible = write!(text, "value    {}", Bytes::line(record.value.as_ref()));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(value: &[u8]) -> OriginalRecord {
        OriginalRecord {
            topic: "clicks".to_owned(),
            partition: 3,
            offset: 7,
            timestamp: Some("2022-12-27T16:50:00Z".to_owned()),
            timestamp_by: Some("producer"),
            key: None,
            value: Some(Bytes::new(value)),
            headers: vec![OriginalHeader { name: "h\u{1b}".to_owned(), value: Some(Bytes::new(b"\xff")) }],
            read_as: content(Some(value), &EventShape::default()),
        }
    }

    #[test]
    fn a_record_is_shown_whole_and_safe_for_a_terminal() {
        let text = original_text(&example(b"{\"user_id\":\"u_1\x1b[2J\"}\n"));
        assert_eq!(
            text,
            "clicks-3, offset 7\n\
             written  2022-12-27T16:50:00Z, by the producer's clock\n\
             read as  rejected: not_json\n\
             header   h\\u{1b}: not text, in Base64: /w==\n\
             key      none\n\
             value    {\"user_id\":\"u_1\\u{1b}[2J\"}\\n"
        );
    }

    #[test]
    fn json_has_bytes_as_text_or_in_base64() {
        let json = serde_json::to_value(example(b"\x1f\x8b")).unwrap();
        assert_eq!(json["value"], serde_json::json!({"base64": "H4s="}));
        assert_eq!(json["key"], serde_json::Value::Null);
        let json = serde_json::to_value(example(br#"{"event_time":1,"product_id":"p","action":"view"}"#)).unwrap();
        assert_eq!(json["value"]["text"], r#"{"event_time":1,"product_id":"p","action":"view"}"#);
        assert_eq!(json["read_as"]["product_id"], "p");
    }

    #[test]
    fn an_offset_that_the_brokers_do_not_have_is_refused_with_the_range() {
        let error = |offset, first, end| check_range("clicks-3", offset, first, end).unwrap_err().to_string();
        assert_eq!(
            error(9, 10, 20),
            "the record at offset 9 of clicks-3 is no longer in Kafka: it has the offsets from 10 to 19"
        );
        assert_eq!(error(20, 10, 20), "clicks-3 has no record at offset 20 yet: it has the offsets from 10 to 19");
        assert_eq!(error(5, 20, 20), "clicks-3 has no records; its next offset is 20");
        assert!(check_range("clicks-3", 10, 10, 20).is_ok() && check_range("clicks-3", 19, 10, 20).is_ok());
    }
}
