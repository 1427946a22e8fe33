//! The layout of the minute counters: which item counts a click, and what the item's attributes are.
//!
//! One item holds the counters of one minute, product shard and topic partition, one attribute for each product, and
//! `last_offset`: every record of the topic partition that belongs to the item, up to and including that offset, is
//! counted in it, once. [`protocol`](crate::protocol) has the rules by which items are written.

mod list;

use std::{fmt, num::NonZeroU32};

use xxhash_rust::xxh3::xxh3_64;

pub use self::list::CounterList;
use crate::time::Minute;

/// The version of the layout: which bucket counts a click, and how counters are stored in items. It is stored in the
/// table, and programs with another version refuse the table. Raise it with every change that makes an old reader or
/// writer wrong.
///
/// Version 1 had eight shards by product and no groups of topic partitions. It was never released and left no mark.
pub const LAYOUT_VERSION: i64 = 2;

/// Attribute names of the counters table.
pub mod attribute {
    /// Partition key: minute and bucket number.
    pub const BUCKET: &str = "bucket";
    /// Sort key: the topic partition, with the number of its overflow item.
    pub const SOURCE: &str = "source";
    /// The offset up to which, inclusive, the item's records are counted.
    pub const LAST_OFFSET: &str = "last_offset";
    /// Whether the item takes no more clicks, for good. Written as `false` at the start: a full item can't grow by an
    /// attribute.
    pub const CLOSED: &str = "closed";
    /// TTL, epoch seconds.
    pub const EXPIRES_AT: &str = "expires_at";
    /// What a product's counter begins with; keeps product ids and the other attributes apart.
    pub const COUNTER_PREFIX: char = '#';
}

/// One quarter of the products. A product is always in the same one.
///
/// The number of shards is a constant of the table's layout: a product must meet its own `last_offset` again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shard(u8);

impl Shard {
    /// How many shards there are.
    pub const COUNT: u8 = 4;

    /// The shard of a product: the lowest bits of the id's XXH3 hash.
    pub fn of(product_id: &str) -> Self {
        Self((xxh3_64(product_id.as_bytes()) % u64::from(Self::COUNT)) as u8)
    }

    /// All shards.
    pub fn all() -> impl Iterator<Item = Self> + Clone {
        (0..Self::COUNT).map(Self)
    }
}

/// One half of the topic partitions. A topic partition is always in the same one.
///
/// The number of groups is a constant of the table's layout, like that of the shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionGroup(u8);

impl PartitionGroup {
    /// How many groups there are.
    pub const COUNT: u8 = 2;

    /// The group of a topic partition: the remainder of its number, so that the partitions of a topic are spread evenly.
    pub fn of(partition: &TopicPartition) -> Self {
        let name = partition.0.split_once('@').map_or(partition.as_str(), |(name, _)| name);
        // Lambda names a partition `topic-number`. A name of another form still has its group.
        let number: u32 = name.rsplit_once('-').and_then(|(_, number)| number.parse().ok()).unwrap_or(0);
        Self((number % u32::from(Self::COUNT)) as u8)
    }

    /// All groups.
    pub fn all() -> impl Iterator<Item = Self> + Clone {
        (0..Self::COUNT).map(Self)
    }
}

/// A partition key of the counters table, `2022-12-27T16:50Z#3`: the counters of a minute for one shard of the products
/// and one group of topic partitions. DynamoDB takes 1,000 write units a second on each key, so a minute is spread over
/// eight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bucket {
    /// The minute whose clicks it counts.
    pub minute: Minute,
    /// Which part of the products.
    pub shard: Shard,
    /// Which part of the topic partitions.
    pub group: PartitionGroup,
}

impl Bucket {
    /// How many buckets a minute has.
    pub const PER_MINUTE: u8 = Shard::COUNT * PartitionGroup::COUNT;

    /// The bucket that counts the clicks of `minute` on a product from a topic partition.
    pub fn of(minute: Minute, product_id: &str, partition: &TopicPartition) -> Self {
        Self { minute, shard: Shard::of(product_id), group: PartitionGroup::of(partition) }
    }

    /// The buckets of `minute`.
    pub fn of_minute(minute: Minute) -> impl Iterator<Item = Self> + Clone {
        Shard::all().flat_map(move |shard| Self::of_shard(minute, shard))
    }

