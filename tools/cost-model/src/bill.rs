//! What a load costs a month: this product, and what could be run instead.

pub mod measured;
pub mod prices;

use count_clicks::CountSummary;
use hot_products::{UnixMillis, Window, counters::attribute};
use rank_products::Summary as RankSummary;
use serde::Serialize;
use serde_json::Value;

pub use self::{
    measured::Measured,
    prices::{Catalogue, PriceList},
};
use local_aws::template::StackSizes;

use crate::load::{
    Estimate, Load,
    item::{STORAGE_OVERHEAD, number_bytes, write_units},
    ledger::RETENTION,
    topic::record_bytes,
};

/// A month as AWS's own calculator has it, in hours.
pub const MONTH_HOURS: f64 = 730.0;
const MONTH_SECONDS: f64 = MONTH_HOURS * 3_600.0;
const MILLION: f64 = 1_000_000.0;
/// AWS bills a GB of 1,024 MB.
const GB: f64 = 1024.0 * 1024.0 * 1024.0;
/// Rankings a month.
const RANKINGS: f64 = MONTH_HOURS * 60.0 / Window::STEP_MINUTES as f64;
/// Products in a snapshot: the default of `TOP_N`.
const TOP_N: u64 = 100;
/// The template's `SnapshotRetention`, in hours.
const SNAPSHOT_HOURS: f64 = 30.0 * 24.0;
/// The template's `LogRetentionDays`, in months.
const LOG_MONTHS: f64 = 30.0 * 24.0 / MONTH_HOURS;
/// What Lambda itself logs of an invocation (START, END, REPORT), and what CloudWatch adds to four lines, in bytes.
const PLATFORM_LOG_BYTES: f64 = 360.0 + 4.0 * 26.0;
/// Items that `count-clicks` writes at a time.
const WRITE_CONCURRENCY: f64 = 16.0;
/// Queries that `rank-products` makes at a time.
pub(crate) const READ_CONCURRENCY: f64 = 16.0;
/// Every so often a Lambda instance has the table's key decrypted anew, in seconds (DynamoDB Developer Guide,
/// "DynamoDB encryption at rest: usage notes").
const KEY_CACHE_SECONDS: f64 = 300.0;
/// Lambda's pollers reach two services from the cluster's network, Lambda and STS, in each of three zones.
const ENDPOINTS: f64 = 2.0 * 3.0;
/// Copies of each record on the topic.
const COPIES: f64 = 3.0;

/// The ways to count and rank that are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// This product.
    This,
    /// The same functions, with an update for each click.
    UpdateAClick,
    /// The same functions, with an update for each product of a batch and minute.
    UpdateAProduct,
    /// A job on Managed Service for Apache Flink that writes into RDS for `MariaDB`.
    Flink,
}

impl Way {
    /// All of them, in the order of a [`Row`].
    pub const ALL: [Self; 4] = [Self::This, Self::UpdateAClick, Self::UpdateAProduct, Self::Flink];

    /// A word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::This => "this",
            Self::UpdateAClick => "update a click",
            Self::UpdateAProduct => "update a product and batch",
            Self::Flink => "Flink and RDS",
        }
    }
}

/// A figure for each of [`Way::ALL`].
pub type Row = [f64; 4];

/// A line of a bill.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    /// What is paid for.
    pub what: &'static str,
    /// How much of the currency a month, for each of [`Way::ALL`].
    pub amounts: Row,
}

/// A month's bill.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Bill {
    /// What counting and ranking take.
    pub lines: Vec<Line>,
    /// Their sum.
    pub total: Row,
    /// The sum, in multiples of this product's.
    pub factor: Row,
    /// MSK, without which there are no clicks: brokers, storage, and the way of Lambda's pollers to it.
    pub msk: Vec<Line>,
    /// The sum with MSK.
    pub total_with_msk: Row,
}

/// What one invocation of a function takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Invocation {
    /// From its start to its end, in seconds.
    pub seconds: f64,
}

