//! Figures of a load, a second and a minute, from a simulation of some of its pollers over some minutes.

use std::time::Duration;

use hot_products::{Minute, Window};
use rand::{SeedableRng, seq::index};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::{Batches, KeyedBy, Ledger, Load, START, Topic};

/// What a page of a query holds at most, in bytes.
const PAGE_BYTES: f64 = 1024.0 * 1024.0;
/// What a read unit reads, in bytes; half a unit when eventually consistent.
const READ_UNIT_BYTES: f64 = 4096.0;
/// `count-clicks` writes that many items at a time: the default of `WRITE_CONCURRENCY`.
const WRITE_CONCURRENCY: u64 = 16;
/// When only some pollers are simulated: how many of the busiest are always among them.
const BUSIEST: u32 = 3;

/// What a load consumes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// Pollers, and so batches at a time.
    pub pollers: u32,
    /// How many of them were simulated: the busiest, and others by chance.
    pub simulated_pollers: u32,
    /// Minutes that were simulated.
    pub simulated_minutes: u32,
    /// Clicks that were simulated.
    pub simulated_clicks: u64,
    /// Batches a second, each an invocation of `count-clicks`.
    pub batches_per_second: f64,
    /// Records in a batch, on average.
    pub records_per_batch: f64,
    /// Writes to the counters a second.
    pub updates_per_second: f64,
    /// Writes a batch that have to be waited for one after the other, sixteen items being written at a time.
    pub rounds_per_batch: f64,
    /// Write units a second.
    pub write_units_per_second: f64,
    /// Write units for 1,000 clicks.
    pub write_units_per_1000_clicks: f64,
    /// Write units a second on the hottest partition key, on average over its busiest batch window.
    pub hottest_key_write_units_per_second: f64,
    /// The largest item, in bytes.
    pub largest_item_bytes: usize,
    /// Items that fill up, an hour.
    pub closed_items_per_hour: f64,
    /// The busiest poller's batches: how many a second, records in each, writes, and writes one after the other.
    pub busiest: Busiest,
    /// Items of a minute.
    pub items_per_minute: f64,
    /// Counters of a minute.
    pub counters_per_minute: f64,
    /// Bytes of a minute's items.
    pub bytes_per_minute: f64,
    /// Read units of one ranking: its sixty minutes, eventually consistent.
    pub read_units_per_ranking: f64,
    /// Queries of one ranking, further pages included.
    pub queries_per_ranking: f64,
    /// Different products in each batch, a second: the writes of an update a product and batch.
    pub distinct_per_second: f64,
    /// Different products in a minute.
    pub products_per_minute: f64,
    /// Different products in an hour.
    pub products_per_hour: f64,
}

/// The batches of the poller that has the most clicks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Busiest {
    /// Batches a second.
    pub batches_per_second: f64,
    /// Records in a batch.
    pub records_per_batch: f64,
    /// Writes in a batch.
    pub updates_per_batch: f64,
    /// Writes of a batch that have to be waited for one after the other.
    pub rounds_per_batch: f64,
}

/// Sums over pollers, each counted for as many as it stands for.
#[derive(Default)]
struct Sums {
    clicks: u64,
    batches: f64,
    records: f64,
    updates: f64,
    rounds: f64,
    distinct: f64,
    write_units: f64,
    items: f64,
    counters: f64,
    bytes: f64,
    closed: f64,
    largest_item: usize,
    /// By minute and shard: bytes, and write units by second.
    buckets: Vec<(f64, Vec<f64>)>,
}

