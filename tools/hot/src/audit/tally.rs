//! The clicks of each minute, topic partition and product: as the topic's records have them, and as the counters do.

use std::{
    collections::{BTreeMap, HashMap},
    num::NonZeroU32,
    ops::Range,
    rc::Rc,
    time::Duration,
};

use anyhow::{Result, bail};
use hot_products::{Classification, Event, Minute, Policy, TopicPartition, UnixMillis};
use kafka::records::TopicRecord;
use serde::Serialize;

/// The most counters that an audit holds. They take about 50 bytes each, 1 GB in all.
pub(crate) const MAX_COUNTERS: usize = 20_000_000;

/// By which rules a record is a click, and when it was delivered.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    /// The rules of count-clicks.
    pub(crate) policy: Policy,
    /// How long after it was written a record was delivered, at most.
    pub(crate) max_lag: Duration,
    /// The time of the audit.
    pub(crate) now: UnixMillis,
}

impl Rules {
    /// The click that a record is, and whether it must be counted by now. `settled` is whether it was delivered, and
    /// `newest` the newest timestamp in its partition so far.
    ///
    /// Whether an event is stale, or too far ahead, depends on the time of its delivery, which nobody has stored. So it is
    /// certain only if the rules say the same at the earliest and at the latest possible time. The record's own timestamp
    /// may be the producer's. Then the records before it show how late it was written at least.
    fn click<'a>(&self, record: TopicRecord<'a>, newest: UnixMillis, settled: bool) -> Option<(Event<'a>, bool)> {
        let value = record.value?;
        let written = record.timestamp.unwrap_or(newest).min(self.now);
        let latest = if settled { newest.max(written).plus(self.max_lag).min(self.now) } else { self.now };
        let counted_at = |time| match self.policy.classify(time, value) {
            Classification::Counted(event) => Some(event),
            _ => None,
        };
        match (counted_at(written), counted_at(latest)) {
            (Some(event), Some(_)) => Some((event, settled)),
            (Some(event), None) | (None, Some(event)) => Some((event, false)),
            (None, None) => None,
        }
    }
}

/// A topic partition and a product, by their numbers in the tally.
pub(crate) type CounterKey = (u16, u32);

/// A counter that differs, in the size that many of them allow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Differing {
    pub(crate) minute: Minute,
    pub(crate) key: CounterKey,
    pub(crate) clicks: Clicks,
}

/// The clicks of a counter.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Clicks {
    /// What the counters have.
    pub(crate) counted: u64,
    /// Records that must be counted.
    certain: u32,
    /// Records that may be counted.
    uncertain: u32,
}

/// Clicks as the topic's records have them: at least `certain`, at most `uncertain` more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Expected {
    pub(crate) certain: u64,
    pub(crate) uncertain: u64,
}

impl Expected {
    /// Whether `found` can be right, of which up to `late` clicks may be missing.
    pub(crate) fn allows(self, found: u64, late: u64) -> bool {
        (self.certain.saturating_sub(late)..=self.certain + self.uncertain).contains(&found)
    }
}

/// A partition of the topic.
#[derive(Clone, Debug)]
struct Source {
    name: TopicPartition,
    partition: i32,
    /// The records before this offset were delivered.
    settled: i64,
    /// The newest timestamp so far.
    newest: UnixMillis,
    /// The first timestamp.
    first: Option<UnixMillis>,
    records: u64,
    /// Minutes that begin before this time may miss records that Kafka has deleted.
    complete_from: UnixMillis,
}

/// Clicks that another topic, or another epoch of this one, has counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OtherSource {
    pub(crate) clicks: u64,
    pub(crate) first: Minute,
    pub(crate) last: Minute,
}

/// A counter that is not what the topic's records make it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct CounterDifference {
    pub(crate) minute: Minute,
    pub(crate) source: String,
    pub(crate) product_id: String,
    /// Clicks that must be counted.
    pub(crate) expected: u64,
    /// Clicks that may be counted besides.
    pub(crate) uncertain: u64,
    /// Clicks that are counted.
    pub(crate) counted: u64,
}

