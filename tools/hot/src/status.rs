//! The state of a stack, as far as its tables show it: whether snapshots are fresh, how far each topic partition is counted,
//! and what was rejected.

use std::{collections::BTreeMap, ops::ControlFlow, time::Duration};

use futures_util::{StreamExt, TryStreamExt, stream};
use hot_products::{
    Bucket, Minute, Snapshot, TopicPartition, UnixMillis, Window, schedule,
    snapshot::CountedPartition,
    store::{CountersTable, RejectsTable, SnapshotsTable, StoreError},
};
use serde::Serialize;

use crate::{aws::StackTables, rejected::Tally};

/// What commands say if there is no snapshot.
pub(crate) const NO_SNAPSHOT: &str = "there is no snapshot yet: rank-products writes one every five minutes";

/// Number of windows in the status.
const WINDOWS: usize = 6;

/// Number of buckets read at the same time.
const READ_CONCURRENCY: usize = 32;

/// How far back rejected events are counted.
const REJECTED_SINCE: Duration = Duration::from_hours(1);

/// The largest number of pages of rejected events to read. A page has up to 1 MB: at half a read unit for 4 KB, 1,000 read
/// units for all.
const MAX_REJECTED_PAGES: u64 = 8;

/// The state of a stack at a time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct StackStatus {
    /// The time.
    pub(crate) at: UnixMillis,
    /// Whether there is a snapshot, and the next one is not overdue.
    pub(crate) fresh: bool,
    /// The newest snapshot, if there is one.
    pub(crate) newest: Option<NewestSnapshot>,
    /// How far each topic partition has counted by the end of the newest snapshot's window, by name: those with clicks in
    /// that window or in the one an hour before.
    pub(crate) counted_through: Vec<CountedPartition>,
    /// The last windows up to the newest snapshot's, newest first.
    pub(crate) windows: Vec<WindowState>,
    /// The topic partitions with counted clicks in the minutes read, by name.
    pub(crate) sources: Vec<SourceState>,
    /// The number of minutes read.
    pub(crate) minutes: u64,
    /// Read units consumed for that.
    pub(crate) counters_read_units: f64,
    /// The rejected events of the last hour.
    pub(crate) rejected: RecentRejects,
}

impl StackStatus {
    /// Reads the tables at the time `now`, and the counters of the last `minutes`.
    ///
    /// # Errors
    /// When snapshots or counters can't be read. Unreadable rejected events are part of the status.
    pub(crate) async fn read(tables: &StackTables, now: UnixMillis, minutes: u64) -> Result<Self, StoreError> {
        let (newest, counted_through, windows) = snapshots(&tables.snapshots, now).await?;
        let (sources, counters_read_units) = sources(&tables.counters, now, minutes).await?;
        let rejected = RecentRejects::read(&tables.rejects, now)
            .await
            .unwrap_or_else(|error| RecentRejects::Unreadable { error: error.to_string() });
        let fresh = newest.is_some_and(|newest| !newest.overdue);
        Ok(Self { at: now, fresh, newest, counted_through, windows, sources, minutes, counters_read_units, rejected })
    }
}

/// The newest snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct NewestSnapshot {
    /// The end of its window.
    pub(crate) window_end: UnixMillis,
    /// When it was ranked.
    pub(crate) generated_at: UnixMillis,
    /// Whether no more clicks can join it.
    #[serde(rename = "final")]
    pub(crate) is_final: bool,
    /// When the next snapshot can be read.
    pub(crate) next_due: UnixMillis,
    /// Whether the next snapshot is overdue.
    pub(crate) overdue: bool,
}

/// A window, with the totals of its snapshot if it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct WindowState {
    /// The end of the window.
    pub(crate) window_end: UnixMillis,
    /// The totals of its snapshot.
    #[serde(flatten)]
    pub(crate) totals: Option<SnapshotTotals>,
}

/// The totals of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct SnapshotTotals {
    /// When the snapshot was ranked.
    pub(crate) generated_at: UnixMillis,
    /// Whether no more clicks can join it.
    #[serde(rename = "final")]
    pub(crate) is_final: bool,
    /// Clicks in the window.
    pub(crate) total_clicks: u64,
    /// Products with a click in the window.
    pub(crate) distinct_products: u64,
}

