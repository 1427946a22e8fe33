//! `hot audit`: compares a topic's records with the counters and the snapshots that were made of them.
//!
//! The order of the reads makes the comparison exact while counting goes on. First the offsets before which everything was
//! delivered, then the tables, then the records until the topic's end at that time. So a record before the first offset must
//! be in the tables, a later one may be, and the tables can't have one that was not read.
//!
//! This module reads. The comparison has no I/O: [`tally`] compares counters, [`windows`] snapshots, [`report`] is the result.

pub(crate) mod report;
pub(crate) mod tally;
pub(crate) mod windows;

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, HashMap},
    num::NonZeroU32,
    ops::Range,
    time::Duration,
};

use anyhow::{Context as _, Result};
use futures_util::{StreamExt, TryStreamExt, stream};
use hot_products::{
    Bucket, Minute, Snapshot, TopicPartition, UnixMillis, Window,
    click::MAX_AHEAD,
    defaults::READ_CONCURRENCY,
    healing::Lifetimes,
    store::{CountersTable, StoreError},
};
use indicatif::ProgressBar;
use kafka::{
    Cluster,
    records::{OffsetRange, TopicReader},
};

use self::{
    report::{AuditReport, Listed, MAX_LISTED, Unchecked},
    tally::{CounterKey, Differing, Rules, Tally},
    windows::{SnapshotContext, SnapshotDifference},
};
use crate::{
    aws::{StackTables, advise},
    progress,
};

/// Counters that expire this soon are not compared: DynamoDB may delete them during the audit.
const EXPIRY_MARGIN: Duration = Duration::from_mins(10);

/// The most counters that are read again. Where more have too few clicks, it is not for eventually consistent reads.
const MAX_COUNTED_AGAIN: usize = 100_000;

/// After how many records the progress is drawn.
const RECORDS_PER_STEP: u64 = 4096;

/// What to audit.
#[derive(Clone, Debug)]
pub(crate) struct AuditOptions {
    /// The cluster with the topic.
    pub(crate) cluster: Cluster,
    /// The topic.
    pub(crate) topic: String,
    /// The consumer group whose commits show what was delivered.
    pub(crate) group: Option<String>,
    /// Whole minutes.
    pub(crate) range: Range<UnixMillis>,
    /// `SOURCE_EPOCH` of count-clicks.
    pub(crate) epoch: Option<NonZeroU32>,
    /// `MAX_EVENT_AGE` and `RETENTION`.
    pub(crate) lifetimes: Lifetimes,
    /// Which records are clicks.
    pub(crate) rules: Rules,
    /// How long before the range records of its minutes may have been written.
    pub(crate) margin: Duration,
    /// `TOP_N` of rank-products.
    pub(crate) top_n: usize,
}

/// A snapshot as it is stored, and how many clicks it may miss because they were counted later.
struct StoredSnapshot {
    window: Window,
    snapshot: Option<Snapshot>,
    late: u64,
}

/// Reads the topic and the tables, and compares them.
pub(crate) async fn audit(tables: &StackTables, options: &AuditOptions) -> Result<AuditReport> {
    let AuditOptions { rules, range, .. } = options;
    let mut unchecked = Unchecked::default();
    let topic = TopicReader::open(&options.cluster, &options.topic, options.group.as_deref())?;
    let settled = settled(&topic, options, &mut unchecked)?;

    let counters_from = rules.now.minus(options.lifetimes.retention()).plus(EXPIRY_MARGIN);
    let (expired, minutes): (Vec<Minute>, Vec<Minute>) =
        minutes(range).partition(|minute| minute.end() <= counters_from);
    unchecked.counters_expired(&expired);
    let mut tally = Tally::new(range.clone(), &options.topic, options.epoch, &settled);
    let mut read_units = read_counters(&tables.counters, &minutes, |minute, source, product, clicks| {
        tally.add_counter(minute, source, product, clicks)
    })
    .await?;
    let snapshots = read_snapshots(tables, range).await.map_err(advise)?;

    let ranges = topic.ranges_from(range.start.minus(options.margin))?;
    read_records(&topic, &ranges, |record| tally.add_record(rules, record))?;
    for OffsetRange { partition, oldest, start, .. } in &ranges {
        if *oldest > 0 && start <= oldest {
            unchecked.records_deleted(tally.records_deleted(*partition, MAX_AHEAD), *oldest, range);
        }
    }
    for range in &ranges {
        unchecked.offsets_without_record(tally.records_of(range.partition), range.offsets());
    }

    let mut differences = tally.differences(counters_from);
    read_units += count_again(&tables.counters, &tally, &mut differences).await?;
    unchecked.other_sources(&tally.others);
    let mut report = AuditReport::new(options, &tally, counters_from);
    report.snapshot_differences = compare_snapshots(&tally, snapshots, options, (&mut report, &mut unchecked));
    let first = differences.iter().take(MAX_LISTED).map(|one| tally.describe(*one)).collect();
    report.counter_differences = Listed { count: differences.len(), first };
    report.read_units = read_units;
    unchecked.uncertain_clicks(report.uncertain_clicks);
    report.unchecked = unchecked.finish();
    Ok(report)
}

