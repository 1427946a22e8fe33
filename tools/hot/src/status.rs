//! How the pipeline is, as far as the tables tell: whether snapshots are fresh, and how far each source is counted.

use std::{collections::BTreeMap, fmt::Write, ops::ControlFlow, time::Duration};

use comfy_table::Cell;
use futures_util::{StreamExt, TryStreamExt, stream};
use hot_products::{
    Bucket, Minute, Shard, Snapshot, Source, UnixMillis, Window,
    store::{CountersTable, RejectsTable, SnapshotsTable, StoreError},
    time::bound,
};
use read_board::cache::SNAPSHOT_DELAY;
use serde::Serialize;
use terminal::text::{safe, seconds, table, title, verdict};

use crate::{rejected::Tally, show::span};

/// How long after it is due a snapshot may still come before it is overdue: the schedule and the function are tried again
/// by then.
const PATIENCE: Duration = Duration::from_mins(1);

/// How many windows are shown.
const WINDOWS: usize = 6;

/// How many buckets are read at a time.
const READ_CONCURRENCY: usize = 32;

/// Rejected events of how long are counted.
const REJECTED_SINCE: Duration = Duration::from_hours(1);

/// How many pages of rejected events are read at most: at half a read unit for 4 KB, 1,000 read units.
const REJECTED_PAGES: u64 = 8;

/// The tables of a stack.
#[derive(Clone, Debug)]
pub(crate) struct StackTables {
    /// The minute counters.
    pub(crate) counters: CountersTable,
    /// The snapshots.
    pub(crate) snapshots: SnapshotsTable,
    /// The rejected events.
    pub(crate) rejects: RejectsTable,
}

/// How the pipeline is at a time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Status {
    /// The time.
    pub(crate) at: UnixMillis,
    /// Whether the newest snapshot is there and not overdue.
    pub(crate) fresh: bool,
    /// The newest snapshot, if there is one.
    pub(crate) newest: Option<Newest>,
    /// The last windows up to the newest snapshot's, newest first.
    pub(crate) windows: Vec<WindowState>,
    /// The sources that counted clicks in the minutes asked for, by name.
    pub(crate) sources: Vec<SourceState>,
    /// How many minutes were looked at for that.
    pub(crate) minutes: u64,
    /// Read units that took.
    pub(crate) counters_read_units: f64,
    /// The rejected events of the last hour.
    pub(crate) rejected: Rejects,
}

/// The newest snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Newest {
    /// When its window ended.
    pub(crate) window_end: UnixMillis,
    /// When it was made.
    pub(crate) generated_at: UnixMillis,
    /// When the next can be read.
    pub(crate) next_due: UnixMillis,
    /// Whether the next should have come long since.
    pub(crate) overdue: bool,
}

/// A window, and its snapshot's totals if it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct WindowState {
    /// When it ended.
    pub(crate) window_end: UnixMillis,
    /// Its snapshot's totals.
    #[serde(flatten)]
    pub(crate) totals: Option<Totals>,
}

/// A snapshot's totals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Totals {
    /// When the snapshot was made.
    pub(crate) generated_at: UnixMillis,
    /// Clicks in the window.
    pub(crate) total_clicks: u64,
    /// Products with a click in the window.
    pub(crate) distinct_products: u64,
}

/// How far a source is counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct SourceState {
    /// The source.
    pub(crate) source: String,
    /// The last offset that is known to be counted. Records behind it may be ignored or rejected ones.
    pub(crate) last_offset: i64,
    /// The newest minute in which it has clicks: its start.
    pub(crate) newest_minute: UnixMillis,
    /// How long ago that minute ended, in seconds; 0 while it lasts.
    pub(crate) behind_seconds: u64,
}

/// Rejected events of the last hour.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub(crate) enum Rejects {
    /// They could be read.
    Read {
        /// How many records there are.
        records: u64,
        /// How many for each reason.
        by_reason: BTreeMap<String, u64>,
        /// Whether all were read. Where not, there are at least as many.
        complete: bool,
        /// Read units that took.
        read_units: f64,
    },
    /// They could not.
    Unreadable {
        /// Why.
        error: String,
    },
}

