//! What the functions log: the bytes that CloudWatch ingests and the metrics that it extracts.

use count_clicks::CountSummary;
use hot_products::UnixMillis;
use rank_products::RankSummary;
use serde_json::Value;

use crate::assumptions::{BATCH_SIZE, TOP_N};

/// A typical time for a log line.
const NOW: UnixMillis = UnixMillis(1_672_159_800_000);

/// What one invocation of a function logs.
pub(super) struct Log {
    /// Bytes of the function's own line.
    pub(super) bytes: f64,
    /// Metrics that CloudWatch extracts from the line.
    pub(super) metrics: f64,
}

impl Log {
    /// The log of `count-clicks`.
    pub(super) fn count_clicks() -> Self {
        let summary = CountSummary {
            records: BATCH_SIZE as u64,
            counted: BATCH_SIZE as u64,
            updates: 100,
            write_units: 100,
            newest_event_time: Some(NOW.0),
            largest_item_kb: Some(4),
            lag_ms: Some(30_000),
            ..CountSummary::default()
        };
        Self::of(&summary.log_line("hot-products-count-clicks", NOW, None))
    }

    /// The log of `rank-products`.
    pub(super) fn rank_products() -> Self {
        let summary = RankSummary {
            window_start: "2022-12-27T15:50:00Z".to_owned(),
            window_end: "2022-12-27T16:50:00Z".to_owned(),
            total_clicks: 1_000_000,
            distinct_products: 10_000,
            ranked: TOP_N as u64,
            written: true,
            items: 5_000,
            queries: 480,
            read_units: 10_000.0,
            write_units: 6,
            delay_ms: 60_000,
            ..RankSummary::default()
        };
        Self::of(&summary.log_line("hot-products-rank-products", NOW))
    }

    fn of(line: &str) -> Self {
        let metrics = serde_json::from_str::<Value>(line)
            .ok()
            .and_then(|line| line["_aws"]["CloudWatchMetrics"][0]["Metrics"].as_array().map(Vec::len));
        Self { bytes: line.len() as f64, metrics: metrics.unwrap_or(0) as f64 }
    }
}
