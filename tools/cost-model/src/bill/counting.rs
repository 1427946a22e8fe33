//! What each way to count on DynamoDB consumes.

use hot_products::Window;

use super::{Invocation, Measured};
use crate::{
    assumptions::WRITE_CONCURRENCY,
    load::{
        Estimate, Load,
        estimate::{EVENTUAL_READ_UNITS, READ_UNIT_BYTES},
    },
};

/// What a way to count on DynamoDB consumes.
pub(super) struct Counting {
    pub(super) write_units_per_second: f64,
    pub(super) bytes_per_minute: f64,
    pub(super) items_per_minute: f64,
    pub(super) read_units_per_ranking: f64,
    updates_per_second: f64,
    rounds_per_batch: f64,
    update_cpu_ms: f64,
    counters_per_minute: f64,
    queries_per_ranking: f64,
}

impl Counting {
    /// This product.
    pub(super) fn this(estimate: &Estimate, measured: &Measured) -> Self {
        Self {
            write_units_per_second: estimate.write_units_per_second,
            updates_per_second: estimate.updates_per_second,
            rounds_per_batch: estimate.rounds_per_batch,
            update_cpu_ms: measured.update_cpu_ms.value,
            bytes_per_minute: estimate.bytes_per_minute,
            items_per_minute: estimate.items_per_minute,
            counters_per_minute: estimate.counters_per_minute,
            read_units_per_ranking: estimate.read_units_per_ranking,
            queries_per_ranking: estimate.queries_per_ranking,
        }
    }

    /// One update for each click.
    pub(super) fn update_a_click(load: &Load, estimate: &Estimate, measured: &Measured) -> Self {
        Self::small_items(load.clicks_per_second, estimate, measured)
    }

    /// One update for each product of a batch and minute.
    pub(super) fn update_a_product(estimate: &Estimate, measured: &Measured) -> Self {
        Self::small_items(estimate.distinct_per_second, estimate, measured)
    }

    /// One item of one write unit for each product and minute, with the attributes minute, product, clicks and expiry.
    fn small_items(updates_per_second: f64, estimate: &Estimate, measured: &Measured) -> Self {
        let item = ["bucket", "2022-12-27T16:50Z#3", "product", "p123456", "clicks", "expires_at"];
        let item = item.iter().map(|text| text.len()).sum::<usize>() + 2 + 6;
        let bytes = estimate.products_per_minute * item as f64;
        let updates_per_batch = updates_per_second / batches_per_second(estimate);
        Self {
            write_units_per_second: updates_per_second,
            updates_per_second,
            rounds_per_batch: updates_per_batch / WRITE_CONCURRENCY as f64,
            update_cpu_ms: measured.single_update_cpu_ms.value,
            bytes_per_minute: bytes,
            items_per_minute: estimate.products_per_minute,
            counters_per_minute: estimate.products_per_minute,
            read_units_per_ranking: bytes * Window::MINUTES as f64 / READ_UNIT_BYTES * EVENTUAL_READ_UNITS,
            queries_per_ranking: estimate.queries_per_ranking,
        }
    }

    /// An invocation of `count-clicks`, with `memory_mb`, that counts this way.
    pub(super) fn count(&self, estimate: &Estimate, memory_mb: f64, measured: &Measured) -> Invocation {
        let updates = self.updates_per_second / batches_per_second(estimate);
        let decode = estimate.records_per_batch / 1_000.0 * measured.decode_cpu_ms_per_1000_records.value;
        let cpu_ms = decode + updates * self.update_cpu_ms;
        Invocation::of(cpu_ms, self.rounds_per_batch, memory_mb, measured)
    }

    /// An invocation of `rank-products`, with `memory_mb`, over what was counted this way.
    pub(super) fn rank(&self, memory_mb: f64, measured: &Measured) -> Invocation {
        let counters = self.counters_per_minute * Window::MINUTES as f64;
        Invocation::rank(counters, self.queries_per_ranking, memory_mb, measured)
    }
}

/// Never zero, so that it can divide.
fn batches_per_second(estimate: &Estimate) -> f64 {
    estimate.batches_per_second.max(f64::MIN_POSITIVE)
}
