//! Ranks the products of windows, one shard at a time.
//!
//! A product is always in the same [`Shard`](crate::Shard). So the best N products of a window are among the best N of each
//! shard, and only one shard's counters have to be in memory at a time. Windows that overlap share the counters that are
//! read for them. [`ShardCounters`] takes the pages of a shard from several threads, in any order.

mod counters;

use std::{cmp::Ordering, collections::BTreeMap};

use hashbrown::HashMap;

use self::counters::Part;
pub use self::counters::ShardCounters;
use crate::{
    snapshot::{MAX_MINUTES_PRODUCTS, ProductMinutes, RankedProduct, Snapshot, SnapshotMinutes},
    time::{Minute, UnixMillis, Window},
};

const MINUTES: usize = Window::MINUTES as usize;

/// The ranking of a window, as far as its shards have been added.
#[derive(Debug)]
pub struct Ranking {
    window: Window,
    top_n: usize,
    distinct_products: u64,
    clicks_per_minute: [u64; MINUTES],
    counted_through: BTreeMap<String, Minute>,
    /// The best products so far, at most `top_n`, in no order.
    top: Vec<Candidate>,
}

#[derive(Debug)]
struct Candidate {
    product_id: String,
    clicks: u64,
    per_minute: [u64; MINUTES],
}

/// A ranked window: what is stored of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RankedWindow {
    /// The top products.
    pub snapshot: Snapshot,
    /// Their clicks per minute.
    pub minutes: SnapshotMinutes,
}

/// What a ranking knows besides the counters.
#[derive(Clone, Copy, Debug)]
pub struct RankingContext<'a> {
    /// When the ranking began, before it read any counter.
    pub generated_at: UnixMillis,
    /// Whether no click could join the window any more at that time.
    pub is_final: bool,
    /// The snapshot five minutes before, for the previous ranks.
    pub previous: Option<&'a Snapshot>,
}

impl Ranking {
    /// A ranking of `window` without shards, of which the best `top_n` products will be kept.
    pub fn new(window: Window, top_n: usize) -> Self {
        Self {
            window,
            top_n,
            distinct_products: 0,
            clicks_per_minute: [0; MINUTES],
            counted_through: BTreeMap::new(),
            top: Vec::new(),
        }
    }

    /// Its window.
    pub fn window(&self) -> Window {
        self.window
    }

    /// Adds the counters of a shard; those of minutes outside the window do not matter. Each shard may be added once.
    pub fn add(&mut self, shard: &ShardCounters) {
        for (minute, partition) in shard.partitions_in(self.window) {
            match self.counted_through.get_mut(partition.as_str()) {
                Some(newest) => *newest = minute.max(*newest),
                None => drop(self.counted_through.insert(partition.as_str().to_owned(), minute)),
            }
        }
        shard.for_each_part(|part| self.add_part(part));
    }

    /// Adds products that no other part has.
    fn add_part(&mut self, part: &Part) {
        let mut clicks = vec![0_u64; part.products()];
        for (minute, counts) in part.within(self.window) {
            counts.for_each(|product, count| {
                clicks[product as usize] += count;
                self.clicks_per_minute[minute] += count;
            });
        }
        let clicked = clicks.iter().filter(|clicks| **clicks > 0).count();
        self.distinct_products += clicked as u64;

        // Most products have too few clicks, which is cheaper to see than to compare their ids.
        let least = self.least(&clicks, clicked);
        let mut best: Vec<(&str, u32)> = (0..)
            .zip(&clicks)
            .filter(|(_, clicks)| **clicks >= least)
            .map(|(product, _)| (part.id(product), product))
            .collect();
        keep_best(&mut best, self.top_n, |(id, product)| (clicks[*product as usize], id));

        let mut per_minute: HashMap<u32, [u64; MINUTES]> =
            best.iter().map(|(_, product)| (*product, [0; MINUTES])).collect();
        for (minute, counts) in part.within(self.window) {
            counts.add_to(&mut per_minute, minute);
        }
        self.top.extend(best.into_iter().map(|(id, product)| Candidate {
            product_id: id.to_owned(),
            clicks: clicks[product as usize],
            per_minute: per_minute.get(&product).copied().unwrap_or([0; MINUTES]),
        }));
        keep_best(&mut self.top, self.top_n, Candidate::key);
    }

    /// How many clicks a product needs to be among the best, beside the best so far and products that have `clicks`. The
    /// number of those that are not 0 is `clicked`.
    fn least(&self, clicks: &[u64], clicked: usize) -> u64 {
        let so_far = if self.top.len() < self.top_n { None } else { self.top.iter().map(|best| best.clicks).min() };
        let here = (clicked > self.top_n).then(|| {
            let mut clicks: Vec<u64> = clicks.iter().copied().filter(|clicks| *clicks > 0).collect();
            *clicks.select_nth_unstable_by(self.top_n, |a, b| b.cmp(a)).1
        });
        so_far.max(here).unwrap_or(1).max(1)
    }

