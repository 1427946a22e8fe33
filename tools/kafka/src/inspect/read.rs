//! Reading what the brokers know.

use std::{borrow::Cow, collections::BTreeMap};

use anyhow::{Context as _, Result, bail};
use hot_products::{Event, EventShape, Reason, UnixMillis};
use rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, RDKafkaErrorCode},
    metadata::MetadataPartition,
};

use super::{BrokerView, ClusterView, PartitionView, Query, RecordContent, RecordView, TopicView};
use crate::{
    client::{Log, READER, RECORD_TIMEOUT, RESPONSE_TIMEOUT, committed, metadata},
    cluster::{Cluster, create},
};

/// Reads what `query` asks for.
///
/// # Errors
/// When the brokers can't be reached, or there is no such topic.
pub fn inspect(cluster: &Cluster, query: Query<'_>) -> Result<ClusterView> {
    let group = query.group.unwrap_or(READER);
    let fixed = [("group.id", group), ("enable.auto.commit", "false"), ("enable.partition.eof", "true")];
    let client: BaseConsumer<Log> = create(&cluster.config(&[], &fixed)?, cluster.log())?;
    let metadata = metadata(&client, query.topic)?;
    let mut brokers: Vec<_> = metadata
        .brokers()
        .iter()
        .map(|broker| BrokerView { id: broker.id(), address: format!("{}:{}", broker.host(), broker.port()) })
        .collect();
    brokers.sort_by_key(|broker| broker.id);
    let mut topics = Vec::new();
    for found in metadata.topics() {
        if query.topic.is_none() && is_internal(found.name()) {
            continue;
        }
        let mut committed = match query.group {
            Some(_) => committed(&client, found.name(), found.partitions().iter().map(MetadataPartition::id))?,
            None => BTreeMap::new(),
        };
        let mut partitions = Vec::new();
        for one in found.partitions() {
            let (first, end) = client
                .fetch_watermarks(found.name(), one.id(), RESPONSE_TIMEOUT)
                .with_context(|| format!("can't get the offsets of {}-{}", found.name(), one.id()))?;
            let committed = committed.remove(&one.id());
            partitions.push(PartitionView {
                partition: one.id(),
                leader: one.leader(),
                replicas: one.replicas().len(),
                in_sync: one.isr().len(),
                first_offset: first,
                last_offset: end - 1,
                committed,
                lag: query.group.map(|_| lag(first, end, committed)),
            });
        }
        partitions.sort_by_key(|partition| partition.partition);
        topics.push(TopicView {
            name: found.name().to_owned(),
            records: partitions.iter().map(|one| one.last_offset + 1 - one.first_offset).sum(),
            lag: partitions.iter().map(|one| one.lag).sum(),
            partitions,
        });
    }
    topics.sort_by(|a, b| a.name.cmp(&b.name));
    let newest = match &topics[..] {
        [topic] if query.tail > 0 => Some(newest(&client, topic, query)?),
        _ => None,
    };
    Ok(ClusterView { brokers, topics, newest })
}

/// Whether a topic is Kafka's own, such as `__consumer_offsets`.
fn is_internal(topic: &str) -> bool {
    topic.starts_with("__")
}

/// How many offsets a group has not committed. All, if it has committed none; records that retention deleted do not
/// count.
pub(super) fn lag(first: i64, end: i64, committed: Option<i64>) -> i64 {
    (end - committed.unwrap_or(first).max(first)).max(0)
}

/// The newest records of a topic by their timestamps in Kafka, as many as the query asks for, oldest first.
fn newest(client: &BaseConsumer<Log>, topic: &TopicView, query: Query<'_>) -> Result<Vec<RecordView>> {
    let count = query.tail;
    let mut start = TopicPartitionList::new();
    let mut unread = BTreeMap::new();
    for one in &topic.partitions {
        let from = one.first_offset.max((one.last_offset + 1).saturating_sub_unsigned(count as u64));
        if from <= one.last_offset {
            start.add_partition_offset(&topic.name, one.partition, Offset::Offset(from))?;
            unread.insert(one.partition, one.last_offset);
        }
    }
    client.assign(&start)?;
    let mut records = Vec::new();
    while !unread.is_empty() {
        match client.poll(RECORD_TIMEOUT) {
            None => bail!("the brokers sent no records for {}", humantime::format_duration(RECORD_TIMEOUT)),
            Some(Ok(message)) => {
                let partition = message.partition();
                let Some(end) = unread.get(&partition) else { continue };
                if message.offset() >= *end {
                    unread.remove(&partition);
                }
                let timestamp = message.timestamp().to_millis();
                records.push((timestamp, record(&message, timestamp, query.shape)));
            }
            // The last offsets may have no record, because of transactions or compaction.
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                unread.remove(&partition);
            }
            Some(Err(KafkaError::MessageConsumption(RDKafkaErrorCode::BrokerTransportFailure))) => {}
            Some(Err(error)) => bail!("can't read the newest records of {}: {error}", topic.name),
        }
    }
    client.unassign()?;
    records.sort_by(|(a, one), (b, other)| {
        a.cmp(b).then(one.partition.cmp(&other.partition)).then(one.offset.cmp(&other.offset))
    });
    let surplus = records.len().saturating_sub(count);
    Ok(records.into_iter().skip(surplus).map(|(_, record)| record).collect())
}

fn record(message: &impl Message, timestamp: Option<i64>, shape: &EventShape) -> RecordView {
    let value = message.payload();
    RecordView {
        partition: message.partition(),
        offset: message.offset(),
        timestamp: timestamp.map(|time| UnixMillis(time).to_string()),
        bytes: value.map_or(0, <[u8]>::len),
        content: content(value, shape),
    }
}

pub(super) fn content(value: Option<&[u8]>, shape: &EventShape) -> RecordContent {
    match value.map(|value| Event::parse(value, shape)) {
        None => RecordContent::Rejected { rejected: Reason::NoValue.name() },
        Some(Err(reason)) => RecordContent::Rejected { rejected: reason.name() },
        Some(Ok(event)) => RecordContent::Event {
            event_time: event.event_time.to_string(),
            product_id: event.product_id.as_str().to_owned(),
            action: event.action.map(Cow::into_owned),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_counts_existing_offsets_that_are_not_committed() {
        assert_eq!(lag(0, 100, None), 100);
        assert_eq!(lag(0, 100, Some(40)), 60);
        assert_eq!(lag(0, 100, Some(100)), 0);
        assert_eq!(lag(50, 100, Some(10)), 50, "retention deleted 10 to 49");
        assert_eq!(lag(0, 0, Some(100)), 0, "the topic was recreated");
    }

    #[test]
    fn a_value_that_is_not_an_event_shows_the_reason() {
        assert_eq!(content(Some(b"{"), &EventShape::default()), RecordContent::Rejected { rejected: "not_json" });
        assert_eq!(content(None, &EventShape::default()), RecordContent::Rejected { rejected: "no_value" });
    }
}
