//! The rejected events, summed by topic partition and reason.

use std::collections::{BTreeMap, BTreeSet};

use hot_products::{
    UnixMillis,
    rejects::{RejectedBatch, RejectedSample},
    store::RejectsPage,
};
use serde::Serialize;

/// How many first offsets are kept for each topic partition and reason.
pub(crate) const MAX_OFFSETS: usize = 3;
/// How many samples are kept for each topic partition and reason.
const MAX_SAMPLES: usize = 3;

/// What was rejected since a time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct RejectsSummary {
    /// The time, RFC 3339.
    pub(crate) since: String,
    /// Number of rejected records.
    pub(crate) records: u64,
    /// Number of batches that held them.
    pub(crate) batches: u64,
    /// The records by topic partition and reason, in this order.
    pub(crate) by_source_and_reason: Vec<RejectedGroup>,
    /// Number of items read to find them.
    pub(crate) scanned: u64,
    /// Read units consumed.
    pub(crate) read_units: f64,
}

impl RejectsSummary {
    /// The number of records by reason, over all topic partitions.
    pub(crate) fn by_reason(&self) -> BTreeMap<String, u64> {
        let mut reasons = BTreeMap::new();
        for group in &self.by_source_and_reason {
            *reasons.entry(group.reason.clone()).or_default() += group.records;
        }
        reasons
    }
}

/// The records of one topic partition that were rejected for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct RejectedGroup {
    /// The topic partition.
    pub(crate) source: String,
    /// The reason.
    pub(crate) reason: String,
    /// Number of records.
    pub(crate) records: u64,
    /// Number of batches that held them.
    pub(crate) batches: u64,
    /// The lowest first offsets of these batches. The records are at or after them.
    pub(crate) first_offsets: BTreeSet<i64>,
    /// When the newest records were rejected, RFC 3339.
    pub(crate) newest: String,
    /// Some of the records, by offset.
    #[serde(skip)]
    pub(crate) samples: BTreeMap<i64, String>,
}

/// Sums batches as they are read.
#[derive(Debug)]
pub(crate) struct Tally {
    since: UnixMillis,
    groups: BTreeMap<(String, String), RejectedGroup>,
    records: u64,
    batches: u64,
    scanned: u64,
    read_units: f64,
}

impl Tally {
    /// An empty tally, for batches rejected at `since` or later.
    pub(crate) fn new(since: UnixMillis) -> Self {
        Self { since, groups: BTreeMap::new(), records: 0, batches: 0, scanned: 0, read_units: 0.0 }
    }

    /// Adds the batches of a page.
    pub(crate) fn add(&mut self, page: &RejectsPage) {
        self.scanned += page.scanned;
        self.read_units += page.read_units;
        for batch in &page.batches {
            self.add_batch(batch);
        }
    }

    fn add_batch(&mut self, batch: &RejectedBatch) {
        self.batches += 1;
        self.records += batch.rejected;
        let newest = batch.rejected_at.rfc3339();
        for (reason, records) in &batch.reasons {
            let group = self.groups.entry((batch.source.clone(), reason.clone())).or_insert_with(|| RejectedGroup {
                source: batch.source.clone(),
                reason: reason.clone(),
                records: 0,
                batches: 0,
                first_offsets: BTreeSet::new(),
                newest: newest.clone(),
                samples: BTreeMap::new(),
            });
            group.records += records;
            group.batches += 1;
            if group.newest < newest {
                group.newest.clone_from(&newest);
            }
            group.first_offsets.insert(batch.first_offset);
            if group.first_offsets.len() > MAX_OFFSETS {
                group.first_offsets.pop_last();
            }
            for RejectedSample { offset, value, .. } in batch.samples.iter().filter(|sample| sample.reason == *reason) {
                group.samples.insert(*offset, value.clone());
                if group.samples.len() > MAX_SAMPLES {
                    group.samples.pop_last();
                }
            }
        }
    }

    /// The numbers so far: items read, and records found in them.
    pub(crate) fn so_far(&self) -> (u64, u64) {
        (self.scanned, self.records)
    }

    /// The sum of all batches.
    pub(crate) fn summary(self) -> RejectsSummary {
        RejectsSummary {
            since: self.since.to_string(),
            records: self.records,
            batches: self.batches,
            by_source_and_reason: self.groups.into_values().collect(),
            scanned: self.scanned,
            read_units: self.read_units,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show;

    fn batch(source: &str, first_offset: i64, reasons: &[(&str, u64)]) -> RejectedBatch {
        let samples = reasons.iter().zip(first_offset..).map(|((reason, _), offset)| RejectedSample {
            offset,
            reason: (*reason).to_owned(),
            value: format!("\u{1b}[31m{offset}"),
        });
        RejectedBatch {
            source: source.to_owned(),
            first_offset,
            rejected_at: UnixMillis(first_offset),
            rejected: reasons.iter().map(|(_, count)| count).sum(),
            reasons: reasons.iter().map(|(reason, count)| ((*reason).to_owned(), *count)).collect(),
            offsets: vec![first_offset],
            samples: samples.collect(),
        }
    }

    #[test]
    fn batches_are_summed_by_source_and_reason() {
        let mut tally = Tally::new(UnixMillis(0));
        let batches = vec![
            batch("clicks-1", 90, &[("not_json", 1)]),
            batch("clicks-0", 50, &[("no_value", 2), ("not_json", 3)]),
            batch("clicks-0", 10, &[("not_json", 4)]),
            batch("clicks-0", 70, &[("not_json", 5)]),
            batch("clicks-0", 60, &[("not_json", 6)]),
        ];
        tally.add(&RejectsPage { batches, scanned: 9, read_units: 1.5 });
        assert_eq!(tally.so_far(), (9, 21));
        let summary = tally.summary();
        assert_eq!((summary.records, summary.batches), (21, 5));
        let groups: Vec<_> = summary
            .by_source_and_reason
            .iter()
            .map(|group| (group.source.as_str(), group.reason.as_str(), group.records, group.batches))
            .collect();
        let expected =
            [("clicks-0", "no_value", 2, 1), ("clicks-0", "not_json", 18, 4), ("clicks-1", "not_json", 1, 1)];
        assert_eq!(groups, expected);
        let not_json = &summary.by_source_and_reason[1];
        assert_eq!(not_json.first_offsets, BTreeSet::from([10, 50, 60]));
        assert_eq!(not_json.samples.keys().copied().collect::<Vec<_>>(), [10, 51, 60]);
        assert_eq!(not_json.newest, UnixMillis(70).rfc3339());
        assert_eq!(summary.by_reason(), BTreeMap::from([("no_value".to_owned(), 2), ("not_json".to_owned(), 19)]));
        let text = show::rejected::summary(&summary);
        assert!(text.contains("10, 50, 60, …") && text.contains("          10  \\u{1b}[31m10\n"), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn without_rejected_events_there_is_no_table() {
        let text = show::rejected::summary(&Tally::new(UnixMillis(0)).summary());
        assert_eq!(
            text,
            "Rejected events since 1970-01-01T00:00:00Z\n0 records in 0 batches; 0 items read with 0 read units\n"
        );
    }
}
