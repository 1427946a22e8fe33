//! What an audit has found, and what it could not check.

use std::{collections::BTreeMap, ops::Range};

use hot_products::{Minute, TopicPartition, UnixMillis, Window, time::bound};
use serde::Serialize;

use super::{
    AuditOptions,
    tally::{CounterDifference, OtherSource, Tally},
    windows::SnapshotDifference,
};

/// The most differences of each kind that a report lists.
pub(crate) const MAX_LISTED: usize = 1000;

/// How many differences there are, and the first [`MAX_LISTED`] of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Listed<T> {
    pub(crate) count: usize,
    pub(crate) first: Vec<T>,
}

impl<T> Default for Listed<T> {
    fn default() -> Self {
        Self { count: 0, first: Vec::new() }
    }
}

impl<T> Listed<T> {
    /// Adds a difference.
    pub(crate) fn push(&mut self, difference: T) {
        self.count += 1;
        if self.first.len() < MAX_LISTED {
            self.first.push(difference);
        }
    }

    /// Adds the differences of `other`.
    pub(crate) fn append(&mut self, other: Self) {
        self.count += other.count;
        self.first.extend(other.first);
        self.first.truncate(MAX_LISTED);
    }
}

/// The result of an audit.
#[derive(Debug, Serialize)]
pub(crate) struct AuditReport {
    pub(crate) topic: String,
    /// The first minute's start, RFC 3339.
    pub(crate) from: String,
    /// The last minute's end, RFC 3339.
    pub(crate) to: String,
    pub(crate) audited_at: UnixMillis,
    /// Records that were read, of any class and minute.
    pub(crate) records: u64,
    /// Clicks in the compared minutes that must be counted.
    pub(crate) clicks: u64,
    /// Clicks in the compared minutes that may be counted.
    pub(crate) uncertain_clicks: u64,
    /// Counters that were compared.
    pub(crate) counters: u64,
    /// Snapshots that were compared.
    pub(crate) windows: u64,
    /// How many of them were final.
    pub(crate) final_windows: u64,
    /// What reading the counters has cost.
    pub(crate) read_units: f64,
    pub(crate) counter_differences: Listed<CounterDifference>,
    pub(crate) snapshot_differences: Listed<SnapshotDifference>,
    pub(crate) unchecked: Vec<Note>,
}

impl AuditReport {
    /// A report without differences of what `tally` has.
    pub(crate) fn new(options: &AuditOptions, tally: &Tally, counters_from: UnixMillis) -> Self {
        let (counters, clicks) = tally.totals(counters_from);
        Self {
            topic: options.topic.clone(),
            from: bound(options.range.start),
            to: bound(options.range.end),
            audited_at: options.rules.now,
            records: tally.records,
            clicks: clicks.certain,
            uncertain_clicks: clicks.uncertain,
            counters,
            windows: 0,
            final_windows: 0,
            read_units: 0.0,
            counter_differences: Listed::default(),
            snapshot_differences: Listed::default(),
            unchecked: Vec::new(),
        }
    }

    /// How many differences there are.
    pub(crate) fn differences(&self) -> usize {
        self.counter_differences.count + self.snapshot_differences.count
    }
}

/// Something that could not be checked, or not for good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Note {
    /// Why, as one word for programs.
    pub(crate) reason: &'static str,
    /// What, for people.
    pub(crate) detail: String,
}

/// Collects what could not be checked.
#[derive(Debug, Default)]
pub(crate) struct Unchecked {
    notes: Vec<Note>,
    /// Windows by reason, and clicks of them.
    windows: BTreeMap<&'static str, Vec<Window>>,
    late: u64,
}

impl Unchecked {
    fn note(&mut self, reason: &'static str, detail: String) {
        self.notes.push(Note { reason, detail });
    }

    /// The group has committed nothing on `partitions` of `topic`.
    pub(crate) fn nothing_committed(&mut self, group: &str, topic: &str, partitions: &[i32]) {
        if !partitions.is_empty() {
            let names: Vec<String> = partitions.iter().map(|partition| format!("{topic}-{partition}")).collect();
            let detail = format!(
                "the group {group} has committed nothing on {}: their clicks may be counted or not",
                names.join(", ")
            );
            self.note("nothing_committed", detail);
        }
    }

