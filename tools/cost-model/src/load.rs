//! What a load consumes: a simulation of some minutes of clicks, batch by batch, by the rules of `count-clicks`.
//!
//! [`topic`] spreads the clicks over partitions and pollers, [`stream`] groups them into batches, and the [`ledger`]
//! counts the batches as `count-clicks` does and tracks the size of every [`item`]. [`estimate`] turns that into
//! figures. No DynamoDB is involved; a test compares the ledger with the real function on a DynamoDB.

pub mod estimate;
pub mod item;
pub mod ledger;
pub mod stream;
pub mod topic;

use std::time::Duration;

use hot_products::UnixMillis;

pub use self::{
    estimate::Estimate,
    ledger::Ledger,
    stream::{Batches, SimulatedBatch},
    topic::Topic,
};
use crate::assumptions::{BATCH_WINDOW, MAX_EVENT_AGE};

/// When the simulation begins: the start of a minute.
pub const START: UnixMillis = UnixMillis(1_672_156_800_000);

/// The first simulated offset of each partition: ten digits, as after months of clicks.
pub const FIRST_OFFSET: i64 = 1_000_000_000;

/// The key of the topic's records, which decides the partitions of a product's clicks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyedBy {
    /// The product: all of its clicks are on one partition.
    Product,
    /// The user: the clicks of a product are spread evenly over all partitions.
    User,
}

impl KeyedBy {
    /// The name, as on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Product => "product",
            Self::User => "user",
        }
    }
}

/// A steady stream of clicks on Zipf-distributed products; `p1` is the hottest, as in the simulator.
#[derive(Clone, Debug, PartialEq)]
pub struct Load {
    /// Clicks per second.
    pub clicks_per_second: f64,
    /// Partitions of the topic.
    pub partitions: u32,
    /// Number of products.
    pub products: u32,
    /// The key of the records.
    pub keyed_by: KeyedBy,
    /// The batch window.
    pub window: Duration,
    /// How much older an event can be than the newest event before it.
    pub disorder: Duration,
    /// Number of Lambda's pollers; `None` for the fewest whose batches do not fill before their window ends.
    pub pollers: Option<u32>,
    /// Share of the clicks that arrive after their window was ranked, 0 to 1.
    pub late_share: f64,
    /// How much older these are, at most; any age up to it is as likely.
    pub late_by: Duration,
    /// Exponent of the Zipf distribution.
    pub zipf: f64,
    /// Seed of the random numbers.
    pub seed: u64,
    /// Approximate number of clicks to simulate. More take longer and give more precise figures.
    pub budget: u64,
}

impl Load {
    /// A load of this size with the default settings.
    pub fn new(clicks_per_second: f64, partitions: u32, products: u32, keyed_by: KeyedBy) -> Self {
        Self {
            clicks_per_second,
            partitions,
            products,
            keyed_by,
            window: BATCH_WINDOW,
            disorder: Duration::from_secs(2),
            pollers: None,
            late_share: 0.0,
            late_by: MAX_EVENT_AGE,
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
