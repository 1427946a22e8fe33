//! The demo's shop on the simulator, and what the page shows of it.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result};
use count_clicks::CountSummary;
use hot_products::{
    Minute, Policy, UnixMillis, Window,
    defaults::{BATCH_SIZE, BATCH_WINDOW},
    schedule::RANKING_DELAY,
};
use local_aws::embedded::Embedded;
use serde::Serialize;

use super::{expiry::Expiry, shop::Shop};
use crate::{
    simulator::{Rankings, Simulator, SimulatorOptions, SimulatorTotals, Step},
    topic::PartitionStatus,
};

/// How many partitions the topic has.
const PARTITIONS: u32 = 4;
/// How many records a delivery of garbage has.
const GARBAGE: usize = 200;

/// The pipeline's health.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PipelineStatus {
    /// The demo's time, RFC 3339.
    pub now: String,
    /// How many times as fast as real time it runs.
    pub speed: f64,
    /// Whether it is stopped.
    pub paused: bool,
    /// When the totals begin, RFC 3339.
    pub since: String,
    /// The endpoint of the embedded DynamoDB.
    pub dynamodb: String,
    /// The topic's partitions.
    pub sources: Vec<PartitionStatus>,
    /// The counts of all invocations.
    pub totals: SimulatorTotals,
    /// The rejected records by reason.
    pub rejected_by_reason: BTreeMap<&'static str, u64>,
    /// Write units per thousand counted clicks.
    pub write_units_per_1000_clicks: f64,
}

/// The shop, the simulator that its events run through, and DynamoDB's TTL.
#[derive(Debug)]
pub(super) struct Pipeline {
    pub(super) simulator: Simulator,
    shop: Shop,
    expiry: Expiry,
    since: UnixMillis,
}

impl Pipeline {
    /// A shop that opens at `start`, a full minute, over the empty tables of `dynamodb`.
    pub(super) fn new(dynamodb: &Embedded, shop: Shop, start: UnixMillis) -> Result<Self> {
        let options = SimulatorOptions {
            partitions: PARTITIONS,
            policy: Policy::default(),
            batch_size: BATCH_SIZE,
            top: None,
            settle: RANKING_DELAY,
            rankings: Rankings::Scheduled,
            // Others can write to its tables too.
            remember: false,
        };
        let mut simulator = Simulator::new(dynamodb, options, start)?;
        // The first window with sixty minutes of clicks.
        let before = Window::ended_by(start.plus(Duration::from_mins(Window::MINUTES as u64 - 1)));
        simulator.rank_from(before.next());
        let expiry = Expiry::new(dynamodb, simulator.settings.retention, Minute::of(start));
        Ok(Self { shop, simulator, expiry, since: start })
    }

    /// Ends the simulated past: from now on, batches are as small as in AWS.
    pub(super) async fn go_live(&mut self) -> Result<()> {
        self.simulator.set_batch_window(BATCH_WINDOW);
        self.simulator.deliver().await.map(drop)
    }

    /// Brings the clock to `to`, with the shop's events and what is due on the way.
    pub(super) async fn advance(&mut self, to: UnixMillis) -> Result<()> {
        for sent in self.shop.events(self.simulator.now(), to)? {
            self.run_due(sent.at).await?;
            self.simulator.produce(Some(sent.key.as_bytes()), &sent.line);
        }
        self.run_due(to).await
    }

    async fn run_due(&mut self, to: UnixMillis) -> Result<()> {
        while let Some(step) = self.simulator.advance(to).await? {
            if let Step::Ranked(_) = step {
                self.expiry.delete_until(self.simulator.now()).await?;
            }
        }
        Ok(())
    }

    /// Delivers records of every kind that must not count.
    pub(super) async fn garbage(&mut self) -> Result<CountSummary> {
        // The waiting records have lower offsets, so they are delivered first.
        self.simulator.deliver().await?;
        let (now, last_batch) = (self.simulator.now(), self.simulator.last_batch.take());
        let too_old = now.minus(self.simulator.settings.policy.max_event_age + Duration::from_hours(1));
        for number in 0..GARBAGE {
            let sent = match number % 10 {
                0 => self.shop.click(now, now.plus(Duration::from_hours(24)))?,
                1 => self.shop.click(now, too_old)?,
                _ => self.shop.broken(now)?,
            };
            let record = self.simulator.produce(Some(sent.key.as_bytes()), &sent.line);
            match number % 10 {
                2 => record.value = None,
                3 => record.value = Some("not base64!".to_owned()),
                _ => {}
            }
        }
        let summary = self.simulator.deliver().await?;
        // A redelivery repeats the shop's last batch, not this one.
        self.simulator.last_batch = last_batch;
        summary.context("no garbage was delivered")
    }

    /// The pipeline's health. The caller knows the speed, whether time is stopped, and the endpoint `dynamodb`.
    pub(super) fn status(&self, dynamodb: String, speed: f64, paused: bool) -> PipelineStatus {
        let totals = self.simulator.totals.clone();
        PipelineStatus {
            now: self.simulator.now().rfc3339(),
            speed,
            paused,
            since: self.since.rfc3339(),
            dynamodb,
            sources: self.simulator.topic.status(),
            rejected_by_reason: self.simulator.rejected_by_reason.clone(),
            write_units_per_1000_clicks: totals.write_units as f64 * 1000.0 / totals.counted.max(1) as f64,
            totals,
        }
    }
}
