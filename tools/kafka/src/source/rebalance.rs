//! The consumer group's rebalances.

use std::{
    error::Error,
    sync::{Mutex, PoisonError},
};

use anyhow::{Context as _, Result};
use rdkafka::{
    ClientContext, Offset, TopicPartitionList,
    client::OAuthToken,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance},
    error::KafkaError,
    topic_partition_list::TopicPartitionListElem,
};
use tokio::sync::Notify;

use super::StartOffset;
use crate::client::{Log, RESPONSE_TIMEOUT, ask_coordinator, committed, print_line};

/// What a rebalance did, with the partitions.
#[derive(Debug)]
pub(super) enum RebalanceEvent {
    Assigned(Vec<i32>),
    Revoked(Vec<i32>),
    /// The group may not have a start in the partitions that it was assigned. To read them could skip records later.
    Failed(anyhow::Error),
}

/// Collects rebalances. librdkafka reports them while the consumer is polled, and the event source handles them after.
#[derive(Debug)]
pub(super) struct RebalanceContext {
    topic: String,
    start: StartOffset,
    log: Log,
    events: Mutex<Vec<RebalanceEvent>>,
    changed: Notify,
}

impl RebalanceContext {
    /// For a group that reads `topic`, and begins at `start` where it has no commit.
    pub(super) fn new(topic: String, start: StartOffset, log: Log) -> Self {
        Self { topic, start, log, events: Mutex::default(), changed: Notify::new() }
    }

    /// Ready when there are rebalances to take.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Commits the end of each of `partitions` in which the group has no commit, before it reads from them. Otherwise a
    /// group that starts at the end and is interrupted before its first delivery would start at a later end the next time,
    /// and skip what was written between.
    fn commit_ends(&self, consumer: &BaseConsumer<Self>, partitions: &[i32]) -> Result<()> {
        let committed = committed(consumer, &self.topic, partitions.iter().copied())?;
        let mut ends = TopicPartitionList::new();
        for partition in partitions.iter().filter(|partition| !committed.contains_key(*partition)) {
            let (_, end) = consumer
                .fetch_watermarks(&self.topic, *partition, RESPONSE_TIMEOUT)
                .with_context(|| format!("can't get the offsets of {}-{partition}", self.topic))?;
            ends.add_partition_offset(&self.topic, *partition, Offset::Offset(end))?;
        }
        if ends.count() > 0 {
            ask_coordinator(|| consumer.commit(&ends, CommitMode::Sync))
                .with_context(|| format!("can't commit where the group starts in {}", self.topic))?;
        }
        Ok(())
    }

    /// Takes the rebalances since the last call, in order.
    pub(super) fn take(&self) -> Vec<RebalanceEvent> {
        std::mem::take(&mut *self.events.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ClientContext for RebalanceContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.log.log(level, facility, message);
    }

    fn error(&self, _error: KafkaError, _reason: &str) {}

    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, config: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        self.log.generate_oauth_token(config)
    }
}

impl ConsumerContext for RebalanceContext {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let partitions = |list: &TopicPartitionList| -> Vec<i32> {
            list.elements().iter().map(TopicPartitionListElem::partition).collect()
        };
        let event = match rebalance {
            Rebalance::Assign(list) => {
                let assigned = partitions(list);
                let ready = match self.start {
                    StartOffset::Earliest => Ok(()),
                    StartOffset::Latest => self.commit_ends(consumer, &assigned),
                };
                ready.map_or_else(RebalanceEvent::Failed, |()| RebalanceEvent::Assigned(assigned))
            }
            Rebalance::Revoke(list) => RebalanceEvent::Revoked(partitions(list)),
            Rebalance::Error(error) => return print_line(&error.to_string()),
        };
        self.events.lock().unwrap_or_else(PoisonError::into_inner).push(event);
        self.changed.notify_one();
    }
}
