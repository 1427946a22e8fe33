//! The result of an audit for people.

use std::fmt::Write;

use terminal::text::{bad, good, product_cell, safe, table, title};

use crate::audit::report::{AuditReport, MAX_LISTED};

/// The differences as tables, what could not be checked, and a summary.
pub(crate) fn report(report: &AuditReport) -> String {
    let mut text = title(format_args!("Audit of {}, {} to {}", safe(&report.topic), report.from, report.to));
    text.push('\n');
    if report.counter_differences.count > 0 {
        let mut rows = table(["minute", "source", "product", "in Kafka", "counted"], &[3, 4]);
        for one in &report.counter_differences.first {
            rows.add_row([
                one.minute.to_string(),
                safe(&one.source),
                product_cell(&one.product_id),
                expected(one.expected, one.uncertain),
                one.counted.to_string(),
            ]);
        }
        let _infallible = writeln!(text, "{rows}\n{}", more(report.counter_differences.count, "counters"));
    }
    if report.snapshot_differences.count > 0 {
        let mut rows = table(["window end", "figure", "product or minute", "in Kafka", "snapshot"], &[3, 4]);
        for one in &report.snapshot_differences.first {
            let minute = one.minute.map(|minute| minute.to_string()).unwrap_or_default();
            rows.add_row([
                one.window_end.clone(),
                one.figure.to_owned(),
                one.product_id.as_deref().map_or(minute, product_cell),
                expected(one.expected, one.uncertain),
                one.found.to_string(),
            ]);
        }
        let _infallible = writeln!(text, "{rows}\n{}", more(report.snapshot_differences.count, "figures of snapshots"));
    }
    if !report.unchecked.is_empty() {
        text.push_str("Not checked, or not for good:\n");
        for note in &report.unchecked {
            let _infallible = writeln!(text, "- {}", safe(&note.detail));
        }
    }
    let AuditReport { records, clicks, counters, windows, final_windows, read_units, .. } = report;
    let _infallible = writeln!(
        text,
        "{records} records read; {clicks} clicks in {counters} counters and {windows} snapshots ({final_windows} final) compared; {read_units} read units"
    );
    text.push_str(&match report.differences() {
        0 => good("All that was compared is equal"),
        1 => bad("1 difference"),
        count => bad(format_args!("{count} differences")),
    });
    text
}

/// `7`, or `5 to 7` if it is uncertain.
fn expected(certain: u64, uncertain: u64) -> String {
    match uncertain {
        0 => certain.to_string(),
        _ => format!("{certain} to {}", certain + uncertain),
    }
}

fn more(count: usize, what: &str) -> String {
    match count {
        0..=MAX_LISTED => format!("{count} {what} differ"),
        _ => format!("{count} {what} differ; the first {MAX_LISTED} are listed"),
    }
}

#[cfg(test)]
mod tests {
    use hot_products::{Minute, UnixMillis};

    use super::*;
    use crate::audit::{
        report::{Listed, Note},
        tally::CounterDifference,
    };

    #[test]
    fn differences_are_listed_with_what_was_not_checked_and_ids_are_safe_for_a_terminal() {
        let difference = CounterDifference {
            minute: Minute::of(UnixMillis(1_672_159_800_000)),
            source: "clicks-3".to_owned(),
            product_id: "p1\u{1b}".to_owned(),
            expected: 5,
            uncertain: 2,
            counted: 9,
        };
        let mut audited = AuditReport {
            topic: "clicks".to_owned(),
            from: "2022-12-27T15:50:00Z".to_owned(),
            to: "2022-12-27T16:50:00Z".to_owned(),
            audited_at: UnixMillis(0),
            records: 70,
            clicks: 60,
            uncertain_clicks: 2,
            counters: 40,
            windows: 1,
            final_windows: 0,
            read_units: 4.5,
            counter_differences: Listed::default(),
            snapshot_differences: Listed::default(),
            unchecked: vec![Note { reason: "not_final", detail: "not final".to_owned() }],
        };
        for _ in 0..=MAX_LISTED {
            audited.counter_differences.push(difference.clone());
        }
        let text = report(&audited);
        let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        let row = vec!["2022-12-27T16:50Z", "clicks-3", "p1\\u{1b}", "5", "to", "7", "9"];
        assert_eq!(rows.iter().filter(|found| **found == row).count(), MAX_LISTED, "{text}");
        assert!(text.contains("1001 counters differ; the first 1000 are listed"), "{text}");
        assert!(text.contains("- not final\n") && text.ends_with("1001 differences"), "{text}");
        let json = serde_json::to_value(&audited).unwrap();
        assert_eq!(json["counter_differences"]["count"], 1001);
        assert_eq!(json["counter_differences"]["first"].as_array().unwrap().len(), MAX_LISTED);
        audited.counter_differences = Listed::default();
        assert!(report(&audited).ends_with("All that was compared is equal"));
    }
}
