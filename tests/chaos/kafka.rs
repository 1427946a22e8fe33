//! Kafka's side: partitions, and pollers that deliver from the last committed offset until everything is committed.

use std::{collections::HashMap, ops::Range};

use hot_products::{Shard, UnixMillis};
use local_aws::msk;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::dice::{chance, dice};

/// The kind of records in a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// Few products, several minutes, unusual product ids.
    Light,
    /// So many products of one shard and minute that a batch needs several updates of an item.
    Pieces,
    /// So many long product ids of one shard and minute that they need a chain of items, each closed when it is large.
    Chain,
    /// Like `Chain`, in batches of one update each, and each batch has a new instance of the function. No instance knows
    /// that an item is large, so an item grows to 400 KB.
    Full,
}

/// The number of minutes with events in a schedule.
pub const MINUTES: i64 = 5;

/// One topic partition.
#[derive(Debug)]
pub struct PartitionLog {
    /// The partition's number in the topic.
    pub partition: u32,
    /// Offsets in ascending order, with gaps as after compaction or transactions, and values.
    pub log: Vec<(i64, Option<Vec<u8>>)>,
    /// The position of its poller, which is always the committed position, because the poller commits each success.
    committed: usize,
    /// All commits so far.
    commits: Vec<usize>,
    /// The poller that delivers its records.
    owner: usize,
    /// The number of changes of owner and position. A delivery of an older generation can't commit.
    generation: u64,
    /// The number of its deliveries.
    cuts: u64,
    /// The end of the last failed delivery.
    failed_end: Option<usize>,
    /// The number of its records that were delivered at least once.
    delivered: usize,
    largest_batch: usize,
}

/// A part of a delivery: records of one partition.
#[derive(Clone, Debug)]
struct Part {
    source: usize,
    records: Range<usize>,
    generation: u64,
}

/// The records that a poller delivers in one invocation.
#[derive(Debug)]
pub struct Delivery {
    parts: Vec<Part>,
    /// The event that Lambda sends to the function.
    pub event: Vec<u8>,
    /// The number of records.
    pub records: u64,
    /// The number of records that were delivered before.
    pub redelivered: u64,
}

impl Delivery {
    /// The numbers of the partitions that it has records of.
    pub fn partitions(&self) -> impl Iterator<Item = usize> {
        self.parts.iter().map(|part| part.source)
    }
}

/// The size and load of a topic and its consumer group.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    /// The kind of records in the first partition.
    pub load: Load,
    /// The number of partitions.
    pub partitions: u32,
    /// The number of pollers.
    pub pollers: usize,
}

/// A consumer group's view of a topic.
#[derive(Debug)]
pub struct Kafka {
    seed: u64,
    topic: String,
    base: UnixMillis,
    pollers: usize,
    /// The topic's partitions.
    pub sources: Vec<PartitionLog>,
    running: usize,
    /// The number of rebalances.
    pub moves: u64,
}

impl Kafka {
    /// Produces the records of the schedule `seed` to the partitions of `topic`, with event times from `base` on.
    pub fn produce(seed: u64, topic: String, base: UnixMillis, group: Group) -> Self {
        let Group { load, partitions, pollers } = group;
        let sources = (0..partitions)
            .map(|partition| {
                let mut dice = dice(seed, format_args!("records of partition {partition}"));
                // Only one partition has the load: more of them would only be slower.
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
                    Load::Chain => dice.random_range(6..10),
                    // An update has at most 200 products.
                    Load::Full => log.len().div_ceil(100),
                };
                PartitionLog {
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

    /// A partition's name in batches and tables.
    pub fn name(&self, source: &PartitionLog) -> String {
        format!("{}-{}", self.topic, source.partition)
    }

    /// Whether everything is committed, and no delivery is running.
    pub fn is_done(&self) -> bool {
        self.running == 0 && self.sources.iter().all(|source| source.committed == source.log.len())
    }

    /// The next delivery of `poller`: records of each partition it owns, from the committed offset on. `None` if there are
    /// none.
    pub fn poll(&mut self, poller: usize) -> Option<Delivery> {
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
            let mut dice = dice(self.seed, format_args!("cut {} of partition {number}", source.cuts));
            source.cuts += 1;
            // Records that arrive at the same time are not always in one batch.
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
                // A failed batch is redelivered with the same end, or another one.
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
        Some(Delivery { parts, event, records, redelivered })
    }

    /// Ends the delivery `batch`. Commits it if it succeeded and its poller still owns the partitions.
    pub fn ended(&mut self, batch: &Delivery, succeeded: bool) {
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

    /// Moves one of `poller`'s partitions to a poller, perhaps the same one, which starts at the last or an older commit,
    /// as if newer commits were lost. Returns a description; `None` if the poller has no partition.
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
        Some(format!("partition {number} to poller {} from record {}", source.owner, source.committed))
    }

    /// Describes a delivery for the log.
    pub fn describe(&self, batch: &Delivery) -> String {
        let parts = batch.parts.iter().map(|part| {
            let source = &self.sources[part.source];
            format!(
                "partition {} records {:?} of {} (offsets {}..={})",
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
        Load::Chain => (products.len() * 5 / 4, 1, 20),
        Load::Full => (products.len() * 10 / 9, 1, 10),
    };
    let mut fresh = products.iter();
    (0..records)
        .map(|_| {
            let product = match fresh.next() {
                Some(product) if !chance(dice, repeats) => product,
                // The smaller of two numbers: some products get more clicks.
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
        Load::Chain | Load::Full => {
            // About 1,560 fill an item.
            let count =
                if load == Load::Chain { dice.random_range(1_000..2_000) } else { dice.random_range(2_200..2_800) };
            // The longest ids, so that few of them fill an item.
            (0..).map(|n| format!("{n:0256}")).filter(on_shard).take(count).collect()
        }
    }
}

/// A record's value: usually a click, sometimes another action or an invalid event.
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
