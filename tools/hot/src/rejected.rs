//! The rejected events for people: summed by source and reason, with samples.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

use comfy_table::Cell;
use console::truncate_str;
use hot_products::{
    UnixMillis,
    store::{RejectedBatch, RejectedSample, RejectsPage},
};
use serde::Serialize;

use terminal::text::{safe, table, title};

/// How many first offsets are kept of a source and reason.
const OFFSETS: usize = 3;
/// How many samples are kept of a source and reason.
const SAMPLES: usize = 3;
/// How much of a sample is shown, in columns.
const SAMPLE_COLUMNS: usize = 160;

/// What was rejected since a time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Rejected {
    /// Since when, RFC 3339.
    pub(crate) since: String,
    /// Records rejected.
    pub(crate) records: u64,
    /// Batches that held them.
    pub(crate) batches: u64,
    /// The records by source and reason, in this order.
    pub(crate) by_source_and_reason: Vec<Kind>,
    /// Items read to find them.
    pub(crate) scanned: u64,
    /// Read units that took.
    pub(crate) read_units: f64,
}

/// The records of one source that were rejected for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Kind {
    /// The source.
    pub(crate) source: String,
    /// The reason.
    pub(crate) reason: String,
    /// How many there are.
    pub(crate) records: u64,
    /// In how many batches.
    pub(crate) batches: u64,
    /// The first offsets of the lowest of these batches: there, or behind, the records lie.
    pub(crate) first_offsets: BTreeSet<i64>,
    /// When the newest were rejected, RFC 3339.
    pub(crate) newest: String,
    /// Some of them, by offset.
    #[serde(skip)]
    pub(crate) samples: BTreeMap<i64, String>,
}

/// Sums batches as they are read.
#[derive(Debug)]
pub(crate) struct Tally {
    since: UnixMillis,
    kinds: BTreeMap<(String, String), Kind>,
    records: u64,
    batches: u64,
    scanned: u64,
    read_units: f64,
}

impl Tally {
    /// Of batches rejected at `since` or later.
    pub(crate) fn new(since: UnixMillis) -> Self {
        Self { since, kinds: BTreeMap::new(), records: 0, batches: 0, scanned: 0, read_units: 0.0 }
    }

    /// Adds what was read.
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
            let kind = self.kinds.entry((batch.source.clone(), reason.clone())).or_insert_with(|| Kind {
                source: batch.source.clone(),
                reason: reason.clone(),
                records: 0,
                batches: 0,
                first_offsets: BTreeSet::new(),
                newest: newest.clone(),
                samples: BTreeMap::new(),
            });
            kind.records += records;
            kind.batches += 1;
            if kind.newest < newest {
                kind.newest.clone_from(&newest);
            }
            kind.first_offsets.insert(batch.first_offset);
            if kind.first_offsets.len() > OFFSETS {
                kind.first_offsets.pop_last();
            }
            for RejectedSample { offset, value, .. } in batch.samples.iter().filter(|sample| sample.reason == *reason) {
                kind.samples.insert(*offset, value.clone());
                if kind.samples.len() > SAMPLES {
                    kind.samples.pop_last();
                }
            }
        }
    }

    /// Items read so far, and records found in them.
    pub(crate) fn so_far(&self) -> (u64, u64) {
        (self.scanned, self.records)
    }

    /// All that was added.
    pub(crate) fn end(self) -> Rejected {
        Rejected {
            since: self.since.to_string(),
            records: self.records,
            batches: self.batches,
            by_source_and_reason: self.kinds.into_values().collect(),
            scanned: self.scanned,
            read_units: self.read_units,
        }
    }
}

impl Rejected {
    /// The records by reason, over all sources.
    pub(crate) fn by_reason(&self) -> BTreeMap<String, u64> {
        let mut reasons = BTreeMap::new();
        for kind in &self.by_source_and_reason {
            *reasons.entry(kind.reason.clone()).or_default() += kind.records;
        }
        reasons
    }
}

/// The rejected events as a table, with samples.
pub(crate) fn show(rejected: &Rejected) -> String {
    let mut text = title(format_args!("Rejected events since {}", rejected.since));
    text.push('\n');
    if rejected.records > 0 {
        let mut rows = table(["source", "reason", "records", "batches", "from offset", "newest"], &[2, 3]);
        for kind in &rejected.by_source_and_reason {
            let mut offsets = kind.first_offsets.iter().map(i64::to_string).collect::<Vec<_>>().join(", ");
            if kind.batches > OFFSETS as u64 {
                offsets.push_str(", …");
            }
            rows.add_row([
                Cell::new(safe(&kind.source)),
                Cell::new(safe(&kind.reason)),
                Cell::new(kind.records),
                Cell::new(kind.batches),
                Cell::new(offsets),
                Cell::new(&kind.newest),
            ]);
        }
        let _infallible = writeln!(text, "{rows}");
    }
    let _infallible = writeln!(
        text,
        "{} records in {} batches; {} items read with {} read units",
        rejected.records, rejected.batches, rejected.scanned, rejected.read_units
    );
    for kind in rejected.by_source_and_reason.iter().filter(|kind| !kind.samples.is_empty()) {
        let _infallible = writeln!(text, "\n{}, {}:", safe(&kind.source), safe(&kind.reason));
        for (offset, value) in &kind.samples {
            let value = safe(value);
            let _infallible = writeln!(text, "{offset:>12}  {}", truncate_str(&value, SAMPLE_COLUMNS, "…"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let rejected = tally.end();
        assert_eq!((rejected.records, rejected.batches), (21, 5));
        let kinds: Vec<_> = rejected
            .by_source_and_reason
            .iter()
            .map(|kind| (kind.source.as_str(), kind.reason.as_str(), kind.records, kind.batches))
            .collect();
        let expected =
            [("clicks-0", "no_value", 2, 1), ("clicks-0", "not_json", 18, 4), ("clicks-1", "not_json", 1, 1)];
        assert_eq!(kinds, expected);
        let json = &rejected.by_source_and_reason[1];
        assert_eq!(json.first_offsets, BTreeSet::from([10, 50, 60]));
        assert_eq!(json.samples.keys().copied().collect::<Vec<_>>(), [10, 51, 60]);
        assert_eq!(json.newest, UnixMillis(70).rfc3339());
        assert_eq!(rejected.by_reason(), BTreeMap::from([("no_value".to_owned(), 2), ("not_json".to_owned(), 19)]));
        let text = show(&rejected);
        assert!(text.contains("10, 50, 60, …") && text.contains("          10  \\u{1b}[31m10\n"), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn where_nothing_was_rejected_there_is_no_table() {
        let text = show(&Tally::new(UnixMillis(0)).end());
        assert_eq!(
            text,
            "Rejected events since 1970-01-01T00:00:00Z\n0 records in 0 batches; 0 items read with 0 read units\n"
        );
    }
}
