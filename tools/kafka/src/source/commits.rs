//! Offsets that were delivered but not committed.

use std::collections::BTreeMap;

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{CommitMode, Consumer, StreamConsumer},
};

use super::rebalance::RebalanceContext;
use crate::client::print_line;

/// The offsets to commit.
#[derive(Debug)]
pub(super) struct Commits {
    topic: String,
    /// By partition, the offset to read next: delivered, but not committed.
    uncommitted: BTreeMap<i32, i64>,
}

impl Commits {
    pub(super) fn new(topic: String) -> Self {
        Self { topic, uncommitted: BTreeMap::new() }
    }

    /// Adds the offset to read next of each delivered partition.
    pub(super) fn extend(&mut self, next_offsets: impl Iterator<Item = (i32, i64)>) {
        self.uncommitted.extend(next_offsets);
    }

    /// Drops the offsets of `partitions`: their new owner starts at the last commit.
    pub(super) fn revoke(&mut self, partitions: &[i32]) {
        self.uncommitted.retain(|partition, _| !partitions.contains(partition));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.uncommitted.is_empty()
    }

    /// Commits the offsets. If that fails, keeps them for the next attempt.
    pub(super) fn commit(&mut self, consumer: &StreamConsumer<RebalanceContext>) {
        if self.uncommitted.is_empty() {
            return;
        }
        let mut offsets = TopicPartitionList::new();
        for (partition, offset) in &self.uncommitted {
            // Fails only for a negative offset, which no record has.
            let _never = offsets.add_partition_offset(&self.topic, *partition, Offset::Offset(*offset));
        }
        match consumer.commit(&offsets, CommitMode::Sync) {
            Ok(()) => self.uncommitted.clear(),
            Err(error) => print_line(&format!("can't commit yet: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_offset_of_a_partition_is_committed_unless_it_was_revoked() {
        let mut commits = Commits::new("clicks".to_owned());
        commits.extend([(0, 10), (1, 5)].into_iter());
        commits.extend([(0, 20)].into_iter());
        assert_eq!(commits.uncommitted, BTreeMap::from([(0, 20), (1, 5)]));
        commits.revoke(&[0]);
        assert_eq!(commits.uncommitted, BTreeMap::from([(1, 5)]));
        commits.revoke(&[1]);
        assert!(commits.is_empty());
    }
}
