//! The counting protocol, without I/O: which write comes next for the clicks of one chain of items, and what its
//! answer means.
//!
//! A chain is the items of one bucket and topic partition: the first item, and the overflow items after it. A
//! [`Chain`] holds what one writer knows of it. The writer asks [`Chain::next_write`] for a write, sends it, and
//! reports the answer with [`Chain::updated`] or [`Chain::closed`], until there is no write left. All drivers, which are
//! the function `count-clicks`, the cost model and the model checker, run this code.
//!
//! A writer that knows nothing starts with [`Cursor::START`] and learns the rest from refusals. Everything a
//! [`Cursor`] says stays true: items are closed for good, and `last_offset` only grows.

use hashbrown::{HashMap, hash_map::Entry};

/// The most distinct products in one update. An update expression may have 300 operators and 4 KB of text (Amazon
/// DynamoDB Developer Guide, "Service, account, and table quotas").
pub const MAX_PRODUCTS_PER_UPDATE: usize = 200;

/// An item whose last update consumed this many write units, that is, which measures more than 1 KB, takes one more
/// update, and that update closes it.
///
/// An update costs its whole item, so many updates of one large item cost the square of what they write. But each item
/// of a chain has its own counters for the same hot products, which twelve rankings read. With two, `hot cost` shows the
/// lowest bills (docs/decisions/0002).
pub const CLOSE_FROM_WRITE_UNITS: u64 = 2;

/// A click as counting sees it: its offset, and the product's number within the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Click {
    /// The record's offset in its topic partition.
    pub offset: i64,
    /// The product's number in the batch.
    pub product: u32,
}

/// The clicks after `last_offset`: those that an item which has counted up to there has not counted. `clicks` are in
/// ascending offset order.
pub fn uncounted_after(clicks: &[Click], last_offset: i64) -> &[Click] {
    &clicks[clicks.partition_point(|click| click.offset <= last_offset)..]
}

/// What one update adds: the clicks of an offset range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CounterUpdate {
    /// The lowest offset in the update.
    pub first: i64,
    /// The highest offset in the update, inclusive.
    pub last: i64,
    /// How many clicks the update holds.
    pub clicks: usize,
    /// The clicks of each product, in the order in which products first appear.
    pub counts: Vec<(u32, u64)>,
}

impl CounterUpdate {
    /// The longest update at the start of `clicks` with at most `max_products` distinct products. `clicks` belong to
    /// one chain and are in ascending offset order. `None` when there are no clicks.
    ///
    /// Updates are cut by offset, never by product: an update may only move `last_offset` over records it counts.
    pub fn first_of(clicks: &[Click], max_products: usize) -> Option<Self> {
        let first = clicks.first()?.offset;
        let mut update = Self { first, last: first, clicks: 0, counts: Vec::new() };
        let mut positions: HashMap<u32, usize> = HashMap::with_capacity(clicks.len().min(max_products));
        for click in clicks {
            match positions.entry(click.product) {
                Entry::Occupied(position) => update.counts[*position.get()].1 += 1,
                Entry::Vacant(_) if update.counts.len() == max_products => break,
                Entry::Vacant(position) => {
                    position.insert(update.counts.len());
                    update.counts.push((click.product, 1));
                }
            }
            update.last = click.offset;
            update.clicks += 1;
        }
        Some(update)
    }
}

/// The limits that cut updates and close items.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Limits {
    /// The most distinct products in one update, at least one.
    pub max_products_per_update: usize,
    /// The write units of an item's last update from which the next update closes it.
    pub close_from_write_units: u64,
}

impl Limits {
    /// The limits of the counters table.
    pub const TABLE: Self =
        Self { max_products_per_update: MAX_PRODUCTS_PER_UPDATE, close_from_write_units: CLOSE_FROM_WRITE_UNITS };
}

/// What a writer knows of a chain. It may be out of date, and then says too little, never anything wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cursor {
    /// The number of the first item that is not known to be closed.
    pub overflow: u32,
    /// The chain's records up to this offset, inclusive, are known to be counted; `i64::MIN` where nothing is known.
    pub counted_through: i64,
    /// The write units that the last known update of that item consumed; 0 where none is known.
    pub write_units: u64,
}

impl Cursor {
    /// Nothing is known: counting starts with the first item.
    pub const START: Self = Self { overflow: 0, counted_through: i64::MIN, write_units: 0 };