    /// The buckets of `minute` that count the products of `shard`.
    pub fn of_shard(minute: Minute, shard: Shard) -> impl Iterator<Item = Self> + Clone {
        PartitionGroup::all().map(move |group| Self { minute, shard, group })
    }

    /// Its number within the minute, from 0.
    pub fn number(&self) -> u8 {
        self.shard.0 * PartitionGroup::COUNT + self.group.0
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.minute, self.number())
    }
}

/// One Kafka topic partition in one life of its topic: `clicks-0`, or `clicks-0@2` in the topic's second life.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition(String);

impl TopicPartition {
    /// The partition `topic_partition`, as a batch's `records` name it. Offsets start at 0 again when a topic is recreated
    /// or moved to another cluster. A new `epoch` then distinguishes its records from the old ones.
    pub fn new(topic_partition: &str, epoch: Option<NonZeroU32>) -> Self {
        Self(match epoch {
            Some(epoch) => format!("{topic_partition}@{epoch}"),
            None => topic_partition.to_owned(),
        })
    }

    /// The topic partition of the item with this sort key, which may be an overflow item.
    pub fn of_item(sort_key: &str) -> Self {
        Self(sort_key.split_once('+').map_or(sort_key, |(partition, _)| partition).to_owned())
    }

    /// As the tables' keys have it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The key of one item of the counters table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ItemKey<'a> {
    /// The partition key.
    pub bucket: Bucket,
    /// The sort key, but for `overflow`.
    pub partition: &'a TopicPartition,
    /// 0 for the first item of a chain; the number after `+` for overflow items.
    pub overflow: u32,
}

impl<'a> ItemKey<'a> {
    /// The first item of a topic partition in a bucket.
    pub fn first(bucket: Bucket, partition: &'a TopicPartition) -> Self {
        Self { bucket, partition, overflow: 0 }
    }

    /// The item in which counting continues when this one is closed.
    #[must_use]
    pub fn next(self) -> Self {
        Self { overflow: self.overflow + 1, ..self }
    }

    /// The sort key: `clicks-0`, then `clicks-0+1`, …; `+` is no character of a topic's name.
    pub fn sort_key(&self) -> String {
        match self.overflow {
            0 => self.partition.0.clone(),
            overflow => format!("{}+{overflow}", self.partition),
        }
    }
}

impl fmt::Display for ItemKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.bucket, self.sort_key())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::UnixMillis;

    #[test]
    fn keys_are_those_of_the_design() {
        let partition = TopicPartition::new("clicks-0", None);
        let bucket = Bucket::of(Minute::of(UnixMillis(1_672_159_801_234)), "p2", &partition);
        let key = ItemKey::first(bucket, &partition);
        assert_eq!(key.bucket.to_string(), "2022-12-27T16:50Z#2");
        assert_eq!(key.sort_key(), "clicks-0");
        assert_eq!(key.next().next().sort_key(), "clicks-0+2");
        let recreated = TopicPartition::new("clicks-0", NonZeroU32::new(2));
        assert_eq!(ItemKey::first(bucket, &recreated).next().sort_key(), "clicks-0@2+1");
        assert_eq!(
            [TopicPartition::of_item("clicks-0@2"), TopicPartition::of_item("clicks-0@2+1")],
            [recreated.clone(), recreated]
        );
    }

    #[test]
    fn products_and_topic_partitions_keep_their_buckets() {
        // Written out: in another bucket, counted records would be counted again.
        assert_eq!(["p1", "p2", "p1234", "é😀"].map(|id| Shard::of(id).0), [0, 1, 1, 1]);
        let group = |name: &str| PartitionGroup::of(&TopicPartition::new(name, None)).0;
        assert_eq!(["clicks-0", "clicks-7", "a-b-12", "odd", "odd-x", ""].map(group), [0, 1, 0, 0, 0, 0]);
        let recreated = TopicPartition::new("clicks-7", NonZeroU32::new(2));
        assert_eq!(PartitionGroup::of(&recreated).0, 1);
    }

    #[test]
    fn the_buckets_of_a_minute_are_numbered() {
        let minute = Minute::of(UnixMillis(0));
        assert!(Bucket::of_minute(minute).map(|bucket| bucket.number()).eq(0..Bucket::PER_MINUTE));
        let all: Vec<Bucket> = Shard::all().flat_map(|shard| Bucket::of_shard(minute, shard)).collect();
        assert!(Bucket::of_minute(minute).eq(all));
    }
}
