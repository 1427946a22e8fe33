//! Reading the records of a topic that were written in a time, without a consumer group.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use hot_products::UnixMillis;
use rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, RDKafkaErrorCode},
    metadata::MetadataPartition,
};

use crate::{
    client::{Log, READER, RECORD_TIMEOUT, RESPONSE_TIMEOUT, committed, metadata},
    cluster::{Cluster, create},
};

/// A record of the topic.
#[derive(Clone, Copy, Debug)]
pub struct TopicRecord<'a> {
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Its timestamp in Kafka, by the producer's clock or the broker's, if it has one.
    pub timestamp: Option<UnixMillis>,
    /// Its value, if it has one.
    pub value: Option<&'a [u8]>,
}

/// The offsets of a partition that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetRange {
    /// The partition.
    pub partition: i32,
    /// The first offset that the brokers still have.
    pub oldest: i64,
    /// The first offset to read.
    pub start: i64,
    /// The first offset after those to read.
    pub end: i64,
}

impl OffsetRange {
    /// How many offsets it has.
    pub fn offsets(&self) -> u64 {
        u64::try_from(self.end.saturating_sub(self.start)).unwrap_or(0)
    }
}

/// A topic whose records can be read.
pub struct TopicReader {
    client: BaseConsumer<Log>,
    topic: String,
    partitions: Vec<i32>,
}

impl TopicReader {
    /// The topic `topic` of `cluster`; `group` is the consumer group whose commits can be asked for.
    ///
    /// # Errors
    /// When the brokers can't be reached, or there is no such topic.
    pub fn open(cluster: &Cluster, topic: &str, group: Option<&str>) -> Result<Self> {
        let fixed = [
            ("group.id", group.unwrap_or(READER)),
            ("enable.auto.commit", "false"),
            ("enable.partition.eof", "true"),
            // Retention may delete records while they are read. That must not go unnoticed.
            ("auto.offset.reset", "error"),
        ];
        let client: BaseConsumer<Log> = create(&cluster.config(&[], &fixed)?, cluster.log())?;
        let metadata = metadata(&client, Some(topic))?;
        let found = metadata.topics().iter().flat_map(|topic| topic.partitions().iter().map(MetadataPartition::id));
        let mut partitions: Vec<i32> = found.collect();
        partitions.sort_unstable();
        Ok(Self { client, topic: topic.to_owned(), partitions })
    }

    /// Its partitions, in order.
    pub fn partitions(&self) -> &[i32] {
        &self.partitions
    }

    /// The offset that the group reads next, of each partition in which it has committed one.
    ///
    /// # Errors
    /// When the group's coordinator can't be reached or refuses.
    pub fn committed(&self) -> Result<BTreeMap<i32, i64>> {
        committed(&self.client, &self.topic, self.partitions.iter().copied())
    }

    /// The first offset of each partition whose record has a timestamp of `time` or later, or else the partition's end.
    ///
    /// # Errors
    /// When the brokers can't be reached.
    pub fn offsets_at(&self, time: UnixMillis) -> Result<BTreeMap<i32, i64>> {
        let mut times = TopicPartitionList::new();
        for partition in &self.partitions {
            times.add_partition_offset(&self.topic, *partition, Offset::Offset(time.0.max(0)))?;
        }
        let found = self
            .client
            .offsets_for_times(times, RESPONSE_TIMEOUT)
            .with_context(|| format!("can't get the offsets of {} at {time}", self.topic))?;
        let mut offsets = BTreeMap::new();
        for one in found.elements() {
            let partition = one.partition();
            one.error().with_context(|| format!("can't get an offset of {}-{partition}", self.topic))?;
            let offset = match one.offset() {
                Offset::Offset(offset) => offset,
                _ => self.watermarks(partition)?.1,
            };
            offsets.insert(partition, offset);
        }
        Ok(offsets)
    }

    /// What to read of each partition to see the records from `time` until now.
    ///
    /// # Errors
    /// When the brokers can't be reached.
    pub fn ranges_from(&self, time: UnixMillis) -> Result<Vec<OffsetRange>> {
        let starts = self.offsets_at(time)?;
        let range = |(partition, start)| {
            let (oldest, end) = self.watermarks(partition)?;
            Ok(OffsetRange { partition, oldest, start, end: end.max(start) })
        };
        starts.into_iter().map(range).collect()
    }

    /// Reads `ranges`, and calls `each` with each record: those of a partition in offset order.
    ///
    /// # Errors
    /// When the brokers send nothing for a while or records were deleted before they were read, or the first error of
    /// `each`.
    pub fn read(&self, ranges: &[OffsetRange], mut each: impl FnMut(TopicRecord<'_>) -> Result<()>) -> Result<()> {
        let mut start = TopicPartitionList::new();
        let mut unread = BTreeMap::new();
        for range in ranges.iter().filter(|range| range.offsets() > 0) {
            start.add_partition_offset(&self.topic, range.partition, Offset::Offset(range.start))?;
            unread.insert(range.partition, range.end);
        }
        self.client.assign(&start)?;
        while !unread.is_empty() {
            let done = match self.client.poll(RECORD_TIMEOUT) {
                None => bail!("the brokers sent no records for {}", humantime::format_duration(RECORD_TIMEOUT)),
                Some(Ok(message)) => {
                    let (partition, offset) = (message.partition(), message.offset());
                    let Some(end) = unread.get(&partition) else { continue };
                    if offset < *end {
                        let timestamp = message.timestamp().to_millis().map(UnixMillis);
                        each(TopicRecord { partition, offset, timestamp, value: message.payload() })?;
                    }
                    (offset + 1 >= *end).then_some(partition)
                }
                // The last offsets may have no record, because of transactions or compaction.
                Some(Err(KafkaError::PartitionEOF(partition))) => Some(partition),
                Some(Err(KafkaError::MessageConsumption(RDKafkaErrorCode::BrokerTransportFailure))) => None,
                Some(Err(error)) => bail!("can't read the records of {}: {error}", self.topic),
            };
            if let Some(partition) = done.filter(|partition| unread.remove(partition).is_some()) {
                let mut finished = TopicPartitionList::new();
                finished.add_partition(&self.topic, partition);
                self.client.pause(&finished)?;
            }
        }
        self.client.unassign()?;
        Ok(())
    }

    fn watermarks(&self, partition: i32) -> Result<(i64, i64)> {
        self.client
            .fetch_watermarks(&self.topic, partition, RESPONSE_TIMEOUT)
            .with_context(|| format!("can't get the offsets of {}-{partition}", self.topic))
    }
}
