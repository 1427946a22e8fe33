//! The layout of the minute counters: many counters in one item, and the offset up to which they are right.
//!
//! One item holds the counters of one minute, shard and source, one attribute a product, and `last_offset`: every
//! record of the source that belongs to the item, up to and including that offset, is counted in it, once. An update
//! adds the records of an offset range and moves `last_offset` to the range's end, on the condition that `last_offset`
//! lies before the range. Kafka hands a source's records out in offset order and never starts behind a gap, so
//! whatever is delivered again, in whatever cut, is either refused as a whole or still missing as a whole.
//!
//! An item that has grown large, or to DynamoDB's 400 KB, is closed for good before counting goes on in an overflow item.
//! Every update requires that its item is not closed, so what the overflow item counts can never enter the closed one.

use std::{fmt, num::NonZeroU32};

use hashbrown::{HashMap, hash_map::Entry};
use xxhash_rust::xxh3::xxh3_64;

use crate::time::Minute;

/// Attribute names of the counters table.
pub mod attribute {
    /// Partition key: minute and shard.
    pub const BUCKET: &str = "bucket";
    /// Sort key: the source, with the number of its overflow item.
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

/// The most distinct products in one update. An update expression may have 300 operators and 4 KB of text (Amazon
/// DynamoDB Developer Guide, "Service, account, and table quotas").
pub const MAX_PRODUCTS_PER_UPDATE: usize = 200;

/// One of the eight partition keys that a minute is spread over; a product is always on the same one.
///
/// Their number is a constant of the table's layout: a product must meet its own `last_offset` again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shard(u8);

impl Shard {
    /// How many shards a minute has.
    pub const COUNT: u8 = 8;

    /// The shard of a product: the lowest bits of the id's XXH3 hash.
    pub fn of(product_id: &str) -> Self {
        Self((xxh3_64(product_id.as_bytes()) % u64::from(Self::COUNT)) as u8)
    }

    /// All shards.
    pub fn all() -> impl Iterator<Item = Self> + Clone {
        (0..Self::COUNT).map(Self)
    }
}

/// A partition key of the counters table, `2022-12-27T16:50Z#3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bucket {
    /// The minute whose clicks it counts.
    pub minute: Minute,
    /// Which part of the products.
    pub shard: Shard,
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.minute, self.shard.0)
    }
}

/// One Kafka topic partition in one life of its topic: `clicks-0`, or `clicks-0@2` in the topic's second life.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source(String);

impl Source {
    /// The source of `topic_partition`, as a batch's `records` name it. Offsets start anew when a topic is recreated
    /// or moved to another cluster: a new `epoch` then tells its records from the old ones.
    pub fn new(topic_partition: &str, epoch: Option<NonZeroU32>) -> Self {
        Self(match epoch {
            Some(epoch) => format!("{topic_partition}@{epoch}"),
            None => topic_partition.to_owned(),
        })
    }

    /// The source of the item with this sort key, be it its first in a bucket or one that it goes on in.
    pub fn of_item(sort_key: &str) -> Self {
        Self(sort_key.split_once('+').map_or(sort_key, |(source, _)| source).to_owned())
    }

    /// As the tables' keys have it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Source {
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
    pub source: &'a Source,
    /// 0 for a source's first item in the bucket; the number behind `+` for the items it goes on in.
    pub overflow: u32,
}

impl<'a> ItemKey<'a> {
    /// The first item of a source in a bucket.
    pub fn first(bucket: Bucket, source: &'a Source) -> Self {
        Self { bucket, source, overflow: 0 }
    }

    /// The item that counting goes on in when this one is closed.
    #[must_use]
    pub fn next(self) -> Self {
        Self { overflow: self.overflow + 1, ..self }
    }

    /// The sort key: `clicks-0`, then `clicks-0+1`, …; `+` is no character of a topic's name.
    pub fn sort_key(&self) -> String {
        match self.overflow {
            0 => self.source.0.clone(),
            overflow => format!("{}+{overflow}", self.source),
        }
    }
}

impl fmt::Display for ItemKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.bucket, self.sort_key())
    }
}

/// A click as counting sees it: where it came from, and which product of the batch it was on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Click {
    /// The record's offset in its source.
    pub offset: i64,
    /// The product's number in the batch.
    pub product: u32,
}

