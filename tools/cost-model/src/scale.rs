//! How far one table and the two functions go: a load's figures against the limits of DynamoDB and Lambda.

use hot_products::Window;
use serde::Serialize;

use local_aws::template::StackSizes;

use crate::{
    bill::{Invocation, Measured, READ_CONCURRENCY},
    load::{Estimate, item::MAX_ITEM_BYTES},
};

/// A limit that a load can reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// 1,000 write units a second on a partition key.
    HottestKey,
    /// 40,000 write units a second on a table: a default quota, which AWS raises on request.
    Table,
    /// 400 KB an item; the next clicks of the minute go into another one.
    LargestItem,
    /// The busiest poller's batches, which go one after the other, take as long as their clicks take to come.
    BusiestPoller,
    /// The time that an invocation of `rank-products` may take.
    RankTime,
    /// Its memory.
    RankMemory,
}

impl Limit {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::HottestKey, Self::Table, Self::LargestItem, Self::BusiestPoller, Self::RankTime, Self::RankMemory];

    /// A name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::HottestKey => "write units a second on the hottest key",
            Self::Table => "write units a second on the table (a quota that AWS raises)",
            Self::LargestItem => "bytes of the largest item (it goes on in another)",
            Self::BusiestPoller => "share of the time that the busiest poller's batches take",
            Self::RankTime => "seconds of a ranking",
            Self::RankMemory => "MB of a ranking",
        }
    }

    /// The most there can be.
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

    /// How much of it a load takes.
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
                let products = estimate.products_per_hour * measured.rank_bytes_per_product.value;
                let page = estimate.bytes_per_minute * Window::MINUTES as f64 / estimate.queries_per_ranking;
                let pages = page * READ_CONCURRENCY * measured.rank_bytes_per_page_byte.value;
                measured.rank_base_mb.value + (products + pages) / (1024.0 * 1024.0)
            }
        }
    }
}

/// A limit and how far a load is from it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Taken {
    /// The limit.
    pub limit: Limit,
    /// How much of it is taken.
    pub taken: f64,
    /// The most there can be.
    pub most: f64,
}

impl Taken {
    /// How much `estimate` takes of each limit.
    pub fn all(estimate: &Estimate, measured: &Measured, functions: &StackSizes) -> [Self; 6] {
        Limit::ALL.map(|limit| Self {
            limit,
            taken: limit.taken(estimate, measured, functions),
            most: limit.most(functions),
        })
    }
}

/// From which load on a limit is exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Reached {
    /// The limit.
    pub limit: Limit,
    /// Clicks a second; `None` when no load that was tried exceeds it.
    pub clicks_per_second: Option<f64>,
}

/// From which load on each limit is exceeded, told by `loads`, in ascending order of clicks a second: between two, what
/// they take is thought to grow steadily.
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

/// Where the limit lies between two loads, on a line in logarithms.
fn crossing(low: f64, below: Taken, high: f64, above: Taken) -> f64 {
    let share = (below.most / below.taken).ln() / (above.taken / below.taken).ln();
    low * (high / low).powf(share.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_lies_between_the_loads_around_it() {
        let taken = |taken| Taken { limit: Limit::HottestKey, taken, most: 1_000.0 };
        assert!((crossing(10.0, taken(500.0), 20.0, taken(2_000.0)) - 200.0_f64.sqrt()).abs() < 1e-9);
        assert!((crossing(10.0, taken(999.999), 20.0, taken(2_000.0)) - 10.0).abs() < 0.01);
    }
}