/// How far a topic partition is counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct SourceState {
    /// The topic partition.
    pub(crate) source: String,
    /// The last offset that is known to be counted. Ignored and rejected records may follow it.
    pub(crate) last_offset: i64,
    /// The start of the newest minute with counted clicks.
    pub(crate) newest_minute: UnixMillis,
    /// Seconds since the end of that minute; 0 if it has not ended.
    pub(crate) behind_seconds: u64,
}

/// The rejected events of the last hour.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub(crate) enum RecentRejects {
    /// They were read.
    Read {
        /// Number of records.
        records: u64,
        /// Number of records for each reason.
        by_reason: BTreeMap<String, u64>,
        /// Whether all of them were read. If not, there may be more than `records`.
        complete: bool,
        /// Read units consumed.
        read_units: f64,
    },
    /// They can't be read.
    Unreadable {
        /// Why.
        error: String,
    },
}

impl RecentRejects {
    async fn read(table: &RejectsTable, now: UnixMillis) -> Result<Self, StoreError> {
        let since = now.minus(REJECTED_SINCE);
        let mut tally = Tally::new(since);
        let mut pages = 0;
        let complete = table
            .since(since, |page| {
                tally.add(&page);
                pages += 1;
                if pages < MAX_REJECTED_PAGES { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })
            .await?;
        let summary = tally.summary();
        Ok(Self::Read {
            records: summary.records,
            by_reason: summary.by_reason(),
            complete: complete && summary.unreadable == 0,
            read_units: summary.read_units,
        })
    }
}

/// The times of the snapshot `newest`, and whether the next one is overdue at the time `now`.
pub(crate) fn freshness(newest: &Snapshot, now: UnixMillis) -> NewestSnapshot {
    NewestSnapshot {
        window_end: newest.window.end(),
        generated_at: newest.generated_at,
        is_final: newest.is_final,
        next_due: schedule::due_at(newest.window.next()),
        overdue: schedule::is_overdue(newest.window, now),
    }
}

async fn snapshots(
    table: &SnapshotsTable,
    now: UnixMillis,
) -> Result<(Option<NewestSnapshot>, Vec<CountedPartition>, Vec<WindowState>), StoreError> {
    let Some(newest) = table.newest().await? else { return Ok((None, Vec::new(), Vec::new())) };
    let first = (1..WINDOWS).fold(newest.window, |window, _| window.previous());
    let found = table.between(first..=newest.window, WINDOWS, 0).await?.snapshots;
    let before = table.get(Window::ended_by(newest.window.start())).await?;
    let (fresh, windows) = (freshness(&newest, now), windows(newest.window, &found));
    Ok((Some(fresh), counted_through(newest, before), windows))
}

/// How far each topic partition has counted by the end of the window of `newest`. One without clicks in it is known from
/// the snapshot of the hour `before`.
fn counted_through(mut newest: Snapshot, before: Option<Snapshot>) -> Vec<CountedPartition> {
    for (partition, minute) in before.into_iter().flat_map(|before| before.counted_through) {
        newest.counted_through.entry(partition).or_insert(minute);
    }
    newest.partitions().collect()
}

/// The last windows up to `newest`, newest first, with the totals of the snapshots `found`.
fn windows(newest: Window, found: &[Snapshot]) -> Vec<WindowState> {
    let windows = std::iter::successors(Some(newest), |window| Some(window.previous())).take(WINDOWS);
    windows
        .map(|window| WindowState {
            window_end: window.end(),
            totals: found.iter().find(|snapshot| snapshot.window == window).map(|snapshot| SnapshotTotals {
                generated_at: snapshot.generated_at,
                is_final: snapshot.is_final,
                total_clicks: snapshot.total_clicks,
                distinct_products: snapshot.distinct_products,
            }),
        })
        .collect()
}

/// How far each topic partition is counted in the last `minutes`, and the read units consumed.
pub(crate) async fn sources(
    counters: &CountersTable,
    now: UnixMillis,
    minutes: u64,
) -> Result<(Vec<SourceState>, f64), StoreError> {
    counters.check_layout().await?;
    let buckets = (0..minutes).flat_map(|back| Bucket::of_minute(Minute::of(now.minus(Duration::from_mins(back)))));
    let read = async |bucket: Bucket| {
        let mut found = Vec::new();
        let read = counters.last_offsets(bucket, |source, offset| found.push((source, offset))).await?;
        Ok::<_, StoreError>((bucket.minute, found, read.read_units))
    };
    let mut known: BTreeMap<TopicPartition, (i64, Minute)> = BTreeMap::new();
    let mut read_units = 0.0;
    let mut reads = stream::iter(buckets).map(read).buffer_unordered(READ_CONCURRENCY);
    while let Some((minute, found, units)) = reads.try_next().await? {
        read_units += units;
        for (source, offset) in found {
            let (last_offset, newest) = known.entry(source).or_insert((offset, minute));
            *last_offset = (*last_offset).max(offset);
            *newest = (*newest).max(minute);
        }
    }
    let state = |(source, (last_offset, newest)): (TopicPartition, (i64, Minute))| SourceState {
        source: source.as_str().to_owned(),
        last_offset,
        newest_minute: newest.start(),
        behind_seconds: now.since(newest.end()).as_secs(),
    };
    Ok((known.into_iter().map(state).collect(), read_units))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> UnixMillis {
        UnixMillis::parse_rfc3339(text).unwrap()
    }

    fn snapshot(end: &str) -> Snapshot {
        Snapshot {
            window: Window::ended_by(at(end)),
            generated_at: at(end).plus(Duration::from_mins(1)),
            is_final: false,
            counted_through: BTreeMap::new(),
            total_clicks: 7,
            distinct_products: 2,
            clicks_per_minute: Vec::new(),
            products: Vec::new(),
        }
    }

    #[test]
    fn a_snapshot_is_overdue_a_minute_after_the_next_was_due() {
        let newest = snapshot("2022-12-27T16:50:00Z");
        let overdue = |now| freshness(&newest, at(now)).overdue;
        assert_eq!(freshness(&newest, at("2022-12-27T16:51:00Z")).next_due, at("2022-12-27T16:56:10Z"));
        assert!(!overdue("2022-12-27T16:51:00Z"));
        assert!(!overdue("2022-12-27T16:57:10Z"));
        assert!(overdue("2022-12-27T16:57:11Z"));
        assert!(!overdue("2022-12-27T16:00:00Z"), "this machine's clock is slow");
    }

    #[test]
    fn a_partition_without_clicks_in_the_newest_window_is_known_from_the_hour_before() {
        let (mut before, mut newest) = (snapshot("2022-12-27T15:50:00Z"), snapshot("2022-12-27T16:50:00Z"));
        let counted = |minutes: &[(&str, &str)]| {
            minutes.iter().map(|(name, minute)| ((*name).to_owned(), Minute::of(at(minute)))).collect()
        };
        before.counted_through = counted(&[("a", "2022-12-27T15:49:00Z"), ("b", "2022-12-27T15:19:00Z")]);
        newest.counted_through = counted(&[("a", "2022-12-27T16:49:00Z")]);
        let seconds = |before| -> Vec<(String, u64)> {
            counted_through(newest.clone(), before)
                .into_iter()
                .map(|found| (found.source, found.quiet_seconds))
                .collect()
        };
        assert_eq!(seconds(Some(before)), [("a".to_owned(), 0), ("b".to_owned(), 90 * 60)]);
        assert_eq!(seconds(None), [("a".to_owned(), 0)]);
    }

    #[test]
    fn a_window_without_a_snapshot_has_no_totals() {
        let found = [snapshot("2022-12-27T16:40:00Z"), snapshot("2022-12-27T16:50:00Z")];
        let states = windows(found[1].window, &found);
        let there: Vec<bool> = states.iter().map(|state| state.totals.is_some()).collect();
        assert_eq!(there, [true, false, true, false, false, false]);
        assert_eq!(states[5].window_end, at("2022-12-27T16:25:00Z"));
        let json = serde_json::to_string(&states[1]).unwrap();
        assert_eq!(json, r#"{"window_end":"2022-12-27T16:45:00Z"}"#);
    }
}
