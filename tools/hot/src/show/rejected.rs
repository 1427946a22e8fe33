//! The rejected events for people.

use std::fmt::Write;

use comfy_table::Cell;
use console::truncate_str;
use hot_products::rejects::{ObjectSample, RejectedSample};
use terminal::text::{safe, table, title};

use crate::rejected::{MAX_OFFSETS, RejectsSummary};

/// The largest width of a sample, in columns.
const SAMPLE_COLUMNS: usize = 160;

/// The rejected events as a table, with samples.
pub(crate) fn summary(summary: &RejectsSummary) -> String {
    let mut text = title(format_args!("Rejected events since {}", summary.since));
    text.push('\n');
    if summary.records > 0 {
        let mut rows = table(["source", "reason", "records", "batches", "offsets", "newest"], &[2, 3]);
        for group in &summary.by_source_and_reason {
            let mut offsets = group.first_offsets.iter().map(i64::to_string).collect::<Vec<_>>().join(", ");
            if group.records > MAX_OFFSETS as u64 {
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
    if summary.unreadable > 0 {
        let items = summary.unreadable;
        let _infallible = writeln!(text, "{items} items are not shown: another version of count-clicks wrote them");
    }
    for group in summary.by_source_and_reason.iter().filter(|group| !group.samples.is_empty()) {
        let _infallible = writeln!(text, "\n{}, {}:", safe(&group.source), safe(&group.reason));
        for (offset, rejected) in &group.samples {
            let line = sample(rejected);
            let _infallible = writeln!(text, "{offset:>12}  {}", truncate_str(&line, SAMPLE_COLUMNS, "…"));
        }
    }
    text
}

/// A sample on one line.
fn sample(sample: &RejectedSample) -> String {
    let mut text = match sample.bytes {
        0 => safe(&sample.content),
        bytes => format!("{} of {bytes} bytes", safe(&sample.content)),
    };
    if let Some(hash) = &sample.hash {
        let _infallible = write!(text, ", hash {}", safe(hash));
    }
    if let Some(object) = &sample.object {
        let _infallible = write!(text, ": {}", fields(object));
    }
    text
}

/// The fields of an object, such as `event_time "soon", product_id null of 4 bytes, user_id (string)`.
fn fields(object: &ObjectSample) -> String {
    let known = object.fields.iter().map(|(name, field)| match &field.value {
        Some(value) if field.kind == "string" => format!("{} \"{}\"", safe(name), safe(value)),
        Some(value) => format!("{} {}", safe(name), safe(value)),
        None => format!("{} {} of {} bytes", safe(name), safe(&field.kind), field.bytes),
    });
    let others = object.other_fields.iter().map(|(name, kind)| format!("{} ({})", safe(name), safe(kind)));
    let mut fields: Vec<_> = known.chain(others).collect();
    if object.unnamed_fields > 0 {
        fields.push(format!("{} more", object.unnamed_fields));
    }
    if fields.is_empty() { "no fields".to_owned() } else { fields.join(", ") }
}
