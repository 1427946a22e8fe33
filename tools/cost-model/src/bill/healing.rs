//! What it costs that snapshots heal: the notes of late clicks, the records of rankings, and the rankings that are
//! repeated.

use hot_products::{
    Window,
    healing::{FINAL_BATCH, MAX_EXTRA_WINDOWS, WORTH_PERCENT},
};

use crate::load::{Estimate, Load};

/// Windows a day.
const WINDOWS: f64 = 24.0 * 60.0 / Window::STEP_MINUTES as f64;
/// A note within its day's item: its name, such as `16:50`, and a number.
const NOTE_BYTES: f64 = 5.0 + 4.0;
/// A record of a ranking within its day's item: a name, and a map of two numbers and a Boolean.
const RECORD_BYTES: f64 = 5.0 + 3.0 + (1.0 + 5.0 + 3.0) + (1.0 + 6.0 + 5.0) + (1.0 + 5.0 + 1.0);
/// Bytes of a write unit.
const WRITE_UNIT_BYTES: f64 = 1_024.0;
/// Bytes of a read unit of a consistent read.
const READ_UNIT_BYTES: f64 = 4_096.0;

/// What healing consumes for each ranking or batch.
pub(super) struct Healing {
    /// Rankings that are repeated, for each ranking on time, as far as reading counters and computing goes: windows that are
    /// ranked finally share most of their minutes.
    pub(super) repeated_rankings: f64,
    /// Snapshots that are written again, for each ranking on time.
    pub(super) repeated_snapshots: f64,
    /// Write units of the records, for each ranking on time.
    pub(super) record_write_units: f64,
    /// Read units of notes and records, for each ranking on time.
    pub(super) state_read_units: f64,
    /// Write units of notes, for each batch.
    pub(super) note_write_units: f64,
    /// Write units of the late clicks themselves, a second: each goes to an item of its own minute.
    pub(super) late_write_units_per_second: f64,
}

impl Healing {
    pub(super) fn of(load: &Load, estimate: &Estimate) -> Self {
        // A window is ranked again whenever it misses another percent, and once when it is final.
        let healed = (load.late_share * 100.0 / WORTH_PERCENT as f64).floor().min(MAX_EXTRA_WINDOWS as f64);
        let full_day = WINDOWS * RECORD_BYTES;
        let rankings = 1.0 + healed;
        let late_steps = load.late_by.as_secs_f64() / 60.0 / Window::STEP_MINUTES as f64;
        let days = 1.0 + late_steps / WINDOWS;
        let note_units = days * (late_steps.min(WINDOWS) * NOTE_BYTES / WRITE_UNIT_BYTES).ceil().max(1.0);
        let batch_with_late = 1.0 - (1.0 - load.late_share).powf(estimate.records_per_batch);
        let item_bytes = estimate.bytes_per_minute / estimate.items_per_minute.max(1.0);
        Self {
            // Windows become final together, but miss another percent one after the other.
            repeated_rankings: shared_minutes(FINAL_BATCH) + healed,
            repeated_snapshots: rankings,
            // On time a day's item is half full on average; later it is full.
            record_write_units: (full_day / 2.0 / WRITE_UNIT_BYTES).ceil()
                + rankings * (full_day / WRITE_UNIT_BYTES).ceil(),
            state_read_units: 2.0 * (full_day / READ_UNIT_BYTES).ceil()
                + 2.0 * (WINDOWS * NOTE_BYTES / READ_UNIT_BYTES).ceil(),
            note_write_units: batch_with_late * note_units,
            late_write_units_per_second: load.late_share
                * load.clicks_per_second
                * (item_bytes / WRITE_UNIT_BYTES).ceil().max(1.0),
        }
    }
}