    /// Whether another batch can save a write by it: an item is closed, or is about to be.
    pub fn saves_writes(&self) -> bool {
        self.overflow > 0 || self.write_units >= CLOSE_FROM_WRITE_UNITS
    }

    fn count_through(&mut self, offset: i64) {
        self.counted_through = self.counted_through.max(offset);
    }

    /// Moves to the next item, because this one is closed and has counted up to `last_offset`.
    fn close(&mut self, last_offset: i64) {
        self.count_through(last_offset);
        self.overflow += 1;
        self.write_units = 0;
    }
}

/// A write to an item of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChainWrite {
    /// Add to the counters.
    Update(Update),
    /// Close the item, which is full.
    Close {
        /// The item's number in the chain.
        overflow: u32,
    },
}

/// A conditional update: it counts if the item is open and its `last_offset` is below the update's first offset, or
/// if there is no item yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// The item's number in the chain.
    pub overflow: u32,
    /// What it adds. It moves `last_offset` to the end of its offset range.
    pub counts: CounterUpdate,
    /// Whether it also closes the item.
    pub closes: bool,
}

/// The answer to an [`Update`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UpdateOutcome {
    /// It is counted.
    Counted {
        /// Write units consumed.
        write_units: u64,
    },
    /// Nothing changed: the item has counted up to `last_offset`, which is not below the update's first offset, or it
    /// is closed.
    Refused {
        /// The item's last counted offset.
        last_offset: i64,
        /// Whether the item takes no more clicks.
        closed: bool,
    },
    /// Nothing changed: the item would grow above DynamoDB's 400 KB.
    Full,
}

/// One writer's way through a chain: what it knows, and whether it found the current item full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Chain {
    limits: Limits,
    cursor: Cursor,
    full: bool,
}

impl Chain {
    /// Starts with what `cursor` says.
    pub fn resume(limits: Limits, cursor: Cursor) -> Self {
        Self { limits, cursor, full: false }
    }

    /// What is known of the chain now.
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// The write to send next for `clicks`, which belong to this chain and are in ascending offset order. `None` when
    /// all of them are counted.
    ///
    /// Only one write may be under way: the next update moves `last_offset` over this one's clicks too.
    pub fn next_write(&self, clicks: &[Click]) -> Option<ChainWrite> {
        let uncounted = uncounted_after(clicks, self.cursor.counted_through);
        let counts = CounterUpdate::first_of(uncounted, self.limits.max_products_per_update)?;
        let overflow = self.cursor.overflow;
        if self.full {
            return Some(ChainWrite::Close { overflow });
        }
        let closes = self.cursor.write_units >= self.limits.close_from_write_units;
        Some(ChainWrite::Update(Update { overflow, counts, closes }))
    }

    /// Takes the answer to `update`, which was the next write.
    pub fn updated(&mut self, update: &Update, outcome: UpdateOutcome) {
        match outcome {
            UpdateOutcome::Counted { .. } if update.closes => self.cursor.close(update.counts.last),
            UpdateOutcome::Counted { write_units } => {
                self.cursor.count_through(update.counts.last);
                self.cursor.write_units = write_units;
            }
            UpdateOutcome::Refused { last_offset, closed: true } => self.cursor.close(last_offset),
            UpdateOutcome::Refused { last_offset, closed: false } => self.cursor.count_through(last_offset),
            UpdateOutcome::Full => self.full = true,
        }
    }