/// By partition, the offset before which all records were delivered: what the group has committed. Without a group, what
/// was written longer ago than counting may be behind.
fn settled(topic: &TopicReader, options: &AuditOptions, unchecked: &mut Unchecked) -> Result<BTreeMap<i32, i64>> {
    let Some(group) = &options.group else {
        return topic.offsets_at(options.rules.now.minus(options.rules.max_lag));
    };
    let committed = topic.committed()?;
    let none: Vec<i32> =
        topic.partitions().iter().copied().filter(|partition| !committed.contains_key(partition)).collect();
    unchecked.nothing_committed(group, &options.topic, &none);
    let settled = topic.partitions().iter().map(|one| (*one, committed.get(one).copied().unwrap_or(0)));
    Ok(settled.collect())
}

/// The minutes in `range`.
fn minutes(range: &Range<UnixMillis>) -> impl Iterator<Item = Minute> {
    let end = range.end;
    std::iter::successors(Some(Minute::of(range.start)), |minute| Some(Minute::of(minute.end())))
        .take_while(move |minute| minute.end() <= end)
}

/// The windows that are within `range`.
fn windows_within(range: &Range<UnixMillis>) -> impl Iterator<Item = Window> {
    let mut first = Window::ended_by(range.start.plus(Duration::from_mins(Window::MINUTES as u64)));
    if first.start() < range.start {
        first = first.next();
    }
    first.until(Window::ended_by(range.end))
}

/// Reads the counters of `minutes`. Returns the read units.
async fn read_counters(
    table: &CountersTable,
    minutes: &[Minute],
    each: impl FnMut(Minute, &TopicPartition, &str, u64) -> Result<()>,
) -> Result<f64> {
    table.check_layout().await?;
    let bar = progress::bar(Some(minutes.len() as u64), "reading counters {wide_bar} minute {pos} of {len}")?;
    let (each, failed) = (RefCell::new(each), RefCell::new(None));
    let mut units = 0.0;
    let read_minute = async |minute: Minute| {
        let mut units = 0.0;
        for bucket in Bucket::of_minute(minute) {
            let add = |source: &TopicPartition, product: &str, clicks| {
                if failed.borrow().is_none() {
                    *failed.borrow_mut() = (each.borrow_mut())(minute, source, product, clicks).err();
                }
            };
            units += table.read(bucket, add).await?.read_units;
        }
        Ok::<_, StoreError>(units)
    };
    let mut reads = stream::iter(minutes.iter().copied()).map(read_minute).buffer_unordered(READ_CONCURRENCY);
    while let Some(read) = reads.try_next().await.map_err(advise)? {
        units += read;
        bar.inc(1);
        if let Some(error) = failed.take() {
            return Err(error);
        }
    }
    bar.finish_and_clear();
    Ok(units)
}

