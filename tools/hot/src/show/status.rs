//! The state of a stack for people.

use std::{fmt::Write, time::Duration};

use comfy_table::Cell;
use hot_products::{UnixMillis, Window, snapshot::QUIET_AFTER, time::bound};
use terminal::text::{bad, duration, good, safe, table, title};

use super::{final_or_not, quiet_partitions, time_range};
use crate::status::{NewestSnapshot, RecentRejects, StackStatus};

/// The whole status.
pub(crate) fn status(status: &StackStatus) -> String {
    let mut text = String::new();
    let _infallible = match &status.newest {
        None => writeln!(text, "{}", bad("No snapshot yet")),
        Some(newest) => {
            let mut quiet = status.counted_through.clone();
            quiet.retain(|partition| partition.is_quiet_for(QUIET_AFTER));
            let (fresh, is_final) = (freshness_line(newest, status.at), final_or_not(newest.is_final));
            write!(text, "{fresh}\n{is_final}\n{}", quiet_partitions(&quiet))
        }
    };
    if !status.windows.is_empty() {
        let mut rows = table(["window end", "made", "clicks", "products", "final"], &[2, 3]);
        for window in &status.windows {
            let end = Cell::new(bound(window.window_end));
            rows.add_row(match window.totals {
                Some(totals) => [
                    end,
                    Cell::new(bound(totals.generated_at)),
                    Cell::new(totals.total_clicks),
                    Cell::new(totals.distinct_products),
                    Cell::new(if totals.is_final { "yes" } else { "may grow" }),
                ],
                None => [end, Cell::new("no snapshot"), Cell::new("–"), Cell::new("–"), Cell::new("–")],
            });
        }
        let _infallible = writeln!(text, "\n{}\n{rows}", title("Snapshots"));
    }
    let _infallible = writeln!(text, "\n{}", title("Sources"));
    if status.sources.is_empty() {
        let _infallible = writeln!(text, "no clicks counted in the last {} minutes", status.minutes);
    } else {
        let mut rows = table(["source", "last offset", "newest minute", "ended"], &[1]);
        for source in &status.sources {
            let ended = match source.behind_seconds {
                0 => "now".to_owned(),
                behind => format!("{} ago", duration(Duration::from_secs(behind))),
            };
            rows.add_row([
                Cell::new(safe(&source.source)),
                Cell::new(source.last_offset),
                Cell::new(bound(source.newest_minute)),
                Cell::new(ended),
            ]);
        }
        let _infallible = writeln!(
            text,
            "{rows}\ncounted in the last {} minutes; {} read units",
            status.minutes, status.counters_read_units
        );
    }
    let _infallible = writeln!(text, "\n{}\n{}", title("Rejected in the last hour"), recent_rejects(&status.rejected));
    text
}

/// How fresh the newest snapshot is at the time `now`, in one line.
pub(crate) fn freshness_line(newest: &NewestSnapshot, now: UnixMillis) -> String {
    let at = bound(newest.next_due);
    let due = match now.since(newest.next_due) {
        Duration::ZERO => format!("is due at {at}, in {}", duration(newest.next_due.since(now))),
        late => format!("was due at {at}, {} ago", duration(late)),
    };
    format!(
        "{}: the newest snapshot, of {}, was made at {}; the next {due}",
        if newest.overdue { bad("Overdue") } else { good("Fresh") },
        time_range(Window::ended_by(newest.window_end).start(), newest.window_end),
        bound(newest.generated_at),
    )
}

fn recent_rejects(rejects: &RecentRejects) -> String {
    match rejects {
        RecentRejects::Unreadable { error } => format!("unknown: {}", safe(error)),
        RecentRejects::Read { records, by_reason, complete, .. } => {
            let mut text = if *complete { String::new() } else { "at least ".to_owned() };
            let _infallible = write!(text, "{records} records");
            let mut separator = ":";
            for (reason, records) in by_reason {
                let _infallible = write!(text, "{separator} {records} {}", safe(reason));
                separator = ",";
            }
            if !complete {
                text.push_str("; hot rejects reads all of them");
            }
            text
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use hot_products::{Minute, Snapshot};

    use super::*;
    use crate::status::freshness;

    fn at(text: &str) -> UnixMillis {
        UnixMillis::parse_rfc3339(text).unwrap()
    }

    #[test]
    fn the_view_shows_what_was_read_and_names_what_was_not() {
        let snapshot = Snapshot {
            window: Window::ended_by(at("2022-12-27T16:50:00Z")),
            generated_at: at("2022-12-27T16:51:00Z"),
            is_final: false,
            counted_through: BTreeMap::from([("clicks-3".to_owned(), Minute::of(at("2022-12-27T16:22:00Z")))]),
            total_clicks: 7,
            distinct_products: 2,
            clicks_per_minute: Vec::new(),
            products: Vec::new(),
        };
        let mut status = StackStatus {
            at: at("2022-12-27T16:52:00Z"),
            fresh: false,
            newest: None,
            counted_through: Vec::new(),
            windows: Vec::new(),
            sources: Vec::new(),
            minutes: 10,
            counters_read_units: 0.0,
            rejected: RecentRejects::Unreadable { error: "no\u{1b}".to_owned() },
        };
        let text = super::status(&status);
        assert!(text.starts_with("No snapshot yet\n\nSources\nno clicks counted in the last 10 minutes\n"), "{text}");
        assert!(text.ends_with("unknown: no\\u{1b}\n"), "{text}");

        status.newest = Some(freshness(&snapshot, status.at));
        status.counted_through = snapshot.partitions().collect();
        status.rejected = RecentRejects::Read {
            records: 5,
            by_reason: BTreeMap::from([("no_value".to_owned(), 2), ("not_json".to_owned(), 3)]),
            complete: false,
            read_units: 0.5,
        };
        let text = super::status(&status);
        assert!(text.starts_with("Fresh: the newest snapshot, of 2022-12-27 15:50 – 16:50 UTC, was made at"), "{text}");
        assert!(text.contains("the next is due at 2022-12-27T16:56:10Z, in 4m 10s\n"), "{text}");
        let completeness =
            "May still grow: late clicks can join\nclicks-3: nothing counted since 16:23, quiet or behind\n";
        assert!(text.contains(completeness), "{text}");
        assert!(text.contains("at least 5 records: 2 no_value, 3 not_json; hot rejects reads all"), "{text}");
        status.at = at("2022-12-27T17:00:00Z");
        assert!(
            super::status(&status).contains("the next was due at 2022-12-27T16:56:10Z, 3m 50s ago\n"),
            "{}",
            super::status(&status)
        );
    }
}
