//! The demo's topic, event source and schedule, in the demo's time: the parts that AWS plays around the functions.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use aws_lambda_events::kafka::KafkaRecord;
use aws_sdk_dynamodb::Client;
use count_clicks::{CountClicks, CountSettings, CountSummary};
use hot_products::{Clock, ManualClock, Minute, Policy, UnixMillis, Window, settings::Settings};
use rank_products::{RankProducts, RankSettings, Request};
use serde::Serialize;

use super::{
    expiry::Expiry,
    shop::{Sent, Shop},
};
use local_aws::{
    msk::{self, MAX_PAYLOAD_BYTES},
    template::TableNames,
};

const TOPIC: &str = "clicks";
const PARTITIONS: u32 = 4;
/// When a batch is full, as `infra/template.yaml` has it by default.
const BATCH_SIZE: usize = 10_000;
const BATCH_WINDOW: Duration = Duration::from_secs(30);
/// How long after its end a window is ranked, as the schedule in `infra/template.yaml` has it.
const SETTLE: Duration = Duration::from_mins(1);
/// How long an invocation may take; the clock that would run it out stands still.
const INVOCATION_TIME: Duration = Duration::from_mins(1);
/// How many records a delivery of garbage has.
const GARBAGE: usize = 200;

/// A partition of the topic and how far it is counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SourceStatus {
    /// As the counters have it, `clicks-0`.
    pub source: String,
    /// The offset that the next record gets.
    pub end_offset: i64,
    /// The offset of the next record to deliver.
    pub offset: i64,
    /// Records that wait for delivery.
    pub lag: i64,
}

/// What became of all records since the demo began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Records delivered, those that came again each time.
    pub records: u64,
    /// Records added to the counters.
    pub counted: u64,
    /// Records whose action is not counted.
    pub ignored: u64,
    /// Records too old for any window to come.
    pub stale: u64,
    /// Records that are no event, or one that can't be true.
    pub rejected: u64,
    /// Records skipped, for the counters held them already.
    pub already_counted: u64,
    /// Invocations of `count-clicks`.
    pub batches: u64,
    /// Writes to the counters, refused ones included.
    pub updates: u64,
    /// Write units consumed by counters and rejected events.
    pub write_units: u64,
}

/// The pipeline's health.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Status {
    /// The demo's time, RFC 3339.
    pub now: String,
    /// How much faster than ours it runs.
    pub speed: f64,
    /// Whether it stands still.
    pub paused: bool,
    /// Since when the totals run, RFC 3339.
    pub since: String,
    /// The endpoint of the embedded DynamoDB.
    pub dynamodb: String,
    /// The topic's partitions.
    pub sources: Vec<SourceStatus>,
    /// What became of the records.
    pub totals: Totals,
    /// The rejected records by reason.
    pub rejected_by_reason: BTreeMap<&'static str, u64>,
    /// Write units a thousand counted clicks.
    pub write_units_per_1000_clicks: f64,
}

/// The demo's world but for time, which [`advance`](Self::advance) makes.
#[derive(Debug)]
pub(super) struct Pipeline {
    clock: Arc<ManualClock>,
    shop: Shop,
    policy: Policy,
    count_clicks: CountClicks,
    rank_products: RankProducts,
    expiry: Expiry,
    since: UnixMillis,
    /// Of each partition, the offset that the next record gets, and the records that wait for delivery.
    partitions: Vec<(i64, Vec<KafkaRecord>)>,
    payload_bytes: usize,
    /// The newest batch of the shop's, as it was delivered.
    last_batch: Option<String>,
    /// Whether the past is over. Before, batches are as large as between two rankings they can be, as when an event
    /// source catches up.
    live: bool,
    next_delivery: UnixMillis,
    next_window: Window,
    totals: Totals,
    rejected_by_reason: BTreeMap<&'static str, u64>,
}

impl Pipeline {
    /// A shop that opens at `start`, a full minute, over the tables `tables`, which are empty.
    pub(super) fn new(client: &Client, tables: &TableNames, shop: Shop, start: UnixMillis) -> Result<Self> {
        let settings = Settings::from([
            ("COUNTERS_TABLE", &tables.counters),
            ("REJECTS_TABLE", &tables.rejects),
            ("SNAPSHOTS_TABLE", &tables.snapshots),
        ]);
        let count_settings = CountSettings::read(&settings)?;
        let clock = Arc::new(ManualClock::at(start));
        Ok(Self {
            shop,
            policy: count_settings.policy.clone(),
            expiry: Expiry::new(client.clone(), tables.counters.clone(), count_settings.retention, Minute::of(start)),
            count_clicks: CountClicks::new(client.clone(), count_settings, clock.clone()),
            rank_products: RankProducts::new(client.clone(), RankSettings::read(&settings)?, clock.clone()),
            since: start,
            partitions: (0..PARTITIONS).map(|_| (0, Vec::new())).collect(),
            payload_bytes: 0,
            last_batch: None,
            live: false,
            next_delivery: Window::first_after(start).end().plus(SETTLE),
            // The first that has sixty minutes of clicks.
            next_window: Window::ended_by(start.plus(Duration::from_mins(Window::MINUTES as u64 - 1))).next(),
            totals: Totals::default(),
            rejected_by_reason: BTreeMap::new(),
            clock,
        })
    }

    /// The demo's clock.
    pub(super) fn clock(&self) -> Arc<ManualClock> {
        self.clock.clone()
    }

    /// From now on, batches are as small as in AWS.
    pub(super) async fn go_live(&mut self) -> Result<()> {
        self.live = true;
        self.deliver_waiting().await
    }

