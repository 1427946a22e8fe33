use std::{
    array,
    collections::{BTreeMap, BTreeSet},
    hash::BuildHasher,
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
};

use hashbrown::{DefaultHashBuilder, HashMap, HashTable};

use crate::{
    TopicPartition,
    counters::CounterList,
    time::{Minute, Window},
};

/// The number of parts that products are divided into, by a hash: several threads add counters at a time, and what a part
/// needs stays in a processor's cache while a page's counters are added to it.
const PARTS: usize = 16;

/// A minute's counters are not worth a place for each product while they are less than this.
const FEW: usize = 64;

/// The counters of one shard in some minutes. Several threads can add pages to it at the same time.
///
/// Takes 15 to 25 bytes and the id for a product, and for each of its minutes four to eight bytes. How many items counted
/// a product in a minute does not matter, if it is a product of many minutes.
#[derive(Debug, Default)]
pub struct ShardCounters {
    hasher: DefaultHashBuilder,
    parts: [Mutex<Part>; PARTS],
    /// The topic partitions that have counted a click, by minute.
    partitions: Mutex<BTreeMap<Minute, BTreeSet<TopicPartition>>>,
}

impl ShardCounters {
    /// A shard without clicks.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a counter: `clicks` on `product` in `minute`, from `partition`.
    pub fn add(&mut self, minute: Minute, partition: &TopicPartition, product: &str, clicks: u64) {
        let mut counters = CounterList::default();
        counters.push(product, clicks);
        counters.end_item(partition.clone());
        self.add_page(minute, &counters);
    }

    /// Adds counters of `minute`.
    pub fn add_page(&self, minute: Minute, counters: &CounterList) {
        if counters.is_empty() {
            return;
        }
        self.add_partitions(minute, counters.partitions());
        // The counters of a part next to each other, so that each part is locked once.
        let mut by_part: [Vec<(&str, u32, u64)>; PARTS] =
            array::from_fn(|_| Vec::with_capacity(counters.len() / PARTS * 5 / 4));
        for (product, clicks) in counters.iter() {
            let hash = self.hasher.hash_one(product);
            by_part[hash as usize % PARTS].push((product, (hash >> 32) as u32, clicks));
        }
        // Threads that start with different parts rarely wait for each other.
        let first = (minute.start().epoch_seconds() / 60) as usize;
        for number in (first..first + PARTS).map(|number| number % PARTS) {
            if !by_part[number].is_empty() {
                lock(&self.parts[number]).add(minute, &by_part[number]);
            }
        }
    }

    /// The topic partitions that have counted a click in a minute of `window`.
    pub(super) fn partitions_in(&self, window: Window) -> Vec<(Minute, TopicPartition)> {
        let partitions = lock(&self.partitions);
        let within = partitions.range(Minute::of(window.start())..Minute::of(window.end()));
        within
            .flat_map(|(minute, partitions)| partitions.iter().map(|partition| (*minute, partition.clone())))
            .collect()
    }

    /// Calls `each` with the parts, which have different products.
    pub(super) fn for_each_part(&self, mut each: impl FnMut(&Part)) {
        for part in &self.parts {
            each(&lock(part));
        }
    }

    fn add_partitions<'a>(&self, minute: Minute, partitions: impl Iterator<Item = &'a TopicPartition>) {
        let mut by_minute = lock(&self.partitions);
        let known = by_minute.entry(minute).or_default();
        for partition in partitions {
            if !known.contains(partition) {
                known.insert(partition.clone());
            }
        }
    }
}

/// Some products of a shard and their counters.
#[derive(Debug, Default)]
pub(super) struct Part {
    products: Products,
    minutes: BTreeMap<Minute, MinuteCounts>,
}

impl Part {
    /// How many products it has. Their numbers begin with 0.
    pub(super) fn products(&self) -> usize {
        self.products.ends.len()
    }

    /// The id of a product.
    pub(super) fn id(&self, number: u32) -> &str {
        self.products.id(number)
    }

