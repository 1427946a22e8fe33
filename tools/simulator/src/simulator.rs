//! The simulator: the parts that AWS plays around the functions, in the time of a manual clock.
//!
//! A driver appends records with [`Simulator::produce`] and moves the clock with [`Simulator::advance`]. On the way, the
//! event source delivers batches to `count-clicks`, and the schedule runs `rank-products` for each window that is due.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use aws_lambda_events::kafka::KafkaRecord;
use count_clicks::{CountClicks, CountSettings, CountSummary};
use hot_products::{
    Clock, ManualClock, Policy, Snapshot, UnixMillis, Window, settings::Settings, store::CountersTable,
};
use local_aws::embedded::Embedded;
use rank_products::{RankProducts, RankSettings, Request};
use serde::Serialize;

use crate::{remembered::RememberedBuckets, topic::Topic};

/// How long an invocation may take. The clock stands still during an invocation, so no time ever runs out.
const INVOCATION_TIME: Duration = Duration::from_mins(1);

/// How to simulate.
#[derive(Clone, Debug)]
pub struct SimulatorOptions {
    /// How many partitions the topic has.
    pub partitions: u32,
    /// How events are written, and which are counted.
    pub policy: Policy,
    /// The most records in a batch.
    pub batch_size: usize,
    /// How many products a snapshot holds; `None` for the function's default.
    pub top: Option<usize>,
    /// How long after its end a window is ranked.
    pub settle: Duration,
    /// What a run of `rank-products` ranks.
    pub rankings: Rankings,
    /// Whether rankings remember counters until they change, which is much faster. They then must not change but by the
    /// simulator.
    pub remember: bool,
}

/// What a run of `rank-products` ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rankings {
    /// The due window, and those that heal or become final, as in AWS.
    Scheduled,
    /// The due window alone.
    DueOnly,
}

/// The counts of all invocations of `count-clicks`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SimulatorTotals {
    /// Records delivered, redelivered ones each time.
    pub records: u64,
    /// Records added to the counters.
    pub counted: u64,
    /// Records whose action is not counted.
    pub ignored: u64,
    /// Records older than the maximum event age.
    pub stale: u64,
    /// Records that are not a valid event.
    pub rejected: u64,
    /// Records skipped because the counters already included them.
    pub already_counted: u64,
    /// Invocations of `count-clicks`.
    pub batches: u64,
    /// Writes to the counters, refused ones included.
    pub updates: u64,
    /// Write units consumed by counters and rejected events.
    pub write_units: u64,
}

impl SimulatorTotals {
    fn add(&mut self, summary: &CountSummary) {
        self.records += summary.records;
        self.counted += summary.counted;
        self.ignored += summary.ignored;
        self.stale += summary.stale;
        self.rejected += summary.rejected;
        self.already_counted += summary.already_counted;
        self.batches += 1;
        self.updates += summary.updates;
        self.write_units += summary.write_units;
    }
}

/// What happened while the clock advanced.
#[derive(Debug)]
pub(crate) enum Step {
    /// A delivery was due. `None` if no record waited.
    Delivered(Option<CountSummary>),
    /// A window was ranked.
    Ranked(Snapshot),
}

/// `rank-products`, which reads its counters from the table, or from memory.
#[derive(Debug)]
enum Ranker {
    Reading(RankProducts),
    Remembering(RankProducts<RememberedBuckets>),
}

/// The functions over empty tables, with the topic, the event source and the schedule around them.
#[derive(Debug)]
pub(crate) struct Simulator {
    pub(crate) clock: Arc<ManualClock>,
    /// The settings of `count-clicks`.
    pub(crate) settings: CountSettings,
    pub(crate) topic: Topic,
    /// The batch that [`redeliver`](Self::redeliver) delivers.
    pub(crate) last_batch: Option<String>,
    pub(crate) totals: SimulatorTotals,
    /// The rejected records of all invocations.
    pub(crate) rejected_by_reason: BTreeMap<&'static str, u64>,
    pub(crate) options: SimulatorOptions,
    count_clicks: CountClicks,
    rank_products: Ranker,
    batch_window: Option<Duration>,
    next_delivery: Option<UnixMillis>,
    next_window: Option<Window>,
    any_ranked: bool,
}