impl Invocation {
    /// An invocation that computes for `cpu_ms` on a whole core and waits for `rounds` answers of DynamoDB in turn, in
    /// a function of `memory_mb`: below 1,769 MB it has a share of a core.
    pub fn of(cpu_ms: f64, rounds: f64, memory_mb: f64, measured: &Measured) -> Self {
        let share = (memory_mb / measured.lambda_mb_per_vcpu.value).min(1.0);
        Self { seconds: (cpu_ms / share + rounds * measured.update_wait_ms.value) / 1_000.0 }
    }

    /// An invocation of `count-clicks`.
    pub fn count(records: f64, updates: f64, rounds: f64, memory_mb: f64, measured: &Measured) -> Self {
        let decode = records / 1_000.0 * measured.decode_cpu_ms_per_1000_records.value;
        Self::of(decode + updates * measured.update_cpu_ms.value, rounds, memory_mb, measured)
    }

    /// An invocation of `rank-products`.
    pub fn rank(counters: f64, queries: f64, memory_mb: f64, measured: &Measured) -> Self {
        let cpu = counters / 1_000.0 * measured.rank_cpu_ms_per_1000_counters.value;
        Self::of(cpu, queries / READ_CONCURRENCY, memory_mb, measured)
    }
}

/// The size of a snapshot of [`TOP_N`] products, in bytes, by the rules of [`crate::load::item`].
fn snapshot_bytes() -> usize {
    let time = "2022-12-27T16:50:00Z".len();
    let field = |name: &str, value: usize| name.len() + value;
    let product = |rank: u64| {
        // A map has 3 bytes of its own and one an entry, and so has the list for each.
        let id = format!("p{rank}").len();
        let fields =
            [("rank", number_bytes(rank)), ("product_id", id), ("clicks", 4), ("previous_rank", number_bytes(rank))];
        1 + 3 + fields.iter().map(|(name, value)| field(name, *value) + 1).sum::<usize>()
    };
    let products: usize = (1..=TOP_N).map(product).sum();
    field("board", "clicks".len())
        + field("window_end", time)
        + field("window_start", time)
        + field("generated_at", time + ".123".len())
        + field("total_clicks", 5)
        + field("distinct_products", 4)
        + field(attribute::EXPIRES_AT, 6)
        + field("products", 3 + products)
}

/// The write units of a snapshot.
pub fn snapshot_write_units() -> u64 {
    write_units(0, snapshot_bytes())
}

/// What a way to count takes.
struct Counting {
    write_units_per_second: f64,
    updates_per_second: f64,
    rounds_per_batch: f64,
    update_cpu_ms: f64,
    bytes_per_minute: f64,
    items_per_minute: f64,
    counters_per_minute: f64,
    read_units_per_ranking: f64,
    queries_per_ranking: f64,
}

