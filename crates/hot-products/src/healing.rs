//! Snapshots that heal: which clicks are late, and which windows a run of `rank-products` ranks again.
//!
//! A window is ranked a minute after its end. Clicks that are counted later are missing in its snapshot, so
//! `count-clicks` notes them ([`LateClicks`]) after it has counted them, and `rank-products` keeps a [`RankingRecord`]
//! of what each ranking knew. [`plan`] compares the two. Notes only decide how soon a snapshot heals. That it ends up
//! right rests on its final ranking, which takes place when no click can join the window any more.

mod groups;

use std::{cmp::Reverse, collections::BTreeMap, time::Duration};

use thiserror::Error;

pub use self::groups::{EXTRA_TIME, next_group};
use crate::{
    defaults,
    schedule::RANKING_DELAY,
    settings::{SettingError, Settings, wrong},
    time::{Minute, UnixMillis, Window},
};

/// How long after its last possible click a window is final: `count-clicks` stops writing [`MAX_WRITE_TIME`] after it
/// has classified a batch, and the rest is for clocks that differ.
pub const FINAL_MARGIN: Duration = Duration::from_mins(10);

/// How long `count-clicks` writes a batch after it has classified it, at most.
pub const MAX_WRITE_TIME: Duration = Duration::from_mins(5);

/// How much longer counters live than clicks are accepted, at least. The first counters of a window expire 59 minutes
/// before a window's end plus the retention; [`FINAL_MARGIN`] and [`FINAL_WAIT`] after its end plus the maximum event
/// age its final ranking is due. That leaves 26 minutes in which a failed run can be repeated.
pub const MIN_RETENTION_MARGIN: Duration = Duration::from_hours(2);

/// How far back a run looks for windows to rank, at most: it reads two items for each day. A larger `MAX_EVENT_AGE` counts
/// older clicks, but does not rank their windows again by itself.
pub const MAX_LOOKBACK: Duration = Duration::from_hours(31 * 24);

/// How many windows a run ranks besides the one that is due.
pub const MAX_EXTRA_WINDOWS: usize = 12;

/// Final rankings wait until there are this many: neighbouring windows share most of their minutes, so six together
/// read 85 minutes, not 360.
pub const FINAL_BATCH: usize = 6;

/// Or until the first of them has waited this long.
pub const FINAL_WAIT: Duration = Duration::from_mins(25);

/// A window is worth ranking again when the clicks noted since its last ranking are this share of its clicks, in
/// percent.
pub const WORTH_PERCENT: u64 = 1;

/// `RETENTION` leaves no time for final rankings.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "must exceed MAX_EVENT_AGE, which is {}, by at least {}: a window is ranked finally when no click can join it any more, and needs its counters then",
    humantime::format_duration(*.max_event_age),
    humantime::format_duration(MIN_RETENTION_MARGIN)
)]
pub struct RetentionTooShort {
    max_event_age: Duration,
}

/// How long clicks are accepted and counters live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    max_event_age: Duration,
    retention: Duration,
}

impl Lifetimes {
    /// Clicks are accepted for `max_event_age` after their event time, counters live for `retention` after their
    /// minute's end.
    ///
    /// # Errors
    /// When `retention` does not exceed `max_event_age` by [`MIN_RETENTION_MARGIN`].
    pub fn new(max_event_age: Duration, retention: Duration) -> Result<Self, RetentionTooShort> {
        if retention < max_event_age.saturating_add(MIN_RETENTION_MARGIN) {
            return Err(RetentionTooShort { max_event_age });
        }
        Ok(Self { max_event_age, retention })
    }

    /// Reads `MAX_EVENT_AGE` and `RETENTION`.
    ///
    /// # Errors
    /// When one of them is wrong, or they are too close to each other.
    pub fn read(settings: &Settings) -> Result<Self, SettingError> {
        let max_event_age = settings.duration("MAX_EVENT_AGE", defaults::MAX_EVENT_AGE)?;
        let retention = settings.duration("RETENTION", defaults::RETENTION)?;
        Self::new(max_event_age, retention)
            .map_err(|error| wrong("RETENTION", humantime::format_duration(retention).to_string(), error.to_string()))
    }