impl Estimate {
    /// Simulates `load`.
    pub fn of(load: &Load) -> Self {
        let topic = Topic::of(load);
        let window = load.window.as_secs_f64().max(1.0);
        let minutes = minutes(load);
        let mut sums =
            Sums { buckets: vec![(0.0, Vec::new()); minutes as usize * usize::from(load.shards)], ..Sums::default() };
        let mut busiest = Busiest::default();
        let sample = sample(load, &topic, minutes);
        for (number, &(poller, weight)) in sample.iter().enumerate() {
            let alone = sums.poller(load, &topic, poller, weight, minutes);
            if number == 0 {
                busiest = alone;
            }
        }

        let seconds = f64::from(minutes) * 60.0;
        let per_minute = |sum: f64| sum / f64::from(minutes);
        let hour = Window::MINUTES as f64;
        let hottest = sums.buckets.iter().map(|(_, by_second)| busiest_mean(by_second, window)).fold(0.0, f64::max);
        let read = |per_bucket: &dyn Fn(f64) -> f64| {
            per_minute(sums.buckets.iter().map(|(bytes, _)| per_bucket(*bytes)).sum()) * hour
        };
        Self {
            pollers: topic.pollers,
            simulated_pollers: sample.len() as u32,
            simulated_minutes: minutes,
            simulated_clicks: sums.clicks,
            batches_per_second: sums.batches / seconds,
            records_per_batch: sums.records / sums.batches.max(1.0),
            updates_per_second: sums.updates / seconds,
            rounds_per_batch: sums.rounds / sums.batches.max(1.0),
            write_units_per_second: sums.write_units / seconds,
            write_units_per_1000_clicks: sums.write_units / seconds / load.clicks_per_second * 1_000.0,
            hottest_key_write_units_per_second: hottest,
            largest_item_bytes: sums.largest_item,
            closed_items_per_hour: per_minute(sums.closed) * hour,
            busiest,
            items_per_minute: per_minute(sums.items),
            counters_per_minute: per_minute(sums.counters),
            bytes_per_minute: per_minute(sums.bytes),
            read_units_per_ranking: read(&|bytes| (bytes / READ_UNIT_BYTES).ceil().max(1.0) / 2.0),
            queries_per_ranking: read(&|bytes| (bytes / PAGE_BYTES).ceil().max(1.0)),
            distinct_per_second: sums.distinct / seconds,
            products_per_minute: topic.distinct(load.clicks_per_second * 60.0),
            products_per_hour: topic.distinct(load.clicks_per_second * 3_600.0),
        }
    }
}

impl Sums {
    /// Simulates one poller, which stands for `weight` alike, and returns its own batches.
    fn poller(&mut self, load: &Load, topic: &Topic, poller: u32, weight: f64, minutes: u32) -> Busiest {
        let end = START.plus(Duration::from_mins(minutes.into()));
        let longest_wait = Duration::from_millis((load.window_ms() + load.disorder_ms()) as u64);
        let mut ledger = Ledger::new(topic, load.shards);
        let (mut batches, mut records, mut updates, mut rounds) = (0_u64, 0_u64, 0_u64, 0_u64);
        for batch in Batches::of(load, topic, poller) {
            let counted = ledger.count(&batch);
            ledger.close_before(Minute::of(batch.at.minus(longest_wait)));
            self.clicks += batch.records.len() as u64;
            if batch.at < end {
                batches += 1;
                records += batch.records.len() as u64;
                updates += counted.updates;
                rounds += counted.longest_chain.max(counted.updates.div_ceil(WRITE_CONCURRENCY));
                self.distinct += counted.distinct as f64 * weight;
            }
            // Every click of the last minute has come.
            if batch.at >= end.plus(longest_wait) {
                break;
            }
        }
        self.batches += batches as f64 * weight;
        self.records += records as f64 * weight;
        self.rounds += rounds as f64 * weight;
        let shards = usize::from(load.shards);
        for number in 0..minutes {
            let minute = Minute::of(START.plus(Duration::from_mins(number.into())));
            for (shard, bucket) in ledger.minute(minute).iter().enumerate() {
                self.updates += bucket.updates as f64 * weight;
                self.write_units += bucket.write_units as f64 * weight;
                self.items += bucket.items as f64 * weight;
                self.counters += bucket.counters as f64 * weight;
                self.bytes += bucket.bytes as f64 * weight;
                self.closed += bucket.closed as f64 * weight;
                self.largest_item = self.largest_item.max(bucket.largest_item);
                let (bytes, by_second) = &mut self.buckets[number as usize * shards + shard];
                *bytes += bucket.bytes as f64 * weight;
                if by_second.len() < bucket.by_second.len() {
                    by_second.resize(bucket.by_second.len(), 0.0);
                }
                for (sum, units) in by_second.iter_mut().zip(&bucket.by_second) {
                    *sum += *units as f64 * weight;
                }
            }
        }
        let per_batch = |sum: u64| sum as f64 / batches.max(1) as f64;
        Busiest {
            batches_per_second: batches as f64 / (f64::from(minutes) * 60.0),
            records_per_batch: per_batch(records),
            updates_per_batch: per_batch(updates),
            rounds_per_batch: per_batch(rounds),
        }
    }
}