/// The minutes that each of so many neighbouring windows reads, as a share of a window's sixty.
fn shared_minutes(windows: usize) -> f64 {
    let minutes = Window::MINUTES as f64 + Window::STEP_MINUTES as f64 * (windows as f64 - 1.0);
    minutes / Window::MINUTES as f64 / windows as f64
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, time::Duration};

    use hot_products::{
        UnixMillis,
        healing::{LateClicks, Lifetimes, RankingRecord, RankingRecords, next_group, plan},
        schedule::ranked_at,
    };

    use super::*;
    use crate::load::KeyedBy;

    /// Runs the plan of rank-products for days, with `share` of the clicks evenly up to a day late. Returns per run of the
    /// last day the other windows ranked and the minutes read for them, as a share of a window's sixty.
    fn simulate(share: f64) -> (f64, f64) {
        const CLICKS_PER_STEP: f64 = 300_000.0;
        let lifetimes = Lifetimes::new(Duration::from_hours(24), Duration::from_hours(26)).unwrap();
        let (mut late, mut records) = (LateClicks::default(), RankingRecords::new());
        let (mut ranked, mut minutes) = (0, 0);
        let first = Window::ended_by(UnixMillis(1_672_099_200_000));
        let last = Window::ended_by(UnixMillis(1_672_099_200_000).plus(Duration::from_hours(3 * 24)));
        for due in first.until(last) {
            let now = ranked_at(due);
            let day_before = Window::ended_by(due.end().minus(Duration::from_hours(24)));
            for slot in day_before.next().until(due).filter(|slot| *slot >= first) {
                late.add_to(slot, (CLICKS_PER_STEP * share / WINDOWS).round() as u64);
            }
            let mut windows = plan(due, now, lifetimes, &late, &records);
            for window in &windows {
                let noted = late.within(*window);
                let clicks = (12.0 * CLICKS_PER_STEP * (1.0 - share)) as u64 + noted;
                let is_final = lifetimes.final_from(*window) <= now;
                records.insert(*window, RankingRecord { noted, clicks, is_final });
            }
            assert_eq!(windows.pop(), Some(due));
            if now.0 < last.end().minus(Duration::from_hours(24)).0 {
                continue;
            }
            ranked += windows.len();
            while !windows.is_empty() {
                let group = windows.drain(..next_group(&windows, Duration::ZERO, Duration::from_mins(1)));
                minutes += group.flat_map(Window::minutes).collect::<BTreeSet<_>>().len();
            }
        }
        (ranked as f64 / WINDOWS, minutes as f64 / Window::MINUTES as f64 / WINDOWS)
    }

    #[test]
    fn repeated_rankings_are_those_that_the_plan_of_rank_products_makes() {
        for (share, healed) in [(0.0, 0.0), (0.001, 0.0), (0.02, 1.0), (0.05, 5.0), (0.1, 10.0)] {
            let load = Load { budget: 100_000, late_share: share, ..Load::new(1_000.0, 12, 20_000, KeyedBy::Product) };
            let healing = Healing::of(&load, &Estimate::of(&load));
            let (ranked, read) = simulate(share);
            assert!((ranked - 1.0 - healed).abs() < 0.05, "{share}: {ranked}");
            // The second percent of two is missed only for a short time before the final ranking.
            let (snapshots, rankings) = (healing.repeated_snapshots, healing.repeated_rankings);
            let surplus = if share < 0.03 { healed } else { 0.0 };
            assert!((snapshots - ranked - surplus).abs() < 0.05, "{share}: {snapshots}, simulated {ranked}");
            let surplus = rankings - surplus - read;
            assert!((-0.05..0.25 * read).contains(&surplus), "{share}: {rankings}, simulated {read}");
        }
    }

    #[test]
    fn without_late_clicks_only_the_final_rankings_cost() {
        let load = Load { budget: 100_000, ..Load::new(100.0, 4, 1_000, KeyedBy::Product) };
        let estimate = Estimate::of(&load);
        let healing = Healing::of(&load, &estimate);
        assert!((healing.repeated_rankings - 85.0 / 360.0).abs() < 1e-9, "{}", healing.repeated_rankings);
        assert!(healing.note_write_units.abs() < 1e-9 && healing.late_write_units_per_second.abs() < 1e-9);
        let late = Healing::of(&Load { late_share: 0.05, ..load }, &estimate);
        assert!(late.repeated_rankings > healing.repeated_rankings && late.note_write_units > 1.0);
    }
}
