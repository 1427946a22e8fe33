//! The rejected events, summed by topic partition and reason.

use std::collections::{BTreeMap, BTreeSet};

use hot_products::{
    UnixMillis,
    rejects::{RejectedBatch, RejectedSample},
    store::RejectsPage,
};
use roaring::RoaringTreemap;
use serde::Serialize;

/// How many offsets are kept for each topic partition and reason.
pub(crate) const MAX_OFFSETS: usize = 3;
/// How many samples are kept for each topic partition and reason.
const MAX_SAMPLES: usize = 3;

/// What was rejected since a time. Each record counts once, however many batches hold it.
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
    /// Number of items that another version wrote. Their records are not among `records`.
    pub(crate) unreadable: u64,
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
    /// The lowest offsets of these records.
    pub(crate) first_offsets: BTreeSet<i64>,
    /// When the newest records were rejected, RFC 3339.
    pub(crate) newest: String,
    /// Some of the records, by offset.
    #[serde(skip)]
    pub(crate) samples: BTreeMap<i64, RejectedSample>,
}

/// Sums batches as they are read.
#[derive(Debug)]
pub(crate) struct Tally {
    since: UnixMillis,
    groups: BTreeMap<(String, String), RejectedGroup>,
    /// The offsets that are counted, by topic partition: a redelivery that was cut elsewhere lists some of them again.
    counted: BTreeMap<String, RoaringTreemap>,
    records: u64,
    batches: u64,
    unreadable: u64,
    scanned: u64,
    read_units: f64,
}

impl Tally {
    /// An empty tally, for batches rejected at `since` or later.
    pub(crate) fn new(since: UnixMillis) -> Self {
        Self {
            since,
            groups: BTreeMap::new(),
            counted: BTreeMap::new(),
            records: 0,
            batches: 0,
            unreadable: 0,
            scanned: 0,
            read_units: 0.0,
        }
    }

    /// Adds the batches of a page.
    pub(crate) fn add(&mut self, page: &RejectsPage) {
        self.scanned += page.scanned;
        self.unreadable += page.unreadable;
        self.read_units += page.read_units;
        for batch in &page.batches {
            self.add_batch(batch);
        }
    }

    fn add_batch(&mut self, batch: &RejectedBatch) {
        self.batches += 1;
        let counted = self.counted.entry(batch.source.clone()).or_default();
        let newest = batch.rejected_at.rfc3339();
        for (reason, offsets) in &batch.offsets {
            let group = self.groups.entry((batch.source.clone(), reason.clone())).or_insert_with(|| RejectedGroup {
                source: batch.source.clone(),
                reason: reason.clone(),
                records: 0,
                batches: 0,
                first_offsets: BTreeSet::new(),
                newest: newest.clone(),
                samples: BTreeMap::new(),
            });
            let records = offsets.iter().filter(|offset| counted.insert(offset.cast_unsigned())).count() as u64;
            group.records += records;
            self.records += records;
            group.batches += 1;
            if group.newest < newest {
                group.newest.clone_from(&newest);
            }
            group.first_offsets.extend(offsets.iter().take(MAX_OFFSETS));
            while group.first_offsets.len() > MAX_OFFSETS {
                group.first_offsets.pop_last();
            }
            for sample in batch.samples.iter().filter(|sample| sample.reason == *reason) {
                group.samples.insert(sample.offset, sample.clone());
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
            by_source_and_reason: self.groups.into_values().filter(|group| group.records > 0).collect(),
            unreadable: self.unreadable,
            scanned: self.scanned,
            read_units: self.read_units,
        }
    }
}

#[cfg(test)]
mod tests {
    use hot_products::{EventShape, Reason};

    use super::*;
    use crate::show;

    const ESCAPE: &[u8] = br#"{"event_time":"\u001b[31m"}"#;

