//! Figures of a load per second and per minute, from a simulation of some of its pollers over some minutes.

use std::time::Duration;

use hot_products::{Bucket, Minute, Window};
use rand::{SeedableRng, seq::index};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::{Batches, KeyedBy, Ledger, Load, START, Topic, ledger::BucketLoad};
use crate::assumptions::WRITE_CONCURRENCY;

/// The size limit of a page of a query, in bytes (Amazon DynamoDB Developer Guide, "Paginating table query results").
const PAGE_BYTES: f64 = 1024.0 * 1024.0;
/// What a read unit reads, in bytes (Amazon DynamoDB Developer Guide, "Read operations").
pub(crate) const READ_UNIT_BYTES: f64 = 4096.0;
/// The read units of an eventually consistent read of [`READ_UNIT_BYTES`].
pub(crate) const EVENTUAL_READ_UNITS: f64 = 0.5;
/// How many of the busiest pollers are simulated in any case.
const BUSIEST: u32 = 3;

/// What a load consumes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// Number of pollers, and so of concurrent batches.
    pub pollers: u32,
    /// How many pollers were simulated: the busiest, and a random sample of the others.
    pub simulated_pollers: u32,
    /// Simulated minutes.
    pub simulated_minutes: u32,
    /// Simulated clicks.
    pub simulated_clicks: u64,
    /// Batches per second, each an invocation of `count-clicks`.
    pub batches_per_second: f64,
    /// Average number of records in a batch.
    pub records_per_batch: f64,
    /// Writes to the counters per second.
    pub updates_per_second: f64,
    /// Average number of sequential rounds of writes in a batch, with [`WRITE_CONCURRENCY`] items written at a time.
    pub rounds_per_batch: f64,
    /// Write units per second.
    pub write_units_per_second: f64,
    /// Write units per 1,000 clicks.
    pub write_units_per_1000_clicks: f64,
    /// Write units per second on the hottest partition key, averaged over its busiest batch window.
    pub hottest_key_write_units_per_second: f64,
    /// Size of the largest item, in bytes.
    pub largest_item_bytes: usize,
    /// Items that are closed per hour, as large or full.
    pub closed_items_per_hour: f64,
    /// The batches of the busiest poller.
    pub busiest: Busiest,
    /// Items per minute.
    pub items_per_minute: f64,
    /// Counters per minute.
    pub counters_per_minute: f64,
    /// Bytes of the items of a minute.
    pub bytes_per_minute: f64,
    /// Read units of one ranking: sixty minutes, eventually consistent.
    pub read_units_per_ranking: f64,
    /// Queries of one ranking, including further pages.
    pub queries_per_ranking: f64,
    /// Distinct products of the batches per second: how many writes one update per product and batch would need.
    pub distinct_per_second: f64,
    /// Expected number of distinct products in a minute.
    pub products_per_minute: f64,
    /// Expected number of distinct products in an hour.
    pub products_per_hour: f64,
}

/// The batches of the poller with the most clicks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Busiest {
    /// Batches per second.
    pub batches_per_second: f64,
    /// Average number of records in a batch.
    pub records_per_batch: f64,
    /// Average number of writes in a batch.
    pub updates_per_batch: f64,
    /// Average number of sequential rounds of writes in a batch.
    pub rounds_per_batch: f64,
}

/// What is simulated.
#[derive(Clone, Copy)]
struct Simulation<'a> {
    load: &'a Load,
    topic: &'a Topic,
    minutes: u32,
}

/// A poller to simulate.
#[derive(Clone, Copy)]
struct SampledPoller {
    number: u32,
    /// How many pollers it represents.
    weight: f64,
}

/// Sums over the simulated pollers, each multiplied by the number of pollers that it represents.
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
    /// One for each bucket of each minute.
    buckets: Vec<BucketSums>,
}

/// Sums over the items of a bucket.
#[derive(Clone, Default)]
struct BucketSums {
    bytes: f64,
    /// By second after the start of the minute.
    write_units: Vec<f64>,
}

impl Estimate {
    /// Simulates `load`.
    pub fn of(load: &Load) -> Self {
        let topic = &Topic::of(load);
        let window = load.window.as_secs_f64().max(1.0);
        let minutes = minutes(load);
        let simulation = Simulation { load, topic, minutes };
        let buckets = vec![BucketSums::default(); minutes as usize * usize::from(Bucket::PER_MINUTE)];
        let mut sums = Sums { buckets, ..Sums::default() };
        let sample = simulation.sample();
        let pollers: Vec<Busiest> = sample.iter().map(|poller| sums.add(&simulation, *poller)).collect();

        let seconds = f64::from(minutes) * 60.0;
        let per_minute = |sum: f64| sum / f64::from(minutes);
        let hour = Window::MINUTES as f64;
        let hottest = sums.buckets.iter().map(|bucket| busiest_mean(&bucket.write_units, window)).fold(0.0, f64::max);
        let read = |per_bucket: &dyn Fn(f64) -> f64| {
            per_minute(sums.buckets.iter().map(|bucket| per_bucket(bucket.bytes)).sum()) * hour
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
            busiest: pollers.first().copied().unwrap_or_default(),
            items_per_minute: per_minute(sums.items),
            counters_per_minute: per_minute(sums.counters),
            bytes_per_minute: per_minute(sums.bytes),
            read_units_per_ranking: read(&|bytes| (bytes / READ_UNIT_BYTES).ceil().max(1.0) * EVENTUAL_READ_UNITS),
            queries_per_ranking: read(&|bytes| (bytes / PAGE_BYTES).ceil().max(1.0)),
            distinct_per_second: sums.distinct / seconds,
            products_per_minute: topic.distinct(load.clicks_per_second * 60.0),
            products_per_hour: topic.distinct(load.clicks_per_second * 3_600.0),
        }
    }
}