/// Looks at the tables at the time `now`; for the sources, at the counters of the last `minutes`.
///
/// # Errors
/// When snapshots or counters can't be read. Rejected events are not worth failing for.
pub(crate) async fn status(tables: &StackTables, now: UnixMillis, minutes: u64) -> Result<Status, StoreError> {
    let newest = tables.snapshots.newest().await?;
    let windows = match &newest {
        Some(newest) => {
            let first = (1..WINDOWS).fold(newest.window, |window, _| window.previous());
            let found = tables.snapshots.between(first..=newest.window, WINDOWS, 0).await?;
            windows(newest.window, &found)
        }
        None => Vec::new(),
    };
    let newest = newest.map(|newest| freshness(&newest, now));
    let (sources, counters_read_units) = sources(&tables.counters, now, minutes).await?;
    let rejected =
        rejects(&tables.rejects, now).await.unwrap_or_else(|error| Rejects::Unreadable { error: error.to_string() });
    let fresh = newest.is_some_and(|newest| !newest.overdue);
    Ok(Status { at: now, fresh, newest, windows, sources, minutes, counters_read_units, rejected })
}

/// How fresh `newest` is at the time `now`.
pub(crate) fn freshness(newest: &Snapshot, now: UnixMillis) -> Newest {
    let next_due = newest.window.next().end().plus(SNAPSHOT_DELAY);
    Newest {
        window_end: newest.window.end(),
        generated_at: newest.generated_at,
        next_due,
        overdue: next_due.plus(PATIENCE) < now,
    }
}

/// The last windows up to `newest`, newest first, with the snapshots `found`.
fn windows(newest: Window, found: &[Snapshot]) -> Vec<WindowState> {
    let windows = std::iter::successors(Some(newest), |window| Some(window.previous())).take(WINDOWS);
    windows
        .map(|window| WindowState {
            window_end: window.end(),
            totals: found.iter().find(|snapshot| snapshot.window == window).map(|snapshot| Totals {
                generated_at: snapshot.generated_at,
                total_clicks: snapshot.total_clicks,
                distinct_products: snapshot.distinct_products,
            }),
        })
        .collect()
}

async fn sources(
    counters: &CountersTable,
    now: UnixMillis,
    minutes: u64,
) -> Result<(Vec<SourceState>, f64), StoreError> {
    let buckets = (0..minutes).flat_map(|back| {
        let minute = Minute::of(now.minus(Duration::from_mins(back)));
        Shard::all().map(move |shard| Bucket { minute, shard })
    });
    let read = async |bucket: Bucket| {
        let mut found = Vec::new();
        let read = counters.last_offsets(bucket, |source, offset| found.push((source, offset))).await?;
        Ok::<_, StoreError>((bucket.minute, found, read.read_units))
    };
    let mut known: BTreeMap<Source, (i64, Minute)> = BTreeMap::new();
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
    let state = |(source, (last_offset, newest)): (Source, (i64, Minute))| SourceState {
        source: source.as_str().to_owned(),
        last_offset,
        newest_minute: newest.start(),
        behind_seconds: now.since(newest.end()).as_secs(),
    };
    Ok((known.into_iter().map(state).collect(), read_units))
}

