//! A file of events through the functions, at the events' own time.
//!
//! Each line becomes a record. The clock is the highest event time so far; when it passes a window's end plus the settle
//! time, the batch ends and the window is ranked. So a file of many days replays as it would have run live.

use std::{collections::HashMap, io::BufRead, time::Duration};

use anyhow::{Context, Result};
use count_clicks::CountSummary;
use hot_products::{
    Bucket, Event, Minute, Snapshot, TopicPartition, UnixMillis, Window, click::MAX_AHEAD, store::CountersTable,
};
use local_aws::embedded::Embedded;

use crate::simulator::{Simulator, SimulatorOptions, SimulatorTotals, Step};

/// Records that were not counted for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotCounted {
    /// `stale`, or the reason of the rejection.
    pub reason: &'static str,
    /// How many records.
    pub records: u64,
    /// The line number of the first of them, from 1.
    pub first_line: u64,
}

/// Watches a replay while it runs.
pub trait ReplayProgress {
    /// `bytes` more have been read, and `now` is the time of the clock.
    fn read(&mut self, bytes: u64, now: Option<UnixMillis>);
    /// A window was ranked.
    fn ranked(&mut self, snapshot: &Snapshot) -> Result<()>;
}

/// A replay.
#[derive(Debug)]
pub struct Replay {
    /// How far an event may lie ahead of the clock and still move it.
    max_gap: Duration,
    simulator: Simulator,
    counters: CountersTable,
    /// The numbers of the lines that wait for delivery, by partition and offset.
    lines: HashMap<(i64, i64), u64>,
    /// The earliest and the latest event time so far.
    span: Option<(UnixMillis, UnixMillis)>,
    not_counted: Vec<NotCounted>,
}

impl Replay {
    /// A replay into the empty tables of `dynamodb`. An event that is ahead of the clock by more than `max_gap` counts as
    /// a mistake rather than as a quiet time in the shop: it is rejected, because its time is in the future.
    pub fn new(dynamodb: &Embedded, options: SimulatorOptions, max_gap: Duration) -> Result<Self> {
        Ok(Self {
            max_gap: max_gap.max(MAX_AHEAD),
            simulator: Simulator::new(dynamodb, options, UnixMillis(i64::MIN))?,
            counters: CountersTable::new(dynamodb.client(), dynamodb.tables().counters),
            lines: HashMap::new(),
            span: None,
            not_counted: Vec::new(),
        })
    }

    /// Replays all lines of `input`. Ranks every window from the first five-minute boundary after the earliest event to
    /// the first after the latest.
    pub async fn run(&mut self, input: impl BufRead, progress: &mut impl ReplayProgress) -> Result<SimulatorTotals> {
        for (number, line) in (1..).zip(input.split(b'\n')) {
            let line = line.with_context(|| format!("can't read line {number}"))?;
            let bytes = line.len() as u64 + 1;
            self.replay_line(number, line, progress).await?;
            progress.read(bytes, self.span.map(|(_, latest)| latest));
        }
        let summary = self.simulator.deliver().await?;
        self.delivered(summary.as_ref());
        if let Some((_, latest)) = self.span {
            self.advance(Window::first_after(latest).end().plus(self.simulator.options.settle), progress).await?;
        }
        Ok(self.simulator.totals.clone())
    }

    /// The records that were not counted, by reason, in the order of their first lines.
    pub fn not_counted(&self) -> Vec<NotCounted> {
        let mut all = self.not_counted.clone();
        all.sort_by_key(|kind| kind.first_line);
        all
    }

    /// Calls `each` with the clicks of each product in each minute of the replayed time: minutes in order, in a minute
    /// the most clicked products first.
    pub async fn minutes(&self, mut each: impl FnMut(Minute, &str, u64) -> Result<()>) -> Result<()> {
        let Some((earliest, latest)) = self.span else { return Ok(()) };
        let mut minute = Minute::of(earliest);
        while minute.start() <= latest {
            let mut clicks: HashMap<String, u64> = HashMap::new();
            for bucket in Bucket::of_minute(minute) {
                let add =
                    |_: &TopicPartition, product: &str, count| *clicks.entry(product.to_owned()).or_default() += count;
                self.counters.read(bucket, add).await?;
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

    async fn replay_line(&mut self, number: u64, line: Vec<u8>, progress: &mut impl ReplayProgress) -> Result<()> {
        let event = Event::parse(&line, &self.simulator.settings.policy.shape).ok();
        let now = event.as_ref().and_then(|event| self.clock_at(event.event_time)).unwrap_or(self.simulator.now());
        self.advance(now, progress).await?;
        let key = event.as_ref().map(|event| event.product_id.as_str().as_bytes());
        let record = self.simulator.produce(key, &line);
        self.lines.insert((record.partition, record.offset), number);
        Ok(())
    }

    /// The time to which an event moves the clock. `None` if it does not: it is late, or too far ahead.
    fn clock_at(&mut self, time: UnixMillis) -> Option<UnixMillis> {
        let (earliest, latest) = self.span.unwrap_or((time, time));
        if time > latest.plus(self.max_gap) {
            return None;
        }
        if time >= latest.minus(self.simulator.settings.policy.max_event_age) {
            let earliest = earliest.min(time);
            self.span = Some((earliest, latest.max(time)));
            self.simulator.rank_from(Window::first_after(earliest));
        }
        (time >= latest).then_some(time)
    }

    /// Brings the clock to `time`, with what is due on the way.
    async fn advance(&mut self, time: UnixMillis, progress: &mut impl ReplayProgress) -> Result<()> {
        while let Some(step) = self.simulator.advance(time).await? {
            match step {
                Step::Delivered(summary) => self.delivered(summary.as_ref()),
                Step::Ranked(snapshot) => progress.ranked(&snapshot)?,
            }
        }
        Ok(())
    }

    /// Finds the lines of the records that the delivered batch has left out: the function reports offsets, but people
    /// look for lines.
    fn delivered(&mut self, summary: Option<&CountSummary>) {
        for (source, left_out) in summary.into_iter().flat_map(|summary| &summary.left_out) {
            let partition = source.as_str().rsplit_once('-').and_then(|(_, partition)| partition.parse().ok());
            for record in left_out {
                let line = partition.and_then(|partition| self.lines.get(&(partition, record.offset)));
                let first_line = line.copied().unwrap_or(u64::MAX);
                let reason = record.cause.name();
                match self.not_counted.iter_mut().find(|known| known.reason == reason) {
                    Some(known) => {
                        known.records += 1;
                        known.first_line = known.first_line.min(first_line);
                    }
                    None => self.not_counted.push(NotCounted { reason, records: 1, first_line }),
                }
            }
        }
        self.lines.clear();
    }
}