/// What one update adds: the clicks of an offset range on at most [`MAX_PRODUCTS_PER_UPDATE`] products.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The lowest offset in the piece.
    pub first: i64,
    /// The highest offset in the piece, inclusive.
    pub last: i64,
    /// How many clicks the piece holds.
    pub clicks: usize,
    /// The clicks of each product, in the order in which products first appear.
    pub counts: Vec<(u32, u64)>,
}

impl Piece {
    /// The longest piece at the start of `clicks`, which are of one item and in ascending offset order. `None` when
    /// there are no clicks.
    ///
    /// Pieces are cut by offset, never by product: an update may only move `last_offset` over records it has counted.
    pub fn first_of(clicks: &[Click]) -> Option<Self> {
        let first = clicks.first()?.offset;
        let mut piece = Self { first, last: first, clicks: 0, counts: Vec::new() };
        let mut positions: HashMap<u32, usize> = HashMap::with_capacity(clicks.len().min(MAX_PRODUCTS_PER_UPDATE));
        for click in clicks {
            match positions.entry(click.product) {
                Entry::Occupied(position) => piece.counts[*position.get()].1 += 1,
                Entry::Vacant(_) if piece.counts.len() == MAX_PRODUCTS_PER_UPDATE => break,
                Entry::Vacant(position) => {
                    position.insert(piece.counts.len());
                    piece.counts.push((click.product, 1));
                }
            }
            piece.last = click.offset;
            piece.clicks += 1;
        }
        Some(piece)
    }
}

/// The clicks behind `last_offset`: those that an item which has counted up to there has not counted.
pub fn behind(clicks: &[Click], last_offset: i64) -> &[Click] {
    &clicks[clicks.partition_point(|click| click.offset <= last_offset)..]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::UnixMillis;

    fn clicks(products: impl IntoIterator<Item = u32>) -> Vec<Click> {
        products.into_iter().zip(10..).map(|(product, offset)| Click { offset, product }).collect()
    }

    #[test]
    fn keys_are_those_of_the_design() {
        let bucket = Bucket { minute: Minute::of(UnixMillis(1_672_159_801_234)), shard: Shard(3) };
        let source = Source::new("clicks-0", None);
        let key = ItemKey::first(bucket, &source);
        assert_eq!(key.bucket.to_string(), "2022-12-27T16:50Z#3");
        assert_eq!(key.sort_key(), "clicks-0");
        assert_eq!(key.next().next().sort_key(), "clicks-0+2");
        let recreated = Source::new("clicks-0", NonZeroU32::new(2));
        assert_eq!(ItemKey::first(bucket, &recreated).next().sort_key(), "clicks-0@2+1");
        assert_eq!([Source::of_item("clicks-0@2"), Source::of_item("clicks-0@2+1")], [recreated.clone(), recreated]);
    }

    #[test]
    fn a_product_keeps_its_shard() {
        // Written out: with another hash, counted records would be counted again on another shard.
        assert_eq!(["p1", "p2", "p1234", "é😀"].map(|id| Shard::of(id).0), [4, 1, 5, 1]);
    }

    #[test]
    fn a_piece_sums_products_and_spans_its_offsets() {
        let piece = Piece::first_of(&clicks([7, 8, 7, 7])).unwrap();
        assert_eq!(piece, Piece { first: 10, last: 13, clicks: 4, counts: vec![(7, 3), (8, 1)] });
        assert_eq!(Piece::first_of(&[]), None);
    }

    #[test]
    fn a_piece_ends_before_the_product_that_is_one_too_many() {
        let full = MAX_PRODUCTS_PER_UPDATE as u32;
        // The 201st product comes between two clicks on known ones: what follows it waits for the next piece.
        let clicks = clicks((0..full).chain([0, full, 1]));
        let piece = Piece::first_of(&clicks).unwrap();
        assert_eq!((piece.counts.len(), piece.clicks, piece.last), (200, 201, 210));
        let rest = Piece::first_of(behind(&clicks, piece.last)).unwrap();
        assert_eq!((rest.first, rest.last, rest.counts), (211, 212, vec![(full, 1), (1, 1)]));
    }

    #[test]
    fn behind_an_offset_is_what_lies_above_it() {
        let clicks = clicks([1, 2, 3]);
        assert_eq!(behind(&clicks, 9).len(), 3);
        assert_eq!(behind(&clicks, 10).len(), 2);
        assert_eq!(behind(&clicks, 12).len(), 0);
    }
}
