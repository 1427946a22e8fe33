//! What a load consumes: a simulation of the clicks of some minutes, batch by batch, by the rules of `count-clicks`.
//!
//! [`topic`] spreads the clicks over partitions and pollers, [`stream`] brings them into batches, the [`ledger`] counts
//! these as `count-clicks` does and keeps the size of every item, and [`estimate`] makes figures of it. Nothing of
//! DynamoDB runs; a test holds the ledger against the real function on a DynamoDB.

pub mod estimate;
pub mod item;
pub mod ledger;
pub mod stream;
pub mod topic;

use std::time::Duration;

use hot_products::{Shard, UnixMillis};

pub use self::{estimate::Estimate, ledger::Ledger, stream::Batches, topic::Topic};

/// The most records that Lambda puts into a batch: the template's `BatchSize`.
pub const MAX_BATCH_RECORDS: usize = 10_000;

/// When the simulated minutes begin; a minute's first instant.
pub const START: UnixMillis = UnixMillis(1_672_156_800_000);

/// The offset at which the simulated partitions stand: ten digits, as after months of clicks.
pub const FIRST_OFFSET: i64 = 1_000_000_000;

/// What the records of a topic are keyed by, and so which partitions a product's clicks come on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyedBy {
    /// Each product is always on one partition.
    Product,
    /// Each product is on all partitions alike.
    User,
}

impl KeyedBy {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Product => "product",
            Self::User => "user",
        }
    }
}

/// A steady stream of clicks, products Zipf-distributed as the simulator makes them: `p1` is the hottest.
#[derive(Clone, Debug, PartialEq)]
pub struct Load {
    /// Clicks a second.
    pub clicks_per_second: f64,
    /// Partitions of the topic.
    pub partitions: u32,
    /// Products.
    pub products: u32,
    /// What records are keyed by.
    pub keyed_by: KeyedBy,
    /// The batch window.
    pub window: Duration,
    /// How far an event may lie behind the newest before it.
    pub disorder: Duration,
    /// How many pollers Lambda runs; `None` for as many as bring less than a full batch a window each.
    pub pollers: Option<u32>,
    /// Partition keys of a minute: eight, unless the layout were another one.
    pub shards: u16,
    /// Zipf's exponent.
    pub zipf: f64,
    /// Which stream of the kind.
    pub seed: u64,
    /// About how many clicks are simulated. More take longer and tell more exactly.
    pub budget: u64,
}

impl Load {
    /// A load of that size, and everything else as usual.
    pub fn new(clicks_per_second: f64, partitions: u32, products: u32, keyed_by: KeyedBy) -> Self {
        Self {
            clicks_per_second,
            partitions,
            products,
            keyed_by,
            window: Duration::from_secs(30),
            disorder: Duration::from_secs(2),
            pollers: None,
            shards: Shard::COUNT.into(),
            zipf: 1.0,
            seed: 1,
            budget: 5_000_000,
        }
    }

    /// The batch window in milliseconds, at least one.
    pub(crate) fn window_ms(&self) -> i64 {
        (self.window.as_millis() as i64).max(1)
    }

    /// The disorder in milliseconds.
    pub(crate) fn disorder_ms(&self) -> i64 {
        self.disorder.as_millis() as i64
    }
}
