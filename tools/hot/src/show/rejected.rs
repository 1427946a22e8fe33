//! The rejected events for people.

use std::fmt::Write;

use comfy_table::Cell;
use console::truncate_str;
use terminal::text::{safe, table, title};

use crate::rejected::{MAX_OFFSETS, RejectsSummary};

/// The largest width of a sample, in columns.
const SAMPLE_COLUMNS: usize = 160;

/// The rejected events as a table, with samples.
pub(crate) fn summary(summary: &RejectsSummary) -> String {
    let mut text = title(format_args!("Rejected events since {}", summary.since));
    text.push('\n');
    if summary.records > 0 {
        let mut rows = table(["source", "reason", "records", "batches", "from offset", "newest"], &[2, 3]);
        for group in &summary.by_source_and_reason {
            let mut offsets = group.first_offsets.iter().map(i64::to_string).collect::<Vec<_>>().join(", ");
            if group.batches > MAX_OFFSETS as u64 {
                offsets.push_str(", …");
            }
            rows.add_row([
                Cell::new(safe(&group.source)),
                Cell::new(safe(&group.reason)),
                Cell::new(group.records),
                Cell::new(group.batches),
                Cell::new(offsets),
                Cell::new(&group.newest),
            ]);
        }
        let _infallible = writeln!(text, "{rows}");
    }
    let _infallible = writeln!(
        text,
        "{} records in {} batches; {} items read with {} read units",
        summary.records, summary.batches, summary.scanned, summary.read_units
    );
    for group in summary.by_source_and_reason.iter().filter(|group| !group.samples.is_empty()) {
        let _infallible = writeln!(text, "\n{}, {}:", safe(&group.source), safe(&group.reason));
        for (offset, value) in &group.samples {
            let value = safe(value);
            let _infallible = writeln!(text, "{offset:>12}  {}", truncate_str(&value, SAMPLE_COLUMNS, "…"));
        }
    }
    text
}