    /// The window's minutes that have counters, each with its number in the window, from 0.
    pub(super) fn within(&self, window: Window) -> impl Iterator<Item = (usize, &MinuteCounts)> {
        let minutes = window.minutes().enumerate();
        minutes.filter_map(|(number, minute)| self.minutes.get(&minute).map(|counts| (number, counts)))
    }

    fn add(&mut self, minute: Minute, counters: &[(&str, u32, u64)]) {
        let counts = self.minutes.entry(minute).or_default();
        for (product, hash, clicks) in counters {
            counts.add(self.products.number(product, *hash), *clicks);
        }
        counts.pack(self.products.ends.len());
    }
}

/// The ids of products, each with a number from 0.
#[derive(Debug, Default)]
struct Products {
    /// The numbers, by the hash of the id.
    numbers: HashTable<u32>,
    /// By number: the hash of the id, so that a growing table needs no ids, and few other ids are compared.
    hashes: Vec<u32>,
    /// By number: the end of the id in `ids`.
    ends: Vec<u32>,
    ids: String,
}

impl Products {
    fn id(&self, number: u32) -> &str {
        let number = number as usize;
        let start = if number == 0 { 0 } else { self.ends[number - 1] as usize };
        &self.ids[start..self.ends[number] as usize]
    }

    /// The number of `product`, whose hash is `hash`.
    fn number(&mut self, product: &str, hash: u32) -> u32 {
        let same = |number: &u32| self.hashes[*number as usize] == hash && self.id(*number) == product;
        let known = self.numbers.find(spread(hash), same).copied();
        known.unwrap_or_else(|| self.push(product, hash))
    }

    fn push(&mut self, product: &str, hash: u32) -> u32 {
        let number = self.ends.len() as u32;
        self.ids.push_str(product);
        // A sixteenth of what fits into the largest function, which has 10 GB.
        self.ends.push(u32::try_from(self.ids.len()).unwrap_or_else(|_| unreachable!("4 GiB of ids")));
        self.hashes.push(hash);
        let hashes = &self.hashes;
        self.numbers.insert_unique(spread(hash), number, |number| spread(hashes[*number as usize]));
        number
    }
}

/// The clicks of a part's products in one minute, in the smaller of two forms.
#[derive(Debug, Default)]
pub(super) struct MinuteCounts {
    /// The clicks by product, of the first products. The most that a number here can grow to is `u32::MAX`.
    dense: Vec<u32>,
    /// Product and clicks. A product can have several entries.
    sparse: Vec<(u32, u32)>,
    /// The same, where 32 bits are too few.
    large: Vec<(u32, u64)>,
}

impl MinuteCounts {
    /// Calls `each` with a product and clicks of it, which can be 0. A product can come several times.
    pub(super) fn for_each(&self, mut each: impl FnMut(u32, u64)) {
        for (product, clicks) in (0..).zip(&self.dense) {
            each(product, u64::from(*clicks));
        }
        self.for_each_entry(each);
    }

    /// Adds the clicks of some products, which are the keys of `sums`, to the place `minute` of their sums.
    pub(super) fn add_to<const N: usize>(&self, sums: &mut HashMap<u32, [u64; N]>, minute: usize) {
        for (product, sums) in sums.iter_mut() {
            sums[minute] += self.dense.get(*product as usize).copied().map_or(0, u64::from);
        }
        self.for_each_entry(|product, clicks| {
            if let Some(sums) = sums.get_mut(&product) {
                sums[minute] += clicks;
            }
        });
    }

    fn for_each_entry(&self, mut each: impl FnMut(u32, u64)) {
        for (product, clicks) in &self.sparse {
            each(*product, u64::from(*clicks));
        }
        for (product, clicks) in &self.large {
            each(*product, *clicks);
        }
    }

    fn add(&mut self, product: u32, clicks: u64) {
        let Ok(few) = u32::try_from(clicks) else { return self.large.push((product, clicks)) };
        match self.dense.get_mut(product as usize) {
            None => self.sparse.push((product, few)),
            Some(sum) => match sum.checked_add(few) {
                Some(more) => *sum = more,
                None => self.large.push((product, clicks)),
            },
        }
    }

