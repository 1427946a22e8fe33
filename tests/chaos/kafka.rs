//! Kafka's side: sources with offsets, and pollers that deliver from the last committed offset until it is the end.

use std::{collections::HashMap, ops::Range};

use hot_products::{Shard, UnixMillis};
use local_aws::msk;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::dice::{chance, dice};

/// What the records of a schedule are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// Few products, several minutes, odd product ids.
    Light,
    /// So many products on one shard and minute that an item's update needs several pieces.
    Pieces,
    /// So many long product ids on one shard and minute that its item reaches 400 KB and overflows.
    Overflow,
}

/// How many minutes the events of a schedule are spread over.
pub const MINUTES: i64 = 5;

/// One topic partition.
#[derive(Debug)]
pub struct Source {
    /// The partition's number in the topic.
    pub partition: u32,
    /// Offsets, ascending, with gaps as compaction and transactions leave them, and values.
    pub log: Vec<(i64, Option<Vec<u8>>)>,
    /// How far the poller that owns it is; always the committed offset, for it commits whenever it moves on.
    committed: usize,
    /// Where the commits were.
    commits: Vec<usize>,
    /// The poller that gets its records.
    owner: usize,
    /// Counts the changes of owner and position: a poller that delivered under an older one commits no more.
    generation: u64,
    /// How many batches were cut from it.
    cuts: u64,
    /// Where the last batch that failed ended.
    failed_end: Option<usize>,
    /// How many of its records were delivered at least once.
    delivered: usize,
    largest_batch: usize,
}

/// A part of a batch: records of one source.
#[derive(Clone, Debug)]
struct Part {
    source: usize,
    records: Range<usize>,
    generation: u64,
}

/// What a poller delivers in one invocation.
#[derive(Debug)]
pub struct Batch {
    parts: Vec<Part>,
    /// As Lambda hands it to the function.
    pub event: Vec<u8>,
    /// How many records it holds.
    pub records: u64,
    /// How many of them were delivered before.
    pub redelivered: u64,
}

/// A consumer group's view of a topic.
#[derive(Debug)]
pub struct Kafka {
    seed: u64,
    topic: String,
    base: UnixMillis,
    pollers: usize,
    /// The topic's partitions.
    pub sources: Vec<Source>,
    running: usize,
    /// How often a source was moved.
    pub moves: u64,
}

impl Kafka {
    /// Produces the records of the schedule `seed` into the partitions of `topic`, with event times from `base` on.
    pub fn produce(seed: u64, topic: String, base: UnixMillis, load: Load, partitions: u32, pollers: usize) -> Self {
        let sources = (0..partitions)
            .map(|partition| {
                let mut dice = dice(seed, format_args!("records of source {partition}"));
                // One source has the load; more of them would only be slower.
                let load = if partition == 0 { load } else { Load::Light };
                let mut offset = if chance(&mut dice, 30) { 0 } else { dice.random_range(0..1_000_000) };
                let log: Vec<_> = values(&mut dice, load, base)
                    .into_iter()
                    .map(|value| {
                        offset += if chance(&mut dice, 3) { dice.random_range(2..9) } else { 1 };
                        (offset, value)
                    })
                    .collect();
                let batches = match load {
                    Load::Light => dice.random_range(2..10),
                    Load::Pieces => dice.random_range(5..12),
                    // The item has to be full long before the faults end.
                    Load::Overflow => dice.random_range(6..10),
                };
                Source {
                    partition,
                    largest_batch: log.len().div_ceil(batches) * 2,
                    log,
                    committed: 0,
                    commits: vec![0],
                    owner: dice.random_range(0..pollers),
                    generation: 0,
                    cuts: 0,
                    failed_end: None,
                    delivered: 0,
                }
            })
            .collect();
        Self { seed, topic, base, pollers, sources, running: 0, moves: 0 }
    }

    /// A source's name as in batches and tables.
    pub fn name(&self, source: &Source) -> String {
        format!("{}-{}", self.topic, source.partition)
    }

    /// Whether everything is committed and nobody can take that back.
    pub fn is_done(&self) -> bool {
        self.running == 0 && self.sources.iter().all(|source| source.committed == source.log.len())
    }

    /// The next batch for `poller`: of each source it owns, records from the committed offset on. `None` when there
    /// are none.
    pub fn poll(&mut self, poller: usize) -> Option<Batch> {
        let mut parts = Vec::new();
        let mut records = HashMap::new();
        let mut redelivered = 0;
        for number in 0..self.sources.len() {
            let name = self.name(&self.sources[number]);
            let source = &mut self.sources[number];
            let left = source.log.len() - source.committed;
            if source.owner != poller || left == 0 {
                continue;
            }
            let mut dice = dice(self.seed, format_args!("cut {} of source {number}", source.cuts));
            source.cuts += 1;
            // What arrived together is not always in one batch.
            if !parts.is_empty() && chance(&mut dice, 20) {
                continue;
            }
            let cut = match dice.random_range(0..10) {
                0 | 1 => dice.random_range(1..=5),
                2 | 3 => dice.random_range(1..=60),
                4..=6 => dice.random_range(1..=source.largest_batch),
                _ => source.largest_batch,
            };
            let end = match source.failed_end {
                // A failed batch is redelivered as it was, or grown, or shrunk.
                Some(end) if end > source.committed && chance(&mut dice, 40) => end,
                _ => source.committed + cut.min(left),
            };
            let part = Part { source: number, records: source.committed..end, generation: source.generation };
            redelivered += source.delivered.min(end).saturating_sub(source.committed) as u64;
            source.delivered = source.delivered.max(end);
            let partition = source.partition;
            let topic = &self.topic;
            let base = self.base;
            let batch = source.log[part.records.clone()]
                .iter()
                .map(|(offset, value)| {
                    msk::record(msk::Position { topic, partition, offset: *offset }, base, None, value.as_deref())
                })
                .collect();
            records.insert(name, batch);
            parts.push(part);
        }
        if parts.is_empty() {
            return None;
        }
        self.running += 1;
        let event = serde_json::to_vec(&msk::event(records)).expect("an event is JSON");
        let records = parts.iter().map(|part| part.records.len() as u64).sum();
        Some(Batch { parts, event, records, redelivered })
    }