/// What an audit knows of the minutes in its range.
pub(crate) struct Tally {
    minutes_of: Range<UnixMillis>,
    sources: Vec<Source>,
    numbers: HashMap<Rc<str>, u32>,
    products: Vec<Rc<str>>,
    minutes: BTreeMap<Minute, HashMap<CounterKey, Clicks>>,
    counters: usize,
    pub(crate) others: BTreeMap<TopicPartition, OtherSource>,
    /// Records read, of any class and minute.
    pub(crate) records: u64,
}

impl Tally {
    /// An audit of the minutes in `range`. `settled` has the partitions of `topic`, each with the offset before which all
    /// records were delivered.
    pub(crate) fn new(
        range: Range<UnixMillis>,
        topic: &str,
        epoch: Option<NonZeroU32>,
        settled: &BTreeMap<i32, i64>,
    ) -> Self {
        let source = |(partition, settled): (&i32, &i64)| Source {
            name: TopicPartition::new(&format!("{topic}-{partition}"), epoch),
            partition: *partition,
            settled: *settled,
            newest: UnixMillis(0),
            first: None,
            records: 0,
            complete_from: UnixMillis(i64::MIN),
        };
        Self {
            minutes_of: range,
            sources: settled.iter().map(source).collect(),
            numbers: HashMap::new(),
            products: Vec::new(),
            minutes: BTreeMap::new(),
            counters: 0,
            others: BTreeMap::new(),
            records: 0,
        }
    }

    /// Adds a counter as it is stored: one item of a chain has it. Fails if the audit would need too much memory.
    pub(crate) fn add_counter(
        &mut self,
        minute: Minute,
        source: &TopicPartition,
        product: &str,
        clicks: u64,
    ) -> Result<()> {
        let Some(number) = self.sources.iter().position(|one| one.name == *source) else {
            let none = OtherSource { clicks: 0, first: minute, last: minute };
            let other = self.others.entry(source.clone()).or_insert(none);
            other.clicks += clicks;
            other.first = other.first.min(minute);
            other.last = other.last.max(minute);
            return Ok(());
        };
        self.clicks(minute, number, product)?.counted += clicks;
        Ok(())
    }

    /// Adds a record of the topic. Those of a partition must come in offset order. Fails if the audit would
    /// need too much memory.
    pub(crate) fn add_record(&mut self, rules: &Rules, record: TopicRecord<'_>) -> Result<()> {
        self.records += 1;
        let Some(number) = self.sources.iter().position(|one| one.partition == record.partition) else { return Ok(()) };
        let source = &mut self.sources[number];
        let (newest, settled) = (source.newest, record.offset < source.settled);
        source.records += 1;
        source.first = source.first.or(record.timestamp);
        source.newest = newest.max(record.timestamp.unwrap_or(newest).min(rules.now));
        let Some((event, certain)) = rules.click(record, newest, settled) else { return Ok(()) };
        if !self.minutes_of.contains(&event.event_time) {
            return Ok(());
        }
        let clicks = self.clicks(Minute::of(event.event_time), number, event.product_id.as_str())?;
        let clicks = if certain { &mut clicks.certain } else { &mut clicks.uncertain };
        *clicks = clicks.saturating_add(1);
        Ok(())
    }

    fn clicks(&mut self, minute: Minute, source: usize, product: &str) -> Result<&mut Clicks> {
        let number = if let Some(number) = self.numbers.get(product) {
            *number
        } else {
            let (number, id) = (self.products.len() as u32, Rc::<str>::from(product));
            self.products.push(Rc::clone(&id));
            self.numbers.insert(id, number);
            number
        };
        // A topic has at most some thousand partitions.
        let counter = self.minutes.entry(minute).or_default().entry((source as u16, number));
        if matches!(counter, std::collections::hash_map::Entry::Vacant(_)) {
            self.counters += 1;
            if self.counters > MAX_COUNTERS {
                bail!("these minutes have more than {MAX_COUNTERS} counters: audit fewer minutes at a time");
            }
        }
        Ok(counter.or_default())
    }

    /// Notes that Kafka has deleted records of `partition` that came before those that were read. Minutes that may miss
    /// some of them are not compared: those that begin before the first record that is left was written, and a while
    /// after it, because producers' clocks can be `ahead`. Returns the partition's name and from when on it is complete.
    pub(crate) fn records_deleted(&mut self, partition: i32, ahead: Duration) -> Option<(TopicPartition, UnixMillis)> {
        let end = self.minutes_of.end;
        let source = self.sources.iter_mut().find(|one| one.partition == partition)?;
        source.complete_from = source.first.map_or(end, |first| first.plus(ahead).min(end));
        Some((source.name.clone(), source.complete_from))
    }