impl Simulator {
    /// A simulator over the empty tables of `dynamodb`, with the clock at `start`. Nothing is ranked until
    /// [`rank_from`](Self::rank_from).
    pub(crate) fn new(dynamodb: &Embedded, options: SimulatorOptions, start: UnixMillis) -> Result<Self> {
        let (client, tables) = (dynamodb.client(), dynamodb.tables());
        let read = Settings::from([
            ("COUNTERS_TABLE", tables.counters),
            ("REJECTS_TABLE", tables.rejects),
            ("SNAPSHOTS_TABLE", tables.snapshots),
            ("TOP_N", options.top.map(|top| top.to_string()).unwrap_or_default()),
        ]);
        let (mut settings, rank_settings) = (CountSettings::read(&read)?, RankSettings::read(&read)?);
        settings.policy.clone_from(&options.policy);
        let clock = Arc::new(ManualClock::at(start));
        let (writer, rank_products) = if options.remember {
            let buckets = RememberedBuckets::new(CountersTable::new(client.clone(), settings.counters_table.clone()));
            let writer = buckets.watch(&client);
            let ranker = RankProducts::reading_from(buckets, client, rank_settings, clock.clone());
            (writer, Ranker::Remembering(ranker))
        } else {
            (client.clone(), Ranker::Reading(RankProducts::new(client, rank_settings, clock.clone())))
        };
        Ok(Self {
            count_clicks: CountClicks::new(writer, settings.clone(), clock.clone()),
            rank_products,
            clock,
            settings,
            topic: Topic::new(options.partitions, options.batch_size),
            last_batch: None,
            totals: SimulatorTotals::default(),
            rejected_by_reason: BTreeMap::new(),
            options,
            batch_window: None,
            next_delivery: None,
            next_window: None,
            any_ranked: false,
        })
    }

    /// The time of the simulator's clock.
    pub(crate) fn now(&self) -> UnixMillis {
        self.clock.now()
    }

    /// Delivers waiting records every `window` from now on. Without a batch window, the event source works as if it were
    /// catching up: it delivers full batches, and what is left before each ranking.
    pub(crate) fn set_batch_window(&mut self, window: Duration) {
        self.batch_window = Some(window);
        self.next_delivery = Some(self.now().plus(window));
    }

    /// Makes `window` the first window that is ranked. Has no effect once a window was ranked.
    pub(crate) fn rank_from(&mut self, window: Window) {
        if !self.any_ranked {
            self.next_window = Some(window);
        }
    }

    /// Appends a record to the topic, and returns the record.
    pub(crate) fn produce(&mut self, key: Option<&[u8]>, value: &[u8]) -> &mut KafkaRecord {
        self.topic.append(self.clock.now(), key, value)
    }

    /// Moves the clock to the next delivery or ranking that is due by `to`, and runs it. If none is due any more, moves
    /// the clock to `to` and returns `None`. The clock never goes back.
    pub(crate) async fn advance(&mut self, to: UnixMillis) -> Result<Option<Step>> {
        let now = self.now();
        let ranking = self.next_window.map(|window| (window, window.end().plus(self.options.settle)));
        let ranking = ranking.filter(|(_, due)| *due <= to);
        let catch_up = self.batch_window.is_none() && ranking.is_some() && !self.topic.is_empty();
        let delivery = if catch_up || self.topic.has_full_batch() { Some(now) } else { self.next_delivery };
        match (delivery.filter(|due| *due <= to), ranking) {
            (Some(due), ranking) if ranking.is_none_or(|(_, ranking)| due <= ranking) => {
                self.clock.set(due.max(now));
                self.deliver().await.map(|summary| Some(Step::Delivered(summary)))
            }
            (_, Some((window, due))) => {
                self.clock.set(due.max(now));
                self.rank(window).await.map(|snapshot| Some(Step::Ranked(snapshot)))
            }
            (_, None) => {
                self.clock.set(to.max(now));
                Ok(None)
            }
        }
    }

    /// Delivers the waiting records as one batch. `None` if no record waits.
    pub(crate) async fn deliver(&mut self) -> Result<Option<CountSummary>> {
        self.next_delivery = self.batch_window.map(|window| self.now().plus(window));
        let Some(batch) = self.topic.take_batch()? else { return Ok(None) };
        self.last_batch = Some(batch);
        self.redeliver().await
    }

    /// Delivers the last batch again, as the event source does after an error, a timeout or a rebalance. `None` if there
    /// was no batch yet.
    pub(crate) async fn redeliver(&mut self) -> Result<Option<CountSummary>> {
        let Some(batch) = &self.last_batch else { return Ok(None) };
        let (summary, result) = self.count_clicks.handle(batch, self.now().plus(INVOCATION_TIME)).await;
        result.context("count-clicks failed")?;
        for (reason, records) in &summary.rejected_by_reason {
            *self.rejected_by_reason.entry(reason.name()).or_default() += records;
        }
        self.totals.add(&summary);
        Ok(Some(summary))
    }

    /// Invokes `rank-products` for `window`, as the schedule does, and returns the window's snapshot.
    async fn rank(&mut self, window: Window) -> Result<Snapshot> {
        // The window's end rather than the time of the run, because the settle time may exceed five minutes.
        let end = Some(window.end().to_string());
        let request = match self.options.rankings {
            Rankings::Scheduled => Request { scheduled_time: end, window_end: None },
            Rankings::DueOnly => Request { scheduled_time: None, window_end: end },
        };
        let deadline = self.now().plus(INVOCATION_TIME);
        let ranked = match &self.rank_products {
            Ranker::Reading(function) => function.handle(&request, deadline).await,
            Ranker::Remembering(function) => function.handle(&request, deadline).await,
        };
        let ranked = ranked.context("rank-products failed")?;
        self.next_window = Some(window.next());
        self.any_ranked = true;
        Ok(ranked.snapshot)
    }
}