    /// The window ranked: most clicks first, ties by product id in ascending bytes, so that the same counters always
    /// give the same ranks.
    pub fn finish(mut self, context: RankingContext<'_>) -> RankedWindow {
        let RankingContext { generated_at, is_final, previous } = context;
        self.top.sort_unstable_by(|a, b| order(a.key(), b.key()));
        let previous_ranks: HashMap<&str, u64> = previous
            .into_iter()
            .flat_map(|snapshot| &snapshot.products)
            .map(|product| (product.product_id.as_str(), product.rank))
            .collect();
        let minutes = self
            .top
            .iter()
            .take(MAX_MINUTES_PRODUCTS)
            .map(|product| ProductMinutes {
                product_id: product.product_id.clone(),
                clicks_per_minute: product.per_minute.to_vec(),
            })
            .collect();
        let products = (1..)
            .zip(self.top)
            .map(|(rank, Candidate { product_id, clicks, .. })| RankedProduct {
                rank,
                previous_rank: previous_ranks.get(product_id.as_str()).copied(),
                product_id,
                clicks,
            })
            .collect();
        let window = self.window;
        let total_clicks = self.clicks_per_minute.iter().sum();
        RankedWindow {
            snapshot: Snapshot {
                window,
                generated_at,
                is_final,
                counted_through: self.counted_through,
                total_clicks,
                distinct_products: self.distinct_products,
                clicks_per_minute: self.clicks_per_minute.to_vec(),
                products,
            },
            minutes: SnapshotMinutes { window, generated_at, total_clicks, products: minutes },
        }
    }
}

impl Candidate {
    fn key(&self) -> (u64, &str) {
        (self.clicks, &self.product_id)
    }
}

fn order((clicks, id): (u64, &str), (other_clicks, other_id): (u64, &str)) -> Ordering {
    other_clicks.cmp(&clicks).then_with(|| id.cmp(other_id))
}

/// Keeps the best `top_n` of `products`, in no order.
fn keep_best<T>(products: &mut Vec<T>, top_n: usize, key: impl Fn(&T) -> (u64, &str)) {
    if top_n < products.len() {
        products.select_nth_unstable_by(top_n, |a, b| order(key(a), key(b)));
        products.truncate(top_n);
    }
}

#[cfg(test)]
mod tests {
    use std::{cmp::Reverse, collections::BTreeMap};

    use proptest::prelude::*;

    use super::*;
    use crate::{Shard, TopicPartition};

    fn window() -> Window {
        Window::ended_by(UnixMillis(1_672_159_800_000))
    }

    /// The window's minute with this number, from 0.
    fn minute_of(number: usize) -> Minute {
        window().minutes().nth(number).unwrap()
    }

    /// Ranks counters `(minute, product, clicks)`, each in its product's shard.
    fn rank(counters: &[(usize, &str, u64)], top_n: usize, previous: Option<&Snapshot>) -> RankedWindow {
        let mut ranking = Ranking::new(window(), top_n);
        for shard in Shard::all() {
            let mut in_shard = ShardCounters::new();
            for (minute, product, clicks) in counters.iter().filter(|(_, product, _)| Shard::of(product) == shard) {
                in_shard.add(minute_of(*minute), &TopicPartition::new("clicks-0", None), product, *clicks);
            }
            ranking.add(&in_shard);
        }
        ranking.finish(RankingContext { generated_at: UnixMillis(0), is_final: false, previous })
    }

    fn places(snapshot: &Snapshot) -> Vec<(u64, &str, u64)> {
        snapshot.products.iter().map(|product| (product.rank, product.product_id.as_str(), product.clicks)).collect()
    }

    #[test]
    fn most_clicks_come_first_and_ties_are_ordered_by_the_bytes_of_the_id() {
        let counters = [(0, "b", 2), (1, "é", 5), (59, "z", 5), (3, "Z", 5), (4, "a", 1)];
        let snapshot = rank(&counters, 4, None).snapshot;
        assert_eq!(places(&snapshot), [(1, "Z", 5), (2, "z", 5), (3, "é", 5), (4, "b", 2)]);
        assert_eq!((snapshot.total_clicks, snapshot.distinct_products), (18, 5));
    }

    #[test]
    fn the_previous_rank_is_absent_for_a_newcomer() {
        let before = rank(&[(0, "a", 2), (0, "b", 1)], 2, None).snapshot;
        let now = rank(&[(0, "a", 2), (0, "b", 3), (0, "c", 1)], 3, Some(&before)).snapshot;
        let ranks: Vec<_> = now.products.iter().map(|p| (p.product_id.as_str(), p.previous_rank)).collect();
        assert_eq!(ranks, [("b", Some(2)), ("a", Some(1)), ("c", None)]);
    }

    #[test]
    fn a_window_without_a_click_is_an_empty_snapshot() {
        let RankedWindow { snapshot, minutes } = rank(&[], 100, None);
        assert_eq!((snapshot.total_clicks, snapshot.distinct_products), (0, 0));
        assert_eq!(snapshot.clicks_per_minute, [0; 60]);
        assert!(snapshot.products.is_empty() && minutes.products.is_empty());
    }