    /// Gives each of `products` products a place once their entries take more.
    fn pack(&mut self, products: usize) {
        let more = products - self.dense.len();
        let entries = self.sparse.len();
        if entries >= FEW && entries * size_of::<(u32, u32)>() > more * size_of::<u32>() {
            self.dense.reserve_exact(more);
            self.dense.resize(products, 0);
            for (product, clicks) in mem::take(&mut self.sparse) {
                self.add(product, clicks.into());
            }
        }
    }
}

/// A hash for a table, which takes its lowest and its highest bits, from 32 bits of one.
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// No code panics while it holds a lock, so a poisoned one guards whole data.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use proptest::prelude::*;

    use super::*;
    use crate::time::UnixMillis;

    /// The clicks of each product in each minute of a window, and the number of products.
    fn sums(counters: &ShardCounters, window: Window) -> (BTreeMap<(usize, String), u64>, usize) {
        let (mut sums, mut products) = (BTreeMap::new(), 0);
        counters.for_each_part(|part| {
            products += part.products();
            for (minute, counts) in part.within(window) {
                counts.for_each(|product, clicks| {
                    if clicks > 0 {
                        *sums.entry((minute, part.id(product).to_owned())).or_default() += clicks;
                    }
                });
            }
        });
        (sums, products)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Pages of three minutes from three threads. Some have many products and some few, so that counts are in all forms.
        #[test]
        fn pages_of_several_threads_are_summed_by_product_and_minute(
            pages in prop::collection::vec(
                (0..3_usize, prop_oneof![Just(40_u64), Just(9_000)], 1..4_000_u64, any::<u64>()),
                3..12,
            ),
        ) {
            let window = Window::ended_by(UnixMillis(1_672_159_800_000));
            let minutes: Vec<Minute> = window.minutes().collect();
            let partition = TopicPartition::new("clicks-0", None);
            let mut expected: BTreeMap<(usize, String), u64> = BTreeMap::new();
            let pages: Vec<(usize, CounterList)> = pages
                .into_iter()
                .map(|(minute, products, len, seed)| {
                    let mut page = CounterList::default();
                    for number in 0..len {
                        let random = (seed ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
                        // One in 64 counters is so large that two of them exceed 32 bits.
                        let clicks = if random % 64 == 0 { 3_000_000_000 } else { 1 + random % 5 };
                        let product = format!("p{}", (random >> 8) % products);
                        page.push(&product, clicks);
                        *expected.entry((minute, product)).or_default() += clicks;
                    }
                    page.end_item(partition.clone());
                    (minute, page)
                })
                .collect();
            let counters = ShardCounters::new();
            thread::scope(|scope| {
                for part in pages.chunks(pages.len().div_ceil(3)) {
                    let (counters, minutes) = (&counters, &minutes);
                    scope.spawn(move || {
                        for (minute, page) in part {
                            counters.add_page(minutes[*minute], page);
                        }
                    });
                }
            });
            let products: BTreeSet<_> = expected.keys().map(|(_, product)| product).collect();
            prop_assert_eq!(sums(&counters, window), (expected.clone(), products.len()));
        }
    }

    #[test]
    fn a_flood_of_ids_in_one_minute_each_takes_no_place_in_the_other_minutes() {
        let counters = ShardCounters::new();
        let minutes: Vec<Minute> = Window::ended_by(UnixMillis(1_672_159_800_000)).minutes().collect();
        for (number, minute) in minutes.iter().enumerate() {
            let mut page = CounterList::default();
            (0..8_000).for_each(|id| page.push(&format!("invented-{number}-{id}"), 1));
            counters.add_page(*minute, &page);
        }
        let mut bytes = 0;
        counters.for_each_part(|part| {
            for counts in part.minutes.values() {
                bytes += counts.dense.len() * size_of::<u32>() + counts.sparse.len() * size_of::<(u32, u32)>();
            }
        });
        assert!(bytes <= 480_000 * 9, "{bytes} bytes for 480,000 counters");
    }
}
