//! The topic: who leads its partitions, and the requests that write to them.

use std::collections::{BTreeMap, HashMap};

use bytes::{Bytes, BytesMut};
use kafka_protocol::{
    error::{ParseResponseErrorCode, ResponseError},
    messages::{
        ApiKey, BrokerId, MetadataRequest, MetadataResponse, ProduceRequest, ProduceResponse, TopicName,
        metadata_request::MetadataRequestTopic,
        produce_request::{PartitionProduceData, TopicProduceData},
    },
    protocol::StrBytes,
    records::{
        Compression, NO_PARTITION_LEADER_EPOCH, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE, Record,
        RecordBatchEncoder, RecordEncodeOptions, TimestampType,
    },
};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::broker::{BrokerError, Connection};

/// Versions of the requests that Kafka 2.4 to 4 take.
const METADATA_VERSION: i16 = 9;
const PRODUCE_VERSION: i16 = 8;

/// All copies in sync must have a record before it is acknowledged.
const ALL: i16 = -1;

/// How long a broker may wait for these copies, in ms.
const COPIES_TIMEOUT_MS: i32 = 15_000;

/// Why the topic can't be written to.
#[derive(Debug, Error)]
pub enum TopicError {
    /// A broker failed.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The broker does not say who leads the partitions.
    #[error(
        "the topic {topic} can't be used: {reason}; check that it exists, and that the role has kafka-cluster:DescribeTopic on it"
    )]
    NotDescribed {
        /// Its name.
        topic: String,
        /// Kafka's name of the error.
        reason: String,
    },
    /// The broker refused the records.
    #[error(
        "{topic}-{partition} refused records: {reason}; check that the role has kafka-cluster:WriteData on the topic"
    )]
    NotWritten {
        /// Its name.
        topic: String,
        /// The partition.
        partition: i32,
        /// Kafka's name of the error, or its words.
        reason: String,
    },
    /// The records can't be encoded.
    #[error("the records can't be encoded: {0}")]
    NotEncoded(String),
}

/// A topic.
#[derive(Debug)]
pub(crate) struct Topic {
    name: TopicName,
    /// The address of the leader of each partition, by the partition's number.
    pub(crate) leaders: Vec<String>,
}

impl Topic {
    /// Asks a broker for the topic `name`, and does not create it.
    pub(crate) async fn find<S: AsyncRead + AsyncWrite + Unpin>(
        name: &str,
        connection: &mut Connection<S>,
    ) -> Result<Self, TopicError> {
        let topic = TopicName(StrBytes::from_string(name.to_owned()));
        let request = MetadataRequest::default()
            .with_topics(Some(vec![MetadataRequestTopic::default().with_name(Some(topic.clone()))]))
            .with_allow_auto_topic_creation(false);
        let answer: MetadataResponse = connection.ask(ApiKey::Metadata, METADATA_VERSION, &request).await?;
        let leaders = leaders(&answer).map_err(|reason| TopicError::NotDescribed { topic: name.to_owned(), reason })?;
        Ok(Self { name: topic, leaders })
    }

    /// Writes `records` to the partition over a connection to its leader. Does not retry: a request whose answer was lost may
    /// have been written.
    pub(crate) async fn write<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        partition: i32,
        records: &[Record],
        connection: &mut Connection<S>,
    ) -> Result<(), TopicError> {
        let not_written = |reason| TopicError::NotWritten { topic: self.name.to_string(), partition, reason };
        let data = PartitionProduceData::default().with_index(partition).with_records(Some(encode(records)?));
        let topic = TopicProduceData::default().with_name(self.name.clone()).with_partition_data(vec![data]);
        let request =
            ProduceRequest::default().with_acks(ALL).with_timeout_ms(COPIES_TIMEOUT_MS).with_topic_data(vec![topic]);
        let answer: ProduceResponse = connection.ask(ApiKey::Produce, PRODUCE_VERSION, &request).await?;
        let answers = answer.responses.iter().flat_map(|topic| &topic.partition_responses);
        let Some(answer) = answers.into_iter().find(|answer| answer.index == partition) else {
            return Err(not_written("the broker did not answer for it".to_owned()));
        };
        match answer.error_code.err() {
            None => Ok(()),
            Some(error) => {
                Err(not_written(answer.error_message.as_deref().map_or(format!("{error:?}"), str::to_owned)))
            }
        }
    }
}

