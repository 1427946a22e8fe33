//! The consumer group's rebalances.

use std::sync::{Mutex, PoisonError};

use rdkafka::{
    ClientContext, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, ConsumerContext, Rebalance},
    error::KafkaError,
    topic_partition_list::TopicPartitionListElem,
};

use crate::client::{Log, print_line};

/// What a rebalance did, with the partitions.
#[derive(Debug)]
pub(super) enum RebalanceEvent {
    Assigned(Vec<i32>),
    Revoked(Vec<i32>),
}

/// Collects rebalances. librdkafka reports them while the consumer is polled, and the event source handles them after.
#[derive(Debug, Default)]
pub(super) struct RebalanceContext {
    log: Log,
    events: Mutex<Vec<RebalanceEvent>>,
}

impl RebalanceContext {
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
}

impl ConsumerContext for RebalanceContext {
    fn pre_rebalance(&self, _consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let partitions =
            |list: &TopicPartitionList| list.elements().iter().map(TopicPartitionListElem::partition).collect();
        let event = match rebalance {
            Rebalance::Assign(list) => RebalanceEvent::Assigned(partitions(list)),
            Rebalance::Revoke(list) => RebalanceEvent::Revoked(partitions(list)),
            Rebalance::Error(error) => return print_line(&error.to_string()),
        };
        self.events.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    }
}