    /// Lets all happen that happens until `to`.
    pub(super) async fn advance(&mut self, to: UnixMillis) -> Result<()> {
        loop {
            let now = self.clock.now();
            if now >= to {
                return Ok(());
            }
            let next_rank = self.next_window.end().plus(SETTLE);
            let until = to.min(self.next_delivery).min(next_rank);
            for sent in self.shop.events(now, until)? {
                self.clock.set(sent.at);
                self.receive(&sent).await?;
            }
            self.clock.set(until);
            if until == self.next_delivery {
                self.deliver_waiting().await?;
            }
            if until == next_rank {
                let request = Request { scheduled_time: Some(until.to_string()), window_end: None };
                self.rank_products.handle(&request).await.context("rank-products failed")?;
                self.next_window = self.next_window.next();
                self.expiry.delete_until(until).await?;
            }
        }
    }

    /// Delivers the shop's last batch again, as the event source does after an error, a timeout or a rebalance. `None`
    /// where there was none yet.
    pub(super) async fn redeliver(&mut self) -> Result<Option<CountSummary>> {
        let Some(event) = self.last_batch.clone() else { return Ok(None) };
        self.invoke(&event).await.map(Some)
    }

    /// Delivers records of every kind that must not count.
    pub(super) async fn garbage(&mut self) -> Result<CountSummary> {
        // The records that wait have lower offsets, and come first.
        self.deliver_waiting().await?;
        let now = self.clock.now();
        for number in 0..GARBAGE {
            let sent = match number % 10 {
                0 => self.shop.click(now, now.plus(Duration::from_hours(24)))?,
                1 => self.shop.click(now, now.minus(self.policy.max_event_age + Duration::from_hours(1)))?,
                _ => self.shop.broken(now)?,
            };
            let record = self.append(&sent);
            match number % 10 {
                2 => record.value = None,
                3 => record.value = Some("no base64!".to_owned()),
                _ => {}
            }
        }
        let event = self.take_waiting()?;
        self.invoke(&event).await
    }

    /// The pipeline's health, but for what it can't know.
    pub(super) fn status(&self, dynamodb: String, speed: f64, paused: bool) -> Status {
        let sources = (0..).zip(&self.partitions).map(|(partition, (end_offset, waiting)): (u32, _)| {
            let offset = waiting.first().map_or(*end_offset, |record| record.offset);
            SourceStatus { source: source(partition), end_offset: *end_offset, offset, lag: end_offset - offset }
        });
        Status {
            now: self.clock.now().rfc3339(),
            speed,
            paused,
            since: self.since.rfc3339(),
            dynamodb,
            sources: sources.collect(),
            totals: self.totals.clone(),
            rejected_by_reason: self.rejected_by_reason.clone(),
            write_units_per_1000_clicks: self.totals.write_units as f64 * 1000.0 / self.totals.counted.max(1) as f64,
        }
    }

    /// Appends a record to the topic, and delivers what waits if that makes a full batch.
    async fn receive(&mut self, sent: &Sent) -> Result<()> {
        self.append(sent);
        self.payload_bytes += msk::payload_bytes(Some(sent.key.as_bytes()), &sent.line);
        let waiting: usize = self.partitions.iter().map(|(_, waiting)| waiting.len()).sum();
        if waiting >= BATCH_SIZE || self.payload_bytes >= MAX_PAYLOAD_BYTES {
            self.deliver_waiting().await?;
        }
        Ok(())
    }

    fn append(&mut self, sent: &Sent) -> &mut KafkaRecord {
        let key = sent.key.as_bytes();
        let partition = msk::partition(key, PARTITIONS);
        let (end_offset, waiting) = &mut self.partitions[partition as usize];
        waiting.push(msk::record(TOPIC, partition, *end_offset, sent.at, Some(key), Some(&sent.line)));
        *end_offset += 1;
        let last = waiting.len() - 1;
        &mut waiting[last]
    }

    /// Delivers what waits.
    pub(super) async fn deliver_waiting(&mut self) -> Result<()> {
        let now = self.clock.now();
        self.next_delivery =
            if self.live { now.plus(BATCH_WINDOW) } else { Window::first_after(now.minus(SETTLE)).end().plus(SETTLE) };
        if self.partitions.iter().all(|(_, waiting)| waiting.is_empty()) {
            return Ok(());
        }
        let event = self.take_waiting()?;
        self.invoke(&event).await?;
        self.last_batch = Some(event);
        Ok(())
    }

    /// The records that wait, as one batch.
    fn take_waiting(&mut self) -> Result<String> {
        self.payload_bytes = 0;
        let records = (0..)
            .zip(&mut self.partitions)
            .filter(|(_, (_, waiting))| !waiting.is_empty())
            .map(|(partition, (_, waiting))| (source(partition), std::mem::take(waiting)));
        Ok(serde_json::to_string(&msk::event(records.collect()))?)
    }

    async fn invoke(&mut self, event: &str) -> Result<CountSummary> {
        let now = self.clock.now();
        let (summary, result) = self.count_clicks.handle(event, now.plus(INVOCATION_TIME)).await;
        result.context("count-clicks failed")?;
        for (reason, count) in &summary.rejected_by_reason {
            *self.rejected_by_reason.entry(reason.name()).or_default() += count;
        }
        let totals = &mut self.totals;
        totals.records += summary.records;
        totals.counted += summary.counted;
        totals.ignored += summary.ignored;
        totals.stale += summary.stale;
        totals.rejected += summary.rejected;
        totals.already_counted += summary.already_counted;
        totals.batches += 1;
        totals.updates += summary.updates;
        totals.write_units += summary.write_units;
        Ok(summary)
    }
}

fn source(partition: u32) -> String {
    format!("{TOPIC}-{partition}")
}