async fn rejects(table: &RejectsTable, now: UnixMillis) -> Result<Rejects, StoreError> {
    let since = now.minus(REJECTED_SINCE);
    let mut tally = Tally::new(since);
    let mut pages = 0;
    let complete = table
        .since(since, |page| {
            tally.add(&page);
            pages += 1;
            if pages < REJECTED_PAGES { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })
        .await?;
    let rejected = tally.end();
    Ok(Rejects::Read {
        records: rejected.records,
        by_reason: rejected.by_reason(),
        complete,
        read_units: rejected.read_units,
    })
}

/// The status for people.
pub(crate) fn show(status: &Status) -> String {
    let mut text = String::new();
    let _infallible = match &status.newest {
        None => writeln!(text, "{}", verdict(false, "No snapshot yet")),
        Some(newest) => writeln!(text, "{}", freshness_line(newest, status.at)),
    };
    if !status.windows.is_empty() {
        let mut rows = table(["window end", "made", "clicks", "products"], &[2, 3]);
        for window in &status.windows {
            let end = Cell::new(bound(window.window_end));
            rows.add_row(match window.totals {
                Some(totals) => [
                    end,
                    Cell::new(bound(totals.generated_at)),
                    Cell::new(totals.total_clicks),
                    Cell::new(totals.distinct_products),
                ],
                None => [end, Cell::new("no snapshot"), Cell::new("–"), Cell::new("–")],
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
                behind => format!("{} ago", seconds(Duration::from_secs(behind))),
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
    let _infallible = writeln!(text, "\n{}\n{}", title("Rejected in the last hour"), rejected(&status.rejected));
    text
}

/// How fresh the newest snapshot is at the time `now`, in a line.
pub(crate) fn freshness_line(newest: &Newest, now: UnixMillis) -> String {
    let at = bound(newest.next_due);
    let due = match now.since(newest.next_due) {
        Duration::ZERO => format!("is due at {at}, in {}", seconds(newest.next_due.since(now))),
        late => format!("was due at {at}, {} ago", seconds(late)),
    };
    format!(
        "{}: the newest snapshot, of {}, was made at {}; the next {due}",
        verdict(!newest.overdue, if newest.overdue { "Overdue" } else { "Fresh" }),
        span(Window::ended_by(newest.window_end).start(), newest.window_end),
        bound(newest.generated_at),
    )
}

fn rejected(rejects: &Rejects) -> String {
    match rejects {
        Rejects::Unreadable { error } => format!("unknown: {}", safe(error)),
        Rejects::Read { records, by_reason, complete, .. } => {
            let mut text = if *complete { String::new() } else { "at least ".to_owned() };
            let _infallible = write!(text, "{records} records");
            for (place, (reason, records)) in by_reason.iter().enumerate() {
                let mark = if place == 0 { ":" } else { "," };
                let _infallible = write!(text, "{mark} {records} {}", safe(reason));
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
    use super::*;

    fn at(text: &str) -> UnixMillis {
        UnixMillis::parse_rfc3339(text).unwrap()
    }

    fn snapshot(end: &str) -> Snapshot {
        Snapshot {
            window: Window::ended_by(at(end)),
            generated_at: at(end).plus(Duration::from_mins(1)),
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
        assert!(!overdue("2022-12-27T16:00:00Z"), "this machine's clock is behind");
    }

    #[test]
    fn a_window_without_a_snapshot_is_a_gap() {
        let found = [snapshot("2022-12-27T16:40:00Z"), snapshot("2022-12-27T16:50:00Z")];
        let states = windows(found[1].window, &found);
        let there: Vec<bool> = states.iter().map(|state| state.totals.is_some()).collect();
        assert_eq!(there, [true, false, true, false, false, false]);
        assert_eq!(states[5].window_end, at("2022-12-27T16:25:00Z"));
        let json = serde_json::to_string(&states[1]).unwrap();
        assert_eq!(json, r#"{"window_end":"2022-12-27T16:45:00Z"}"#);
    }

    #[test]
    fn what_is_there_is_shown_and_what_is_not_is_said() {
        let mut status = Status {
            at: at("2022-12-27T16:52:00Z"),
            fresh: false,
            newest: None,
            windows: Vec::new(),
            sources: Vec::new(),
            minutes: 10,
            counters_read_units: 0.0,
            rejected: Rejects::Unreadable { error: "no\u{1b}".to_owned() },
        };
        let text = show(&status);
        assert!(text.starts_with("No snapshot yet\n\nSources\nno clicks counted in the last 10 minutes\n"), "{text}");
        assert!(text.ends_with("unknown: no\\u{1b}\n"), "{text}");

        status.newest = Some(freshness(&snapshot("2022-12-27T16:50:00Z"), status.at));
        status.rejected = Rejects::Read {
            records: 5,
            by_reason: BTreeMap::from([("no_value".to_owned(), 2), ("not_json".to_owned(), 3)]),
            complete: false,
            read_units: 0.5,
        };
        let text = show(&status);
        assert!(text.starts_with("Fresh: the newest snapshot, of 2022-12-27 15:50 – 16:50 UTC, was made at"), "{text}");
        assert!(text.contains("the next is due at 2022-12-27T16:56:10Z, in 4m 10s\n"), "{text}");
        assert!(text.contains("at least 5 records: 2 no_value, 3 not_json; hot rejects reads all"), "{text}");
        status.at = at("2022-12-27T17:00:00Z");
        assert!(show(&status).contains("the next was due at 2022-12-27T16:56:10Z, 3m 50s ago\n"), "{}", show(&status));
    }
}