    /// The invocation with `batch` ended. Commits it if it succeeded and the sources are still its poller's.
    pub fn ended(&mut self, batch: &Batch, succeeded: bool) {
        self.running -= 1;
        for part in &batch.parts {
            let source = &mut self.sources[part.source];
            if source.generation != part.generation {
                continue;
            }
            if succeeded {
                source.committed = part.records.end;
                source.commits.push(part.records.end);
                source.failed_end = None;
            } else {
                source.failed_end = Some(part.records.end);
            }
        }
    }

    /// Moves one of `poller`'s sources to a poller, perhaps the same one, that begins at the last or an older commit:
    /// the newer ones were lost. Returns what it did; `None` when the poller has no source.
    pub fn rebalance(&mut self, poller: usize) -> Option<String> {
        let mut dice = dice(self.seed, format_args!("rebalance {}", self.moves));
        let owned: Vec<usize> =
            (0..self.sources.len()).filter(|source| self.sources[*source].owner == poller).collect();
        let number = *owned.get(dice.random_range(0..owned.len().max(1)))?;
        self.moves += 1;
        let source = &mut self.sources[number];
        source.owner = dice.random_range(0..self.pollers);
        source.generation += 1;
        source.failed_end = None;
        let back = match dice.random_range(0..10) {
            0..=3 => 0,
            4..=8 => dice.random_range(1..=3),
            _ => source.commits.len(),
        };
        let kept = source.commits.len().saturating_sub(back).max(1);
        source.commits.truncate(kept);
        source.committed = source.commits[kept - 1];
        Some(format!("source {number} to poller {} from record {}", source.owner, source.committed))
    }

    /// What is in a batch, for people.
    pub fn describe(&self, batch: &Batch) -> String {
        let parts = batch.parts.iter().map(|part| {
            let source = &self.sources[part.source];
            format!(
                "source {} records {:?} of {} (offsets {}..={})",
                part.source,
                part.records,
                source.log.len(),
                source.log[part.records.start].0,
                source.log[part.records.end - 1].0
            )
        });
        parts.collect::<Vec<_>>().join(", ")
    }
}

fn values(dice: &mut ChaCha8Rng, load: Load, base: UnixMillis) -> Vec<Option<Vec<u8>>> {
    let products = products(dice, load);
    let (records, minutes, repeats) = match load {
        Load::Light => (dice.random_range(20..400), dice.random_range(1..=MINUTES), 100),
        Load::Pieces => (products.len() * 3 / 2, dice.random_range(1..=2), 40),
        Load::Overflow => (products.len() * 5 / 4, 1, 20),
    };
    let mut fresh = products.iter();
    (0..records)
        .map(|_| {
            let product = match fresh.next() {
                Some(product) if !chance(dice, repeats) => product,
                // The smaller of two: some products are hotter than others.
                _ => &products[dice.random_range(0..products.len()).min(dice.random_range(0..products.len()))],
            };
            let minute = if chance(dice, 3) { dice.random_range(0..MINUTES) } else { dice.random_range(0..minutes) };
            let time = base.0 + minute * 60_000 + dice.random_range(0..60_000);
            value(dice, time, product)
        })
        .collect()
}

fn products(dice: &mut ChaCha8Rng, load: Load) -> Vec<String> {
    let shard = Shard::of(&dice.random_range(0..1_000_000).to_string());
    let on_shard = |id: &String| Shard::of(id) == shard;
    match load {
        Load::Light => {
            let count = dice.random_range(1..80);
            let odd = ["last_offset", "closed", "bucket", "expires_at", "#p1", ":1", "a\"b\\c", "é😀", "\n\0", "+1"];
            (0..count).map(|n| format!("p{n}")).chain(odd.map(str::to_owned)).collect()
        }
        Load::Pieces => {
            let count = dice.random_range(250..700);
            (0..).map(|n| format!("piece-{n}")).filter(on_shard).take(count).collect()
        }
        Load::Overflow => {
            let count = dice.random_range(2_300..3_400);
            // As long as an id may be, so that few of them fill an item.
            (0..).map(|n| format!("{n:0256}")).filter(on_shard).take(count).collect()
        }
    }
}

/// A record's value: mostly a click, at times another action or no event at all.
fn value(dice: &mut ChaCha8Rng, time: i64, product: &str) -> Option<Vec<u8>> {
    let event = |time: Value, product: &str, action: &str| {
        let user = format!("u_{product:.8}");
        Some(json!({"event_time": time, "product_id": product, "action": action, "user_id": user}).to_string().into())
    };
    match dice.random_range(0..100) {
        0..=4 => event(time.into(), product, "add_to_cart"),
        5..=9 => match dice.random_range(0..8) {
            0 => None,
            1 => Some(b"nonsense".to_vec()),
            2 => Some(b"{\"event_time\":\xff}".to_vec()),
            3 => event(time.to_string().into(), product, "click"),
            4 => event(time.into(), "", "click"),
            5 => event(time.into(), &"x".repeat(257), "click"),
            6 => Some(json!({"event_time": time, "action": "click"}).to_string().into()),
            _ => event(Value::Null, product, "click"),
        },
        _ => event(time.into(), product, "click"),
    }
}