    /// A batch with these records for each reason, at offsets from `first_offset` on.
    fn batch(source: &str, first_offset: i64, reasons: &[(Reason, usize)]) -> RejectedBatch {
        let mut open = first_offset..;
        let offsets: BTreeMap<_, BTreeSet<_>> =
            reasons.iter().map(|(reason, count)| (*reason, open.by_ref().take(*count).collect())).collect();
        let samples = offsets.iter().map(|(reason, offsets): (&Reason, &BTreeSet<i64>)| {
            RejectedSample::of(*offsets.first().unwrap(), *reason, Some(ESCAPE), &EventShape::default())
        });
        RejectedBatch {
            source: source.to_owned(),
            first_offset,
            rejected_at: UnixMillis(first_offset),
            rejected: reasons.iter().map(|(_, count)| *count as u64).sum(),
            reasons: reasons.iter().map(|(reason, count)| (reason.name().to_owned(), *count as u64)).collect(),
            samples: samples.collect(),
            offsets: offsets.into_iter().map(|(reason, offsets)| (reason.name().to_owned(), offsets)).collect(),
        }
    }

    fn page(batches: Vec<RejectedBatch>) -> RejectsPage {
        RejectsPage { batches, unreadable: 0, scanned: 9, read_units: 1.5 }
    }

    #[test]
    fn batches_are_summed_by_source_and_reason() {
        let mut tally = Tally::new(UnixMillis(0));
        tally.add(&page(vec![
            batch("clicks-1", 90, &[(Reason::NotJson, 1)]),
            batch("clicks-0", 50, &[(Reason::NoValue, 2), (Reason::NotJson, 3)]),
            batch("clicks-0", 10, &[(Reason::NotJson, 2)]),
            batch("clicks-0", 70, &[(Reason::NotJson, 5)]),
            batch("clicks-0", 60, &[(Reason::NotJson, 6)]),
        ]));
        assert_eq!(tally.so_far(), (9, 19));
        let summary = tally.summary();
        assert_eq!((summary.records, summary.batches), (19, 5));
        let groups: Vec<_> = summary
            .by_source_and_reason
            .iter()
            .map(|group| (group.source.as_str(), group.reason.as_str(), group.records, group.batches))
            .collect();
        let expected =
            [("clicks-0", "no_value", 2, 1), ("clicks-0", "not_json", 16, 4), ("clicks-1", "not_json", 1, 1)];
        assert_eq!(groups, expected);
        let not_json = &summary.by_source_and_reason[1];
        assert_eq!(not_json.first_offsets, BTreeSet::from([10, 11, 52]));
        assert_eq!(not_json.samples.keys().copied().collect::<Vec<_>>(), [10, 52, 60]);
        assert_eq!(not_json.newest, UnixMillis(70).rfc3339());
        assert_eq!(summary.by_reason(), BTreeMap::from([("no_value".to_owned(), 2), ("not_json".to_owned(), 17)]));
        let text = show::rejected::summary(&summary);
        assert!(text.contains("10, 11, 52, …"), "{text}");
        assert!(text.contains("          10  json_object of 27 bytes: event_time \"\\u{1b}[31m\"\n"), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn a_record_in_several_batches_counts_once() {
        let batches = [
            batch("clicks-0", 10, &[(Reason::NotJson, 10)]),
            batch("clicks-0", 5, &[(Reason::NotJson, 10)]),
            batch("clicks-0", 12, &[(Reason::NotJson, 10)]),
            batch("clicks-0", 13, &[(Reason::NotJson, 2)]),
            batch("clicks-1", 13, &[(Reason::NotJson, 2)]),
        ];
        for turn in 0..batches.len() {
            let mut batches = batches.to_vec();
            batches.rotate_left(turn);
            let mut tally = Tally::new(UnixMillis(0));
            for batch in batches {
                tally.add(&page(vec![batch]));
            }
            let summary = tally.summary();
            assert_eq!((summary.records, summary.batches), (17 + 2, 5));
            let [first, second] = summary.by_source_and_reason.as_slice() else { panic!("{summary:?}") };
            assert_eq!((first.records, first.batches, second.records), (17, 4, 2));
            assert_eq!(first.first_offsets, BTreeSet::from([5, 6, 7]));
        }
    }

    #[test]
    fn items_of_another_version_are_reported() {
        let mut tally = Tally::new(UnixMillis(0));
        tally.add(&RejectsPage { unreadable: 2, ..page(Vec::new()) });
        let text = show::rejected::summary(&tally.summary());
        assert!(text.contains("2 items are not shown: another version of count-clicks wrote them\n"), "{text}");
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