    /// The records of `partition` that were read, and the partition's name.
    pub(crate) fn records_of(&self, partition: i32) -> Option<(&TopicPartition, u64)> {
        let source = self.sources.iter().find(|one| one.partition == partition)?;
        Some((&source.name, source.records))
    }

    /// The counters that can be compared: those in minutes that end after `counters_from` and whose records were read.
    fn compared(&self, counters_from: UnixMillis) -> impl Iterator<Item = Differing> {
        let minutes = self.minutes.iter().filter(move |(minute, _)| minute.end() > counters_from);
        let counters = minutes.flat_map(|(minute, counters)| {
            counters.iter().map(|(key, clicks)| Differing { minute: *minute, key: *key, clicks: *clicks })
        });
        counters.filter(|one| one.minute.start() >= self.sources[usize::from(one.key.0)].complete_from)
    }

    /// The counters that differ from the topic's records, in minutes that end after `counters_from`: by minute, partition
    /// and product.
    pub(crate) fn differences(&self, counters_from: UnixMillis) -> Vec<Differing> {
        let mut differences: Vec<_> = self.compared(counters_from).filter(|one| one.clicks.differ()).collect();
        let order = |one: &Differing| (one.minute, one.key.0, &self.products[one.key.1 as usize]);
        differences.sort_unstable_by(|a, b| order(a).cmp(&order(b)));
        differences
    }

    /// A counter that differs, with its names.
    pub(crate) fn describe(&self, differing: Differing) -> CounterDifference {
        let Differing { minute, key: (source, product), clicks } = differing;
        CounterDifference {
            minute,
            source: self.sources[usize::from(source)].name.to_string(),
            product_id: self.products[product as usize].to_string(),
            expected: clicks.certain.into(),
            uncertain: clicks.uncertain.into(),
            counted: clicks.counted,
        }
    }

    /// The key of a counter, if the audit knows its partition and its product.
    pub(crate) fn key(&self, source: &TopicPartition, product: &str) -> Option<CounterKey> {
        let source = self.sources.iter().position(|one| one.name == *source)?;
        Some((source as u16, *self.numbers.get(product)?))
    }

    /// How many counters were compared in minutes that end after `counters_from`, and their clicks as the records have them.
    pub(crate) fn totals(&self, counters_from: UnixMillis) -> (u64, Expected) {
        let (mut counters, mut sum) = (0, Expected::default());
        for one in self.compared(counters_from) {
            counters += 1;
            sum.certain += u64::from(one.clicks.certain);
            sum.uncertain += u64::from(one.clicks.uncertain);
        }
        (counters, sum)
    }

    /// Whether all records of the minute that begins at `start` were read.
    pub(crate) fn is_complete(&self, start: UnixMillis) -> bool {
        self.sources.iter().all(|source| source.complete_from <= start)
    }

    /// Whether a topic partition is one of those audited.
    pub(crate) fn has_source(&self, name: &str) -> bool {
        self.sources.iter().any(|source| source.name.as_str() == name)
    }

    /// The clicks of `minute` as the records have them, by the product's number, over all partitions.
    pub(crate) fn expected_of(&self, minute: Minute) -> impl Iterator<Item = (usize, Expected)> {
        let counters = self.minutes.get(&minute).into_iter().flatten();
        counters.map(|((_, product), clicks)| (*product as usize, clicks.expected()))
    }

    /// The products, by number.
    pub(crate) fn products(&self) -> &[Rc<str>] {
        &self.products
    }
}

impl Clicks {
    /// Whether the counter can't be right.
    pub(crate) fn differ(self) -> bool {
        !self.expected().allows(self.counted, 0)
    }

    /// Whether records that must be counted are not.
    pub(crate) fn are_too_few(self) -> bool {
        self.counted < u64::from(self.certain)
    }

    fn expected(self) -> Expected {
        Expected { certain: self.certain.into(), uncertain: self.uncertain.into() }
    }
}

#[cfg(test)]
mod tests;
