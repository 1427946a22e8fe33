//! Counting without a DynamoDB: drives the counting protocol over items of which only the sizes are known.

use std::collections::BTreeMap;

use hashbrown::{HashMap, HashSet};
use hot_products::{
    Bucket, Minute, UnixMillis,
    protocol::{Chain, ChainWrite, Click, Cursor, Limits, Update, UpdateOutcome},
};

use super::{SimulatedBatch, Topic, item::Item};
use crate::assumptions::RETENTION;

/// What counting a batch takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Writes, refused ones and closings included.
    pub updates: u64,
    /// Write units of those that were applied, closings not included, as `count-clicks` sums them.
    pub write_units: u64,
    /// The most writes to one item: they go one after the other.
    pub longest_chain: u64,
    /// Different pairs of a product and a minute in the batch.
    pub distinct: u64,
}

/// What the items of one bucket, from all topic partitions, have taken and hold.
#[derive(Clone, Debug, Default)]
pub struct BucketLoad {
    /// Writes, refused ones and closings included.
    pub updates: u64,
    /// Write units, closings included.
    pub write_units: u64,
    /// The same, by the second after the minute's start.
    pub by_second: Vec<u64>,
    /// Items.
    pub items: u64,
    /// Counters in them.
    pub counters: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Items that were closed, as large or full.
    pub closed: u64,
    /// Bytes of the largest item.
    pub largest_item: usize,
}

impl BucketLoad {
    /// Applies `update` to `item`, as DynamoDB would.
    fn apply(&mut self, item: &mut Item, update: &Update, id_bytes: impl Fn(u32) -> usize) -> UpdateOutcome {
        let (before, products) = (item.bytes(), item.products());
        let Some(write_units) = item.add(&update.counts, id_bytes) else { return UpdateOutcome::Full };
        self.counters += (item.products() - products) as u64;
        // An item can shrink by a byte: 99 clicks take more room than 100.
        self.bytes = self.bytes + item.bytes() as u64 - before as u64;
        self.largest_item = self.largest_item.max(item.bytes());
        self.closed += u64::from(update.closes);
        UpdateOutcome::Counted { write_units }
    }
}

/// The items that batches went into.
#[derive(Debug)]
pub struct Ledger<'a> {
    topic: &'a Topic,
    /// The open items, by minute, so that those of minutes long past can go.
    items: BTreeMap<Minute, HashMap<(u32, Bucket), Slot>>,
    /// What became of each minute, by the number of the bucket.
    minutes: BTreeMap<Minute, Vec<BucketLoad>>,
}

/// A chain of items: its last item, and what the function remembers of the chain.
#[derive(Debug)]
struct Slot {
    last: Item,
    overflow: u32,
    cursor: Cursor,
}

impl<'a> Ledger<'a> {
    /// An empty ledger of the clicks on `topic`.
    pub fn new(topic: &'a Topic) -> Self {
        Self { topic, items: BTreeMap::new(), minutes: BTreeMap::new() }
    }

    /// Counts `batch`.
    pub fn count(&mut self, batch: &SimulatedBatch) -> Counted {
        let mut items: HashMap<(Bucket, u32), Vec<Click>> = HashMap::new();
        let mut distinct = HashSet::with_capacity(batch.records.len());
        for record in &batch.records {
            let minute = Minute::of(record.event_time);
            distinct.insert((minute, record.product));
            let key = (self.topic.bucket(minute, record.partition, record.product), record.partition);
            items.entry(key).or_default().push(Click { offset: record.offset, product: record.product });
        }
        let mut counted = Counted { distinct: distinct.len() as u64, ..Counted::default() };
        for ((bucket, partition), clicks) in items {
            let (updates, write_units) = self.add(batch.at, bucket, partition, &clicks);
            counted.updates += updates;
            counted.write_units += write_units;
            counted.longest_chain = counted.longest_chain.max(updates);
        }
        counted
    }

    fn add(&mut self, at: UnixMillis, bucket: Bucket, partition: u32, clicks: &[Click]) -> (u64, u64) {
        let minute = bucket.minute;
        let loads =
            self.minutes.entry(minute).or_insert_with(|| vec![BucketLoad::default(); Bucket::PER_MINUTE.into()]);
        let load = &mut loads[usize::from(bucket.number())];
        let second = at.since(minute.start()).as_secs() as usize;
        if load.by_second.len() <= second {
            load.by_second.resize(second + 1, 0);
        }
        let slot = self.items.entry(minute).or_default().entry((partition, bucket)).or_insert_with(|| {
            load.items += 1;
            Slot { last: new_item(bucket, partition, 0), overflow: 0, cursor: Cursor::START }
        });

        let (mut updates, mut counted_units, mut closing_units) = (0, 0, 0);
        let mut chain = Chain::resume(Limits::TABLE, slot.cursor);
        while let Some(write) = chain.next_write(clicks) {
            updates += 1;
            match write {
                ChainWrite::Update(update) => {
                    if slot.overflow < update.overflow {
                        slot.overflow = update.overflow;
                        slot.last = new_item(bucket, partition, update.overflow);
                        load.items += 1;
                    }
                    let outcome = load.apply(&mut slot.last, &update, |product| self.topic.id_bytes(product));
                    if let UpdateOutcome::Counted { write_units } = outcome {
                        counted_units += write_units;
                    }
                    chain.updated(&update, outcome);
                }
                ChainWrite::Close { .. } => {
                    closing_units += super::item::write_units(slot.last.bytes(), slot.last.bytes());
                    load.closed += 1;
                    // Nobody else counts here, so what is known is all there is.
                    chain.closed(chain.cursor().counted_through);
                }
            }
        }
        slot.cursor = chain.cursor();
        load.updates += updates;
        load.write_units += counted_units + closing_units;
        load.by_second[second] += counted_units + closing_units;
        (updates, counted_units)
    }

    /// Forgets the items of minutes before `minute`, which no click can come for any more. Their [`BucketLoad`]s stay.
    pub fn close_before(&mut self, minute: Minute) {
        self.items = self.items.split_off(&minute);
    }

    /// The buckets of `minute` by number; none where it has no click.
    pub fn minute(&self, minute: Minute) -> &[BucketLoad] {
        self.minutes.get(&minute).map_or(&[], Vec::as_slice)
    }
}

fn new_item(bucket: Bucket, partition: u32, overflow: u32) -> Item {
    let digits = |number: u32| number.checked_ilog10().unwrap_or(0) as usize + 1;
    let source = "clicks-".len() + digits(partition) + if overflow == 0 { 0 } else { 1 + digits(overflow) };
    Item::new("2022-12-27T16:50Z#3".len(), source, bucket.minute.end().plus(RETENTION).epoch_seconds())
}