    /// How long clicks are accepted after their event time.
    pub fn max_event_age(&self) -> Duration {
        self.max_event_age
    }

    /// How long counters live after their minute's end.
    pub fn retention(&self) -> Duration {
        self.retention
    }

    /// From when on no click can join `window` any more.
    pub fn final_from(&self, window: Window) -> UnixMillis {
        window.end().plus(self.max_event_age).plus(FINAL_MARGIN)
    }

    /// From when on counters of `window` may have expired: those of its first minute are the first.
    pub fn expires_from(&self, window: Window) -> UnixMillis {
        Minute::of(window.start()).end().plus(self.retention)
    }

    /// The oldest window that may still have all its counters at `now`.
    pub fn oldest_complete(&self, now: UnixMillis) -> Window {
        let mut window = Window::ended_by(now.minus(self.retention));
        while self.expires_from(window) <= now {
            window = window.next();
        }
        window
    }
}

/// Clicks that were counted when a ranking over their minute was already due, by the first window that they are in.
///
/// They are noted at least once: a redelivery may note them again. A note is missing only while its batch has not
/// succeeded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LateClicks(BTreeMap<Window, u64>);

impl LateClicks {
    /// Whether clicks of `minute` are late at `now`: the first ranking over it may have begun.
    pub fn is_late(minute: Minute, now: UnixMillis) -> bool {
        Window::first_after(minute.start()).end().plus(RANKING_DELAY) <= now
    }

    /// Adds `clicks` of `minute`.
    pub fn add(&mut self, minute: Minute, clicks: u64) {
        self.add_to(Window::first_after(minute.start()), clicks);
    }

    /// Adds `clicks` whose first window is `first`.
    pub fn add_to(&mut self, first: Window, clicks: u64) {
        *self.0.entry(first).or_default() += clicks;
    }

    /// The late clicks by the first window that they are in, oldest first.
    pub fn by_first_window(&self) -> impl Iterator<Item = (Window, u64)> {
        self.0.iter().map(|(window, clicks)| (*window, *clicks))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many of them are in `window`.
    pub fn within(&self, window: Window) -> u64 {
        self.0.range(window.first_overlapping()..=window).map(|(_, clicks)| clicks).sum()
    }

    /// The windows that have late clicks, oldest first.
    fn windows(&self) -> impl Iterator<Item = Window> {
        let mut next = None;
        self.0.keys().flat_map(move |first| {
            let from = next.map_or(*first, |next: Window| next.max(*first));
            let last = first.last_overlapping();
            next = Some(last.next());
            from.until(last)
        })
    }
}

/// What the newest ranking of a window knew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RankingRecord {
    /// The window's late clicks that were noted before it read the counters.
    pub noted: u64,
    /// The clicks that it read.
    pub clicks: u64,
    /// Whether no click could join the window any more.
    pub is_final: bool,
}

/// The records of windows that were ranked: those that a run looks at, and one before, if there is any. It tells a stack
/// that missed windows from one that is new.
pub type RankingRecords = BTreeMap<Window, RankingRecord>;

