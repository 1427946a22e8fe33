//! A simulated shop's clicks through the functions, in time that runs faster than real time.
//!
//! The shop makes events for products whose popularity drifts, and the pipeline runs them through the simulator.
//! [`Demo::run`] moves the demo's clock along with the system's and executes the commands of its [`Handle`]s.

mod expiry;
mod pipeline;
mod routes;
mod shop;

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use count_clicks::CountSummary;
use hot_products::{Clock, ManualClock, Minute, UnixMillis};
use local_aws::embedded::Embedded;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{MissedTickBehavior, interval},
};

use self::{pipeline::Pipeline, shop::Shop};
pub use self::{
    pipeline::PipelineStatus,
    routes::{PIPELINE, routes},
};

/// How often the demo's clock moves.
const TICK: Duration = Duration::from_millis(100);
/// The most real time that counts from one tick to the next. If the machine slept or can't keep up, the demo's time runs
/// slower, and no work piles up.
const MAX_TICK: Duration = Duration::from_millis(500);

/// The shop, and how fast its time runs.
#[derive(Clone, Debug, PartialEq)]
pub struct DemoOptions {
    /// How many seconds of the demo pass in a real second.
    pub speed: f64,
    /// How many products the shop has.
    pub products: u32,
    /// Clicks per second of the demo, on average.
    pub clicks_per_second: f64,
    /// The random seed.
    pub seed: u64,
    /// How long the shop has been open when the demo starts.
    pub past: Duration,
}

/// A command to a running demo, with the channel for its answer.
#[derive(Debug)]
enum Command {
    Redeliver(oneshot::Sender<Option<CountSummary>>),
    Garbage(oneshot::Sender<CountSummary>),
    SetPaused(bool, oneshot::Sender<()>),
}

/// A demo that is ready to run.
#[derive(Debug)]
pub struct Demo {
    pipeline: Pipeline,
    options: DemoOptions,
    dynamodb: String,
    commands: mpsc::Receiver<Command>,
    status: watch::Sender<Arc<PipelineStatus>>,
    paused: bool,
}

/// Watches and controls a running demo.
#[derive(Clone, Debug)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
    status: watch::Receiver<Arc<PipelineStatus>>,
    clock: Arc<ManualClock>,
}

impl Demo {
    /// A demo over the empty tables of `dynamodb`. At `now`, the shop has been open for [`DemoOptions::past`]; calls
    /// `progress` with each minute of it.
    pub async fn prepare(
        dynamodb: &Embedded,
        options: DemoOptions,
        now: UnixMillis,
        mut progress: impl FnMut(Minute),
    ) -> Result<(Self, Handle)> {
        let shop = Shop::new(options.products, options.clicks_per_second, options.seed);
        let mut minute = Minute::of(now.minus(options.past));
        let mut pipeline = Pipeline::new(dynamodb, shop, minute.start())?;
        while minute.end() <= now {
            pipeline.advance(minute.end()).await?;
            progress(minute);
            minute = Minute::of(minute.end());
        }
        pipeline.go_live().await?;
        let (commands, receiver) = mpsc::channel(8);
        let dynamodb = dynamodb.endpoint();
        let (status, watched) = watch::channel(Arc::new(pipeline.status(dynamodb.clone(), options.speed, false)));
        let handle = Handle { commands, status: watched, clock: pipeline.simulator.clock.clone() };
        Ok((Self { pipeline, options, dynamodb, commands: receiver, status, paused: false }, handle))
    }

    /// Runs until every [`Handle`] is dropped. `real` is the system's clock.
    ///
    /// # Errors
    /// When a function or DynamoDB failed.
    pub async fn run(mut self, real: &dyn Clock) -> Result<()> {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = real.now();
        loop {
            tokio::select! {
                _ = tick.tick() => {
                    let now = real.now();
                    let passed = now.since(last).min(MAX_TICK);
                    last = now;
                    if !self.paused {
                        let to = self.pipeline.simulator.now().plus(passed.mul_f64(self.options.speed));
                        self.pipeline.advance(to).await?;
                    }
                }
                command = self.commands.recv() => match command {
                    Some(command) => self.execute(command).await?,
                    None => return Ok(()),
                },
            }
            self.publish();
        }
    }

    async fn execute(&mut self, command: Command) -> Result<()> {
        // The sender of the command may be gone, so the result of `send` does not matter.
        match command {
            Command::Redeliver(answer) => {
                let summary = self.pipeline.simulator.redeliver().await?;
                self.publish();
                let _gone = answer.send(summary);
            }
            Command::Garbage(answer) => {
                let summary = self.pipeline.garbage().await?;
                self.publish();
                let _gone = answer.send(summary);
            }
            Command::SetPaused(paused, answer) => {
                self.paused = paused;
                // The event source delivers what waits when the batch window ends, even if no time passes in the shop.
                self.pipeline.simulator.deliver().await?;
                self.publish();
                let _gone = answer.send(());
            }
        }
        Ok(())
    }

    fn publish(&self) {
        let status = self.pipeline.status(self.dynamodb.clone(), self.options.speed, self.paused);
        self.status.send_replace(Arc::new(status));
    }
}