/// The address of each partition's leader, or Kafka's name of an error.
fn leaders(answer: &MetadataResponse) -> Result<Vec<String>, String> {
    let name = |error: ResponseError| format!("{error:?}");
    let brokers: HashMap<BrokerId, String> =
        answer.brokers.iter().map(|broker| (broker.node_id, format!("{}:{}", broker.host, broker.port))).collect();
    let topic = answer.topics.first().ok_or("the broker does not know it")?;
    if let Some(error) = topic.error_code.err() {
        return Err(name(error));
    }
    let mut leaders = BTreeMap::new();
    for partition in &topic.partitions {
        let index = partition.partition_index;
        let Some(leader) = brokers.get(&partition.leader_id) else {
            let reason = partition.error_code.err().map_or("no reason".to_owned(), name);
            return Err(format!("partition {index} has no leader ({reason})"));
        };
        leaders.insert(index, leader.clone());
    }
    // Kafka numbers them from 0.
    if leaders.is_empty() || leaders.keys().zip(0..).any(|(index, number)| *index != number) {
        return Err(format!("the broker knows only {} of its partitions", leaders.len()));
    }
    Ok(leaders.into_values().collect())
}

/// A record with the event time `timestamp`.
pub(crate) fn record(timestamp: i64, key: &[u8], value: &[u8]) -> Record {
    Record {
        transactional: false,
        control: false,
        partition_leader_epoch: NO_PARTITION_LEADER_EPOCH,
        producer_id: NO_PRODUCER_ID,
        producer_epoch: NO_PRODUCER_EPOCH,
        timestamp_type: TimestampType::Creation,
        offset: 0,
        sequence: NO_SEQUENCE,
        timestamp,
        key: Some(Bytes::copy_from_slice(key)),
        value: Some(Bytes::copy_from_slice(value)),
        headers: kafka_protocol::indexmap::IndexMap::new(),
        delete_horizon: false,
    }
}

/// `records` as one batch.
fn encode(records: &[Record]) -> Result<Bytes, TopicError> {
    let mut numbered = records.to_vec();
    // In a batch, offsets count from 0, and the sequence begins where a producer without an id has it.
    for (offset, record) in (0..).zip(&mut numbered) {
        record.offset = i64::from(offset);
        record.sequence = NO_SEQUENCE.wrapping_add(offset);
    }
    let mut bytes = BytesMut::new();
    RecordBatchEncoder::encode(
        &mut bytes,
        &numbered,
        &RecordEncodeOptions { version: 2, compression: Compression::None },
    )
    .map_err(|error| TopicError::NotEncoded(error.to_string()))?;
    Ok(bytes.freeze())
}

#[cfg(test)]
mod tests {
    use kafka_protocol::{
        messages::metadata_response::{MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic},
        records::RecordBatchDecoder,
    };

    use super::*;

    fn broker(id: i32) -> MetadataResponseBroker {
        let host = StrBytes::from_string(format!("b-{id}.shop"));
        MetadataResponseBroker::default().with_node_id(BrokerId(id)).with_host(host).with_port(9098)
    }

    fn partition(index: i32, leader: i32, error: i16) -> MetadataResponsePartition {
        let partition = MetadataResponsePartition::default().with_partition_index(index);
        partition.with_leader_id(BrokerId(leader)).with_error_code(error)
    }

    fn topic(error: i16, partitions: Vec<MetadataResponsePartition>) -> MetadataResponse {
        let topic = MetadataResponseTopic::default().with_error_code(error).with_partitions(partitions);
        MetadataResponse::default().with_brokers(vec![broker(1), broker(2)]).with_topics(vec![topic])
    }

    #[test]
    fn each_partition_has_a_leader_or_the_topic_is_not_used() {
        let good = topic(0, vec![partition(1, 2, 0), partition(0, 1, 0), partition(2, 2, 9)]);
        assert_eq!(leaders(&good), Ok(["b-1.shop:9098", "b-2.shop:9098", "b-2.shop:9098"].map(str::to_owned).into()));
        for (answer, reason) in [
            (topic(3, vec![]), "UnknownTopicOrPartition"),
            (topic(29, vec![]), "TopicAuthorizationFailed"),
            (topic(0, vec![partition(0, 1, 0), partition(1, -1, 5)]), "partition 1 has no leader (LeaderNotAvailable)"),
            (topic(0, vec![partition(0, 1, 0), partition(2, 1, 0)]), "the broker knows only 2 of its partitions"),
            (topic(0, vec![]), "the broker knows only 0 of its partitions"),
            (MetadataResponse::default(), "the broker does not know it"),
        ] {
            assert_eq!(leaders(&answer), Err(reason.to_owned()));
        }
    }

    #[test]
    fn records_are_one_batch_of_a_producer_without_an_id() {
        let records: Vec<Record> = (0..5).map(|n| record(1000 + n, b"p1", format!("{n}").as_bytes())).collect();
        let mut bytes = encode(&records).unwrap();
        let decoded = RecordBatchDecoder::decode_all(&mut bytes).unwrap();
        assert_eq!(decoded.len(), 1);
        let values: Vec<_> = decoded[0].records.iter().map(|record| record.value.clone().unwrap()).collect();
        assert_eq!(values, ["0", "1", "2", "3", "4"]);
        assert!(decoded[0].records.iter().zip(1000..).all(|(record, time)| record.timestamp == time));
        assert!(decoded[0].records.iter().all(|record| record.producer_id == NO_PRODUCER_ID));
    }
}