/// How many minutes to simulate: a window at least, and otherwise what the budget allows, up to twenty.
fn minutes(load: &Load) -> u32 {
    let least = (load.window.as_secs_f64() / 60.0).ceil().max(1.0);
    (load.budget as f64 / (load.clicks_per_second * 60.0)).clamp(least, 20.0_f64.max(least)) as u32
}

/// The pollers to simulate, the busiest first, and how many each stands for.
fn sample(load: &Load, topic: &Topic, minutes: u32) -> Vec<(u32, f64)> {
    let mut pollers: Vec<u32> = (0..topic.pollers).collect();
    pollers.sort_by(|a, b| topic.rates[*b as usize].total_cmp(&topic.rates[*a as usize]));
    let clicks = load.clicks_per_second * 60.0 * f64::from(minutes);
    if clicks <= load.budget as f64 * 1.5 {
        return pollers.into_iter().map(|poller| (poller, 1.0)).collect();
    }
    // Keyed by user, pollers are alike.
    let always = if load.keyed_by == KeyedBy::User { 1 } else { BUSIEST }.min(topic.pollers) as usize;
    let (busiest, others) = pollers.split_at(always);
    let share = load.budget as f64 / clicks;
    let chosen = ((f64::from(topic.pollers) * share).ceil().max(5.0) as usize).min(others.len());
    let mut random = ChaCha8Rng::seed_from_u64(load.seed);
    let chosen_others = index::sample(&mut random, others.len(), chosen);
    let weight = others.len() as f64 / chosen.max(1) as f64;
    let busiest = busiest.iter().map(|poller| (*poller, 1.0));
    busiest.chain(chosen_others.into_iter().map(|position| (others[position], weight))).collect()
}

/// The mean over the busiest `span` seconds.
fn busiest_mean(by_second: &[f64], span: f64) -> f64 {
    let span = span.ceil() as usize;
    let sum = |from: usize| by_second[from..by_second.len().min(from + span)].iter().sum::<f64>();
    (0..by_second.len()).map(sum).fold(0.0, f64::max) / span as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_of_the_pollers_tells_about_what_all_of_them_do() {
        for keyed_by in [KeyedBy::Product, KeyedBy::User] {
            let all = Load { budget: 10_000_000, ..Load::new(20_000.0, 60, 20_000, keyed_by) };
            let some = Load { budget: 300_000, ..all.clone() };
            let (all, some) = (Estimate::of(&all), Estimate::of(&some));
            assert_eq!((all.simulated_pollers, all.pollers), (60, 60));
            assert!(some.simulated_pollers < 30, "{}", some.simulated_pollers);
            let near = |all: f64, some: f64| (some / all - 1.0).abs() < 0.15;
            assert!(near(all.write_units_per_second, some.write_units_per_second), "{all:?}\n{some:?}");
            assert!(near(all.counters_per_minute, some.counters_per_minute), "{all:?}\n{some:?}");
            assert!(
                near(all.hottest_key_write_units_per_second, some.hottest_key_write_units_per_second),
                "{all:?}\n{some:?}"
            );
        }
    }

    #[test]
    fn more_shards_make_more_keys_that_bear_less() {
        let eight = Load { budget: 500_000, ..Load::new(4_000.0, 4, 50_000, KeyedBy::User) };
        let many = Load { shards: 64, ..eight.clone() };
        let (eight, many) = (Estimate::of(&eight), Estimate::of(&many));
        assert!(many.largest_item_bytes < eight.largest_item_bytes);
        assert!(
            many.hottest_key_write_units_per_second < eight.hottest_key_write_units_per_second / 4.0,
            "{eight:?}\n{many:?}"
        );
    }

    #[test]
    fn the_same_load_gives_the_same_figures() {
        let load = Load::new(500.0, 6, 1_000, KeyedBy::Product);
        assert_eq!(Estimate::of(&load), Estimate::of(&load));
    }

    #[test]
    fn a_mean_is_of_the_busiest_seconds() {
        assert!((busiest_mean(&[1.0, 0.0, 4.0, 2.0, 1.0], 2.0) - 3.0).abs() < 1e-9);
        assert!((busiest_mean(&[], 2.0)).abs() < 1e-9);
    }
}