impl Handle {
    /// The demo's clock.
    pub fn clock(&self) -> Arc<ManualClock> {
        self.clock.clone()
    }

    /// The pipeline's health at the last tick.
    pub fn status(&self) -> Arc<PipelineStatus> {
        self.status.borrow().clone()
    }

    /// Delivers the last batch again, and returns what the function returned; `None` if there is no batch yet.
    ///
    /// # Errors
    /// When the demo has ended.
    pub async fn redeliver(&self) -> Result<Option<CountSummary>> {
        self.ask(Command::Redeliver).await
    }

    /// Delivers a batch of broken, old and impossible records, and returns what the function returned.
    ///
    /// # Errors
    /// When the demo has ended.
    pub async fn garbage(&self) -> Result<CountSummary> {
        self.ask(Command::Garbage).await
    }

    /// Stops the demo's time, or lets it run again.
    ///
    /// # Errors
    /// When the demo has ended.
    pub async fn set_paused(&self, paused: bool) -> Result<()> {
        self.ask(|answer| Command::SetPaused(paused, answer)).await
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T> {
        let (sender, answer) = oneshot::channel();
        self.commands.send(command(sender)).await.ok().context("the demo has ended")?;
        answer.await.context("the demo has ended")
    }
}

#[cfg(test)]
mod tests {
    use hot_products::{SystemClock, Window, store::SnapshotsTable};

    use super::*;
    use crate::SimulatorTotals;

    /// Runs `check` on a paused demo with a past of a hundred minutes.
    async fn paused(check: impl AsyncFnOnce(&Embedded, &Handle)) {
        let dynamodb = Embedded::start(0, None).await.unwrap();
        let past = Duration::from_mins(100);
        let options = DemoOptions { speed: 60.0, products: 200, clicks_per_second: 2.0, seed: 1, past };
        let now = UnixMillis::parse_rfc3339("2022-12-27T16:50:30Z").unwrap();
        let (demo, handle) = Demo::prepare(&dynamodb, options, now, drop).await.unwrap();
        let checking = async {
            handle.set_paused(true).await.unwrap();
            check(&dynamodb, &handle).await;
            drop(handle);
        };
        let (ran, ()) = tokio::join!(Box::pin(demo.run(&SystemClock)), checking);
        ran.unwrap();
    }

    fn sum(totals: &SimulatorTotals) -> u64 {
        totals.counted + totals.ignored + totals.stale + totals.rejected + totals.already_counted
    }

    #[tokio::test]
    async fn the_demo_starts_with_a_past_in_which_ranks_move() {
        paused(async |dynamodb, handle| {
            let snapshots = SnapshotsTable::new(dynamodb.client(), dynamodb.tables().snapshots);
            let newest = snapshots.newest().await.unwrap().unwrap();
            assert_eq!(newest.window, Window::ended_by(handle.clock().now().minus(Duration::from_mins(1))));
            assert!(newest.products.iter().any(|product| product.previous_rank != Some(product.rank)));
            let mut window = newest.window;
            for _ in 0..7 {
                window = window.previous();
                let snapshot = snapshots.get(window).await.unwrap().unwrap();
                assert!((4_000..10_000).contains(&snapshot.total_clicks), "{} of about 7,200", snapshot.total_clicks);
            }

            let status = handle.status();
            assert_eq!(sum(&status.totals), status.totals.records);
            assert_eq!(
                i64::try_from(status.totals.records),
                Ok(status.sources.iter().map(|source| source.offset).sum())
            );
            assert!(status.sources.iter().all(|source| source.lag == source.end_offset - source.offset));
            assert_eq!((status.totals.already_counted, status.totals.rejected), (0, 0));
        })
        .await;
    }

    #[tokio::test]
    async fn a_redelivered_batch_is_skipped() {
        paused(async |_, handle| {
            let before = handle.status();
            let again = handle.redeliver().await.unwrap().unwrap();
            assert!(again.records > 0);
            assert_eq!((again.counted, again.already_counted), (0, again.records - again.ignored));
            let after = handle.status();
            assert_eq!(after.totals.counted, before.totals.counted);
            assert_eq!(after.totals.already_counted, again.already_counted);
            assert_eq!(after.sources, before.sources);
        })
        .await;
    }

    #[tokio::test]
    async fn each_kind_of_garbage_is_rejected_with_its_reason() {
        paused(async |_, handle| {
            let garbage = handle.garbage().await.unwrap();
            assert_eq!((garbage.records, garbage.counted, garbage.stale), (200, 0, 20));
            assert_eq!(garbage.rejected, 180);
            let status = handle.status();
            assert_eq!(status.rejected_by_reason.values().sum::<u64>(), 180);
            for reason in ["no_value", "not_base64", "not_json", "event_time_in_future", "missing_action"] {
                assert!(status.rejected_by_reason.contains_key(reason), "{reason} in {:?}", status.rejected_by_reason);
            }
            assert_eq!(sum(&status.totals), status.totals.records);
            // Garbage is not what a redelivery repeats: that is the shop's last batch.
            assert_eq!(handle.redeliver().await.unwrap().unwrap().counted, 0);
        })
        .await;
    }
}
