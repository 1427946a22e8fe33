//! The batches that a poller sends to `count-clicks`.

use std::rc::Rc;

use hot_products::UnixMillis;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{FIRST_OFFSET, Load, START, Topic, topic::Mix};

/// A click in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SimulatedRecord {
    /// The partition.
    pub partition: u32,
    /// Its offset in the partition.
    pub offset: i64,
    /// When the click happened.
    pub event_time: UnixMillis,
    /// Index of the product: 0 is `p1`.
    pub product: u32,
}

/// The records of one invocation.
#[derive(Clone, Debug)]
pub struct SimulatedBatch {
    /// When the batch ends: at the end of its window, or when it is full.
    pub at: UnixMillis,
    /// Its records in the order of arrival.
    pub records: Vec<SimulatedRecord>,
}

/// An endless iterator over the batches of one poller. A batch ends at the end of its window or when it is full.
#[derive(Debug)]
pub struct Batches<'a> {
    topic: &'a Topic,
    poller: u32,
    mix: Rc<Mix>,
    random: ChaCha8Rng,
    /// The next offsets of the poller's partitions: every `pollers`-th of the topic, from its own number on.
    offsets: Vec<i64>,
    disorder_ms: i64,
    window_ms: i64,
    /// Milliseconds between clicks.
    gap_ms: f64,
    /// When the next click arrives, in milliseconds since [`START`].
    next_ms: f64,
    /// When the window of the current batch ends, in milliseconds since [`START`].
    end_ms: f64,
}

impl<'a> Batches<'a> {
    /// The batches of this poller from [`START`] on. Its first window begins at a random time before that.
    pub fn of(load: &Load, topic: &'a Topic, poller: u32) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(load.seed);
        random.set_stream(poller.into());
        let rate = topic.rates[poller as usize];
        let gap_ms = if rate > 0.0 { 1_000.0 / rate } else { f64::INFINITY };
        let window_ms = load.window_ms();
        Self {
            topic,
            poller,
            mix: topic.mix(poller),
            offsets: vec![FIRST_OFFSET; (load.partitions - poller).div_ceil(topic.pollers) as usize],
            disorder_ms: load.disorder_ms(),
            window_ms,
            gap_ms,
            next_ms: if gap_ms.is_finite() { random.random_range(0.0..gap_ms) } else { gap_ms },
            end_ms: random.random_range(0.0..window_ms as f64),
            random,
        }
    }
}

impl Iterator for Batches<'_> {
    type Item = SimulatedBatch;

    fn next(&mut self) -> Option<SimulatedBatch> {
        if !self.next_ms.is_finite() {
            return None;
        }
        let mut records = Vec::new();
        // Windows follow one another; a window without a click makes no batch.
        while self.end_ms <= self.next_ms {
            self.end_ms += self.window_ms as f64;
        }
        while self.next_ms < self.end_ms && records.len() < self.topic.batch_records {
            let (partition, product) = self.topic.click(self.poller, &self.mix, &mut self.random)?;
            let late = self.random.random_range(0..=self.disorder_ms);
            let offset = &mut self.offsets[(partition / self.topic.pollers) as usize];
            let event_time = UnixMillis(START.0 + self.next_ms as i64 - late);
            records.push(SimulatedRecord { partition, offset: *offset, event_time, product });
            *offset += 1;
            self.next_ms += self.gap_ms;
        }
        let full = records.len() == self.topic.batch_records;
        let at = if full { (self.next_ms - self.gap_ms).min(self.end_ms) } else { self.end_ms };
        self.end_ms = at + self.window_ms as f64;
        Some(SimulatedBatch { at: UnixMillis(START.0 + at as i64), records })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::load::KeyedBy;

    #[test]
    fn a_batch_ends_at_the_end_of_its_window_or_when_it_is_full() {
        for (clicks_per_second, window, records) in [(100.0, 30, 3_000), (1_000.0, 30, 10_000), (1_000.0, 2, 2_000)] {
            let load = Load {
                window: Duration::from_secs(window),
                pollers: Some(1),
                ..Load::new(clicks_per_second, 6, 300, KeyedBy::Product)
            };
            let topic = Topic::of(&load);
            let batches: Vec<_> = Batches::of(&load, &topic, 0).skip(1).take(5).collect();
            for batch in &batches {
                assert!(batch.records.len().abs_diff(records) <= 1, "{} records", batch.records.len());
            }
            let span = batches[4].at.since(batches[0].at).as_secs_f64();
            assert!((span - 4.0 * records as f64 / clicks_per_second).abs() < 0.1, "{span} s");
        }
    }

    #[test]
    fn offsets_have_no_gaps_and_a_poller_reads_only_its_own_partitions() {
        for keyed_by in [KeyedBy::Product, KeyedBy::User] {
            let load = Load { pollers: Some(4), ..Load::new(1_000.0, 10, 300, keyed_by) };
            let topic = Topic::of(&load);
            let mut next = [FIRST_OFFSET; 10];
            for record in Batches::of(&load, &topic, 1).take(3).flat_map(|batch| batch.records) {
                assert_eq!(record.partition % 4, 1);
                let expected = &mut next[record.partition as usize];
                assert_eq!(record.offset, *expected);
                *expected += 1;
            }
            assert!(next[1] > FIRST_OFFSET && next[5] > FIRST_OFFSET && next[9] > FIRST_OFFSET);
        }
    }
}