impl Counting {
    fn this(estimate: &Estimate, measured: &Measured) -> Self {
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

    /// One item a product and minute, of a write unit: minute, product, clicks and expiry.
    fn small_items(updates_per_second: f64, estimate: &Estimate, measured: &Measured) -> Self {
        let item = ["bucket", "2022-12-27T16:50Z#3", "product", "p123456", "clicks", "expires_at"];
        let item = item.iter().map(|text| text.len()).sum::<usize>() + 2 + 6;
        let bytes = estimate.products_per_minute * item as f64;
        Self {
            write_units_per_second: updates_per_second,
            updates_per_second,
            rounds_per_batch: updates_per_second
                / estimate.batches_per_second.max(f64::MIN_POSITIVE)
                / WRITE_CONCURRENCY,
            update_cpu_ms: measured.single_update_cpu_ms.value,
            bytes_per_minute: bytes,
            items_per_minute: estimate.products_per_minute,
            counters_per_minute: estimate.products_per_minute,
            read_units_per_ranking: bytes * Window::MINUTES as f64 / 4096.0 / 2.0,
            queries_per_ranking: estimate.queries_per_ranking,
        }
    }
}

impl Bill {
    /// The bill of `load`, which consumes `estimate`.
    pub fn of(
        load: &Load,
        estimate: &Estimate,
        measured: &Measured,
        prices: &PriceList,
        functions: &StackSizes,
    ) -> Self {
        let this = Counting::this(estimate, measured);
        let a_click = Counting::small_items(load.clicks_per_second, estimate, measured);
        let a_product = Counting::small_items(estimate.distinct_per_second, estimate, measured);
        let ways = [&this, &a_click, &a_product];
        let dynamodb = |amount: &dyn Fn(&Counting) -> f64| {
            let [a, b, c] = ways.map(amount);
            [a, b, c, 0.0]
        };
        let lambdas = |amount: f64| [amount, amount, amount, 0.0];
        let flink = |amount: f64| [0.0, 0.0, 0.0, amount];

        let units = |price: &prices::Price| price.price / MILLION;
        let batches = estimate.batches_per_second * MONTH_SECONDS;
        let gb_second = prices.lambda_duration.price;
        let seconds = |counting: &Counting| {
            let updates = counting.updates_per_second / estimate.batches_per_second.max(f64::MIN_POSITIVE);
            let decode = estimate.records_per_batch / 1_000.0 * measured.decode_cpu_ms_per_1000_records.value;
            let cpu_ms = decode + updates * counting.update_cpu_ms;
            Invocation::of(cpu_ms, counting.rounds_per_batch, functions.count_memory_mb, measured).seconds
        };
        let rank_seconds = |counting: &Counting| {
            let counters = counting.counters_per_minute * Window::MINUTES as f64;
            Invocation::rank(counters, counting.queries_per_ranking, functions.rank_memory_mb, measured).seconds
        };
        let retention_minutes = (RETENTION.as_secs_f64() / 3_600.0 + measured.ttl_delay_hours.value) * 60.0;
        let storage = |counting: &Counting| {
            let items = counting.items_per_minute * STORAGE_OVERHEAD as f64;
            (counting.bytes_per_minute + items) * retention_minutes / GB * prices.dynamodb_storage.price
        };
        let snapshots = snapshot_bytes() as f64;
        let snapshot_gb = snapshots * SNAPSHOT_HOURS / MONTH_HOURS * RANKINGS / GB;
        let snapshot_amount = RANKINGS * snapshot_write_units() as f64 * units(&prices.dynamodb_write_units)
            + RANKINGS * (snapshots / 4096.0).ceil() / 2.0 * units(&prices.dynamodb_read_units)
            + snapshot_gb * (prices.dynamodb_storage.price + prices.dynamodb_recovery.price);
        let (count_log, count_metrics) = count_log();
        let (rank_log, rank_metrics) = rank_log();
        let log_gb = (batches * (count_log + PLATFORM_LOG_BYTES) + RANKINGS * (rank_log + PLATFORM_LOG_BYTES)) / GB;
        let logs = log_gb * (prices.logs_ingested.price + prices.logs_stored.price * LOG_MONTHS);
        let metrics = (count_metrics + rank_metrics) * prices.custom_metrics.price;
        let watching = functions.alarm_metrics * prices.alarms.price + functions.dashboards * prices.dashboards.price;
        let keys = (f64::from(estimate.pollers) + 1.0) * MONTH_SECONDS / KEY_CACHE_SECONDS;
        let kpus = measured.kpus(load.clicks_per_second);

        let lines = [
            (
                "counters: write units",
                dynamodb(&|way| way.write_units_per_second * MONTH_SECONDS * units(&prices.dynamodb_write_units)),
            ),
            (
                "counters: read units of the rankings",
                dynamodb(&|way| way.read_units_per_ranking * RANKINGS * units(&prices.dynamodb_read_units)),
            ),
            ("counters: storage", dynamodb(&storage)),
            ("snapshots: write and read units, storage", lambdas(snapshot_amount)),
            ("Lambda: requests", lambdas((batches + RANKINGS) * units(&prices.lambda_requests))),
            (
                "Lambda: duration of count-clicks",
                dynamodb(&|way| batches * seconds(way) * functions.count_memory_mb / 1024.0 * gb_second),
            ),
            (
                "Lambda: duration of rank-products",
                dynamodb(&|way| RANKINGS * rank_seconds(way) * functions.rank_memory_mb / 1024.0 * gb_second),
            ),
            ("CloudWatch: logs", lambdas(logs)),
            ("CloudWatch: metrics", lambdas(metrics)),
            ("CloudWatch: alarms and dashboard", lambdas(watching)),
            (
                "Scheduler, and KMS for the tables' key",
                lambdas(RANKINGS * units(&prices.scheduler) + keys * units(&prices.kms_requests)),
            ),
            ("Flink: KPUs, one for orchestration", flink((kpus + 1.0) * MONTH_HOURS * prices.flink_kpu.price)),
            (
                "Flink: running storage",
                flink(kpus * measured.flink_storage_gb_per_kpu.value * prices.flink_storage.price),
            ),
            ("RDS: instance in two zones", flink(MONTH_HOURS * prices.rds_instance.price)),
            ("RDS: storage", flink(measured.rds_storage_gb.value * prices.rds_storage.price)),
        ];
        let topic_gb =
            load.clicks_per_second * record_bytes() as f64 * measured.msk_retention_hours.value * 3_600.0 / GB;
        let msk = [
            ("MSK: brokers", [measured.msk_brokers.value * MONTH_HOURS * prices.msk_broker.price; 4]),
            ("MSK: storage", [topic_gb * COPIES * prices.msk_storage.price; 4]),
            (
                "Lambda's pollers: endpoints, where no NAT is",
                lambdas(ENDPOINTS * MONTH_HOURS * prices.interface_endpoint.price),
            ),
        ];
        let lines = lines.map(|(what, amounts)| Line { what, amounts }).to_vec();
        let msk = msk.map(|(what, amounts)| Line { what, amounts }).to_vec();
        let total = sum(&lines);
        let floor = sum(&msk);
        Self {
            factor: total.map(|amount| amount / total[0]),
            total_with_msk: std::array::from_fn(|way| total[way] + floor[way]),
            total,
            lines,
            msk,
        }
    }
}

fn sum(lines: &[Line]) -> Row {
    std::array::from_fn(|way| lines.iter().map(|line| line.amounts[way]).sum())
}

/// The bytes of the line that `count-clicks` logs, and the metrics that CloudWatch makes of it.
fn count_log() -> (f64, f64) {
    let summary = CountSummary {
        records: 10_000,
        counted: 10_000,
        updates: 100,
        write_units: 100,
        newest_event_time: Some(1_672_159_800_000),
        largest_item_kb: Some(4),
        lag_ms: Some(30_000),
        ..CountSummary::default()
    };
    measure(&summary.log_line("hot-products-count-clicks", UnixMillis(1_672_159_800_000), None))
}

/// The same of `rank-products`.
fn rank_log() -> (f64, f64) {
    let summary = RankSummary {
        window_start: "2022-12-27T15:50:00Z".to_owned(),
        window_end: "2022-12-27T16:50:00Z".to_owned(),
        total_clicks: 1_000_000,
        distinct_products: 10_000,
        ranked: TOP_N,
        written: true,
        items: 5_000,
        queries: 480,
        read_units: 10_000.0,
        write_units: 6,
        delay_ms: 60_000,
    };
    measure(&summary.log_line("hot-products-rank-products", UnixMillis(1_672_159_800_000)))
}

fn measure(line: &str) -> (f64, f64) {
    let metrics = serde_json::from_str::<Value>(line)
        .ok()
        .and_then(|line| line["_aws"]["CloudWatchMetrics"][0]["Metrics"].as_array().map(Vec::len));
    (line.len() as f64, metrics.unwrap_or(0) as f64)
}