    /// Takes the answer to a [`ChainWrite::Close`], which was the next write: the item's final `last_offset`. Another
    /// writer may have counted more between the answer "full" and the closing.
    pub fn closed(&mut self, last_offset: i64) {
        self.full = false;
        self.cursor.close(last_offset);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clicks(products: impl IntoIterator<Item = u32>) -> Vec<Click> {
        products.into_iter().zip(10..).map(|(product, offset)| Click { offset, product }).collect()
    }

    fn update(write: Option<ChainWrite>) -> Update {
        match write {
            Some(ChainWrite::Update(update)) => update,
            other => panic!("not an update: {other:?}"),
        }
    }

    #[test]
    fn an_update_sums_products_and_spans_its_offsets() {
        let update = CounterUpdate::first_of(&clicks([7, 8, 7, 7]), 200).unwrap();
        assert_eq!(update, CounterUpdate { first: 10, last: 13, clicks: 4, counts: vec![(7, 3), (8, 1)] });
        assert_eq!(CounterUpdate::first_of(&[], 200), None);
    }

    #[test]
    fn an_update_ends_before_the_first_product_too_many() {
        let full = MAX_PRODUCTS_PER_UPDATE as u32;
        // The 201st product comes between two clicks on known ones: what follows it waits for the next update.
        let clicks = clicks((0..full).chain([0, full, 1]));
        let update = CounterUpdate::first_of(&clicks, MAX_PRODUCTS_PER_UPDATE).unwrap();
        assert_eq!((update.counts.len(), update.clicks, update.last), (200, 201, 210));
        let rest = CounterUpdate::first_of(uncounted_after(&clicks, update.last), MAX_PRODUCTS_PER_UPDATE).unwrap();
        assert_eq!((rest.first, rest.last, rest.counts), (211, 212, vec![(full, 1), (1, 1)]));
    }

    #[test]
    fn uncounted_are_the_clicks_above_the_offset() {
        let clicks = clicks([1, 2, 3]);
        assert_eq!(uncounted_after(&clicks, 9).len(), 3);
        assert_eq!(uncounted_after(&clicks, 10).len(), 2);
        assert_eq!(uncounted_after(&clicks, 12).len(), 0);
    }

    #[test]
    fn an_item_found_large_takes_one_more_update_which_closes_it() {
        let clicks = clicks(0..600);
        let mut chain = Chain::resume(Limits::TABLE, Cursor::START);
        let first = update(chain.next_write(&clicks));
        assert_eq!((first.overflow, first.closes), (0, false));
        chain.updated(&first, UpdateOutcome::Counted { write_units: CLOSE_FROM_WRITE_UNITS });
        let second = update(chain.next_write(&clicks));
        assert_eq!((second.overflow, second.closes, second.counts.first), (0, true, 210));
        chain.updated(&second, UpdateOutcome::Counted { write_units: 5 });
        let third = update(chain.next_write(&clicks));
        assert_eq!((third.overflow, third.closes), (1, false));
        chain.updated(&third, UpdateOutcome::Counted { write_units: 1 });
        assert_eq!(chain.next_write(&clicks), None);
        assert_eq!(chain.cursor(), Cursor { overflow: 1, counted_through: 609, write_units: 1 });
    }

    #[test]
    fn a_full_item_is_closed_and_its_final_offset_decides_what_is_left() {
        let clicks = clicks(0..4);
        let mut chain = Chain::resume(Limits::TABLE, Cursor::START);
        let refused = update(chain.next_write(&clicks));
        chain.updated(&refused, UpdateOutcome::Full);
        assert_eq!(chain.next_write(&clicks), Some(ChainWrite::Close { overflow: 0 }));
        // Another writer counted offsets 10 and 11 in the meantime.
        chain.closed(11);
        let next = update(chain.next_write(&clicks));
        assert_eq!((next.overflow, next.counts.first, next.counts.last), (1, 12, 13));
    }

    #[test]
    fn a_refusal_leaves_only_what_the_item_has_not_counted() {
        let clicks = clicks(0..4);
        let mut chain = Chain::resume(Limits::TABLE, Cursor::START);
        let first = update(chain.next_write(&clicks));
        chain.updated(&first, UpdateOutcome::Refused { last_offset: 11, closed: false });
        let second = update(chain.next_write(&clicks));
        assert_eq!((second.overflow, second.counts.first), (0, 12));
        chain.updated(&second, UpdateOutcome::Refused { last_offset: 12, closed: true });
        let third = update(chain.next_write(&clicks));
        assert_eq!((third.overflow, third.counts.first), (1, 13));
        chain.updated(&third, UpdateOutcome::Refused { last_offset: 13, closed: false });
        assert_eq!(chain.next_write(&clicks), None);
    }

    #[test]
    fn a_cursor_skips_what_is_known_to_be_counted() {
        let clicks = clicks(0..4);
        let cursor = Cursor { overflow: 2, counted_through: 12, write_units: 0 };
        let next = update(Chain::resume(Limits::TABLE, cursor).next_write(&clicks));
        assert_eq!((next.overflow, next.counts.first, next.counts.clicks), (2, 13, 1));
    }
}