impl Simulation<'_> {
    /// The pollers to simulate, the busiest first: all of them, or as many as the budget allows.
    fn sample(&self) -> Vec<SampledPoller> {
        let Self { load, topic, minutes } = *self;
        let mut pollers: Vec<u32> = (0..topic.pollers).collect();
        pollers.sort_by(|a, b| topic.rates[*b as usize].total_cmp(&topic.rates[*a as usize]));
        let clicks = load.clicks_per_second * 60.0 * f64::from(minutes);
        if clicks <= load.budget as f64 * 1.5 {
            return pollers.into_iter().map(|number| SampledPoller { number, weight: 1.0 }).collect();
        }
        // Keyed by user, all pollers have the same load.
        let always = if load.keyed_by == KeyedBy::User { 1 } else { BUSIEST }.min(topic.pollers) as usize;
        let (busiest, others) = pollers.split_at(always);
        let share = load.budget as f64 / clicks;
        let chosen = ((f64::from(topic.pollers) * share).ceil().max(5.0) as usize).min(others.len());
        let mut random = ChaCha8Rng::seed_from_u64(load.seed);
        let chosen_others = index::sample(&mut random, others.len(), chosen);
        let weight = others.len() as f64 / chosen.max(1) as f64;
        let busiest = busiest.iter().map(|number| SampledPoller { number: *number, weight: 1.0 });
        busiest
            .chain(chosen_others.into_iter().map(|position| SampledPoller { number: others[position], weight }))
            .collect()
    }
}

impl Sums {
    /// Simulates a poller, adds what it consumes, and returns the figures of its batches.
    fn add(&mut self, simulation: &Simulation<'_>, poller: SampledPoller) -> Busiest {
        let Simulation { load, topic, minutes } = *simulation;
        let SampledPoller { number, weight } = poller;
        let end = START.plus(Duration::from_mins(minutes.into()));
        let longest_wait = Duration::from_millis((load.window_ms() + load.disorder_ms()) as u64);
        let mut ledger = Ledger::new(topic);
        let (mut batches, mut records, mut updates, mut rounds) = (0_u64, 0_u64, 0_u64, 0_u64);
        for batch in Batches::of(load, topic, number) {
            let counted = ledger.count(&batch);
            ledger.close_before(Minute::of(batch.at.minus(longest_wait)));
            self.clicks += batch.records.len() as u64;
            if batch.at < end {
                batches += 1;
                records += batch.records.len() as u64;
                updates += counted.updates;
                rounds += counted.longest_chain.max(counted.updates.div_ceil(WRITE_CONCURRENCY as u64));
                self.distinct += counted.distinct as f64 * weight;
            }
            // Every click of the last minute has arrived.
            if batch.at >= end.plus(longest_wait) {
                break;
            }
        }
        self.batches += batches as f64 * weight;
        self.records += records as f64 * weight;
        self.rounds += rounds as f64 * weight;
        let per_minute = usize::from(Bucket::PER_MINUTE);
        for position in 0..minutes {
            let minute = Minute::of(START.plus(Duration::from_mins(position.into())));
            for (number, bucket) in ledger.minute(minute).iter().enumerate() {
                self.updates += bucket.updates as f64 * weight;
                self.write_units += bucket.write_units as f64 * weight;
                self.items += bucket.items as f64 * weight;
                self.counters += bucket.counters as f64 * weight;
                self.bytes += bucket.bytes as f64 * weight;
                self.closed += bucket.closed as f64 * weight;
                self.largest_item = self.largest_item.max(bucket.largest_item);
                self.buckets[position as usize * per_minute + number].add(bucket, weight);
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

impl BucketSums {
    fn add(&mut self, bucket: &BucketLoad, weight: f64) {
        self.bytes += bucket.bytes as f64 * weight;
        if self.write_units.len() < bucket.by_second.len() {
            self.write_units.resize(bucket.by_second.len(), 0.0);
        }
        for (sum, units) in self.write_units.iter_mut().zip(&bucket.by_second) {
            *sum += *units as f64 * weight;
        }
    }
}

/// How many minutes to simulate: at least one window, and at most twenty minutes unless the window is longer.
fn minutes(load: &Load) -> u32 {
    let least = (load.window.as_secs_f64() / 60.0).ceil().max(1.0);
    (load.budget as f64 / (load.clicks_per_second * 60.0)).clamp(least, 20.0_f64.max(least)) as u32
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
    fn a_sample_of_the_pollers_gives_about_the_figures_of_all() {
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
    fn an_estimate_is_deterministic() {
        let load = Load::new(500.0, 6, 1_000, KeyedBy::Product);
        assert_eq!(Estimate::of(&load), Estimate::of(&load));
    }

    #[test]
    fn the_busiest_mean_is_over_the_busiest_seconds() {
        assert!((busiest_mean(&[1.0, 0.0, 4.0, 2.0, 1.0], 2.0) - 3.0).abs() < 1e-9);
        assert!((busiest_mean(&[], 2.0)).abs() < 1e-9);
    }
}
