//! The lines of a bill.

use local_aws::template::StackSizes;

use super::{
    Line, MONTH_HOURS, Measured, Price, PriceList, RANKINGS, Row,
    counting::Counting,
    healing::Healing,
    logs::Log,
    snapshot::{sample_minutes_bytes, sample_minutes_write_units, snapshot_bytes, snapshot_write_units},
};
use crate::{
    assumptions::{LOG_RETENTION, RETENTION, SNAPSHOT_RETENTION},
    load::{
        Estimate, Load,
        estimate::{EVENTUAL_READ_UNITS, READ_UNIT_BYTES},
        item::STORAGE_OVERHEAD,
        topic::record_bytes,
    },
};

const MONTH_SECONDS: f64 = MONTH_HOURS * 3_600.0;
const MILLION: f64 = 1_000_000.0;
/// AWS bills a GB of 1,024 MB.
const GB: f64 = 1024.0 * 1024.0 * 1024.0;
/// What Lambda itself logs of an invocation (START, END, REPORT), and what CloudWatch adds to four lines, in bytes.
const PLATFORM_LOG_BYTES: f64 = 360.0 + 4.0 * 26.0;
/// Lambda's pollers reach two services from the cluster's network, Lambda and STS, in each of three zones.
const ENDPOINTS: f64 = 2.0 * 3.0;
/// Copies of each record on the topic.
const COPIES: f64 = 3.0;

/// What a bill is made from.
pub(super) struct Costs<'a> {
    pub(super) load: &'a Load,
    pub(super) estimate: &'a Estimate,
    pub(super) measured: &'a Measured,
    pub(super) prices: &'a PriceList,
    pub(super) functions: &'a StackSizes,
    /// The ways on DynamoDB, in the order of a [`Row`]: this product, an update a click, an update a product.
    pub(super) ways: [Counting; 3],
}

