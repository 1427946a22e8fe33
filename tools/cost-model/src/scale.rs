//! A load's figures compared with the limits of DynamoDB and Lambda.

use hot_products::{Shard, Window};
use local_aws::template::StackSizes;
use serde::Serialize;

use crate::{
    assumptions::READ_CONCURRENCY,
    bill::{Invocation, Measured},
    load::{Estimate, item::MAX_ITEM_BYTES},
};

/// A limit of AWS that a load can reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// 1,000 write units per second on a partition key.
    HottestKey,
    /// 40,000 write units per second on a table: a default quota, which AWS raises on request.
    Table,
    /// 400 KB per item; further clicks of the minute go into the next item.
    LargestItem,
    /// The busiest poller's batches, which are handled one at a time, take as long as their clicks take to arrive.
    BusiestPoller,
    /// The timeout of `rank-products`.
    RankTime,
    /// The memory of `rank-products`.
    RankMemory,
}

impl Limit {
    /// All limits.
    pub const ALL: [Self; 6] =
        [Self::HottestKey, Self::Table, Self::LargestItem, Self::BusiestPoller, Self::RankTime, Self::RankMemory];

    /// The name, with its unit, as in the table of `hot scale`.
    pub fn name(self) -> &'static str {
        match self {
            Self::HottestKey => "write units per second on the hottest key",
            Self::Table => "write units per second on the table (AWS raises this quota)",
            Self::LargestItem => "bytes of the largest item (further clicks go into another)",
            Self::BusiestPoller => "share of time that the busiest poller's batches take",
            Self::RankTime => "seconds per ranking",
            Self::RankMemory => "MB per ranking",
        }
    }

    /// The limit itself.
    pub fn most(self, functions: &StackSizes) -> f64 {
        match self {
            Self::HottestKey => 1_000.0,
            Self::Table => 40_000.0,
            Self::LargestItem => MAX_ITEM_BYTES as f64,
            Self::BusiestPoller => 1.0,
            Self::RankTime => functions.rank_timeout_seconds,
            Self::RankMemory => functions.rank_memory_mb,
        }
    }

    /// How much of the limit a load uses.
    pub fn taken(self, estimate: &Estimate, measured: &Measured, functions: &StackSizes) -> f64 {
        match self {
            Self::HottestKey => estimate.hottest_key_write_units_per_second,
            Self::Table => estimate.write_units_per_second,
            Self::LargestItem => estimate.largest_item_bytes as f64,
            Self::BusiestPoller => {
                let batch = &estimate.busiest;
                let (records, updates, rounds) =
                    (batch.records_per_batch, batch.updates_per_batch, batch.rounds_per_batch);
                let invocation = Invocation::count(records, updates, rounds, functions.count_memory_mb, measured);
                batch.batches_per_second * invocation.seconds
            }
            Self::RankTime => {
                let counters = estimate.counters_per_minute * Window::MINUTES as f64;
                Invocation::rank(counters, estimate.queries_per_ranking, functions.rank_memory_mb, measured).seconds
            }
            Self::RankMemory => {
                let minutes = Window::MINUTES as f64;
                let page = estimate.bytes_per_minute * minutes / estimate.queries_per_ranking;
                let pages = page * READ_CONCURRENCY as f64 * measured.rank_bytes_per_page_byte.value;
                // One shard's products are in memory at a time. A minute has a place for each of them, unless a list of
                // its counters is smaller, which takes twice as much for each.
                let place = measured.rank_bytes_per_product_minute.value;
                let products = estimate.products_per_hour;
                let counts = (products * place).min(estimate.counters_per_minute * 2.0 * place) * minutes;
                let shard = (products * measured.rank_bytes_per_product.value + counts) / f64::from(Shard::COUNT);
                measured.rank_base_mb.value + (shard + pages) / (1024.0 * 1024.0)
            }
        }
    }
}

/// How much of a limit a load uses.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Taken {
    /// The limit.
    pub limit: Limit,
    /// How much of it the load uses.
    pub taken: f64,
    /// The limit itself.
    pub most: f64,
}

impl Taken {
    /// How much of each limit `estimate` uses.
    pub fn all(estimate: &Estimate, measured: &Measured, functions: &StackSizes) -> [Self; 6] {
        Limit::ALL.map(|limit| Self {
            limit,
            taken: limit.taken(estimate, measured, functions),
            most: limit.most(functions),
        })
    }
}

/// The load from which on a limit is exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Reached {
    /// The limit.
    pub limit: Limit,
    /// Clicks per second; `None` if no simulated load exceeds the limit.
    pub clicks_per_second: Option<f64>,
}

/// The load from which on each limit is exceeded. `loads` are in ascending order of clicks per second; between two of
/// them the usage is interpolated.
pub fn reached(loads: &[(f64, [Taken; 6])]) -> [Reached; 6] {
    std::array::from_fn(|position| {
        let exceeded = loads.iter().position(|(_, taken)| taken[position].taken > taken[position].most);
        let clicks_per_second = exceeded.map(|number| match number.checked_sub(1) {
            None => loads[number].0,
            Some(before) => {
                let ((low, below), (high, above)) = (&loads[before], &loads[number]);
                crossing(*low, below[position], *high, above[position])
            }
        });
        Reached { limit: Limit::ALL[position], clicks_per_second }
    })
}

/// The load between `low` and `high` that reaches the limit, interpolated linearly in logarithms.
fn crossing(low: f64, below: Taken, high: f64, above: Taken) -> f64 {
    let share = (below.most / below.taken).ln() / (above.taken / below.taken).ln();
    low * (high / low).powf(share.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_reached_between_a_load_below_it_and_one_above_it() {
        let taken = |taken| Taken { limit: Limit::HottestKey, taken, most: 1_000.0 };
        assert!((crossing(10.0, taken(500.0), 20.0, taken(2_000.0)) - 200.0_f64.sqrt()).abs() < 1e-9);
        assert!((crossing(10.0, taken(999.999), 20.0, taken(2_000.0)) - 10.0).abs() < 0.01);
    }
}