    #[test]
    fn minutes_are_kept_of_the_first_hundred_products() {
        let ids: Vec<_> = (0..250).map(|number| format!("p{number:03}")).collect();
        let counters: Vec<_> = ids.iter().map(|id| (7, id.as_str(), 3)).collect();
        let RankedWindow { snapshot, minutes } = rank(&counters, 200, None);
        assert_eq!((snapshot.products.len(), minutes.products.len()), (200, MAX_MINUTES_PRODUCTS));
        assert_eq!(minutes.products[99].product_id, "p099");
    }

    #[test]
    fn a_count_beyond_32_bits_is_exact() {
        let RankedWindow { snapshot, minutes } = rank(&[(0, "a", 1 << 40), (0, "a", 1)], 1, None);
        assert_eq!(snapshot.products[0].clicks, (1 << 40) + 1);
        assert_eq!(minutes.products[0].clicks_per_minute[0], (1 << 40) + 1);
    }

    #[test]
    fn windows_share_counters_and_each_ranks_its_own_minutes() {
        let (first, partition) = (window(), TopicPartition::new("clicks-0", None));
        let second = first.next();
        let mut shard = ShardCounters::new();
        for (minute, clicks) in first.minutes().chain(second.minutes().skip(55)).zip(1..) {
            shard.add(minute, &partition, "p", clicks);
        }
        let total = |window| {
            let mut ranking = Ranking::new(window, 1);
            ranking.add(&shard);
            let context = RankingContext { generated_at: UnixMillis(0), is_final: true, previous: None };
            let snapshot = ranking.finish(context).snapshot;
            assert_eq!(snapshot.counted_through["clicks-0"], window.minutes().last().unwrap());
            (snapshot.total_clicks, snapshot.products[0].clicks)
        };
        assert_eq!(total(first), (60 * 61 / 2, 60 * 61 / 2));
        assert_eq!(total(second), ((6..=65).sum(), (6..=65).sum()));
    }

    #[test]
    fn each_partition_is_counted_through_its_newest_minute() {
        let mut shard = ShardCounters::new();
        for (partition, minute) in [("clicks-0", 3), ("clicks-0", 9), ("clicks-1", 59), ("clicks-1", 0)] {
            shard.add(minute_of(minute), &TopicPartition::new(partition, None), "p", 1);
        }
        let mut ranking = Ranking::new(window(), 1);
        ranking.add(&shard);
        let context = RankingContext { generated_at: UnixMillis(0), is_final: false, previous: None };
        let counted = ranking.finish(context).snapshot.counted_through;
        assert_eq!(
            counted.into_iter().collect::<Vec<_>>(),
            [("clicks-0".to_owned(), minute_of(9)), ("clicks-1".to_owned(), minute_of(59)),]
        );
    }

    proptest! {
        /// Few ids and few clicks, so that there are many ties, also at the cut.
        #[test]
        fn ranking_by_shard_equals_a_plain_sort(
            counters in prop::collection::vec((0..60_usize, "[a-dé]{1,2}", 1..4_u64), 0..200),
            top_n in 1..40_usize,
        ) {
            let mut groups: BTreeMap<&str, [u64; 60]> = BTreeMap::new();
            for (minute, id, clicks) in &counters {
                groups.entry(id).or_insert([0; 60])[*minute] += clicks;
            }
            let mut expected: Vec<_> = groups.iter().map(|(id, minutes)| (minutes.iter().sum::<u64>(), *id)).collect();
            expected.sort_by_key(|(clicks, id)| (Reverse(*clicks), *id));
            expected.truncate(top_n);

            let counters: Vec<_> = counters.iter().map(|(minute, id, clicks)| (*minute, id.as_str(), *clicks)).collect();
            let RankedWindow { snapshot, minutes } = rank(&counters, top_n, None);
            let found: Vec<_> = snapshot.products.iter().map(|p| (p.clicks, p.product_id.as_str())).collect();
            prop_assert_eq!(&found, &expected);
            prop_assert!(snapshot.products.iter().map(|p| p.rank).eq(1..=expected.len() as u64));
            prop_assert_eq!(snapshot.distinct_products, groups.len() as u64);
            prop_assert_eq!(snapshot.total_clicks, groups.values().flatten().sum::<u64>());
            let per_minute: Vec<u64> = (0..60).map(|at| groups.values().map(|minutes| minutes[at]).sum()).collect();
            prop_assert_eq!(&snapshot.clicks_per_minute, &per_minute);
            prop_assert_eq!(minutes.products.len(), expected.len());
            for (product, (_, id)) in minutes.products.iter().zip(&expected) {
                prop_assert_eq!(product.product_id.as_str(), *id);
                prop_assert!(product.clicks_per_minute.iter().copied().eq(groups[id]));
            }
        }
    }
}