impl Costs<'_> {
    /// Counting and ranking.
    pub(super) fn pipeline(&self) -> Vec<Line> {
        let mut lines = self.dynamodb();
        lines.extend(self.lambda());
        lines.push(self.healing());
        lines.extend(self.operations());
        lines.extend(self.flink());
        lines
    }

    /// MSK, and the way of Lambda's pollers to it.
    pub(super) fn msk(&self) -> Vec<Line> {
        let (measured, prices) = (self.measured, self.prices);
        let retention_seconds = measured.msk_retention_hours.value * 3_600.0;
        let topic_gb = self.load.clicks_per_second * record_bytes() as f64 * retention_seconds / GB;
        vec![
            line("MSK: brokers", [measured.msk_brokers.value * MONTH_HOURS * prices.msk_broker.price; 4]),
            line("MSK: storage", [topic_gb * COPIES * prices.msk_storage.price; 4]),
            line(
                "Lambda's pollers: endpoints, without a NAT",
                lambdas(ENDPOINTS * MONTH_HOURS * prices.interface_endpoint.price),
            ),
        ]
    }

    fn dynamodb(&self) -> Vec<Line> {
        let prices = self.prices;
        let write_unit = per_unit(&prices.dynamodb_write_units);
        let read_unit = per_unit(&prices.dynamodb_read_units);
        let retention_minutes = (RETENTION.as_secs_f64() / 3_600.0 + self.measured.ttl_delay_hours.value) * 60.0;
        let storage = |way: &Counting| {
            let items = way.items_per_minute * STORAGE_OVERHEAD as f64;
            (way.bytes_per_minute + items) * retention_minutes / GB * prices.dynamodb_storage.price
        };
        let late = Healing::of(self.load, self.estimate).late_write_units_per_second;
        let snapshot_bytes = snapshot_bytes(self.load.partitions) as f64;
        let minutes_bytes = sample_minutes_bytes();
        let snapshot_months = SNAPSHOT_RETENTION.as_secs_f64() / MONTH_SECONDS;
        let snapshots =
            RANKINGS * (snapshot_write_units(self.load.partitions) + sample_minutes_write_units()) as f64 * write_unit
                + RANKINGS * (snapshot_bytes / READ_UNIT_BYTES).ceil() * EVENTUAL_READ_UNITS * read_unit
                + (snapshot_bytes + minutes_bytes as f64) * snapshot_months * RANKINGS / GB
                    * (prices.dynamodb_storage.price + prices.dynamodb_recovery.price);
        vec![
            line("counters: write units", self.by_way(|way| way.write_units_per_second * MONTH_SECONDS * write_unit)),
            line("counters: write units of late clicks", this(late * MONTH_SECONDS * write_unit)),
            line(
                "counters: read units of the rankings",
                self.by_way(|way| way.read_units_per_ranking * RANKINGS * read_unit),
            ),
            line("counters: storage", self.by_way(storage)),
            line("snapshots: write and read units, storage", lambdas(snapshots)),
        ]
    }

    fn lambda(&self) -> Vec<Line> {
        let (estimate, measured, functions) = (self.estimate, self.measured, self.functions);
        let (count_mb, rank_mb) = (functions.count_memory_mb, functions.rank_memory_mb);
        let mb_second = self.prices.lambda_duration.price / 1024.0;
        let batches = self.batches();
        vec![
            line("Lambda: requests", lambdas((batches + RANKINGS) * per_unit(&self.prices.lambda_requests))),
            line(
                "Lambda: duration of count-clicks",
                self.by_way(|way| batches * way.count(estimate, count_mb, measured).seconds * count_mb * mb_second),
            ),
            line(
                "Lambda: duration of rank-products",
                self.by_way(|way| RANKINGS * way.rank(rank_mb, measured).seconds * rank_mb * mb_second),
            ),
        ]
    }

    /// Notes, records, and the rankings that are repeated. The late clicks themselves are with the counters.
    fn healing(&self) -> Line {
        let healing = Healing::of(self.load, self.estimate);
        let (write_unit, read_unit) =
            (per_unit(&self.prices.dynamodb_write_units), per_unit(&self.prices.dynamodb_read_units));
        let rank_mb = self.functions.rank_memory_mb;
        let gb_second = self.prices.lambda_duration.price / 1024.0;
        let snapshots = healing.repeated_snapshots
            * (snapshot_write_units(self.load.partitions) + sample_minutes_write_units()) as f64;
        let written = RANKINGS * (snapshots + healing.record_write_units) + self.batches() * healing.note_write_units;
        line(
            "healing: notes, records, repeated rankings",
            self.by_way(|way| {
                let ranking = way.read_units_per_ranking * read_unit
                    + way.rank(rank_mb, self.measured).seconds * rank_mb * gb_second;
                RANKINGS * (healing.repeated_rankings * ranking + healing.state_read_units * read_unit)
                    + written * write_unit
            }),
        )
    }

    fn operations(&self) -> Vec<Line> {
        let (prices, functions) = (self.prices, self.functions);
        let (count, rank) = (Log::count_clicks(), Log::rank_products());
        let log_gb =
            (self.batches() * (count.bytes + PLATFORM_LOG_BYTES) + RANKINGS * (rank.bytes + PLATFORM_LOG_BYTES)) / GB;
        let log_months = LOG_RETENTION.as_secs_f64() / MONTH_SECONDS;
        let metrics = count.metrics + rank.metrics + self.measured.event_source_metrics.value;
        vec![
            line(
                "CloudWatch: logs",
                lambdas(log_gb * (prices.logs_ingested.price + prices.logs_stored.price * log_months)),
            ),
            line("CloudWatch: metrics", lambdas(metrics * prices.custom_metrics.price)),
            line(
                "CloudWatch: alarms and dashboard",
                lambdas(functions.alarm_metrics * prices.alarms.price + functions.dashboards * prices.dashboards.price),
            ),
            line("Scheduler", lambdas(RANKINGS * per_unit(&prices.scheduler))),
        ]
    }

    fn flink(&self) -> Vec<Line> {
        let (measured, prices) = (self.measured, self.prices);
        let kpus = measured.kpus(self.load.clicks_per_second);
        vec![
            line("Flink: KPUs, one for orchestration", flink((kpus + 1.0) * MONTH_HOURS * prices.flink_kpu.price)),
            line(
                "Flink: running storage",
                flink(kpus * measured.flink_storage_gb_per_kpu.value * prices.flink_storage.price),
            ),
            line("RDS: instance in two zones", flink(MONTH_HOURS * prices.rds_instance.price)),
            line("RDS: storage", flink(measured.rds_storage_gb.value * prices.rds_storage.price)),
        ]
    }

    /// Batches a month.
    fn batches(&self) -> f64 {
        self.estimate.batches_per_second * MONTH_SECONDS
    }

    /// An amount that differs between the ways on DynamoDB.
    fn by_way(&self, amount: impl Fn(&Counting) -> f64) -> Row {
        let [this, a_click, a_product] = &self.ways;
        [amount(this), amount(a_click), amount(a_product), 0.0]
    }
}

fn line(what: &'static str, amounts: Row) -> Line {
    Line { what, amounts }
}

/// The same amount for each way on DynamoDB.
fn lambdas(amount: f64) -> Row {
    [amount, amount, amount, 0.0]
}

/// An amount for this product only.
fn this(amount: f64) -> Row {
    [amount, 0.0, 0.0, 0.0]
}

/// An amount for Flink only.
fn flink(amount: f64) -> Row {
    [0.0, 0.0, 0.0, amount]
}

/// The price of one, where the list has that of a million.
fn per_unit(price: &Price) -> f64 {
    price.price / MILLION
}