/// Reads counters with too few clicks again: reads are eventually consistent, so the newest may have been missing. Keeps the
/// differences that remain. Returns the read units.
async fn count_again(table: &CountersTable, tally: &Tally, differences: &mut Vec<Differing>) -> Result<f64> {
    let too_few = differences.iter().filter(|one| one.clicks.are_too_few());
    let mut counted: HashMap<(Minute, CounterKey), u64> =
        too_few.take(MAX_COUNTED_AGAIN).map(|one| ((one.minute, one.key), 0)).collect();
    let minutes: Vec<Minute> = counted.keys().map(|(minute, _)| *minute).collect::<BTreeSet<_>>().into_iter().collect();
    let units = read_counters(table, &minutes, |minute, source, product, clicks| {
        let key = tally.key(source, product).map(|key| (minute, key));
        if let Some(counted) = key.and_then(|key| counted.get_mut(&key)) {
            *counted += clicks;
        }
        Ok(())
    })
    .await?;
    differences.retain_mut(|one| {
        let again = counted.get(&(one.minute, one.key)).copied().unwrap_or_default();
        one.clicks.counted = one.clicks.counted.max(again);
        one.clicks.differ()
    });
    Ok(units)
}

/// Reads the snapshots of the windows in `range`. In this order, so that a ranking in the meantime can't make a snapshot
/// look worse than it is: the records of the rankings, the snapshots, the notes of late clicks.
async fn read_snapshots(tables: &StackTables, range: &Range<UnixMillis>) -> Result<Vec<StoredSnapshot>, StoreError> {
    let windows: Vec<Window> = windows_within(range).collect();
    let (Some(first), Some(last)) = (windows.first(), windows.last()) else { return Ok(Vec::new()) };
    let rankings = tables.snapshots.rankings(*first, *last).await?;
    let read = windows.iter().map(|window| tables.snapshots.get(*window));
    let snapshots: Vec<_> = stream::iter(read).buffered(READ_CONCURRENCY).try_collect().await?;
    let noted = tables.counters.late_clicks(*first, *last).await?;
    let stored = windows.into_iter().zip(snapshots).map(|(window, snapshot)| {
        let known = rankings.get(&window).map_or(0, |record| record.noted);
        StoredSnapshot { window, snapshot, late: noted.within(window).saturating_sub(known) }
    });
    Ok(stored.collect())
}

/// Reads the records of `ranges`, with a progress bar.
fn read_records(
    topic: &TopicReader,
    ranges: &[OffsetRange],
    mut each: impl FnMut(kafka::records::TopicRecord<'_>) -> Result<()>,
) -> Result<()> {
    let all = ranges.iter().map(OffsetRange::offsets).sum();
    let bar: ProgressBar = progress::bar(Some(all), "reading records {wide_bar} {pos} of {len}, {eta} left")?;
    let mut read: u64 = 0;
    topic
        .read(ranges, |record| {
            read += 1;
            if read.is_multiple_of(RECORDS_PER_STEP) {
                bar.set_position(read);
            }
            each(record)
        })
        .context("the audit has read only a part of the topic")?;
    bar.finish_and_clear();
    Ok(())
}

/// Compares the snapshots of which all minutes were read, and notes the others.
fn compare_snapshots(
    tally: &Tally,
    snapshots: Vec<StoredSnapshot>,
    options: &AuditOptions,
    (report, unchecked): (&mut AuditReport, &mut Unchecked),
) -> Listed<SnapshotDifference> {
    let mut differences = Listed::default();
    for StoredSnapshot { window, snapshot, late } in snapshots {
        let Some(snapshot) = snapshot else {
            unchecked.not_ranked(window);
            continue;
        };
        if !tally.is_complete(window.start()) {
            unchecked.window_without_records(window);
            continue;
        }
        let is_shared = snapshot.counted_through.keys().any(|source| !tally.has_source(source));
        if is_shared || tally.others.values().any(|other| other.is_within(window)) {
            unchecked.shared_window(window);
            continue;
        }
        let late = if snapshot.is_final { 0 } else { late };
        let compared = windows::compare(tally, &snapshot, SnapshotContext { late, top_n: options.top_n });
        report.windows += 1;
        report.final_windows += u64::from(snapshot.is_final);
        if !snapshot.is_final {
            unchecked.not_final(window);
        }
        if compared.differences.count == 0 {
            unchecked.late_clicks(window, compared.missing);
        }
        differences.append(compared.differences);
    }
    differences
}
