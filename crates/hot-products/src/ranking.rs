//! Ranks the products of a window, one shard at a time.
//!
//! A product is always in the same [`Shard`](crate::Shard). So the best N products of a window are among the best N of each
//! shard, and only one shard's counters have to be in memory at a time.

use std::cmp::Ordering;

use hashbrown::HashMap;

use crate::{
    snapshot::{MAX_MINUTES_PRODUCTS, ProductMinutes, RankedProduct, Snapshot, SnapshotMinutes},
    time::{UnixMillis, Window},
};

const MINUTES: usize = Window::MINUTES as usize;

/// The counters of one shard in a window.
///
/// Takes about 330 bytes a product: 248 for the counts, and its id and place in the table.
#[derive(Debug)]
pub struct ShardCounters {
    /// Where each product is in `counts`.
    places: HashMap<String, u32>,
    counts: Vec<Counts>,
    clicks_per_minute: [u64; MINUTES],
}

#[derive(Clone, Debug)]
struct Counts {
    clicks: u64,
    /// Half the memory of `u64`; 4 billion clicks a minute on one product are far beyond what Kafka delivers.
    per_minute: [u32; MINUTES],
}

impl ShardCounters {
    /// A shard without clicks.
    pub fn new() -> Self {
        Self { places: HashMap::new(), counts: Vec::new(), clicks_per_minute: [0; MINUTES] }
    }

    /// Adds `clicks` on `product` in the window's minute number `minute`, from 0.
    ///
    /// The product's total is exact; its count for the minute stops at [`u32::MAX`].
    ///
    /// # Panics
    /// If `minute` is not below [`Window::MINUTES`].
    pub fn add(&mut self, minute: usize, product: &str, clicks: u64) {
        let place = *self.places.entry_ref(product).or_insert_with(|| {
            self.counts.push(Counts { clicks: 0, per_minute: [0; MINUTES] });
            (self.counts.len() - 1) as u32
        });
        let counts = &mut self.counts[place as usize];
        counts.clicks += clicks;
        let of_minute = &mut counts.per_minute[minute];
        *of_minute = of_minute.saturating_add(u32::try_from(clicks).unwrap_or(u32::MAX));
        self.clicks_per_minute[minute] += clicks;
    }
}

impl Default for ShardCounters {
    fn default() -> Self {
        Self::new()
    }
}

/// The ranking of a window, as far as its shards have been added.
#[derive(Debug)]
pub struct Ranking {
    window: Window,
    top_n: usize,
    distinct_products: u64,
    clicks_per_minute: [u64; MINUTES],
    /// The best products so far, at most `top_n`, in no order.
    top: Vec<Candidate>,
}

#[derive(Debug)]
struct Candidate {
    product_id: String,
    counts: Counts,
}

/// A ranked window: what is stored of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RankedWindow {
    /// The top products.
    pub snapshot: Snapshot,
    /// Their clicks per minute.
    pub minutes: SnapshotMinutes,
}

impl Ranking {
    /// A ranking of `window` without shards, of which the best `top_n` products will be kept.
    pub fn new(window: Window, top_n: usize) -> Self {
        Self { window, top_n, distinct_products: 0, clicks_per_minute: [0; MINUTES], top: Vec::new() }
    }

    /// Adds the counters of a shard. Each shard may be added once.
    pub fn add(&mut self, shard: ShardCounters) {
        self.distinct_products += shard.counts.len() as u64;
        for (all, clicks) in self.clicks_per_minute.iter_mut().zip(shard.clicks_per_minute) {
            *all += clicks;
        }
        let counts = &shard.counts;
        let mut best: Vec<(String, u32)> = shard.places.into_iter().collect();
        keep_best(&mut best, self.top_n, |(id, place)| (counts[*place as usize].clicks, id));
        let best = best.into_iter().map(|(product_id, place)| {
            let counts = counts[place as usize].clone();
            Candidate { product_id, counts }
        });
        self.top.extend(best);
        keep_best(&mut self.top, self.top_n, Candidate::key);
    }

    /// The window ranked: most clicks first, ties by product id in ascending bytes, so that the same counters always
    /// give the same ranks. Previous ranks are those of `previous`, the snapshot five minutes before.
    pub fn finish(mut self, generated_at: UnixMillis, previous: Option<&Snapshot>) -> RankedWindow {
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
            .map(|Candidate { product_id, counts }| ProductMinutes {
                product_id: product_id.clone(),
                clicks_per_minute: counts.per_minute.to_vec(),
            })
            .collect();
        let products = (1..)
            .zip(self.top)
            .map(|(rank, Candidate { product_id, counts })| RankedProduct {
                rank,
                previous_rank: previous_ranks.get(product_id.as_str()).copied(),
                product_id,
                clicks: counts.clicks,
            })
            .collect();
        let window = self.window;
        RankedWindow {
            snapshot: Snapshot {
                window,
                generated_at,
                total_clicks: self.clicks_per_minute.iter().sum(),
                distinct_products: self.distinct_products,
                clicks_per_minute: self.clicks_per_minute.to_vec(),
                products,
            },
            minutes: SnapshotMinutes { window, generated_at, products: minutes },
        }
    }
}

impl Candidate {
    fn key(&self) -> (u64, &String) {
        (self.counts.clicks, &self.product_id)
    }
}

fn order((clicks, id): (u64, &String), (other_clicks, other_id): (u64, &String)) -> Ordering {
    other_clicks.cmp(&clicks).then_with(|| id.cmp(other_id))
}

/// Keeps the best `top_n` of `products`, in no order.
fn keep_best<T>(products: &mut Vec<T>, top_n: usize, key: impl Fn(&T) -> (u64, &String)) {
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
    use crate::counters::Shard;

    /// Ranks counters `(minute, product, clicks)`, each in its product's shard.
    fn rank(counters: &[(usize, &str, u64)], top_n: usize, previous: Option<&Snapshot>) -> RankedWindow {
        let mut ranking = Ranking::new(Window::ended_by(UnixMillis(1_672_159_800_000)), top_n);
        for shard in Shard::all() {
            let mut in_shard = ShardCounters::new();
            for (minute, product, clicks) in counters.iter().filter(|(_, product, _)| Shard::of(product) == shard) {
                in_shard.add(*minute, product, *clicks);
            }
            ranking.add(in_shard);
        }
        ranking.finish(UnixMillis(0), previous)
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
    fn a_count_beyond_the_range_of_a_minute_does_not_wrap() {
        let RankedWindow { snapshot, minutes } = rank(&[(0, "a", 1 << 40), (0, "a", 1)], 1, None);
        assert_eq!(snapshot.products[0].clicks, (1 << 40) + 1);
        assert_eq!(minutes.products[0].clicks_per_minute[0], u32::MAX);
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
                prop_assert!(product.clicks_per_minute.iter().map(|clicks| u64::from(*clicks)).eq(groups[id]));
            }
        }
    }
}
