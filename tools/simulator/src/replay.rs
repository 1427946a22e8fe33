//! The main job on one machine: a file of events through the real handlers, at the events' own time.
//!
//! Lines become records of MSK batches, which go as JSON through the same decoding as in Lambda. The clock is the
//! highest event time so far; as soon as it has reached a window's end plus the settle time, the batch at hand ends and
//! the window is ranked. So a file of many days replays as it would have run live.

use std::{collections::HashMap, io::BufRead, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use aws_lambda_events::kafka::KafkaRecord;
use aws_sdk_dynamodb::Client;
use count_clicks::{CountClicks, CountSettings};
use hot_products::{
    Bucket, Classification, Clock, Event, ManualClock, Minute, Policy, Shard, Snapshot, UnixMillis, Window,
    click::MAX_AHEAD,
    store::{CountersTable, SnapshotsTable},
};
use rank_products::{RankProducts, RankSettings, Request};
use serde::Serialize;

use local_aws::{
    msk::{self, MAX_PAYLOAD_BYTES},
    template::TableNames,
};

const TOPIC: &str = "clicks";

/// How long an invocation may take; the clock that would run it out stands still.
const INVOCATION_TIME: Duration = Duration::from_mins(1);

/// How to replay.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many partitions the topic has.
    pub partitions: u32,
    /// The most records in a batch.
    pub batch_size: usize,
    /// How many products a snapshot holds.
    pub top: usize,
    /// How long after its end a window is ranked.
    pub settle: Duration,
    /// How far ahead of the clock an event may lie and still move it. One that lies further is taken for a mistake,
    /// and rejected as in the future, rather than for a quiet time in the shop.
    pub max_gap: Duration,
}

/// What a replay did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Lines.
    pub records: u64,
    /// Records added to the counters.
    pub counted: u64,
    /// Records whose action is not counted.
    pub ignored: u64,
    /// Records too old for any window to come.
    pub stale: u64,
    /// Records that are no event, or one that can't be true.
    pub rejected: u64,
    /// Records that the counters held already.
    pub already_counted: u64,
    /// Invocations of `count-clicks`.
    pub batches: u64,
    /// Writes to the counters.
    pub updates: u64,
    /// Write units consumed by counters and rejected events.
    pub write_units: u64,
}

/// Records that were not counted for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotCounted {
    /// `stale`, or why they were rejected.
    pub reason: &'static str,
    /// How many they are.
    pub records: u64,
    /// The number of the first one's line, from 1.
    pub first_line: u64,
}

/// What a replay tells while it runs.
pub trait Progress {
    /// `bytes` more have been read, up to the clock's time `now`.
    fn read(&mut self, bytes: u64, now: Option<UnixMillis>);
    /// A window was ranked.
    fn ranked(&mut self, snapshot: &Snapshot) -> Result<()>;
}

/// A replay under way.
pub struct Replay {
    options: Options,
    policy: Policy,
    clock: Arc<ManualClock>,
    count_clicks: CountClicks,
    rank_products: RankProducts,
    counters: CountersTable,
    snapshots: SnapshotsTable,
    /// The next offset of each partition.
    offsets: Vec<i64>,
    batch: Batch,
    /// The earliest and the latest event time so far.
    span: Option<(UnixMillis, UnixMillis)>,
    next_window: Option<Window>,
    summary: Summary,
    not_counted: Vec<NotCounted>,
}

#[derive(Default)]
struct Batch {
    records: HashMap<String, Vec<KafkaRecord>>,
    /// The numbers and the texts of the records' lines.
    lines: Vec<(u64, Vec<u8>)>,
    payload_bytes: usize,
}

impl Replay {
    /// A replay into the tables named `tables`, which are empty.
    pub fn new(client: &Client, tables: &TableNames, options: Options) -> Result<Self> {
        let settings = hot_products::settings::Settings::from([
            ("COUNTERS_TABLE", tables.counters.clone()),
            ("REJECTS_TABLE", tables.rejects.clone()),
            ("SNAPSHOTS_TABLE", tables.snapshots.clone()),
            ("TOP_N", options.top.to_string()),
        ]);
        let count_settings = CountSettings::read(&settings)?;
        let rank_settings = RankSettings::read(&settings)?;
        let clock = Arc::new(ManualClock::at(UnixMillis(i64::MIN)));
        Ok(Self {
            policy: count_settings.policy.clone(),
            counters: CountersTable::new(client.clone(), tables.counters.clone()),
            snapshots: SnapshotsTable::new(client.clone(), tables.snapshots.clone()),
            count_clicks: CountClicks::new(client.clone(), count_settings, clock.clone()),
            rank_products: RankProducts::new(client.clone(), rank_settings, clock.clone()),
            clock,
            offsets: vec![0; options.partitions as usize],
            options,
            batch: Batch::default(),
            span: None,
            next_window: None,
            summary: Summary::default(),
            not_counted: Vec::new(),
        })
    }