/// The windows that a run ranks which is due for `due` at `now`, oldest first: that one, and at most
/// [`MAX_EXTRA_WINDOWS`] others.
///
/// First come windows whose final ranking is due, for their counters are about to expire; then those that miss the
/// largest share of their clicks, with windows that were never ranked before all others.
pub fn plan(
    due: Window,
    now: UnixMillis,
    lifetimes: Lifetimes,
    late: &LateClicks,
    records: &RankingRecords,
) -> Vec<Window> {
    let oldest = lifetimes.oldest_complete(now);
    let mut finals = Vec::new();
    let mut others = Vec::new();
    let ranked_since = records.keys().next().copied().unwrap_or(due).max(oldest);
    let mut candidates: Vec<Window> = ranked_since.until(due).chain(late.windows()).collect();
    candidates.sort_unstable();
    candidates.dedup();
    for window in candidates.into_iter().filter(|window| (oldest..due).contains(window)) {
        let record = records.get(&window);
        if record.is_some_and(|record| record.is_final) {
            continue;
        }
        if lifetimes.final_from(window) <= now {
            finals.push(window);
            continue;
        }
        let noted = late.within(window);
        match record {
            None => others.push((Reverse(u64::MAX), Reverse(window))),
            Some(record) => {
                let missing = noted.saturating_sub(record.noted);
                // In millionths, so that shares below a percent still order windows.
                let share = missing.saturating_mul(1_000_000) / record.clicks.max(1);
                if missing > 0 && share >= WORTH_PERCENT * 10_000 {
                    others.push((Reverse(share), Reverse(window)));
                }
            }
        }
    }
    let waited = finals.first().is_some_and(|window| lifetimes.final_from(*window).plus(FINAL_WAIT) <= now);
    if finals.len() < FINAL_BATCH && !waited {
        finals.clear();
    }
    others.sort_unstable();
    let others = others.into_iter().map(|(_, Reverse(window))| window);
    let mut windows: Vec<Window> = finals.into_iter().chain(others).take(MAX_EXTRA_WINDOWS).chain([due]).collect();
    windows.sort_unstable();
    windows
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_hours(24);

    fn lifetimes() -> Lifetimes {
        Lifetimes::new(DAY, Duration::from_hours(26)).unwrap()
    }

    fn window(end: &str) -> Window {
        Window::ended_by(UnixMillis::parse_rfc3339(&format!("2022-12-27T{end}:00Z")).unwrap())
    }

    fn minute(start: &str) -> Minute {
        Minute::of(UnixMillis::parse_rfc3339(&format!("2022-12-27T{start}:00Z")).unwrap())
    }

    /// When the schedule runs for `due`.
    fn run(due: Window) -> UnixMillis {
        due.end().plus(RANKING_DELAY)
    }

    fn ranked(windows: impl Iterator<Item = Window>, clicks: u64) -> RankingRecords {
        windows.map(|window| (window, RankingRecord { noted: 0, clicks, is_final: false })).collect()
    }

    /// The windows that a run for `due` ranks besides it.
    fn extra(due: Window, late: &LateClicks, records: &RankingRecords) -> Vec<Window> {
        let mut windows = plan(due, run(due), lifetimes(), late, records);
        assert_eq!(windows.pop(), Some(due), "the due window is the newest");
        windows
    }

    #[test]
    fn retention_must_leave_time_for_the_final_ranking() {
        let error = Lifetimes::new(DAY, Duration::from_secs(26 * 3600 - 1)).unwrap_err();
        assert!(error.to_string().starts_with("must exceed MAX_EVENT_AGE, which is 1day, by at least 2h"), "{error}");
        let lifetimes = lifetimes();
        let window = window("16:50");
        let slack = lifetimes.expires_from(window).since(lifetimes.final_from(window).plus(FINAL_WAIT));
        assert_eq!(slack, Duration::from_mins(26));
    }

    #[test]
    fn a_click_is_late_once_a_ranking_over_it_may_have_begun() {
        let ranking = UnixMillis::parse_rfc3339("2022-12-27T16:51:00Z").unwrap();
        for start in ["16:45", "16:49"] {
            assert!(LateClicks::is_late(minute(start), ranking));
            assert!(!LateClicks::is_late(minute(start), UnixMillis(ranking.0 - 1)));
        }
        assert!(!LateClicks::is_late(minute("16:50"), ranking));
    }

    #[test]
    fn late_clicks_are_within_twelve_windows() {
        let mut late = LateClicks::default();
        late.add(minute("16:47"), 3);
        assert_eq!(late.within(window("16:45")), 0);
        assert_eq!(late.within(window("16:50")), 3);
        assert_eq!(late.within(window("17:45")), 3);
        assert_eq!(late.within(window("17:50")), 0);
        assert_eq!(late.windows().count(), 12);
        late.add(minute("16:55"), 1);
        assert_eq!(late.windows().count(), 14, "each window once");
    }

    #[test]
    fn a_run_on_time_ranks_only_its_window() {
        let due = window("16:50");
        let records = ranked(window("12:00").until(due.previous()), 100);
        assert_eq!(extra(due, &LateClicks::default(), &records), []);
        assert_eq!(extra(due, &LateClicks::default(), &RankingRecords::new()), [], "nothing is missed in a new stack");
    }

    #[test]
    fn missed_windows_are_ranked_newest_first() {
        let due = window("16:50");
        let records = ranked([window("12:00")].into_iter(), 100);
        let all: Vec<_> = window("12:05").until(due.previous()).collect();
        assert_eq!(extra(due, &LateClicks::default(), &records), all[all.len() - MAX_EXTRA_WINDOWS..]);
    }

    #[test]
    fn a_window_is_worth_ranking_again_from_one_percent_on() {
        let due = window("16:50");
        let mut records = ranked(window("12:00").until(due.previous()), 1_000);
        let mut late = LateClicks::default();
        late.add(minute("15:02"), 9);
        assert_eq!(extra(due, &late, &records), []);
        late.add(minute("15:02"), 1);
        let affected: Vec<_> = window("15:05").until(window("16:00")).collect();
        assert_eq!(extra(due, &late, &records), affected);
        for window in affected {
            records.insert(window, RankingRecord { noted: 10, clicks: 1_010, is_final: false });
        }
        assert_eq!(extra(due, &late, &records), [], "what a ranking has known needs no other");
    }

    #[test]
    fn the_worst_windows_come_first() {
        let due = window("23:50");
        let records = ranked(window("12:00").until(due.previous()), 1_000);
        let mut late = LateClicks::default();
        for (start, clicks) in [("13:00", 20), ("15:30", 500), ("18:00", 30)] {
            late.add(minute(start), clicks);
        }
        assert_eq!(extra(due, &late, &records), window("15:35").until(window("16:30")).collect::<Vec<_>>());
    }

    #[test]
    fn final_rankings_wait_for_six_or_for_25_minutes_and_come_first() {
        let first = window("00:10");
        let records = ranked(first.until(window("23:55")), 100);
        let is_final_at = |windows: i64| {
            let last = first.until(window("23:55")).nth(windows as usize - 1).unwrap();
            lifetimes().final_from(last)
        };
        let finals = |now: UnixMillis| {
            let due = Window::ended_by(now);
            let windows = plan(due, now, lifetimes(), &LateClicks::default(), &records);
            windows.into_iter().filter(|window| lifetimes().final_from(*window) <= now).count()
        };
        assert_eq!(finals(is_final_at(5)), 0);
        assert_eq!(finals(is_final_at(6)), 6);
        // One window alone, for the others are final already.
        let alone: RankingRecords = records
            .iter()
            .map(|(window, record)| (*window, RankingRecord { is_final: *window != first, ..*record }))
            .collect();
        let waited = lifetimes().final_from(first).plus(FINAL_WAIT);
        let planned = |now: UnixMillis| {
            plan(Window::ended_by(now), now, lifetimes(), &LateClicks::default(), &alone).contains(&first)
        };
        assert!(!planned(UnixMillis(waited.0 - 1)) && planned(waited));
    }

    #[test]
    fn a_window_whose_counters_may_have_expired_is_left_alone() {
        let old = window("00:10");
        let mut late = LateClicks::default();
        late.add(minute("00:07"), 100);
        let expires = lifetimes().expires_from(old);
        let records = ranked([old].into_iter(), 100);
        let planned = |now| plan(Window::ended_by(now), now, lifetimes(), &late, &records).contains(&old);
        assert!(planned(UnixMillis(expires.0 - 1)) && !planned(expires));
        assert!(lifetimes().expires_from(lifetimes().oldest_complete(expires)) > expires);
    }
}