    /// The counters of `minutes` may have expired.
    pub(crate) fn counters_expired(&mut self, minutes: &[Minute]) {
        if let (Some(first), Some(last)) = (minutes.first(), minutes.last()) {
            let (count, first, last) = (minutes.len(), bound(first.start()), bound(last.end()));
            self.note(
                "counters_expired",
                format!("the counters of {count} minutes, from {first} to {last}, may have expired"),
            );
        }
    }

    /// Records of a partition before the offset `oldest`, with clicks until a time in `range`, are no longer in Kafka.
    pub(crate) fn records_deleted(
        &mut self,
        partition: Option<(TopicPartition, UnixMillis)>,
        oldest: i64,
        range: &Range<UnixMillis>,
    ) {
        if let Some((partition, until)) = partition.filter(|(_, until)| *until > range.start) {
            let detail = format!(
                "{partition}: the records before offset {oldest} are no longer in Kafka; minutes that begin before {} are not compared",
                bound(until)
            );
            self.note("records_deleted", detail);
        }
    }

    /// Of `offsets` offsets, some have no record.
    pub(crate) fn offsets_without_record(&mut self, read: Option<(&TopicPartition, u64)>, offsets: u64) {
        if let Some((partition, records)) = read.filter(|(_, records)| *records < offsets) {
            let detail = format!(
                "{partition}: {} of {offsets} offsets have no record: markers of transactions, or records that compaction has removed, whose clicks are missing here",
                offsets - records
            );
            self.note("offsets_without_record", detail);
        }
    }

    /// The counters have clicks of other topics or epochs.
    pub(crate) fn other_sources(&mut self, others: &BTreeMap<TopicPartition, OtherSource>) {
        for (partition, OtherSource { clicks, first, last }) in others {
            let (first, last) = (bound(first.start()), bound(last.end()));
            let detail = format!(
                "{partition}: {clicks} clicks from {first} to {last} are counted from another topic or epoch; --source-epoch names the epoch"
            );
            self.note("other_source", detail);
        }
    }

    /// Clicks that may be counted or not.
    pub(crate) fn uncertain_clicks(&mut self, clicks: u64) {
        if clicks > 0 {
            let detail = format!(
                "{clicks} clicks may be counted or not: they are not delivered yet, or it depends on the time of delivery whether they are stale or too far ahead"
            );
            self.note("uncertain_clicks", detail);
        }
    }

    /// The window has no snapshot.
    pub(crate) fn not_ranked(&mut self, window: Window) {
        self.windows.entry("not_ranked").or_default().push(window);
    }

    /// Kafka has deleted records of the window.
    pub(crate) fn window_without_records(&mut self, window: Window) {
        self.windows.entry("window_without_records").or_default().push(window);
    }

    /// The window's snapshot also has clicks of another topic or epoch.
    pub(crate) fn shared_window(&mut self, window: Window) {
        self.windows.entry("shared_window").or_default().push(window);
    }

    /// Late clicks can still join the window.
    pub(crate) fn not_final(&mut self, window: Window) {
        self.windows.entry("not_final").or_default().push(window);
    }

    /// The window's snapshot misses clicks that were counted after its ranking.
    pub(crate) fn late_clicks(&mut self, window: Window, clicks: u64) {
        if clicks > 0 {
            self.late += clicks;
            self.windows.entry("late_clicks").or_default().push(window);
        }
    }

    /// All notes.
    pub(crate) fn finish(mut self) -> Vec<Note> {
        for (reason, windows) in std::mem::take(&mut self.windows) {
            let (Some(first), Some(last)) = (windows.first(), windows.last()) else { continue };
            let ends = match windows.len() {
                1 => format!("the window that ends at {}", bound(first.end())),
                count => format!("{count} windows that end from {} to {}", bound(first.end()), bound(last.end())),
            };
            let detail = match reason {
                "not_ranked" => format!("no snapshot: {ends}"),
                "window_without_records" => format!("snapshot not compared, because records are missing: {ends}"),
                "shared_window" => {
                    format!("snapshot not compared, because it also has clicks of another topic or epoch: {ends}")
                }
                "late_clicks" => {
                    format!("{} clicks were counted after the ranking, and join at the next one: {ends}", self.late)
                }
                _ => format!("not final, so late clicks can still join: {ends}"),
            };
            self.note(reason, detail);
        }
        self.notes
    }
}

impl OtherSource {
    /// Whether the source may have counted a click of `window`.
    pub(crate) fn is_within(&self, window: Window) -> bool {
        self.first.start() < window.end() && self.last.start() >= window.start()
    }
}