    /// Replays all lines of `input`, and ranks every window from the first five-minute boundary after the earliest
    /// event to the first after the latest.
    pub async fn run(&mut self, mut input: impl BufRead, progress: &mut impl Progress) -> Result<Summary> {
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            let bytes = input.read_until(b'\n', &mut line).with_context(|| format!("can't read line {number}"))?;
            if bytes == 0 {
                break;
            }
            if line.last() == Some(&b'\n') {
                line.pop();
            }
            self.line(number, &line, progress).await?;
            progress.read(bytes as u64, self.span.map(|(_, latest)| latest));
        }
        self.flush().await?;
        if let Some((_, latest)) = self.span {
            self.rank_until(Window::first_after(latest).next(), progress).await?;
        }
        Ok(self.summary.clone())
    }

    /// The records that were not counted, by reason.
    pub fn not_counted(&self) -> &[NotCounted] {
        &self.not_counted
    }

    /// The clicks of each product in each minute of the replayed time, in order of time, most clicks first.
    pub async fn minutes(&self, mut each: impl FnMut(Minute, &str, u64) -> Result<()>) -> Result<()> {
        let Some((earliest, latest)) = self.span else { return Ok(()) };
        let mut minute = Minute::of(earliest);
        while minute.start() <= latest {
            let mut clicks: HashMap<String, u64> = HashMap::new();
            for shard in Shard::all() {
                let add = |product: &str, count| *clicks.entry(product.to_owned()).or_default() += count;
                self.counters.read(Bucket { minute, shard }, add).await?;
            }
            let mut clicks: Vec<_> = clicks.into_iter().collect();
            clicks.sort_unstable_by(|(a, m), (b, n)| n.cmp(m).then_with(|| a.cmp(b)));
            for (product, count) in clicks {
                each(minute, &product, count)?;
            }
            minute = Minute::of(minute.end());
        }
        Ok(())
    }

    async fn line(&mut self, number: u64, line: &[u8], progress: &mut impl Progress) -> Result<()> {
        let event = Event::parse(line).ok();
        if let Some(time) = event.as_ref().map(|event| event.event_time) {
            self.advance(time, progress).await?;
        }
        let key = event.as_ref().map(|event| event.product_id.as_str().as_bytes());
        let partition = msk::partition(key.unwrap_or(line), self.options.partitions);
        let offset = &mut self.offsets[partition as usize];
        let record = msk::record(TOPIC, partition, *offset, self.clock.now(), key, Some(line));
        *offset += 1;
        self.batch.payload_bytes += msk::payload_bytes(key, line);
        self.batch.records.entry(format!("{TOPIC}-{partition}")).or_default().push(record);
        self.batch.lines.push((number, line.to_vec()));
        if self.batch.lines.len() >= self.options.batch_size || self.batch.payload_bytes >= MAX_PAYLOAD_BYTES {
            self.flush().await?;
        }
        Ok(())
    }

    /// Brings the clock to `time`, ranking what becomes due on the way.
    async fn advance(&mut self, time: UnixMillis, progress: &mut impl Progress) -> Result<()> {
        let Some((earliest, latest)) = self.span else {
            self.span = Some((time, time));
            self.clock.set(time);
            return Ok(());
        };
        if time > latest.plus(self.options.max_gap.max(MAX_AHEAD)) {
            return Ok(());
        }
        if time >= latest.minus(self.policy.max_event_age) {
            self.span = Some((earliest.min(time), latest.max(time)));
        }
        if time <= latest {
            return Ok(());
        }
        let due = Window::ended_by(time.minus(self.options.settle)).next();
        if self.next_window.unwrap_or(Window::first_after(earliest)) < due {
            self.flush().await?;
            self.clock.set(time);
            self.rank_until(due, progress).await?;
        }
        self.clock.set(time);
        Ok(())
    }

    /// Hands the batch to `count-clicks`.
    async fn flush(&mut self) -> Result<()> {
        if self.batch.lines.is_empty() {
            return Ok(());
        }
        let Batch { records, lines, .. } = std::mem::take(&mut self.batch);
        let event = serde_json::to_string(&msk::event(records))?;
        let deadline = self.clock.now().plus(INVOCATION_TIME);
        let (done, result) = self.count_clicks.handle(&event, deadline).await;
        result.context("count-clicks failed")?;
        self.summary.records += done.records;
        self.summary.counted += done.counted;
        self.summary.ignored += done.ignored;
        self.summary.stale += done.stale;
        self.summary.rejected += done.rejected;
        self.summary.already_counted += done.already_counted;
        self.summary.updates += done.updates;
        self.summary.write_units += done.write_units;
        self.summary.batches += 1;
        if done.stale + done.rejected > 0 {
            self.explain(&lines, done.stale + done.rejected)?;
        }
        Ok(())
    }

    /// Finds the lines of a batch that were not counted. The function notes offsets; a person looks for lines.
    fn explain(&mut self, lines: &[(u64, Vec<u8>)], expected: u64) -> Result<()> {
        let mut found = 0;
        for (number, line) in lines {
            let reason = match self.policy.classify(self.clock.now(), line) {
                Classification::Counted(_) | Classification::Ignored => continue,
                Classification::Stale(_) => "stale",
                Classification::Rejected(reason) => reason.name(),
            };
            found += 1;
            match self.not_counted.iter_mut().find(|known| known.reason == reason) {
                Some(known) => known.records += 1,
                None => self.not_counted.push(NotCounted { reason, records: 1, first_line: *number }),
            }
        }
        ensure!(
            found == expected,
            "count-clicks left out {expected} records of a batch, of which {found} are explained"
        );
        Ok(())
    }

    /// Ranks the windows from the next one up to, but without, `end`.
    async fn rank_until(&mut self, end: Window, progress: &mut impl Progress) -> Result<()> {
        let Some((earliest, _)) = self.span else { return Ok(()) };
        let mut window = self.next_window.unwrap_or(Window::first_after(earliest));
        while window < end {
            if self.clock.now() < window.end() {
                self.clock.set(window.end().plus(self.options.settle));
            }
            let request = Request { window_end: Some(window.end().to_string()), scheduled_time: None };
            self.rank_products.handle(&request).await.context("rank-products failed")?;
            let Some(snapshot) = self.snapshots.get(window).await? else {
                bail!("rank-products wrote no snapshot of {}", window.end());
            };
            progress.ranked(&snapshot)?;
            window = window.next();
            self.next_window = Some(window);
        }
        Ok(())
    }
}
