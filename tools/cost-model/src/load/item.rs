//! How large an item is and what writing it costs, by DynamoDB's rules.
//!
//! An item measures its attributes' names and values. A text has its UTF-8 bytes, a Boolean one, a number one and one
//! for every two significant digits, zeros at the ends left out (Amazon DynamoDB Developer Guide, "DynamoDB item sizes
//! and formats"). A write costs a unit for each KB of the larger of the item before and after (the same, "Write
//! operations").

use hashbrown::HashMap;
use hot_products::{counters::attribute, protocol::CounterUpdate};

/// A write unit, in bytes.
const WRITE_UNIT: usize = 1024;

/// The most that an item may measure, in bytes.
pub const MAX_ITEM_BYTES: usize = 400 * 1024;

/// What DynamoDB adds to each item when it bills storage, in bytes (Developer Guide, "DynamoDB item sizes and formats").
pub const STORAGE_OVERHEAD: usize = 100;

/// The size of a whole number's value, in bytes.
pub fn number_bytes(mut number: u64) -> usize {
    if number == 0 {
        return 1;
    }
    while number.is_multiple_of(10) {
        number /= 10;
    }
    (number.ilog10() as usize + 1).div_ceil(2) + 1
}

/// The write units of a write that found `before` bytes and left `after`.
pub fn write_units(before: usize, after: usize) -> u64 {
    before.max(after).div_ceil(WRITE_UNIT).max(1) as u64
}

/// A counter item as far as it costs: how often each product was clicked, and how large it is.
#[derive(Clone, Debug)]
pub struct Item {
    clicks: HashMap<u32, u64>,
    /// Key, TTL and mark, which never change.
    fixed: usize,
    counters: usize,
    last_offset: usize,
}

impl Item {
    /// An item that is not there yet, with a partition key of `bucket` bytes and a sort key of `source` bytes, that
    /// expires at `expires_at`.
    pub fn new(bucket: usize, source: usize, expires_at: i64) -> Self {
        let key = attribute::BUCKET.len() + bucket + attribute::SOURCE.len() + source;
        let mark = attribute::CLOSED.len() + 1;
        let expiry = attribute::EXPIRES_AT.len() + number_bytes(expires_at.unsigned_abs());
        Self { clicks: HashMap::new(), fixed: key + mark + expiry, counters: 0, last_offset: 0 }
    }

    /// The item's size in bytes; zero while it is not there.
    pub fn bytes(&self) -> usize {
        if self.last_offset == 0 { 0 } else { self.fixed + self.counters + self.last_offset }
    }

    /// How many products it counts.
    pub fn products(&self) -> usize {
        self.clicks.len()
    }

    /// The size it would have with `update`.
    fn bytes_with(&self, update: &CounterUpdate, id_bytes: &impl Fn(u32) -> usize) -> usize {
        let mut counters = self.counters;
        for (product, clicks) in &update.counts {
            match self.clicks.get(product) {
                Some(before) => counters = counters - number_bytes(*before) + number_bytes(before + clicks),
                None => counters += attribute::COUNTER_PREFIX.len_utf8() + id_bytes(*product) + number_bytes(*clicks),
            }
        }
        self.fixed + counters + offset_bytes(update.last)
    }

    /// Applies `update` and returns the write units, or `None` when the item would grow above 400 KB.
    pub fn add(&mut self, update: &CounterUpdate, id_bytes: impl Fn(u32) -> usize) -> Option<u64> {
        let after = self.bytes_with(update, &id_bytes);
        if after > MAX_ITEM_BYTES {
            return None;
        }
        let units = write_units(self.bytes(), after);
        for (product, clicks) in &update.counts {
            *self.clicks.entry(*product).or_default() += clicks;
        }
        self.last_offset = offset_bytes(update.last);
        self.counters = after - self.fixed - self.last_offset;
        Some(units)
    }
}

fn offset_bytes(offset: i64) -> usize {
    attribute::LAST_OFFSET.len() + number_bytes(offset.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use dynoxide::types::number_size;

    use super::*;

    #[test]
    fn numbers_measure_what_an_emulator_says_that_was_held_against_aws() {
        for number in (0..2_000).chain([9_999, 10_000, 123_456, 1_000_000_001, 1_672_253_460, 99_999_999_999]) {
            assert_eq!(number_bytes(number), number_size(&number.to_string()), "{number}");
        }
    }

    #[test]
    fn a_write_costs_the_larger_of_before_and_after() {
        assert_eq!(
            [write_units(0, 1), write_units(0, 1024), write_units(0, 1025), write_units(2049, 2048)],
            [1, 1, 2, 3]
        );
    }

    #[test]
    fn an_item_takes_no_update_that_would_make_it_too_large() {
        let mut item = Item::new(19, 8, 1_672_253_460);
        assert_eq!(item.bytes(), 0);
        let update = |product| CounterUpdate { first: 1, last: 1, clicks: 1, counts: vec![(product, 1)] };
        let large = |_| MAX_ITEM_BYTES / 2 - 100;
        assert_eq!(item.add(&update(1), large), Some(200));
        assert_eq!(item.add(&update(2), large), Some(400));
        let before = item.bytes();
        assert_eq!(item.add(&update(3), large), None);
        assert_eq!((item.bytes(), item.products()), (before, 2));
    }
}
