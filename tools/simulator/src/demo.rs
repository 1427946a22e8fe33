//! The demo: a shop's clicks through the real functions, in time that runs faster than ours.
//!
//! The shop makes events whose products' popularity drifts; the pipeline plays the topic, the event source and
//! the schedule; [`Demo::run`] moves the demo's clock along with ours and answers what [`Handle`] asks.

mod expiry;
mod pipeline;
mod routes;
mod shop;

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use aws_sdk_dynamodb::Client;
use count_clicks::CountSummary;
use hot_products::{Clock, ManualClock, Minute, UnixMillis};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{MissedTickBehavior, interval},
};

use self::{pipeline::Pipeline, shop::Shop};
pub use self::{
    pipeline::{SourceStatus, Status, Totals},
    routes::{PIPELINE, routes},
};
use local_aws::template::TableNames;

/// How often the demo's clock moves.
const TICK: Duration = Duration::from_millis(100);
/// The most that passes of our time from one tick to the next: where the machine slept or can't keep up, the demo's
/// time runs slower, and nothing piles up.
const MAX_TICK: Duration = Duration::from_millis(500);

/// What kind of shop, and how fast its time runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Seconds of the demo a second of ours.
    pub speed: f64,
    /// How many products the shop has.
    pub products: u32,
    /// Clicks a second of the demo, on average.
    pub clicks_per_second: f64,
    /// Which stream of the kind.
    pub seed: u64,
    /// How long the shop has been open when the demo begins.
    pub past: Duration,
}

/// What a demo can be asked for.
#[derive(Debug)]
enum Command {
    Redeliver(oneshot::Sender<Option<CountSummary>>),
    Garbage(oneshot::Sender<CountSummary>),
    Pause(bool, oneshot::Sender<()>),
}

/// A demo that is ready to run.
#[derive(Debug)]
pub struct Demo {
    pipeline: Pipeline,
    options: Options,
    dynamodb: String,
    commands: mpsc::Receiver<Command>,
    status: watch::Sender<Arc<Status>>,
    paused: bool,
}

/// Watches and steers a demo that runs.
#[derive(Clone, Debug)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
    status: watch::Receiver<Arc<Status>>,
    clock: Arc<ManualClock>,
}

impl Demo {
    /// A demo over the empty tables `tables` of the DynamoDB at `endpoint`, whose clients are as `client`. The shop has
    /// been open for [`Options::past`] at `now`; `progress` is told of every minute of it.
    pub async fn prepare(
        client: &Client,
        endpoint: String,
        tables: &TableNames,
        options: Options,
        now: UnixMillis,
        mut progress: impl FnMut(Minute),
    ) -> Result<(Self, Handle)> {
        let shop = Shop::new(options.products, options.clicks_per_second, options.seed);
        let mut minute = Minute::of(now.minus(options.past));
        let mut pipeline = Pipeline::new(client, tables, shop, minute.start())?;
        while minute.end() <= now {
            pipeline.advance(minute.end()).await?;
            progress(minute);
            minute = Minute::of(minute.end());
        }
        pipeline.go_live().await?;
        let (commands, receiver) = mpsc::channel(8);
        let (status, watched) = watch::channel(Arc::new(pipeline.status(endpoint.clone(), options.speed, false)));
        let handle = Handle { commands, status: watched, clock: pipeline.clock() };
        Ok((Self { pipeline, options, dynamodb: endpoint, commands: receiver, status, paused: false }, handle))
    }

    /// Runs until every [`Handle`] is dropped. `real` is our clock.
    ///
    /// # Errors
    /// When a function or the DynamoDB failed.
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
                        let to = self.pipeline.clock().now().plus(passed.mul_f64(self.options.speed));
                        self.pipeline.advance(to).await?;
                    }
                }
                command = self.commands.recv() => match command {
                    Some(command) => self.obey(command).await?,
                    None => return Ok(()),
                },
            }
            self.publish();
        }
    }

    async fn obey(&mut self, command: Command) -> Result<()> {
        // Who asked may have gone.
        match command {
            Command::Redeliver(answer) => {
                let summary = self.pipeline.redeliver().await?;
                self.publish();
                let _gone = answer.send(summary);
            }
            Command::Garbage(answer) => {
                let summary = self.pipeline.garbage().await?;
                self.publish();
                let _gone = answer.send(summary);
            }
            Command::Pause(paused, answer) => {
                self.paused = paused;
                // What waits, the event source hands out when its window is over, whether more comes or not.
                self.pipeline.deliver_waiting().await?;
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
    pub fn status(&self) -> Arc<Status> {
        self.status.borrow().clone()
    }

    /// Has the last batch delivered again, and returns what the function said; `None` where there is no batch yet.
    ///
    /// # Errors
    /// When the demo has ended.
    pub async fn redeliver(&self) -> Result<Option<CountSummary>> {
        self.ask(Command::Redeliver).await
    }

    /// Has a batch of broken, old and impossible records delivered, and returns what the function said.
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
    pub async fn pause(&self, paused: bool) -> Result<()> {
        self.ask(|answer| Command::Pause(paused, answer)).await
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
    use local_aws::{embedded::Embedded, template::DEFAULT_STACK};

    /// Has `look` look at a demo whose time stands still, with a past of a hundred minutes.
    async fn paused(look: impl AsyncFnOnce(&Embedded, &Handle)) {
        let dynamodb = Embedded::start(0, None).await.unwrap();
        let past = Duration::from_mins(100);
        let options = Options { speed: 60.0, products: 200, clicks_per_second: 2.0, seed: 1, past };
        let now = UnixMillis::parse_rfc3339("2022-12-27T16:50:30Z").unwrap();
        let tables = TableNames::of(DEFAULT_STACK);
        let (demo, handle) =
            Demo::prepare(&dynamodb.client(), dynamodb.endpoint(), &tables, options, now, drop).await.unwrap();
        let looking = async {
            handle.pause(true).await.unwrap();
            look(&dynamodb, &handle).await;
            drop(handle);
        };
        let (ran, ()) = tokio::join!(Box::pin(demo.run(&SystemClock)), looking);
        ran.unwrap();
    }

    fn sum(totals: &Totals) -> u64 {
        totals.counted + totals.ignored + totals.stale + totals.rejected + totals.already_counted
    }

    #[tokio::test]
    async fn the_past_is_there_at_the_start_and_ranks_move() {
        paused(async |dynamodb, handle| {
            let snapshots = SnapshotsTable::new(dynamodb.client(), TableNames::of(DEFAULT_STACK).snapshots);
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
    async fn a_batch_that_comes_again_is_skipped() {
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
    async fn garbage_is_rejected_each_kind_with_its_reason() {
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
            // It is behind us: the shop's batch can come again.
            assert_eq!(handle.redeliver().await.unwrap().unwrap().counted, 0);
        })
        .await;
    }
}
